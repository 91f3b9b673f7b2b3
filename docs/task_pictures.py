"""Pictures of the task distributions, for their cards; see ``make_task_cards.py``."""

from __future__ import annotations

import io
import os
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported

import matplotlib
import mujoco
import numpy as np
from make_imujoco_page import LABEL, VIEWS, contact_sheet, in_grey, picture
from PIL import Image, ImageDraw, ImageFont

from harness.config.protocol import has_classes
from task_distributions import SPLITS, TaskDistribution
from task_distributions.imujoco.variants import ANT_ANATOMY, HALFCHEETAH_ANATOMY
from task_distributions.locomotion.robots import template

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ANATOMIES = {"imujoco-halfcheetah": HALFCHEETAH_ANATOMY, "imujoco-ant": ANT_ANATOMY}
COLORS = {"train": "0.75", "validation": "C0", "test": "C1", "ood": "C3"}


def caption(dist: TaskDistribution) -> str:
    """Return what the picture shows."""
    if has_classes(dist):
        return "The test classes"
    if dist.name in ANATOMIES:
        return "The base robot and some of its variants"
    return "The tasks of each split" if len(dist.tasks("train")) > 1 else "The robot"


def drawing(dist: TaskDistribution) -> Image.Image:
    """Return the picture: the robot or scene, and the parameters of every task."""
    if dist.name in ANATOMIES:
        anatomy = ANATOMIES[dist.name]
        return _few_colors(contact_sheet(anatomy, [None, *anatomy.variants()[::12]]))
    if has_classes(dist):
        return _scenes(dist)
    robot = getattr(getattr(dist, "family", None), "robot", None)
    panels = (robot is not None) + (len(dist.tasks("train")) > 1)
    figure, axes = plt.subplots(
        1, panels, figsize=(3.6 * panels, 2.3), squeeze=False, layout="constrained"
    )
    if robot is not None:
        view = VIEWS[robot.name.partition("-")[0].lower()]
        axes[0, 0].imshow(picture(in_grey(template(robot).model), view, (352, 224)))
        axes[0, 0].axis("off")
    if len(dist.tasks("train")) > 1:
        _draw_tasks(dist, axes[0, -1])
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    return _few_colors(Image.open(buffer))


def _draw_tasks(dist: TaskDistribution, axis: Any) -> None:
    """Draw every task: the first two parameters, or one parameter and the split."""
    keys = [key for key, _ in dist.tasks("train")[0].params][:2]
    for row, split in enumerate(SPLITS):
        points = np.array([[task.param(key) for key in keys] for task in dist.tasks(split)])
        if len(points):
            y = points[:, 1] if len(keys) > 1 else np.full(len(points), -row)
            axis.scatter(points[:, 0], y, s=9, color=COLORS[split], label=split)
    axis.set_xlabel(keys[0])
    if len(keys) > 1:
        axis.set_ylabel(keys[1])
        axis.legend(fontsize=7, bbox_to_anchor=(1.0, 1.0), loc="upper left", frameon=False)
    else:
        axis.set_yticks([-n for n in range(len(SPLITS))], SPLITS)


def _scenes(dist: TaskDistribution) -> Image.Image:
    """Return the first test task of every class, side by side."""
    first = {task.class_name: task for task in reversed(dist.tasks("test"))}
    sheet = Image.new("RGB", (140 * len(first), 140 + LABEL), "white")
    for number, task in enumerate(reversed(first.values())):
        env: Any = dist.make_env(task)
        env.reset(seed=0)
        with mujoco.Renderer(env.original.model, 280, 280) as renderer:
            renderer.update_scene(env.original.data, "corner2")
            pixels = renderer.render()[::-1, ::-1]  # the camera is upside down
        sheet.paste(Image.fromarray(pixels).resize((138, 138)), (140 * number, 0))
        at = (140 * number + 4, 140)
        ImageDraw.Draw(sheet).text(at, task.class_name, "black", ImageFont.load_default(13))
    return _few_colors(sheet)


def _few_colors(image: Image.Image) -> Image.Image:
    """Return ``image`` as it takes little space."""
    return image.convert("RGB").quantize(255)
