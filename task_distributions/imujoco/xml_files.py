"""The official iMuJoCo files of HalfCheetah, read from a folder and checked.

They are a download (zenodo record 7971395, ``xml.zip``) and not part of this project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import mujoco

from task_distributions.engine.physics import DataPool
from task_distributions.locomotion.robots import HALFCHEETAH, template

__all__ = ["PATTERN", "MixedDataPool", "OfficialFile", "read_folder"]

PATTERN = "halfcheetah-*.xml"


@dataclass(frozen=True, eq=False)
class OfficialFile:
    """One variant of HalfCheetah as published."""

    name: str
    """The file's name without ``.xml``."""
    sha256: str
    """Digest of the file, in hexadecimal."""
    model: mujoco.MjModel


def read_folder(folder: str | Path) -> tuple[OfficialFile, ...]:
    """Return every ``halfcheetah-*.xml`` in ``folder``, sorted by name.

    Raises:
        ValueError: the folder does not exist or holds fewer than two such files, or one of them is
            unreadable, no MuJoCo model or another robot; the message names it.
    """
    folder = Path(folder).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"iMuJoCo XML folder {folder}: no such folder")
    paths = sorted(folder.glob(PATTERN), key=lambda path: path.name)
    files = tuple(_read(path) for path in paths)
    if len(files) < 2:
        raise ValueError(
            f"iMuJoCo XML folder {folder} holds {len(files)} of {PATTERN}, need at least 2 (one to "
            "train on, one to test on); unpack xml.zip of zenodo record 7971395 there"
        )
    return files


def _read(path: Path) -> OfficialFile:
    try:
        content = path.read_bytes()
        model = mujoco.MjModel.from_xml_path(str(path))
    except (OSError, ValueError, mujoco.FatalError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a MuJoCo model: {reason}") from error
    base = _traits(template(HALFCHEETAH).model)
    for trait, actual in _traits(model).items():
        if actual != base[trait]:
            raise ValueError(
                f"{path}: not a HalfCheetah: its {trait} are {actual}, expected {base[trait]}"
            )
    return OfficialFile(path.stem, hashlib.sha256(content).hexdigest(), model)


def _traits(model: mujoco.MjModel) -> dict[str, str]:
    """Return the properties all variants share: meaning of observation, action and time step."""
    joints = [model.joint(j) for j in range(model.njnt)]
    actuators = [model.actuator(a) for a in range(model.nu)]
    driven = [model.joint(actuator.trnid[0]).name for actuator in actuators]
    return {
        "joints": ", ".join(f"{joint.name} ({_JOINT[joint.type.item()]})" for joint in joints),
        "actuators": ", ".join(actuator.name for actuator in actuators),
        "driven joints": ", ".join(driven),
        "control ranges": str(model.actuator_ctrlrange.tolist()),
        "activation states": str(model.na),
        "seconds per physics step": str(model.opt.timestep),
    }


_JOINT = {
    int(kind): kind.name.removeprefix("mjJNT_").lower() for kind in map(mujoco.mjtJoint, range(4))
}


class MixedDataPool(DataPool):
    """Simulation states for models of different sizes.

    A state that is too small for its model would be written past its end. Models of equal sizes
    share a pool.
    """

    _pools: ClassVar[dict[tuple[int, ...], DataPool]] = {}

    def __init__(self, models: Sequence[mujoco.MjModel]) -> None:
        distinct = {id(model): model for model in models}  # reading the sizes takes 0.2 ms
        pools = {
            key: self._pools.setdefault(_sizes(model), DataPool(model))
            for key, model in distinct.items()
        }
        self._pool_of_each = [pools[id(model)] for model in models]

    def acquire(self, count: int) -> list[mujoco.MjData]:
        """Return one state for each model; ``count`` must be their number."""
        assert count == len(self._pool_of_each)
        return [pool.acquire(1)[0] for pool in self._pool_of_each]

    def release(self, states: list[mujoco.MjData]) -> None:
        """Return ``states`` to the pool."""
        for pool, state in zip(self._pool_of_each, states, strict=True):
            pool.release([state])


def _sizes(model: mujoco.MjModel) -> tuple[int, ...]:
    names = [name for name in dir(model) if name.startswith("n")]
    return tuple(size for size in (getattr(model, name) for name in names) if isinstance(size, int))
