"""iMuJoCo: robots with one changed part, to be controlled without knowing which.

iMuJoCo (Patacchiola et al. 2023, arXiv 2306.13554) has 53 variants of HalfCheetah. In each, the
mass, length, joint range or friction of one limb is changed. Its XML files are a download.

- ``imujoco-halfcheetah@1`` is a RECONSTRUCTION: 53 variants in the published naming scheme, built
  from Gymnasium's HalfCheetah (see ``variants.py``), not the official files. The list of the
  official 53 is not public outside the download. Friction is left out: a contact uses the larger
  friction of foot and floor, so less friction of a foot alone changes nothing.
- ``imujoco-halfcheetah@2`` uses all official files in a folder.
- ``imujoco-ant@1`` applies the same recipe to the Ant, 59 variants. It is ours; iMuJoCo has no Ant.

These variants are split into training and test tasks. Validation tasks are changes of our own
between the published strengths; ``ood`` tasks change two limbs at once.

Reward, observation, reset noise and horizon are those of the base robot's task.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np

from task_distributions.base import Positive, Split, Task
from task_distributions.engine.physics import DataPool
from task_distributions.imujoco.variants import (
    ANT_ANATOMY,
    BETWEEN,
    HALFCHEETAH_ANATOMY,
    Anatomy,
    Variant,
    build_model,
)
from task_distributions.imujoco.xml_files import MixedDataPool, OfficialFile, read_folder
from task_distributions.locomotion.distributions import (
    ANT_RECIPE,
    HORIZON,
    Locomotion,
    LocomotionSettings,
    locomotion,
)
from task_distributions.locomotion.envs import Family
from task_distributions.locomotion.rewards import Reward, forward
from task_distributions.task_lists import TaskLists, resolve_horizon

__all__ = [
    "RECIPES",
    "IMuJoCoSettings",
    "Member",
    "VariantFamily",
    "imujoco_ant",
    "imujoco_halfcheetah",
]

NUM_PAIRS = 30
"""Robots with two changed limbs in ``ood``."""


@dataclass(frozen=True)
class IMuJoCoSettings:
    """Settings of ``imujoco-halfcheetah``."""

    horizon: Positive | None = None
    """Control steps per episode; 200 if not given."""
    xml: str | None = None
    """Folder with the official halfcheetah-*.xml files; the reconstruction if not given."""

    def __post_init__(self) -> None:
        # Workers have other working directories.
        if self.xml is not None:
            object.__setattr__(self, "xml", str(Path(self.xml).expanduser().absolute()))


@dataclass(frozen=True)
class Member:
    """One robot of a distribution."""

    name: str
    params: tuple[tuple[str, float], ...]
    """Its index as ``variant``, and a number that identifies the change."""
    model: Callable[[], mujoco.MjModel] = field(repr=False)
    description: tuple[tuple[str, float], ...] = ()
    """Base-2 logarithm of the factor of each changed part: one entry of a vector of all parts."""


@dataclass(frozen=True, kw_only=True)
class VariantFamily(Family):
    """Tasks that differ in the robot itself."""

    members: tuple[Member, ...]

    def model(self, task: Task) -> mujoco.MjModel:
        """Return the robot of ``task``; it is shared, so do not change it.

        Raises:
            ValueError: the task belongs to other robots, e.g. to another XML folder.
        """
        index = int(task.param("variant"))
        if index >= len(self.members) or self.members[index].params != task.params:
            raise ValueError(
                f"task {task.name!r} is not variant {index} of these robots; "
                "does it come from another iMuJoCo XML folder?"
            )
        return self.members[index].model()

    def pool(self, models: Sequence[mujoco.MjModel]) -> DataPool:
        """Return the pool that provides one simulation state for each of ``models``."""
        return MixedDataPool(models)


def imujoco_halfcheetah(settings: IMuJoCoSettings = IMuJoCoSettings()) -> Locomotion:
    """Run as fast as possible on HalfCheetahs with one changed part, which differs between tasks.

    The mass or length of a limb or the range of a joint is multiplied by a factor; the policy is
    not told which. Validation tasks have strengths between the published ones, tasks out of
    distribution two changed limbs. ``docs/imujoco.md`` shows and lists every robot. Version 2 has
    the official files instead of the reconstruction: ``--imujoco-xml DIR``, or the environment
    variable ``IMUJOCO_XML_DIR``. Episodes never terminate.

    Raises:
        ValueError: the horizon is out of range, or a file in the folder cannot be used.
    """
    horizon = resolve_horizon(settings.horizon, HORIZON)
    if settings.xml is None:
        published, version = _reconstruct(HALFCHEETAH_ANATOMY), 1
        note = (
            f"{len(published)} variants of one part's mass, length or joint range: "
            "reconstruction of the published naming scheme, not the official files"
        )
    else:
        files = read_folder(settings.xml)
        digest = hashlib.sha256("".join(f"{f.name} {f.sha256}\n" for f in files).encode())
        published, version = tuple(map(_official_member, range(len(files)), files)), 2
        note = f"official XML, {len(files)} files, sha256 {digest.hexdigest()[:12]}"
    reward, formula = forward(control_cost=0.1), f"reward v - 0.1|a|^2, {note}"
    name = "imujoco-halfcheetah"
    return _distribution(name, version, HALFCHEETAH_ANATOMY, published, reward, formula, horizon)


_DEFAULTS = LocomotionSettings()


def imujoco_ant(settings: LocomotionSettings = _DEFAULTS) -> Locomotion:
    """Run along x as fast as possible on Ants with one changed part, which differs between tasks.

    The recipe of ``imujoco-halfcheetah`` on the Ant: ours, since iMuJoCo has none.
    ``docs/imujoco.md`` shows and lists every robot. Episodes terminate when the torso leaves
    heights from 0.2 to 1 m.
    """
    horizon = resolve_horizon(settings.horizon, HORIZON)
    published = _reconstruct(ANT_ANATOMY)
    formula = (
        f"reward v_x + 1 - 0.5|a|^2, {len(published)} variants of one part's mass, length or joint "
        "range: iMuJoCo's recipe on the Ant, our own, iMuJoCo has none"
    )
    reward = forward(control_cost=0.5, bonus=1.0)
    return _distribution("imujoco-ant", 1, ANT_ANATOMY, published, reward, formula, horizon)


def _distribution(
    name: str,
    version: int,
    anatomy: Anatomy,
    published: tuple[Member, ...],
    reward: Reward,
    formula: str,
    horizon: int,
) -> Locomotion:
    """Return the distribution of the ``published`` robots, and of our own for the other splits."""
    between = _changed(anatomy, [(v,) for v in anatomy.variants(BETWEEN)], len(published))
    pairs = anatomy.pairs()
    drawn = sorted(_order(name, version, "ood", len(pairs))[:NUM_PAIRS])
    double = _changed(anatomy, [pairs[n] for n in drawn], len(published) + len(between))
    order = _order(name, version, "published", len(published))
    cut = len(published) * 4 // 5
    members: dict[Split, Sequence[Member]] = {
        "train": [published[n] for n in order[:cut]],
        "validation": between,
        "test": [published[n] for n in order[cut:]],
        "ood": double,
    }
    lists: TaskLists = {
        split: tuple(
            Task(name, version, split, index, member.name, member.params, member.description)
            for index, member in enumerate(part)
        )
        for split, part in members.items()
    }
    every = (*published, *between, *double)
    family = VariantFamily(anatomy.robot, "variant", reward, members=every)
    return locomotion(name, version, family, formula, lists, horizon)


def _reconstruct(anatomy: Anatomy) -> tuple[Member, ...]:
    return _changed(anatomy, [(variant,) for variant in anatomy.variants()], 0)


def _changed(
    anatomy: Anatomy, robots: Sequence[tuple[Variant, ...]], first: int
) -> tuple[Member, ...]:
    """Return robots with some changes each, numbered from ``first``."""
    prefix = f"{anatomy.prefix}-"
    members = []
    for number, changes in enumerate(robots, first):
        parts = tuple((f"{v.quantity}_{v.part}_scale", v.scale) for v in changes)
        params = parts if len(changes) > 1 else ((f"{changes[0].quantity}_scale", parts[0][1]),)
        told = tuple((f"log2_{key}", math.log2(scale)) for key, scale in parts)
        name = "+".join(v.name.removeprefix(prefix) for v in changes)
        model = partial(build_model, anatomy, *changes)
        members.append(Member(prefix + name, (("variant", float(number)), *params), model, told))
    return tuple(members)


def _official_member(index: int, file: OfficialFile) -> Member:
    # 48 bits of the digest, which a float holds exactly, tell tasks of other files apart.
    fingerprint = float(int(file.sha256[:12], 16))
    params = (("variant", float(index)), ("xml_sha256_48", fingerprint))
    return Member(file.name, params, lambda: file.model)


def _order(dist: str, version: int, purpose: Literal["published", "ood"], count: int) -> list[int]:
    """Return the numbers below ``count`` in an order fixed by ``dist`` and ``version``."""
    branch = {"published": (), "ood": (1,)}[purpose]
    sequence = np.random.SeedSequence([zlib.crc32(dist.encode()), version, *branch])
    order: list[int] = np.random.Generator(np.random.PCG64(sequence)).permutation(count).tolist()
    return order


RECIPES: dict[str, dict[str, Any]] = {"imujoco-ant": ANT_RECIPE}
"""Settings that suit these distributions; see ``task_distributions.recipe``."""
