"""Sources of the object positions and orientations in the observations of each class.

The 18 numbers of a step: hand (3), gripper opening (1), then position (3) and quaternion (4) of up
to two objects. The sources below restate ``_get_pos_objects`` and ``_get_quat_objects`` of
metaworld's classes for compiled code; a test compares every class.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OBJECTS", "Observed"]


@dataclass(frozen=True)
class Observed:
    """One object of an observation."""

    position: str
    """``body NAME``, ``site NAME`` or ``geom NAME``."""
    orientation: str = "zeros"
    """``body NAME``: its quaternion (w, x, y, z); ``body|site|geom NAME matrix``: the quaternion of
    its rotation matrix by scipy's rule (x, y, z, w); ``zeros``; or ``identity`` (1, 0, 0, 0)."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Added to the position, in metres."""
    dial_joint: str | None = None
    """Joint with which the position turns on a circle of 5 cm."""


_BALL = Observed("body obj", "geom objGeom matrix")
_OBJ = Observed("body obj", "body obj")
_BLOCK = Observed("geom objGeom", "geom objGeom matrix")
_PUCK = Observed("geom puck", "geom puck matrix")
_MUG = Observed("body obj", "geom mug matrix")
_HANDLE = Observed("geom handle", "geom handle matrix")
_BUTTON_ABOVE = Observed("body button", "body button", (0.0, 0.0, 0.193))
_BUTTON_AHEAD = Observed("body button", "body button", (0.0, -0.193, 0.0))
_STICK = Observed("body stick", "body stick matrix")

OBJECTS: dict[str, tuple[Observed, ...]] = {
    "assembly-v3": (Observed("site RoundNut-8", "body RoundNut"),),
    "basketball-v3": (Observed("body bsktball", "body bsktball"),),
    "bin-picking-v3": (_OBJ,),
    "box-close-v3": (Observed("body top_link", "body top_link"),),
    "button-press-topdown-v3": (_BUTTON_ABOVE,),
    "button-press-topdown-wall-v3": (_BUTTON_ABOVE,),
    "button-press-v3": (_BUTTON_AHEAD,),
    "button-press-wall-v3": (_BUTTON_AHEAD,),
    "coffee-button-v3": (Observed("site buttonStart", "identity"),),
    "coffee-pull-v3": (_MUG,),
    "coffee-push-v3": (_MUG,),
    "dial-turn-v3": (Observed("body dial", "body dial", dial_joint="knob_Joint_1"),),
    "disassemble-v3": (Observed("site RoundNut-8", "body RoundNut"),),
    "door-close-v3": (_HANDLE,),
    "door-lock-v3": (Observed("site lockStartLock", "body door_link"),),
    "door-open-v3": (_HANDLE,),
    "door-unlock-v3": (Observed("site lockStartUnlock", "body door_link"),),
    "drawer-close-v3": (Observed("body drawer_link", offset=(0.0, -0.16, 0.05)),),
    "drawer-open-v3": (Observed("body drawer_link", "body drawer_link", (0.0, -0.16, 0.0)),),
    "faucet-close-v3": (Observed("site handleStartClose", "body faucetBase", (0.0, 0.0, -0.01)),),
    "faucet-open-v3": (Observed("site handleStartOpen", "body faucetBase", (0.0, 0.0, -0.01)),),
    "hammer-v3": (
        Observed("body hammer", "body hammer"),
        Observed("body nail_link", "body nail_link"),
    ),
    "hand-insert-v3": (_OBJ,),
    "handle-press-side-v3": (Observed("site handleStart"),),
    "handle-press-v3": (Observed("site handleStart"),),
    "handle-pull-side-v3": (Observed("site handleCenter"),),
    "handle-pull-v3": (Observed("site handleRight"),),
    "lever-pull-v3": (Observed("site leverStart", "geom objGeom matrix"),),
    "peg-insert-side-v3": (Observed("site pegGrasp", "site pegGrasp matrix"),),
    "peg-unplug-side-v3": (Observed("site pegEnd", "body plug1"),),
    "pick-out-of-hole-v3": (_OBJ,),
    "pick-place-v3": (_BALL,),
    "pick-place-wall-v3": (_BLOCK,),
    "plate-slide-back-side-v3": (_PUCK,),
    "plate-slide-back-v3": (_PUCK,),
    "plate-slide-side-v3": (_PUCK,),
    "plate-slide-v3": (_PUCK,),
    "push-back-v3": (_BLOCK,),
    "push-v3": (_BALL,),
    "push-wall-v3": (_BLOCK,),
    "reach-v3": (_BALL,),
    "reach-wall-v3": (_BALL,),
    "shelf-place-v3": (_BALL,),
    "soccer-v3": (Observed("body soccer_ball", "body soccer_ball matrix"),),
    "stick-pull-v3": (_STICK, Observed("site insertion")),
    "stick-push-v3": (_STICK, Observed("site insertion", offset=(0.0, 0.09, 0.0))),
    "sweep-into-v3": (_BALL,),
    "sweep-v3": (_OBJ,),
    "window-close-v3": (Observed("site handleCloseStart"),),
    "window-open-v3": (Observed("site handleOpenStart"),),
}
