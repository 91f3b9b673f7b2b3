"""Pictures of one episode: by the environment's own renderer, or drawn here where it has none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from harness.execution.replay import ScoredEpisode

SIZE = 360
"""Pixels of a frame, each way."""
FINE = 3
"""Drawn so many times larger, then reduced: smooth edges."""
BLUE, RED, DARK, GREY, PALE = "#1f5fb4", "#c8372d", "#333333", "#9a9a9a", "#e6e6e6"
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
            yield step, Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def steps_per_second(episode: ScoredEpisode) -> float:
    """Return how many control steps are one second of the episode's own time."""
    if episode.dist.name in RATES:
        return RATES[episode.dist.name]
    env = _environment(episode)
    try:
        return float(env.metadata.get("render_fps", 20))
    finally:
        env.close()


def _environment(episode: ScoredEpisode) -> Any:
    make: Callable[..., Any] = episode.dist.make_env
    try:
        return make(episode.task, render_mode="rgb_array")
    except TypeError as error:
        raise CannotDrawError(f"{episode.dist.name} has no pictures: {error}") from error


def _rendered(episode: ScoredEpisode, shown: set[int]) -> Iterator[np.ndarray | None]:
    """Yield a picture [H, W, 3] where one is shown, playing the actions again."""
    env = _environment(episode)
    discrete = episode.dist.spec.discrete
    played = 0.0
    try:
        env.reset(seed=episode.seed)
        yield env.render() if 0 in shown else None
        for step, action in enumerate(episode.actions, start=1):
            played += env.step(int(action.argmax()) if discrete else action)[1]
            yield env.render() if step in shown else None
    finally:
        env.close()
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
