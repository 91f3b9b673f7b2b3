"""Images of one episode, from the environment's renderer or drawn here where it has none."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from harness.errors import UsageError
from harness.experiments.rescore import ScoredEpisode

SIZE = 360
"""Width and height of a frame in pixels."""
OVERSAMPLING = 3
"""Factor by which drawings are larger before they are reduced, for smooth edges."""
BLUE, RED, DARK, GREY, PALE = "#1f5fb4", "#c8372d", "#333333", "#9a9a9a", "#e6e6e6"
CAMERAS = ("track", "corner2")
"""Cameras to use where the model has them: Gymnasium's robots, Meta-World (upside down)."""
UPSIDE_DOWN = "corner2"
Point = tuple[float, float]


class CannotDrawError(UsageError):
    """The environment cannot be rendered, or not on this machine."""


def frames(episode: ScoredEpisode, stride: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield (step, image) before the first step, after every ``stride`` steps, and at the end.

    Raises:
        CannotDrawError: the environment cannot be rendered.
    """
    draw = DRAWINGS.get(episode.dist.name)
    last = len(episode.actions)
    steps = {*range(0, last + 1, stride), last}
    if draw:
        for step in sorted(steps):
            canvas = _Canvas()
            draw(canvas, episode, step)
            yield step, canvas.image()
        return
    for step, pixels in _rendered(episode, steps):
        image = Image.fromarray(pixels)
        yield step, image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def steps_per_second(episode: ScoredEpisode) -> float:
    """Return the control steps per second of time in the environment."""
    if episode.dist.name in STEPS_PER_SECOND:
        return STEPS_PER_SECOND[episode.dist.name]
    with _Scene(episode) as scene:
        return float(scene.env.metadata.get("render_fps", 20))


class _Scene:
    """The environment of an episode's task, with a renderer.

    MuJoCo models are rendered by mujoco itself, in a fifth of the time Gymnasium takes.
    """

    def __init__(self, episode: ScoredEpisode) -> None:
        make: Callable[..., Any] = episode.dist.make_env
        self.env: Any = make(episode.task)
        self._world = getattr(self.env, "original", self.env)
        self._renderer: mujoco.Renderer | None = None
        if hasattr(self._world, "model"):
            return
        try:
            self.env = make(episode.task, render_mode="rgb_array")
        except TypeError as error:  # it takes no render_mode
            raise CannotDrawError(f"{episode.dist.name} cannot be rendered: {error}") from error

    def __enter__(self) -> _Scene:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._renderer:
            self._renderer.close()
        self.env.close()

    def pixels(self) -> np.ndarray:
        """Return the image of the current state [H, W, 3]."""
        if not hasattr(self._world, "model"):
            return np.asarray(self.env.render())
        model = self._world.model
        if self._renderer is None:
            self._renderer = _renderer(model)
        names = {model.cam(number).name for number in range(model.ncam)}
        camera = next((name for name in CAMERAS if name in names), -1)
        self._renderer.update_scene(self._world.data, camera)
        pixels = np.asarray(self._renderer.render())
        return pixels[::-1, ::-1] if camera == UPSIDE_DOWN else pixels


def _renderer(model: mujoco.MjModel) -> mujoco.Renderer:
    if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "MUJOCO_GL"}:
        raise CannotDrawError(
            "MuJoCo finds no OpenGL library to render with: install the Debian packages libegl1 "
            "and libgl1-mesa-dri, or libosmesa6"
        )
    try:
        return mujoco.Renderer(model, SIZE, SIZE)
    except (RuntimeError, AttributeError, OSError, mujoco.FatalError) as error:
        raise CannotDrawError(f"MuJoCo cannot render on this machine: {error}") from error


def _rendered(episode: ScoredEpisode, steps: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Repeat the recorded actions; yield (step, image [H, W, 3]) after each of ``steps``."""
    discrete = episode.dist.spec.discrete
    return_ = 0.0
    with _Scene(episode) as scene:
        scene.env.reset(seed=episode.seed)
        if 0 in steps:
            yield 0, scene.pixels()
        for step, action in enumerate(episode.actions, start=1):
            return_ += scene.env.step(int(action.argmax()) if discrete else action)[1]
            if step in steps:
                yield step, scene.pixels()
    if not math.isclose(return_, episode.return_, rel_tol=1e-3, abs_tol=1e-3):
        raise CannotDrawError(
            f"{episode.task.name}: the rendered episode returned {return_:.3f}, the recorded one "
            f"{episode.return_:.3f}"
        )


class _Canvas:
    """A white square to draw on; coordinates are pixels of the finished frame."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING), "white")
        self._draw = ImageDraw.Draw(self._image)

    def image(self) -> Image.Image:
        """Return the finished frame."""
        return self._image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)

    def disc(self, at: Point, r: float, fill: str | None, outline: str | None = None) -> None:
        """Draw a disc of radius ``r``; without ``fill``, a circle."""
        x, y = at
        box = [OVERSAMPLING * value for value in (x - r, y - r, x + r, y + r)]
        self._draw.ellipse(box, fill, outline, width=2 * OVERSAMPLING)

    def line(self, points: list[Point], color: str, width: float = 2) -> None:
        """Draw a line through ``points``."""
        scaled = [(OVERSAMPLING * x, OVERSAMPLING * y) for x, y in points]
        self._draw.line(scaled, color, round(OVERSAMPLING * width), joint="curve")

    def box(self, corner: Point, opposite: Point, fill: str) -> None:
        """Draw a filled rectangle."""
        self._draw.rectangle([OVERSAMPLING * value for value in (*corner, *opposite)], fill)


def _point_goal(canvas: _Canvas, episode: ScoredEpisode, step: int) -> None:
    """Draw the circle of possible goals, the goal, and the path so far."""
    scale = SIZE / 3.0

    def to_pixels(x: float, y: float) -> Point:
        return SIZE / 2 + scale * x, SIZE / 2 - scale * y

    canvas.disc(to_pixels(0, 0), scale, None, PALE)
    goal = to_pixels(episode.task.param("goal_x"), episode.task.param("goal_y"))
    canvas.disc(goal, 11, None, RED)
    canvas.disc(goal, 4, RED)
    path = [to_pixels(x, y) for x, y in episode.obs[: step + 1]]
    if len(path) > 1:
        canvas.line(path, GREY)
    canvas.disc(path[-1], 7, BLUE)


def _cartpole(canvas: _Canvas, episode: ScoredEpisode, step: int) -> None:
    """Draw track, cart and pole to scale: 5 m across."""
    scale, floor = SIZE / 5.0, SIZE * 0.72
    position, angle = float(episode.obs[step, 0]), float(episode.obs[step, 2])
    x, length = SIZE / 2 + scale * position, 2 * scale * episode.task.param("half_length")
    canvas.line([(SIZE / 2 - 2.4 * scale, floor), (SIZE / 2 + 2.4 * scale, floor)], GREY)
    canvas.box((x - 20, floor - 24), (x + 20, floor), DARK)
    tip = (x + length * math.sin(angle), floor - 24 - length * math.cos(angle))
    canvas.line([(x, floor - 24), tip], BLUE, 6)
    canvas.disc((x, floor - 24), 4, RED)


DRAWINGS: dict[str, Callable[[_Canvas, ScoredEpisode, int], None]] = {
    "point_goal": _point_goal,
    "point_goal-sparse": _point_goal,
    "cartpole": _cartpole,
}
"""Distribution without a renderer -> the function that draws one step of an episode."""
STEPS_PER_SECOND = {"point_goal": 8.0, "point_goal-sparse": 8.0, "cartpole": 50.0}
"""Control steps per second of those distributions; the point tasks have none of their own."""
