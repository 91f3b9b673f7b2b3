"""The official iMuJoCo files of HalfCheetah, read from a folder and checked.

They are a download (zenodo record 7971395, ``xml.zip``), so this project does not carry them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import mujoco

from task_distributions.physics import DataPool
from task_distributions.robots import HALFCHEETAH, template

__all__ = ["PATTERN", "OfficialFile", "StatesOfAnySize", "read_folder"]

PATTERN = "halfcheetah-*.xml"


@dataclass(frozen=True, eq=False)
class OfficialFile:
    """One variant of HalfCheetah as published."""

    name: str
    """The file's name without ``.xml``."""
    sha256: str
    """Of its bytes, in hexadecimal."""
    model: mujoco.MjModel


def read_folder(folder: str | Path) -> tuple[OfficialFile, ...]:
    """Return every ``halfcheetah-*.xml`` of ``folder``, sorted by name.

    Raises:
        ValueError: there is no such folder, fewer than two files, or a file that is unreadable, no
            MuJoCo model or another robot; the message names it.
    """
    folder = Path(folder).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"iMuJoCo XML folder {folder}: no such folder")
    paths = sorted(folder.glob(PATTERN), key=lambda path: path.name)
    files = tuple(_read(path) for path in paths)
    if len(files) < 2:
        raise ValueError(
            f"iMuJoCo XML folder {folder}: {len(files)} of {PATTERN} in it, need at least 2 "
            "(one to train on, one to test on); unpack xml.zip of zenodo record 7971395 there"
        )
    return files


def _read(path: Path) -> OfficialFile:
    try:
        content = path.read_bytes()
        model = mujoco.MjModel.from_xml_path(str(path))
    except (OSError, ValueError, mujoco.FatalError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a MuJoCo model: {reason}") from error
    for what, expected, found in _differences(template(HALFCHEETAH).model, model):
        raise ValueError(f"{path}: not a HalfCheetah: its {what} are {found}, expected {expected}")
    return OfficialFile(path.stem, hashlib.sha256(content).hexdigest(), model)


def _differences(base: mujoco.MjModel, model: mujoco.MjModel) -> list[tuple[str, str, str]]:
    """Return what makes ``model`` another robot: what, how it is in ``base``, how it is."""
    return [
        (what, expected, found)
        for (what, expected), (_, found) in zip(_traits(base), _traits(model), strict=True)
        if expected != found
    ]


def _traits(model: mujoco.MjModel) -> list[tuple[str, str]]:
    """Return what every variant shares: the meaning of the observation, the action and a step."""
    joints = [model.joint(j) for j in range(model.njnt)]
    actuators = [model.actuator(a) for a in range(model.nu)]
    driven = [model.joint(actuator.trnid[0]).name for actuator in actuators]
    return [
        ("joints", ", ".join(f"{joint.name} ({_JOINT[joint.type.item()]})" for joint in joints)),
        ("actuators", ", ".join(actuator.name for actuator in actuators)),
        ("driven joints", ", ".join(driven)),
        ("control ranges", str(model.actuator_ctrlrange.tolist())),
        ("activation states", str(model.na)),
        ("seconds per physics step", str(model.opt.timestep)),
    ]


_JOINT = {
    int(kind): kind.name.removeprefix("mjJNT_").lower() for kind in map(mujoco.mjtJoint, range(4))
}


class StatesOfAnySize(DataPool):
    """Simulation states for models whose sizes may differ from one to the next.

    A state of one size used with a model of another would be written past its end. States of one
    size are shared, as in any pool.
    """

    _pools: ClassVar[dict[tuple[int, ...], DataPool]] = {}

    def __init__(self, models: Sequence[mujoco.MjModel]) -> None:
        distinct = {id(model): model for model in models}  # reading the sizes takes 0.2 ms
        pools = {
            key: self._pools.setdefault(_sizes(model), DataPool(model))
            for key, model in distinct.items()
        }
        self._each = [pools[id(model)] for model in models]

    def take(self, count: int) -> list[mujoco.MjData]:
        """Return one state for each of the models, which must be ``count``."""
        assert count == len(self._each)
        return [pool.take(1)[0] for pool in self._each]

    def give_back(self, states: list[mujoco.MjData]) -> None:
        """Make ``states`` available to the next user."""
        for pool, state in zip(self._each, states, strict=True):
            pool.give_back([state])


def _sizes(model: mujoco.MjModel) -> tuple[int, ...]:
    names = [name for name in dir(model) if name.startswith("n")]
    return tuple(size for size in (getattr(model, name) for name in names) if isinstance(size, int))
