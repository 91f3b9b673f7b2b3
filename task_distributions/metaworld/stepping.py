"""Meta-World's control step for B simulations in one compiled loop: physics and observation.

It follows metaworld's ``step``: move the mocap body by the action, take five physics steps, then
call ``mj_forward``, which updates positions and provides the next step's warm start. Two of
metaworld's actions have no effect and are left out: ``mj_rnePostConstraint``, and writing target
sites into the data, which ``mj_forward`` overwrites.

Array letters: B simulations, C columns of the address table, K parameters.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numba import carray, njit, types

from task_distributions.engine.mujoco_capi import (
    float64_at,
    leaves_bounds,
    mj_forward,
    mj_step,
    reports_explosion,
)
from task_distributions.metaworld.observations import Observed

__all__ = ["NUM_COLUMNS", "NUM_PARAMETERS", "addresses", "advance", "parameters"]

FRAME_SKIP = 5
DIAL_RADIUS = 0.05
"""Metres."""

_STRUCTS, _CTRL, _MOCAP_POS, _MOCAP_QUAT, _WARNINGS = 0, 2, 3, 4, 5
_QPOS, _QVEL, _NUM_QPOS, _NUM_QVEL = 6, 7, 8, 9
_BODIES, _SITES = 10, 13
"""Three columns each: the model's positions, the task's own positions, their number."""
_HAND, _RIGHT_CLAW, _LEFT_CLAW, _RIGHT_TIP, _LEFT_TIP = 16, 17, 18, 19, 20
_OBJECTS, _OBJECT_COLUMNS, _MAX_OBJECTS = 21, 4, 2
"""Per object: position (0: no object), kind of orientation, orientation, dial (0: none)."""
NUM_COLUMNS = _OBJECTS + _OBJECT_COLUMNS * _MAX_OBJECTS
_ZEROS, _IDENTITY, _QUATERNION, _MATRIX = 0, 1, 2, 3

_LOW, _HIGH, _SCALE, _OFFSETS = 0, 3, 6, 7
NUM_PARAMETERS = _OFFSETS + 3 * _MAX_OBJECTS


def addresses(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    body_pos: np.ndarray,
    site_pos: np.ndarray,
    objects: tuple[Observed, ...],
) -> list[int]:
    """Return one simulation's row of the address table.

    Args:
        model: shared by all simulations of a class.
        data: this simulation's state.
        body_pos: body positions of this simulation's task; written into the model at each step.
        site_pos: the same for sites.
        objects: the objects in an observation of this class.
    """
    own = [data.ctrl, data.mocap_pos, data.mocap_quat, data.warning.lastinfo, data.qpos, data.qvel]
    row = [model._address, data._address, *(array.ctypes.data for array in own), model.nq, model.nv]
    for shared, private in ((model.body_pos, body_pos), (model.site_pos, site_pos)):
        row += [shared.ctypes.data, private.ctypes.data, private.size]
    row += [data.body(name).xpos.ctypes.data for name in ("hand", "rightclaw", "leftclaw")]
    row += [data.site(f"{side}EndEffector").xpos.ctypes.data for side in ("right", "left")]
    for item in objects:
        row += _object_columns(data, item)
    return row + [0] * (NUM_COLUMNS - len(row))


def _object_columns(data: mujoco.MjData, item: Observed) -> list[int]:
    dial = data.joint(item.dial_joint).qpos.ctypes.data if item.dial_joint else 0
    kind, source = _ZEROS, 0
    if item.orientation == "identity":
        kind = _IDENTITY
    elif item.orientation != "zeros":
        is_matrix = item.orientation.endswith(" matrix")
        kind = _MATRIX if is_matrix else _QUATERNION
        part = _part(data, item.orientation.removesuffix(" matrix"))
        source = (part.xmat if is_matrix else part.xquat).ctypes.data
    return [_part(data, item.position).xpos.ctypes.data, kind, source, dial]


def _part(data: mujoco.MjData, source: str) -> Any:
    """Return the body, site or geom named by ``source``."""
    kind, _, name = source.partition(" ")
    return getattr(data, kind)(name)


def parameters(env: Any, objects: tuple[Observed, ...]) -> list[float]:
    """Return one simulation's row of parameters: bounds and scale of moves, object offsets."""
    offsets = [value for item in objects for value in item.offset]
    row = [*env.mocap_low, *env.mocap_high, env.action_scale, *offsets]
    return row + [0.0] * (NUM_PARAMETERS - len(row))


@njit(types.void(types.uintp, types.uintp, types.int64), cache=True)
def _copy(target: Any, source: Any, count: Any) -> None:
    carray(float64_at(target), (count,))[:] = carray(float64_at(source), (count,))


@njit(types.void(types.uintp, types.float64[::1]), cache=True)
def _matrix_to_quaternion(address: Any, quat: Any) -> None:
    """Write x, y, z, w of the rotation matrix, with scipy's operations in scipy's order."""
    m = carray(float64_at(address), (3, 3))
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    i = 0
    for candidate in (1, 2):
        if m[candidate, candidate] > m[i, i]:
            i = candidate
    if trace > m[i, i]:
        quat[0] = m[2, 1] - m[1, 2]
        quat[1] = m[0, 2] - m[2, 0]
        quat[2] = m[1, 0] - m[0, 1]
        quat[3] = 1 + trace
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        quat[i] = 1 - trace + 2 * m[i, i]
        quat[j] = m[j, i] + m[i, j]
        quat[k] = m[k, i] + m[i, k]
        quat[3] = m[k, j] - m[j, k]
    norm = math.sqrt(quat[0] ** 2 + quat[1] ** 2 + quat[2] ** 2 + quat[3] ** 2)
    for index in range(4):
        quat[index] /= norm


