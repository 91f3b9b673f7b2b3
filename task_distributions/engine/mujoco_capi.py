"""MuJoCo's C API for compiled loops: symbols, pointers, and the detection of explosions."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llvmlite.binding
import mujoco
import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

__all__ = [
    "MAX_STATE",
    "QuietMujoco",
    "float64_at",
    "has_exploded",
    "int32_at",
    "leaves_bounds",
    "mj_forward",
    "mj_reset",
    "mj_step",
    "reports_explosion",
]

MAX_STATE = 1e10
"""MuJoCo's own mjMAXVAL: a position or velocity beyond it counts as an explosion."""


def _library_path() -> Path:
    """Return the ``libmujoco`` inside the installed wheel."""
    folder = Path(mujoco.__file__).parent
    for pattern in ("libmujoco.so*", "libmujoco*.dylib", "mujoco.dll"):
        for path in sorted(folder.glob(pattern)):
            return path
    raise ImportError(f"no libmujoco in {folder}; reinstall the 'mujoco' wheel")


# Symbols, not addresses: numba refuses to cache a function that contains an address.
llvmlite.binding.load_library_permanently(str(_library_path()))
mj_step = types.ExternalFunction("mj_step", types.void(types.uintp, types.uintp))
mj_forward = types.ExternalFunction("mj_forward", types.void(types.uintp, types.uintp))
mj_reset = types.ExternalFunction("mj_resetData", types.void(types.uintp, types.uintp))

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_ignore_warning = _Handler(lambda message: None)
_quiet = ctypes.cast(_ignore_warning, ctypes.c_void_p).value
_handler = ctypes.c_void_p.in_dll(ctypes.CDLL(str(_library_path())), "mju_user_warning")


def _pointer_to(kind: Any) -> Any:
    """Return a function for compiled code that turns an address into a pointer to ``kind``."""

    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), codegen

    return pointer


float64_at, int32_at = _pointer_to(types.float64), _pointer_to(types.int32)
_WARNING_INTS = 2 * int(mujoco.mjtWarning.mjNWARNING)
_FIRST_BAD = 2 * int(mujoco.mjtWarning.mjWARN_BADQPOS) + 1


@njit(types.boolean(types.uintp), nogil=True, cache=True)
def reports_explosion(warnings_address: Any) -> Any:
    """Return whether MuJoCo has silently reset the state, from the address of its warnings."""
    warnings = carray(int32_at(warnings_address), (_WARNING_INTS,))
    # A loop, not any(): numba does not compile generator expressions. BADQPOS to BADCTRL.
    for index in range(_FIRST_BAD, _WARNING_INTS, 2):  # noqa: SIM110
        if warnings[index] > 0:
            return True
    return False


@njit(types.boolean(types.uintp, types.int64), nogil=True, cache=True)
def leaves_bounds(address: Any, count: Any) -> Any:
    """Return whether one of ``count`` numbers exceeds MAX_STATE or is NaN."""
    for value in carray(float64_at(address), (count,)):  # noqa: SIM110
        if not abs(value) <= MAX_STATE:  # also true of NaN
            return True
    return False


def has_exploded(data: mujoco.MjData) -> bool:
    """Return whether MuJoCo has reset ``data`` silently, or would at the next step."""
    if data.warning.number[int(mujoco.mjtWarning.mjWARN_BADQPOS) :].any():
        return True
    state = np.concatenate([data.qpos, data.qvel])
    return not bool((np.abs(state) <= MAX_STATE).all())


class QuietMujoco:
    """Context without MuJoCo's warnings, unless the user has installed a handler.

    MuJoCo reports an explosion by printing and by writing MUJOCO_LOG.TXT into the working folder.
    Environments report it as a flag; thousands of them would fill the terminal.
    """

    def __enter__(self) -> None:
        self._before = _handler.value
        if self._before is None:
            _handler.value = _quiet

    def __exit__(self, *exc_info: object) -> None:
        _handler.value = self._before
