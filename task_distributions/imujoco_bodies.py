"""Robots with one part changed: its mass, its length, or the range of its joint.

The names and the percentages are those of iMuJoCo (Patacchiola et al. 2023, arXiv 2306.13554;
github.com/mpatacchiola/imujoco). Its README says what they mean: "if the mass is 2.5 and the
percentage is 200% then the new mass for that limb will be 7.5", so ``inc_200`` is × 3, ``inc_50``
× 1.5 and ``dec_25`` × 0.75. Its XML files are not at hand here; what follows is ours.

- **mass**: mass and inertia of the one body, on the compiled model; the other bodies keep theirs
  (an edit of the XML would rescale all of HalfCheetah's, which has ``settotalmass``).
- **joint**: both limits are scaled, that is about the rest angle 0. It lies within HalfCheetah's
  ranges and the Ant's hips. The Ant's ankles (30 to 70 degrees) start outside their range in the
  base robot, too; the scaled ranges lie nearer to the start, so they are no further outside.
- **length**: the capsule is stretched away from the body's joint (the torso's to both sides of its
  centre) at the same thickness and density, so a longer limb is heavier; mass and inertia follow
  from the shape. What hangs on an end of the capsule (the next limb, the head) moves along with it.
  If the lowest point of the robot sinks, the torso is lifted by as much: it starts as far above the
  floor as the base robot does, before the noise of the reset. (That noise, 0.1 m and rad, puts the
  base HalfCheetah into the floor now and then, too: that is Gymnasium's rule and stays.)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from task_distributions.robots import ANT, HALFCHEETAH, Robot, template

__all__ = ["ANT_ANATOMY", "HALFCHEETAH_ANATOMY", "Anatomy", "Variant", "build", "lowest_point"]

FloatArray = NDArray[np.float64]
Quantity = Literal["mass", "length", "range"]

MASS = {"massdec_25": 0.75, "massdec_50": 0.5, "massinc_200": 3.0}
LENGTH = {"lengthdec_25": 0.75, "lengthinc_50": 1.5}
RANGE = {"jointdec_25": 0.75, "jointdec_50": 0.5, "jointdec_75": 0.25}
"""Published names of the changes -> factor."""


@dataclass(frozen=True)
class Variant:
    """One robot that differs from the base robot in one number."""

    name: str
    """E.g. ``halfcheetah-massinc_200_bthigh``."""
    quantity: Quantity
    part: str
    """The limb, or for ``range`` the joint."""
    scale: float


@dataclass(frozen=True, eq=False)  # one object per robot, a cache key by identity
class Anatomy:
    """Which parts of a robot there are to change."""

    robot: Robot
    prefix: str
    """What the names of the variants begin with."""
    limbs: dict[str, str]
    """Limb -> the geom that is its capsule (or ball), whose body it means."""
    stretched: tuple[str, ...]
    """The limbs whose length varies."""
    joints: tuple[str, ...]
    """The joints whose range varies."""

    def variants(self) -> tuple[Variant, ...]:
        """Return every variant, sorted by name."""
        plan: list[tuple[Quantity, dict[str, float], tuple[str, ...]]] = [
            ("mass", MASS, tuple(self.limbs)),
            ("length", LENGTH, self.stretched),
            ("range", RANGE, self.joints),
        ]
        found = [
            Variant(f"{self.prefix}-{change}_{part}", quantity, part, scale)
            for quantity, changes, parts in plan
            for change, scale in changes.items()
            for part in parts
        ]
        return tuple(sorted(found, key=lambda variant: variant.name))


_CHEETAH_JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
_CHEETAH_LIMBS = ("torso", *_CHEETAH_JOINTS)
HALFCHEETAH_ANATOMY = Anatomy(
    robot=HALFCHEETAH,
    prefix="halfcheetah",
    limbs={limb: limb for limb in _CHEETAH_LIMBS},
    stretched=_CHEETAH_LIMBS,
    joints=_CHEETAH_JOINTS,
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
    joints=tuple(f"{joint}_{leg}" for joint in ("hip", "ankle") for leg in _LEGS),
)
"""9 limbs × 3 masses + 4 lower legs × 2 lengths + 8 joints × 3 ranges = 59.

