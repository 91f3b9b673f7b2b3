"""Robots with a changed part: its mass, its length, or the range of its joint.

Names and percentages are those of iMuJoCo (Patacchiola et al. 2023, arXiv 2306.13554;
github.com/mpatacchiola/imujoco). Its README defines them: "if the mass is 2.5 and the percentage is
200% then the new mass for that limb will be 7.5", so ``inc_200`` is × 3, ``inc_50`` × 1.5 and
``dec_25`` × 0.75. The official XML files are not available here; the following rules are ours.

- **mass**: scales mass and inertia of one body of the compiled model; the other bodies keep theirs.
  (An edit of HalfCheetah's XML would rescale all of them, because it has ``settotalmass``.)
- **joint**: scales both limits, that is, about the rest angle 0. This angle lies within the ranges
  of HalfCheetah and of the Ant's hips. The Ant's ankles (30 to 70 degrees) start outside their
  range in the base robot, too; the scaled ranges are nearer to the start.
- **length**: stretches the capsule away from the body's joint (the torso: to both sides of its
  centre) at constant thickness and density, so a longer limb is heavier; mass and inertia follow
  from the shape. Whatever is attached to an end of the capsule (next limb, head) moves with it.
  If the lowest point of the robot sinks, the torso is lifted by the same amount, so that the robot
  starts as far above the floor as the base robot, before reset noise. (That noise, 0.1 m and rad,
  sometimes puts even the base HalfCheetah into the floor; this is Gymnasium's rule.)
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import mujoco
import numpy as np

from task_distributions.base import FloatArray
from task_distributions.locomotion.robots import ANT, HALFCHEETAH, Robot, template

__all__ = [
    "ANT_ANATOMY",
    "BETWEEN",
    "HALFCHEETAH_ANATOMY",
    "Anatomy",
    "Variant",
    "build_model",
    "lowest_point",
]

Quantity = Literal["mass", "length", "range"]

MASS = {"massdec_25": 0.75, "massdec_50": 0.5, "massinc_200": 3.0}
LENGTH = {"lengthdec_25": 0.75, "lengthinc_50": 1.5}
RANGE = {"jointdec_25": 0.75, "jointdec_50": 0.5, "jointdec_75": 0.25}
"""Published name of a change -> factor."""
Strengths = dict[Quantity, dict[str, float]]
PUBLISHED: Strengths = {"mass": MASS, "length": LENGTH, "range": RANGE}
BETWEEN: Strengths = {
    "mass": {"massdec_40": 0.6, "massinc_100": 2.0},
    "length": {"lengthdec_15": 0.85, "lengthinc_25": 1.25},
    "range": {"jointdec_60": 0.4},
}
"""Changes of our own between the published ones, for validation."""


@dataclass(frozen=True)
class Variant:
    """One change of a base robot."""

    name: str
    """E.g. ``halfcheetah-massinc_200_bthigh``."""
    quantity: Quantity
    part: str
    """The limb, or the joint for ``range``."""
    scale: float


@dataclass(frozen=True, eq=False)  # one object per robot, a cache key by identity
class Anatomy:
    """Parts of a robot that can be changed."""

    robot: Robot
    prefix: str
    """Prefix of the variants' names."""
    limbs: dict[str, str]
    """Limb -> its capsule or ball, a geom of the body to be changed."""
    stretched: tuple[str, ...]
    """Limbs with variants of their length."""
    joints: dict[str, str]
    """Joint with variants of its range -> the limb that it moves."""

    def variants(self, strengths: Strengths = PUBLISHED) -> tuple[Variant, ...]:
        """Return every variant of these strengths, sorted by name."""
        parts: dict[Quantity, tuple[str, ...]] = {
            "mass": tuple(self.limbs),
            "length": self.stretched,
            "range": tuple(self.joints),
        }
        variants = [
            Variant(f"{self.prefix}-{change}_{part}", quantity, part, scale)
            for quantity, changes in strengths.items()
            for change, scale in changes.items()
            for part in parts[quantity]
        ]
        return tuple(sorted(variants, key=lambda variant: variant.name))

    def pairs(self) -> tuple[tuple[Variant, Variant], ...]:
        """Return every two published variants of different limbs, in the order of their names."""
        return tuple(
            (one, other)
            for one, other in itertools.combinations(self.variants(), 2)
            if self.joints.get(one.part, one.part) != self.joints.get(other.part, other.part)
        )


_CHEETAH_JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
_CHEETAH_LIMBS = ("torso", *_CHEETAH_JOINTS)
HALFCHEETAH_ANATOMY = Anatomy(
    robot=HALFCHEETAH,
    prefix="halfcheetah",
    limbs={limb: limb for limb in _CHEETAH_LIMBS},
    stretched=_CHEETAH_LIMBS,
    joints={joint: joint for joint in _CHEETAH_JOINTS},
)
"""7 limbs × 3 masses + 7 × 2 lengths + 6 joints × 3 ranges = 53."""

