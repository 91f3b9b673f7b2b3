"""Pictures of one episode: by the environment's own renderer, or drawn here where it has none."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from harness.experiments.rescore import ScoredEpisode

SIZE = 360
"""Pixels of a frame, each way."""
FINE = 3
"""Drawn so many times larger, then reduced: smooth edges."""
BLUE, RED, DARK, GREY, PALE = "#1f5fb4", "#c8372d", "#333333", "#9a9a9a", "#e6e6e6"
CAMERAS = ("track", "corner2")
"""Those of Gymnasium's robots and of Meta-World."""
UPSIDE_DOWN = "corner2"
Point = tuple[float, float]


class CannotDrawError(ValueError):
    """This machine, or this environment, makes no pictures."""


def frames(episode: ScoredEpisode, stride: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield (steps done, picture) before the first step, every ``stride`` steps, and at the end.

    Raises:
        CannotDrawError: the environment cannot be drawn.
    """
    drawn = DRAWN_HERE.get(episode.dist.name)
    last = len(episode.actions)
    shown = {*range(0, last + 1, stride), last}
    if drawn:
        for step in sorted(shown):
            canvas = _Canvas()
            drawn(canvas, episode, step)
            yield step, canvas.image()
        return
    for step, pixels in enumerate(_rendered(episode, shown)):
        if pixels is not None:
            picture = Image.fromarray(pixels)
            yield step, picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def steps_per_second(episode: ScoredEpisode) -> float:
    """Return how many control steps are one second of the episode's own time."""
    if episode.dist.name in RATES:
        return RATES[episode.dist.name]
    with _Scene(episode) as scene:
        return float(scene.env.metadata.get("render_fps", 20))


class _Scene:
    """The ordinary environment of an episode's task, and what renders it.

    MuJoCo's own renderer takes a fifth of the time of Gymnasium's.
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
            raise CannotDrawError(f"{episode.dist.name} has no pictures: {error}") from error

    def __enter__(self) -> _Scene:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._renderer:
            self._renderer.close()
        self.env.close()

    def pixels(self) -> np.ndarray:
        """Return the picture of now [H, W, 3]."""
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
            "MuJoCo has nothing to draw with here: install libegl1 and libgl1-mesa-dri, or "
            "libosmesa6 (Debian's names)"
        )
    try:
        return mujoco.Renderer(model, SIZE, SIZE)
    except (RuntimeError, AttributeError, OSError, mujoco.FatalError) as error:
        raise CannotDrawError(f"MuJoCo cannot draw here: {error}") from error


def _rendered(episode: ScoredEpisode, shown: set[int]) -> Iterator[np.ndarray | None]:
    """Yield a picture [H, W, 3] where one is shown, playing the actions again."""
    discrete = episode.dist.spec.discrete
    played = 0.0
    with _Scene(episode) as scene:
        scene.env.reset(seed=episode.seed)
        yield scene.pixels() if 0 in shown else None
        for step, action in enumerate(episode.actions, start=1):
            played += scene.env.step(int(action.argmax()) if discrete else action)[1]
            yield scene.pixels() if step in shown else None
    if not math.isclose(played, episode.return_, rel_tol=1e-3, abs_tol=1e-3):
        raise CannotDrawError(
            f"{episode.task.name}: drawn it scored {played:.3f}, recorded is {episode.return_:.3f}"
        )


class _Canvas:
    """A white square to draw on, in units of one pixel of the finished frame."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), "white")
        self._draw = ImageDraw.Draw(self._image)

    def image(self) -> Image.Image:
        """Return the finished frame."""
        return self._image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)

    def disc(self, at: Point, radius: float, fill: str | None, outline: str | None = None) -> None:
        """Draw a disc, or a circle without ``fill``."""
        (x, y), r = at, radius
        box = [FINE * value for value in (x - r, y - r, x + r, y + r)]
        self._draw.ellipse(box, fill, outline, width=2 * FINE)

    def line(self, points: list[Point], color: str, width: float = 2) -> None:
        """Draw a line through ``points``."""
        scaled = [(FINE * x, FINE * y) for x, y in points]
        self._draw.line(scaled, color, round(FINE * width), joint="curve")

    def box(self, corner: Point, opposite: Point, fill: str) -> None:
        """Draw a filled rectangle."""
        self._draw.rectangle([FINE * value for value in (*corner, *opposite)], fill)


def _point_goal(canvas: _Canvas, episode: ScoredEpisode, step: int) -> None:
    """Draw the circle of possible goals, the goal, and the way so far."""
    scale = SIZE / 3.0

    def place(x: float, y: float) -> Point:
        return SIZE / 2 + scale * x, SIZE / 2 - scale * y

    canvas.disc(place(0, 0), scale, None, PALE)
    goal = place(episode.task.param("goal_x"), episode.task.param("goal_y"))
    canvas.disc(goal, 11, None, RED)
    canvas.disc(goal, 4, RED)
    way = [place(x, y) for x, y in episode.obs[: step + 1]]
    if len(way) > 1:
        canvas.line(way, GREY)
    canvas.disc(way[-1], 7, BLUE)


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


DRAWN_HERE: dict[str, Callable[[_Canvas, ScoredEpisode, int], None]] = {
    "point_goal": _point_goal,
    "cartpole": _cartpole,
}
"""Distributions without a renderer of their own -> what draws one step of an episode."""
RATES = {"point_goal": 8.0, "cartpole": 50.0}
"""Their steps per second; a point's is free to choose."""
