"""iMuJoCo: robots with one part changed, to be run on without knowing which.

iMuJoCo (Patacchiola et al. 2023, arXiv 2306.13554) has 53 variants of HalfCheetah, each with the
mass, the length, the joint range or the friction of one limb changed. Its XML files are a download.

- ``imujoco-halfcheetah@1`` is a RECONSTRUCTION of them: 53 variants in the published naming scheme,
  made from Gymnasium's HalfCheetah (``imujoco_bodies`` says how), not the official files. Which 53
  the official ones are is not public outside the download. Friction is left out: a contact takes
  the larger friction of foot and floor, so that less friction of a foot alone changes nothing.
- ``imujoco-halfcheetah@2`` are the official files of a folder, every one of them.
- ``imujoco-ant@1`` is the same recipe on the Ant, 59 variants; it is ours, iMuJoCo has no Ant.

Reward, observation, noise at the reset and horizon are those of the base robot's task.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import mujoco
import numpy as np

from task_distributions.base import EnvSpec, Split, Task
from task_distributions.imujoco_bodies import (
    ANT_ANATOMY,
    HALFCHEETAH_ANATOMY,
    Anatomy,
    build,
)
from task_distributions.imujoco_xml import OfficialFile, StatesOfAnySize, read_folder
from task_distributions.locomotion import HORIZON, Locomotion
from task_distributions.locomotion_envs import Family
from task_distributions.locomotion_rewards import Reward, forward
from task_distributions.physics import DataPool
from task_distributions.robots import HALFCHEETAH, Robot
from task_distributions.task_lists import check_horizon

__all__ = ["Body", "BodyFamily", "imujoco_ant", "imujoco_halfcheetah"]


@dataclass(frozen=True)
class Body:
    """One robot of a distribution."""

    name: str
    params: tuple[tuple[str, float], ...]
    """Its number as ``variant``, and what tells it from another body of that number."""
    model: Callable[[], mujoco.MjModel] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class BodyFamily(Family):
    """Tasks that differ in the robot itself."""

    bodies: tuple[Body, ...]

    def model(self, task: Task) -> mujoco.MjModel:
        """Return the robot of ``task``, to be shared and not to be changed.

        Raises:
            ValueError: the task was made from other bodies, e.g. from another XML folder.
        """
        number = int(task.param("variant"))
        if number >= len(self.bodies) or self.bodies[number].params != task.params:
            raise ValueError(
                f"task {task.name!r} is of another robot than variant {number} here; "
                "were the tasks made from another iMuJoCo XML folder?"
            )
        return self.bodies[number].model()

    def pool(self, models: Sequence[mujoco.MjModel]) -> DataPool:
        """Return where the simulation states of ``models`` are taken from, one for each."""
        return StatesOfAnySize(models)


def imujoco_halfcheetah(horizon: int | None = None, xml: str | Path | None = None) -> Locomotion:
    """Run as fast as possible on HalfCheetahs of which one part is changed.

    Args:
        horizon: control steps per episode; 200 if None.
        xml: folder with the official ``halfcheetah-*.xml``; the reconstruction if None.

    Raises:
        ValueError: a bad horizon, or a bad file in the folder, which the message names.
    """
    name, reward = "imujoco-halfcheetah", forward(control_cost=0.1)
    if xml is not None:
        files = read_folder(xml)
        digest = hashlib.sha256("".join(f"{f.name} {f.sha256}\n" for f in files).encode())
        note = f"official XML, {len(files)} files, sha256 {digest.hexdigest()[:12]}"
        bodies = tuple(_official_body(number, file) for number, file in enumerate(files))
        family = _family(HALFCHEETAH, reward, bodies)
        return _distribution(name, 2, family, f"reward v - 0.1|a|^2, {note}", horizon)
    bodies = _reconstruction(HALFCHEETAH_ANATOMY)
    formula = (
        f"reward v - 0.1|a|^2, {len(bodies)} variants of one part's mass, length or joint range: "
        "reconstruction of the published naming scheme, not the official files"
    )
    return _distribution(name, 1, _family(HALFCHEETAH, reward, bodies), formula, horizon)


def imujoco_ant(horizon: int | None = None) -> Locomotion:
    """Run along x as fast as possible on Ants of which one part is changed; not part of iMuJoCo."""
    bodies = _reconstruction(ANT_ANATOMY)
    formula = (
        f"reward v_x + 1 - 0.5|a|^2, {len(bodies)} variants of one part's mass, length or joint "
        "range: iMuJoCo's recipe on the Ant, our own, iMuJoCo has none"
    )
    family = _family(ANT_ANATOMY.robot, forward(control_cost=0.5, bonus=1.0), bodies)
    return _distribution("imujoco-ant", 1, family, formula, horizon)


def _reconstruction(anatomy: Anatomy) -> tuple[Body, ...]:
    return tuple(
        Body(
            variant.name,
            (("variant", float(number)), (f"{variant.quantity}_scale", variant.scale)),
            partial(build, anatomy, variant),
        )
        for number, variant in enumerate(anatomy.variants())
    )


def _official_body(number: int, file: OfficialFile) -> Body:
    # 48 bits of the digest, which a float holds exactly: a task of another file is told apart.
    fingerprint = float(int(file.sha256[:12], 16))
    params = (("variant", float(number)), ("xml_sha256_48", fingerprint))
    return Body(file.name, params, lambda: file.model)


def _family(robot: Robot, reward: Reward, bodies: tuple[Body, ...]) -> BodyFamily:
    return BodyFamily(robot=robot, parameter="variant", reward=reward, bodies=bodies)


def _distribution(
    name: str, version: int, family: BodyFamily, formula: str, horizon: int | None
) -> Locomotion:
    robot = family.robot
    return Locomotion(
        name=name,
        version=version,
        family=family,
        formula=formula,
        bounds=None,
        spec=EnvSpec(robot.obs_dim, robot.action_dim, check_horizon(horizon, HORIZON)),
        _lists=_split(name, version, family.bodies),
    )


def _split(dist: str, version: int, bodies: Sequence[Body]) -> dict[Split, tuple[Task, ...]]:
    """Return the bodies in an order fixed by ``dist`` and ``version``, cut at 80 %."""
    sequence = np.random.SeedSequence([zlib.crc32(dist.encode()), version])
    order = np.random.Generator(np.random.PCG64(sequence)).permutation(len(bodies))
    cut = len(bodies) * 4 // 5
    parts: dict[Split, list[Body]] = {
        "train": [bodies[number] for number in order[:cut]],
        "test": [bodies[number] for number in order[cut:]],
    }
    return {
        split: tuple(
            Task(dist, version, split, index, body.name, body.params)
            for index, body in enumerate(part)
        )
        for split, part in parts.items()
    }