_LEGS = {"1": "left", "2": "right", "3": "back", "4": "rightback"}
_SHANKS = {"1": "left", "2": "right", "3": "third", "4": "fourth"}
ANT_ANATOMY = Anatomy(
    robot=ANT,
    prefix="ant",
    limbs={
        "torso": "torso_geom",
        **{f"upper_{leg}": f"{name}_leg_geom" for leg, name in _LEGS.items()},
        **{f"lower_{leg}": f"{name}_ankle_geom" for leg, name in _SHANKS.items()},
    },
    stretched=tuple(f"lower_{leg}" for leg in _LEGS),
    joints={
        f"{joint}_{leg}": f"{limb}_{leg}"
        for joint, limb in (("hip", "upper"), ("ankle", "lower"))
        for leg in _LEGS
    },
)
"""9 limbs × 3 masses + 4 lower legs × 2 lengths + 8 joints × 3 ranges = 59.

Legs are numbered as the joints are: front left, front right, back left, back right. ``upper`` turns
in the hip. The four stubs that are fixed to the torso belong to no variant.
"""


@lru_cache(maxsize=256)  # 2 to 5 ms and 0.5 MB each
def build_model(anatomy: Anatomy, *variants: Variant) -> mujoco.MjModel:
    """Return the robot with these changes; it is shared, so do not change it."""
    base = template(anatomy.robot)
    scales = {anatomy.limbs[v.part]: v.scale for v in variants if v.quantity == "length"}
    model = _stretch(base.path, scales) if scales else copy.copy(base.model)
    for variant in variants:
        if variant.quantity == "range":
            model.jnt_range[model.joint(variant.part).id] *= variant.scale
        elif variant.quantity == "mass":
            body = model.geom(anatomy.limbs[variant.part]).bodyid.item()
            model.body_mass[body] *= variant.scale
            model.body_inertia[body] *= variant.scale
            mujoco.mj_setConst(model, mujoco.MjData(model))  # inverse weights and subtree masses
    return model


def _stretch(path: str, scales: Mapping[str, float]) -> mujoco.MjModel:
    """Compile the XML file at ``path`` with capsules, by the names of geoms, longer or shorter."""
    spec: Any = mujoco.MjSpec.from_file(path)
    total_mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1  # until the end: mass from density
    before = spec.compile()
    for geom, scale in scales.items():
        _stretch_capsule(spec, before, geom, scale)
    after = spec.compile()
    if total_mass > 0:  # same factor as in the base robot, to keep the density
        spec.compiler.settotalmass = total_mass * after.body_mass.sum() / before.body_mass.sum()
    (torso,) = spec.worldbody.bodies
    torso.pos[2] += max(0.0, lowest_point(before) - lowest_point(after))
    return spec.compile()


def _stretch_capsule(spec: Any, model: mujoco.MjModel, geom: str, scale: float) -> None:
    """Stretch one capsule of ``spec``, compiled as ``model``, and move what is attached to it."""
    main, limb = model.geom(geom), spec.geom(geom).parent
    half_length = main.size[1]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, main.quat)
    axis = rotation[2::3]

    def along(point: FloatArray) -> float:
        """Return the coordinate of a point (body frame) along the axis, 0 at the centre."""
        return float((point - main.pos) @ axis)

    joint = np.clip(along(np.zeros(3)), -half_length, half_length)  # the fixed point

    def shift(distance: float) -> FloatArray:
        """Return the displacement of the point at ``distance`` along the axis."""
        displacement: FloatArray = (scale - 1.0) * (distance - joint) * axis
        return displacement

    def move_with_end(point: FloatArray) -> FloatArray:
        return point + shift(float(np.copysign(half_length, along(point))))

    for part in limb.geoms:
        compiled = model.geom(part.name)
        part.fromto[:] = np.nan  # replaced by centre and orientation, as compiled
        part.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        part.quat, part.size = compiled.quat, compiled.size
        part.pos = move_with_end(compiled.pos)
    spec.geom(geom).pos = main.pos + shift(0.0)
    spec.geom(geom).size[1] = scale * half_length
    for child in limb.bodies:
        child.pos = move_with_end(child.pos.copy())


def lowest_point(model: mujoco.MjModel) -> float:
    """Return the height in metres of the robot's lowest point in its rest pose.

    The world's geoms (the floor) do not count; the others must be capsules or balls.
    """
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    half_length = np.where(
        model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE, model.geom_size[:, 1], 0.0
    )
    heights = data.geom_xpos[:, 2] - np.abs(data.geom_xmat[:, 8]) * half_length
    return float((heights - model.geom_size[:, 0])[model.geom_bodyid > 0].min())
