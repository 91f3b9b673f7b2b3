"""Metaworld's own reward code, run on faster primitives.

``evaluator(env_class)`` creates a subclass whose methods are metaworld's code objects with other
globals: numpy's norm and clip and metaworld's tolerance become scalar Python with the same
operations in the same order. Metaworld's own modules stay unchanged.
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

from task_distributions.base import FloatArray

__all__ = ["DataView", "ModelView", "evaluator"]

_FLOAT64 = np.dtype(np.float64)
_SCALARS = (float, np.float64)


def _norm(x: Any, ord: int | None = None) -> Any:
    """Return ``np.linalg.norm(x, ord)``, quickly for float64 vectors."""
    if type(x) is np.float64:
        return math.sqrt(x * x)
    if type(x) is np.ndarray and x.ndim == 1 and x.dtype is _FLOAT64 and ord in (None, 2):
        return math.sqrt(x.dot(x))
    return np.linalg.norm(x, ord=ord)


def _clip(x: Any, low: Any, high: Any) -> Any:
    """Return ``np.clip(x, low, high)``, quickly for a scalar."""
    return min(max(x, low), high) if type(x) in _SCALARS else np.clip(x, low, high)


@functools.lru_cache(maxsize=256)
def _scale(sigmoid: str, value_at_1: float) -> float:
    if sigmoid == "long_tail":
        return math.sqrt(1 / value_at_1 - 1)
    return float(np.sqrt(-2 * np.log(value_at_1)))


def _tolerance(
    x: Any,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Any:
    """Return ``reward_utils.tolerance``; the two sigmoids used by rewards are inlined."""
    lower, upper = bounds
    quick = type(x) in _SCALARS and sigmoid in ("long_tail", "gaussian")
    if not (quick and lower <= upper and margin > 0):
        return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)
    if lower <= x <= upper:
        return 1.0
    scaled = float((lower - x if x < lower else x - upper) / margin)
    scaled *= _scale(sigmoid, value_at_margin)
    if sigmoid == "long_tail":
        return 1 / (scaled**2 + 1)
    return float(np.exp(-0.5 * scaled**2))


def _namespace(module: Any, **replaced: Any) -> types.SimpleNamespace:
    """Return a copy of the namespace ``module`` with some members replaced."""
    return types.SimpleNamespace(**{**vars(module), **replaced})


_utils = _namespace(reward_utils, tolerance=_tolerance)
_numpy = _namespace(np, linalg=_namespace(np.linalg, norm=_norm), clip=_clip)
_numpy_scalars = _namespace(np, clip=_clip)
"""For code that calls ``.item()`` on norms, which a Python float lacks."""


class _Primitives:
    """Accessors used by metaworld's rewards, without MuJoCo's name lookups."""

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


class _Caging:
    """Metaworld's ``_gripper_caging_reward``, used by half the classes, in scalar arithmetic."""

    def _gripper_caging_reward(  # noqa: PLR0913 (metaworld's signature)
        self: Any,
        action: FloatArray,
        obj_pos: FloatArray,
        obj_radius: float,
        pad_success_thresh: float,
        object_reach_radius: float,
        xz_thresh: float,
        desired_gripper_effort: float = 1.0,
        high_density: bool = False,
        medium_density: bool = False,
    ) -> float:
        if high_density and medium_density:
            raise ValueError("Can only be either high_density or medium_density")
        (x, y, z), (x0, y0, z0) = obj_pos.tolist(), self.obj_init_pos.tolist()
        (tx, ty, tz), (tx0, ty0, tz0) = self.tips.tolist(), self.init_tcp.tolist()
        caged = [
            _tolerance(
                abs(pad - y),
                bounds=(obj_radius, pad_success_thresh),
                margin=abs(abs(pad - y0) - pad_success_thresh),
                sigmoid="long_tail",
            )
            for pad in (self.get_body_com(name).item(1) for name in ("leftpad", "rightpad"))
        ]
        caging_xz = _tolerance(
            math.sqrt((tx - x) ** 2 + (tz - z) ** 2),
            bounds=(0, xz_thresh),
            margin=math.sqrt((x0 - tx0) ** 2 + (z0 - tz0) ** 2) - xz_thresh,
            sigmoid="long_tail",
        )
        caging = reward_utils.hamacher_product(reward_utils.hamacher_product(*caged), caging_xz)
        closed = min(max(0, action[-1]), desired_gripper_effort) / desired_gripper_effort
        reward: float = reward_utils.hamacher_product(caging, closed if caging > 0.97 else 0.0)
        if high_density:
            reward = (reward + caging) / 2
        if medium_density:
            to_init = math.sqrt((x0 - tx0) ** 2 + (y0 - ty0) ** 2 + (z0 - tz0) ** 2)
            reach = _tolerance(
                math.sqrt((x - tx) ** 2 + (y - ty) ** 2 + (z - tz) ** 2),
                bounds=(0, object_reach_radius),
                margin=abs(to_init - object_reach_radius),
                sigmoid="long_tail",
            )
            reward = (reward + reach) / 2
        return reward