@njit(types.void(types.uintp[::1], types.float64[::1], types.float64[::1]), cache=True)
def _observe(row: Any, params: Any, now: Any) -> None:
    """Write the 18 numbers of the current state into ``now``, before clipping."""
    now[:] = 0.0
    now[0:3] = carray(float64_at(row[_HAND]), (3,))
    right = carray(float64_at(row[_RIGHT_CLAW]), (3,))
    left = carray(float64_at(row[_LEFT_CLAW]), (3,))
    x, y, z = right[0] - left[0], right[1] - left[1], right[2] - left[2]
    now[3] = min(max(math.sqrt(x * x + y * y + z * z) / 0.1, 0.0), 1.0)
    for index in range(_MAX_OBJECTS):
        column, place = _OBJECTS + _OBJECT_COLUMNS * index, 4 + 7 * index
        if row[column] == 0:
            continue
        position = carray(float64_at(row[column]), (3,))
        for axis in range(3):
            now[place + axis] = position[axis] + params[_OFFSETS + 3 * index + axis]
        if row[column + 3] != 0:
            angle = carray(float64_at(row[column + 3]), (1,))[0]
            now[place] += math.sin(angle) * DIAL_RADIUS
            now[place + 1] += -math.cos(angle) * DIAL_RADIUS
        kind = row[column + 1]
        if kind == _IDENTITY:
            now[place + 3] = 1.0
        elif kind == _QUATERNION:
            now[place + 3 : place + 7] = carray(float64_at(row[column + 2]), (4,))
        elif kind == _MATRIX:
            _matrix_to_quaternion(row[column + 2], now[place + 3 : place + 7])


@njit(types.void(types.uintp[::1], types.float64[::1], types.float64[::1]), cache=True)
def _control(row: Any, params: Any, action: Any) -> None:
    """Write the task's bodies and sites into the shared model and the action into the data."""
    _copy(row[_BODIES], row[_BODIES + 1], row[_BODIES + 2])
    _copy(row[_SITES], row[_SITES + 1], row[_SITES + 2])
    ctrl, mocap = carray(float64_at(row[_CTRL]), (2,)), carray(float64_at(row[_MOCAP_POS]), (3,))
    for axis in range(3):
        moved = mocap[axis] + action[axis] * params[_SCALE]
        mocap[axis] = min(max(moved, params[_LOW + axis]), params[_HIGH + axis])
    quat = carray(float64_at(row[_MOCAP_QUAT]), (4,))
    quat[0], quat[1], quat[2], quat[3] = 1.0, 0.0, 1.0, 0.0
    ctrl[0], ctrl[1] = action[3], -action[3]


_f8_2d = types.float64[:, ::1]
_SIGNATURE = types.void(
    types.uintp[:, ::1],
    _f8_2d,
    types.int64[::1],
    types.boolean[::1],
    _f8_2d,
    types.float64[:, ::1],
    types.boolean[::1],
    _f8_2d,
    _f8_2d,
    _f8_2d,
)


# Holds the GIL: simulations of one class share a model, and each moves its bodies for its task.
@njit(_SIGNATURE, cache=True)
def advance(  # noqa: PLR0913 (compiled code takes arrays, not objects)
    table: Any,
    params: Any,
    order: Any,
    active: Any,
    actions: Any,
    bounds: Any,
    unstable: Any,
    previous: Any,
    tips: Any,
    obs: Any,
) -> None:
    """Advance the active simulations by one control step.

    Args:
        table: addresses [B, C].
        params: [B, K].
        order: [B] order of stepping, with simulations of one model next to each other.
        active: [B] the simulations to step.
        actions: [B, 4] in [-1, 1].
        bounds: [2, 39] lowest and highest observation.
        unstable: [B] set where the physics exploded; nothing else is written there.
        previous: [B, 18] the unclipped numbers of the previous step; replaced by this step's.
        tips: [B, 3] receives the midpoint of the two finger tips.
        obs: [B, 39] receives the clipped observation.
    """
    now = np.zeros(18)
    for b in order:
        if not active[b]:
            continue
        row = table[b]
        _control(row, params[b], actions[b])
        for _ in range(FRAME_SKIP):
            mj_step(row[_STRUCTS], row[_STRUCTS + 1])
        mj_forward(row[_STRUCTS], row[_STRUCTS + 1])
        unstable[b] = (
            reports_explosion(row[_WARNINGS])
            or leaves_bounds(row[_QPOS], row[_NUM_QPOS])
            or leaves_bounds(row[_QVEL], row[_NUM_QVEL])
        )
        if unstable[b]:
            continue
        _observe(row, params[b], now)
        right = carray(float64_at(row[_RIGHT_TIP]), (3,))
        left = carray(float64_at(row[_LEFT_TIP]), (3,))
        for axis in range(3):
            tips[b, axis] = (right[axis] + left[axis]) / 2.0
        for index in range(18):
            obs[b, index] = min(max(now[index], bounds[0, index]), bounds[1, index])
            obs[b, 18 + index] = min(
                max(previous[b, index], bounds[0, 18 + index]), bounds[1, 18 + index]
            )
        obs[b, 36:39] = 0.0
        previous[b] = now