Leg 1 is the front left one, then front right, back left, back right, as the joints are numbered;
``upper`` turns in the hip. The four stubs that are fixed to the torso belong to no variant.
"""


@lru_cache(maxsize=256)  # 2 to 5 ms and 0.5 MB each
def build(anatomy: Anatomy, variant: Variant) -> mujoco.MjModel:
    """Return the model of ``variant``, to be shared and not to be changed."""
    base = template(anatomy.robot)
    if variant.quantity == "length":
        return _stretched(base.path, anatomy.limbs[variant.part], variant.scale)
    model = copy.copy(base.model)
    if variant.quantity == "range":
        model.jnt_range[model.joint(variant.part).id] *= variant.scale
        return model
    body = model.geom(anatomy.limbs[variant.part]).bodyid.item()
    model.body_mass[body] *= variant.scale
    model.body_inertia[body] *= variant.scale
    mujoco.mj_setConst(model, mujoco.MjData(model))  # inverse weights and subtree masses
    return model


def _stretched(path: str, geom: str, scale: float) -> mujoco.MjModel:
    """Compile the XML file at ``path`` with the capsule ``geom`` longer or shorter."""
    spec: Any = mujoco.MjSpec.from_file(path)
    total_mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1  # for now: the mass that the density gives
    before = spec.compile()
    _move(spec, before, geom, scale)
    after = spec.compile()
    if total_mass > 0:  # rescale as the base robot was rescaled, to keep its density
        spec.compiler.settotalmass = total_mass * after.body_mass.sum() / before.body_mass.sum()
    (torso,) = spec.worldbody.bodies
    torso.pos[2] += max(0.0, lowest_point(before) - lowest_point(after))
    return spec.compile()


def _move(spec: Any, model: mujoco.MjModel, geom: str, scale: float) -> None:
    """Stretch one capsule of ``spec`` and move what sits on it; ``model`` is the state before."""
    main, limb = model.geom(geom), spec.geom(geom).parent
    half_length = main.size[1]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, main.quat)
    axis = rotation[2::3]

    def along(point: FloatArray) -> float:
        """How far along the axis, from the capsule's centre, ``point`` of the body's frame is."""
        return float((point - main.pos) @ axis)

    joint = np.clip(along(np.zeros(3)), -half_length, half_length)  # this much stays where it is

    def shift(distance: float) -> FloatArray:
        """Return what the point at ``distance`` along the axis moves by."""
        moved: FloatArray = (scale - 1.0) * (distance - joint) * axis
        return moved

    def with_the_end(point: FloatArray) -> FloatArray:
        return point + shift(float(np.copysign(half_length, along(point))))

    for part in limb.geoms:
        was = model.geom(part.name)
        part.fromto[:] = np.nan  # from here on by centre and orientation, as compiled
        part.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        part.quat, part.size, part.pos = was.quat, was.size, with_the_end(was.pos)
    spec.geom(geom).pos = main.pos + shift(0.0)
    spec.geom(geom).size[1] = scale * half_length
    for child in limb.bodies:
        child.pos = with_the_end(child.pos.copy())


def lowest_point(model: mujoco.MjModel) -> float:
    """Return the height of the robot's lowest point in its rest pose, in metres.

    The geoms of the world (the floor) do not count; the others are capsules and balls.
    """
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    half_length = np.where(
        model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE, model.geom_size[:, 1], 0.0
    )
    heights = data.geom_xpos[:, 2] - np.abs(data.geom_xmat[:, 8]) * half_length
    return float((heights - model.geom_size[:, 0])[model.geom_bodyid > 0].min())