class DataView:
    """A simulation state that looks every name up only once."""

    def __init__(self, data: mujoco.MjData) -> None:
        self._data = data
        self.body = functools.cache(data.body)
        self.site = functools.cache(data.site)
        self.geom = functools.cache(data.geom)
        self.joint = functools.cache(data.joint)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


class ModelView:
    """A model with the body and site positions of one task; the shared model holds any task's."""

    def __init__(self, model: mujoco.MjModel, body_pos: FloatArray, site_pos: FloatArray) -> None:
        self._model, self._body_pos, self._site_pos = model, body_pos, site_pos

    def body(self, name: str) -> types.SimpleNamespace:
        """Return the body's ``pos``."""
        return types.SimpleNamespace(pos=self._body_pos[self._model.body(name).id])

    def geom(self, name: str) -> Any:
        """Return the model's geom; no task moves geoms."""
        return self._model.geom(name)

    def site(self, name: str) -> types.SimpleNamespace:
        """Return the site's ``pos``."""
        return types.SimpleNamespace(pos=self._site_pos[self._model.site(name).id])


def _rebound(member: Any, globals_of: Callable[[types.FunctionType], dict]) -> Any:
    """Return ``member`` of a class with other globals, also inside its decorators."""
    if isinstance(member, staticmethod):
        return staticmethod(_rebound(member.__func__, globals_of))
    if isinstance(member, property):
        return property(_rebound(member.fget, globals_of))
    if not isinstance(member, types.FunctionType):
        return member
    cells = []
    for cell in member.__closure__ or ():
        decorated = isinstance(cell.cell_contents, types.FunctionType)
        content = cell.cell_contents
        cells.append(types.CellType(_rebound(content, globals_of)) if decorated else cell)
    names = globals_of(member)
    copy = types.FunctionType(member.__code__, names, member.__name__, None, tuple(cells) or None)
    copy.__defaults__, copy.__kwdefaults__ = member.__defaults__, member.__kwdefaults__
    return copy


def _own_members(cls: type) -> dict[str, Any]:
    return {name: member for name, member in vars(cls).items() if not name.startswith("__")}


@functools.cache
def evaluator(env_class: type[SawyerXYZEnv]) -> type[Any]:
    """Return a class with the rewards of ``env_class``; the engine fills in its instances."""
    all_globals: list[dict[str, Any]] = []

    def globals_of(function: types.FunctionType) -> dict[str, Any]:
        names = dict(function.__globals__)
        numpy = _numpy_scalars if "item" in function.__code__.co_names else _numpy
        for name, fast in (("np", numpy), ("reward_utils", _utils), ("tolerance", _tolerance)):
            if name in names:
                names[name] = fast
        all_globals.append(names)
        return names

    members: dict[str, Any] = {}
    for base in reversed(env_class.__mro__):
        if issubclass(base, SawyerXYZEnv):
            members |= {k: _rebound(v, globals_of) for k, v in _own_members(base).items()}
        if base is SawyerXYZEnv:
            members |= _own_members(_Caging)
    result = type(env_class.__name__, (env_class,), members | _own_members(_Primitives))
    for names in all_globals:  # some rewards refer to their own class by name
        names[env_class.__name__] = result
    return result
