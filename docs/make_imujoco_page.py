"""Draw every iMuJoCo variant and write docs/imujoco.md: ``python docs/make_imujoco_page.py``.

Renders without a display, through EGL unless ``MUJOCO_GL`` says otherwise.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from string import Template

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported

import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import task_distributions
from task_distributions.imujoco.variants import (
    ANT_ANATOMY,
    HALFCHEETAH_ANATOMY,
    Anatomy,
    Variant,
    build_model,
)
from task_distributions.locomotion.robots import template

DOCS = Path(__file__).parent
COLUMNS, WIDTH, HEIGHT, LABEL = 6, 176, 112, 17
"""Tiles in a row; pixels of a tile and of the line under it."""
HEAVIER, LIGHTER, LONGER, SHORTER, LIMITED = (
    (1.0, 0.1, 0.1, 1.0),
    (1.0, 0.6, 0.75, 1.0),
    (0.0, 0.55, 0.1, 1.0),
    (0.5, 1.0, 0.3, 1.0),
    (0.3, 0.4, 1.0, 1.0),
)
GREY, FLOOR = (0.72, 0.72, 0.72, 1.0), (0.9, 0.93, 0.9, 1.0)
View = tuple[float, float, float, float]
VIEWS: dict[str, View] = {
    "halfcheetah": (0.0, 0.5, 2.2, -8.0),
    "ant": (0.0, 0.65, 2.7, -50.0),
    "walker2d": (0.0, 0.7, 2.2, -8.0),
}
"""Robot -> x and z looked at in metres, distance in metres, elevation in degrees."""


def write_page() -> None:
    """Write the page and its pictures."""
    values = {}
    for anatomy, name in ((HALFCHEETAH_ANATOMY, "halfcheetah"), (ANT_ANATOMY, "ant")):
        sheet = contact_sheet(anatomy, [None, *anatomy.variants()])
        sheet.save(DOCS / "images" / f"imujoco-{name}.png", optimize=True)
        dist = task_distributions.load(f"imujoco-{name}")
        values[f"{name}_protocol"] = dist.protocol
        for split in task_distributions.SPLITS:
            names = sorted(task.name for task in dist.tasks(split))
            values[f"{name}_{split}_count"] = str(len(names))
            values[f"{name}_{split}"] = ", ".join(f"`{each}`" for each in names)
    page = Template((DOCS / "imujoco.md.in").read_text()).substitute(values)
    (DOCS / "imujoco.md").write_text(page)


def contact_sheet(anatomy: Anatomy, variants: Sequence[Variant | None]) -> Image.Image:
    """Return the labelled pictures of robots on one sheet; None is the base robot."""
    tiles = [_tile(anatomy, variant) for variant in variants]
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * WIDTH, rows * (HEIGHT + LABEL)), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        sheet.paste(tile, (column * WIDTH, row * (HEIGHT + LABEL)))
    return sheet


def _tile(anatomy: Anatomy, variant: Variant | None) -> Image.Image:
    """Return one labelled picture in the start pose; of the base robot if ``variant`` is None."""
    model = in_grey(
        template(anatomy.robot).model if variant is None else build_model(anatomy, variant)
    )
    mark: Callable[[mujoco.MjvScene], None] | None = None
    if variant is not None:
        model.geom_rgba[model.geom_bodyid == _changed_body(anatomy, variant, model)] = _colour(
            variant
        )
        if variant.quantity == "range":
            mark = partial(_add_limits, model=model, joint=variant.part)
    tile = Image.new("RGB", (WIDTH, HEIGHT + LABEL), "white")
    tile.paste(picture(model, VIEWS[anatomy.prefix], (WIDTH - 2, HEIGHT), mark), (1, 0))
    label = "base robot" if variant is None else variant.name.split("-", 1)[1]
    ImageDraw.Draw(tile).text((5, HEIGHT), label, "black", ImageFont.load_default(13))
    return tile


def in_grey(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a copy of ``model`` in one colour, on a pale floor."""
    model = copy.copy(model)
    model.geom_matid[:] = -1
    model.geom_rgba[:] = GREY
    model.geom_rgba[model.geom_bodyid == 0] = FLOOR
    return model


def picture(
    model: mujoco.MjModel,
    view: View,
    size: tuple[int, int],
    mark: Callable[[mujoco.MjvScene], None] | None = None,
) -> Image.Image:
    """Return a picture [pixels] of the start pose on white; ``mark`` may add to the scene."""
    camera = mujoco.MjvCamera()
    x, z, camera.distance, camera.elevation = view
    camera.lookat[:], camera.azimuth = (x, 0.0, z), 90.0
    with mujoco.Renderer(model, 2 * HEIGHT, 2 * WIDTH) as renderer:  # then reduced: smooth edges
        renderer.update_scene(_posed(model), camera)
        if mark:
            mark(renderer.scene)
        for flag in (mujoco.mjtRndFlag.mjRND_SKYBOX, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        pixels = renderer.render()
    pixels[(pixels == 0).all(axis=2)] = 255  # above the horizon: white, as the lit floor is
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def _changed_body(anatomy: Anatomy, variant: Variant, model: mujoco.MjModel) -> int:
    if variant.quantity == "range":
        return int(model.joint(variant.part).bodyid.item())
    return int(model.geom(anatomy.limbs[variant.part]).bodyid.item())


def _colour(variant: Variant) -> tuple[float, float, float, float]:
    if variant.quantity == "mass":
        return HEAVIER if variant.scale > 1 else LIGHTER
    if variant.quantity == "length":
        return LONGER if variant.scale > 1 else SHORTER
    return LIMITED


def _posed(model: mujoco.MjModel, **angles: float) -> mujoco.MjData:
    """Return the start pose, with some joints at other ``angles`` in radians."""
    data = mujoco.MjData(model)
    for joint, angle in angles.items():
        data.joint(joint).qpos[:] = angle
    mujoco.mj_forward(model, data)
    return data


def _add_limits(scene: mujoco.MjvScene, model: mujoco.MjModel, joint: str) -> None:
    """Add what ``joint`` moves to the scene, see-through, at both ends of its range."""
    start_pose = _posed(model)
    for limit in model.joint(joint).range:
        data, before = _posed(model, **{joint: limit}), scene.ngeom
        kinds = mujoco.mjtCatBit.mjCAT_DYNAMIC.value
        scratch = mujoco.MjvOption(), mujoco.MjvPerturb()
        mujoco.mjv_addGeoms(model, data, *scratch, kinds, scene)
        for geom in scene.geoms[before : scene.ngeom]:
            moved = ~np.isclose(data.geom_xpos, start_pose.geom_xpos).all(axis=1)
            geom.rgba[:] = (*LIMITED[:3], 0.4 if moved[geom.objid] else 0.0)


if __name__ == "__main__":
    write_page()
