"""Metaworld's own reward code, run on faster primitives.

``evaluator(env_class)`` makes a subclass whose methods are metaworld's compiled code objects with
other globals: numpy's norm and clip, and metaworld's tolerance and Hamacher product, as scalar
Python with the same operations in the same order. Metaworld's own modules stay as they are.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.utils import reward_utils
from numpy.typing import NDArray

__all__ = ["DataView", "ModelView", "evaluator"]

FloatArray = NDArray[np.float64]
_FLOAT64 = np.dtype(np.float64)
_SCALARS = (float, np.float64)


def _norm(x: Any, ord: int | None = None) -> Any:
    """Return the Euclidean norm as ``np.linalg.norm`` does, quickly for vectors of float64."""
    if type(x) is np.ndarray and x.ndim == 1 and x.dtype is _FLOAT64 and ord in (None, 2):
        return math.sqrt(x.dot(x))
    return np.linalg.norm(x, ord=ord)


def _clip(x: Any, low: Any, high: Any) -> Any:
    """Return what ``np.clip`` does, quickly for a scalar."""
    return min(max(x, low), high) if type(x) in _SCALARS else np.clip(x, low, high)


@functools.lru_cache(maxsize=256)
def _long_tail_scale(value_at_1: float) -> float:
    return math.sqrt(1 / value_at_1 - 1)


def _tolerance(
    x: Any,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Any:
    """Return ``reward_utils.tolerance``; the sigmoid that nearly all rewards use is inlined."""
    lower, upper = bounds
    if type(x) not in _SCALARS or sigmoid != "long_tail" or lower > upper or not margin > 0:
        return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)
    if lower <= x <= upper:
        return 1.0
    distance = float((lower - x if x < lower else x - upper) / margin)
    scale = _long_tail_scale(value_at_margin)
    return 1 / ((distance * scale) ** 2 + 1)


def _namespace(module: Any, **replaced: Any) -> types.SimpleNamespace:
    """Return the contents of ``module`` with some of them replaced."""
    return types.SimpleNamespace(**{**vars(module), **replaced})


_utils = _namespace(reward_utils, tolerance=_tolerance)
_numpy = _namespace(np, linalg=_namespace(np.linalg, norm=_norm), clip=_clip)
_numpy_scalars = _namespace(np, clip=_clip)
"""For code that calls ``.item()`` on norms, which a Python float has not."""


class _Primitives:
    """What metaworld's rewards read from the simulation, without MuJoCo's name lookups."""

    data: Any
    tips: FloatArray

    def get_body_com(self, body_name: str) -> FloatArray:
        return self.data.body(body_name).xpos  # type: ignore[no-any-return]

    def get_endeff_pos(self) -> FloatArray:
        return self.data.body("hand").xpos  # type: ignore[no-any-return]

    def _get_site_pos(self, site_name: str) -> FloatArray:
        return self.data.site(site_name).xpos.copy()  # type: ignore[no-any-return]

    @property
    def tcp_center(self) -> FloatArray:
        return self.tips

    def touching_object(self, object_geom_id: int) -> bool:
        data = self.data
        pads = (data.geom("leftpad_geom").id, data.geom("rightpad_geom").id)
        contact, forces = data.contact, [0.0, 0.0]
        for index, pair in enumerate(contact.geom.tolist()):
            if object_geom_id in pair:
                for side in (0, 1):
                    if pads[side] in pair:
                        forces[side] += data.efc_force[contact.efc_address[index]]
        return forces[0] > 0.0 and forces[1] > 0.0


class DataView:
    """A simulation state by names, each looked up once; everything else is the state's own."""

    def __init__(self, data: mujoco.MjData) -> None:
        self._data = data
        self.body = functools.cache(data.body)
        self.site = functools.cache(data.site)
        self.geom = functools.cache(data.geom)
        self.joint = functools.cache(data.joint)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


class ModelView:
    """The positions of a task's bodies and sites by name; the shared model holds another's."""

    def __init__(self, model: mujoco.MjModel, body_pos: FloatArray, site_pos: FloatArray) -> None:
        self._model, self._body_pos, self._site_pos = model, body_pos, site_pos

    def body(self, name: str) -> types.SimpleNamespace:
        """Return the body's ``pos``."""
        return types.SimpleNamespace(pos=self._body_pos[self._model.body(name).id])

    def geom(self, name: str) -> Any:
        """Return the geom, as the model has it: nobody moves those."""
        return self._model.geom(name)

    def site(self, name: str) -> types.SimpleNamespace:
        """Return the site's ``pos``."""
        return types.SimpleNamespace(pos=self._site_pos[self._model.site(name).id])


def _rebound(member: Any) -> Any:
    """Return ``member`` of a class with the faster primitives among its globals."""
    if isinstance(member, staticmethod):
        return staticmethod(_rebound(member.__func__))
    if isinstance(member, property):
        return property(_rebound(member.fget))
    if not isinstance(member, types.FunctionType):
        return member
    names = dict(member.__globals__)
    numpy = _numpy_scalars if "item" in member.__code__.co_names else _numpy
    for name, fast in (("np", numpy), ("reward_utils", _utils), ("tolerance", _tolerance)):
        if name in names:
            names[name] = fast
    closure = member.__closure__ and tuple(_rebound_cell(cell) for cell in member.__closure__)
    copy = types.FunctionType(member.__code__, names, member.__name__, None, closure)
    copy.__defaults__, copy.__kwdefaults__ = member.__defaults__, member.__kwdefaults__
    return copy


def _rebound_cell(cell: types.CellType) -> types.CellType:
    """Return the cell with what it holds rebound: a decorated method holds the real one."""
    content = cell.cell_contents
    return types.CellType(_rebound(content)) if isinstance(content, types.FunctionType) else cell


@functools.cache
def evaluator(env_class: type[SawyerXYZEnv]) -> type[Any]:
    """Return a class with the rewards of ``env_class``; its instances are filled by the engine."""
    members: dict[str, Any] = {}
    for base in reversed(env_class.__mro__):
        if issubclass(base, SawyerXYZEnv):
            members |= {k: _rebound(v) for k, v in vars(base).items() if not k.startswith("__")}
    primitives: dict[str, Callable] = {
        name: member for name, member in vars(_Primitives).items() if not name.startswith("__")
    }
    return type(env_class.__name__, (env_class,), members | primitives)
