"""The axes of a sweep: lists of values that are crossed, and random spaces that are drawn from."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from harness.config.validation import KeyPath
from harness.errors import UsageError

NEVER: dict[KeyPath, str] = {
    (
        "evaluation",
        "few_shot",
    ): "every cell is scored after all numbers of shots: list them in base",
    ("evaluation", "zero_shot"): "0 shots are always scored: set it in base",
    ("preset",): "a preset sets many things at once: name it in base, sweep the settings",
    ("match_params",): "it sets hidden_dim: sweep that, or set it in base",
    ("execution",): "it changes no number: set it in base, or in tune",
}
"""Settings that cannot be an axis, and why."""

DIGITS = 6
"""Significant digits of a drawn number: what the table shows is what was run."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One swept setting: a list of values, or a way to draw one."""

    path: KeyPath
    where: str
    """``file:line: sweep.name``, what messages call it."""
    values: tuple[Any, ...] = ()
    draw: Callable[[np.random.Generator], Any] | None = None

    @property
    def name(self) -> str:
        """Return the dotted name of the setting."""
        return ".".join(self.path)


def grids(sweep: Any, lines: Mapping[KeyPath, str], source: str) -> list[tuple[Axis, ...]]:
    """Return the axes of every grid that a section ``sweep`` describes: one mapping, or several.

    Raises:
        UsageError: a grid is no mapping, or a setting is no axis, no list and no space, or has an
            impossible range.
    """
    if isinstance(sweep, list) and sweep and all(isinstance(grid, dict) for grid in sweep):
        return [_axes(grid, ("sweep", str(i)), lines) for i, grid in enumerate(sweep)]
    if sweep is None or isinstance(sweep, dict):
        return [_axes(sweep or {}, ("sweep",), lines)]
    where = lines.get(("sweep",), source)
    raise UsageError(f"{where}: sweep is a section of axes, or a list of such sections")


def _axes(grid: Mapping[str, Any], path: KeyPath, lines: Mapping[KeyPath, str]) -> tuple[Axis, ...]:
    return tuple(_axis(name, value, lines[*path, name]) for name, value in grid.items())


def _axis(name: str, value: Any, line: str) -> Axis:
    path, where = tuple(name.split(".")), f"{line}: sweep.{name}"
    reason = next((why for no, why in NEVER.items() if path[: len(no)] == no), None)
    if reason:
        raise UsageError(f"{where}: {name} is no axis of a sweep: {reason}")
    if isinstance(value, list) and value:
        return Axis(path, where, values=tuple(value))
    if isinstance(value, dict) and len(value) == 1:
        ((kind, arguments),) = value.items()
        return Axis(path, where, draw=_drawer(str(kind), arguments, where))
    raise UsageError(
        f"{where}: got {value!r}; give a list of values, or one of {{uniform: [low, high]}}, "
        "{loguniform: [low, high]}, {choice: [value, ...]}"
    )


def _drawer(kind: str, arguments: Any, where: str) -> Callable[[np.random.Generator], Any]:
    if kind == "choice" and isinstance(arguments, list) and arguments:
        choices = list(arguments)
        return lambda rng: choices[int(rng.integers(len(choices)))]
    numbers = isinstance(arguments, list) and len(arguments) == 2
    numbers = numbers and all(type(value) in (int, float) for value in arguments)
    if kind not in ("uniform", "loguniform") or not numbers:
        raise UsageError(
            f"{where}: got {{{kind}: {arguments}}}; choose from: uniform and loguniform with "
            "[low, high], choice with a list of values"
        )
    low, high = (float(value) for value in arguments)
    least = 0.0 if kind == "loguniform" else -math.inf
    if not least < low < high < math.inf:
        raise UsageError(
            f"{where}: {kind} over [{low:g}, {high:g}]; it takes two finite numbers, the smaller "
            "one first" + (", both above 0" if kind == "loguniform" else "")
        )
    if kind == "uniform":
        return lambda rng: _rounded(rng.uniform(low, high))
    return lambda rng: _rounded(math.exp(rng.uniform(math.log(low), math.log(high))))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def points(swept: Sequence[Axis], *, samples: int, seed: int) -> Iterator[dict[KeyPath, Any]]:
    """Yield every point of the space: each drawn sample crossed with the whole grid.

    All grid points meet the same samples, so that their comparison is paired. A draw depends on
    the seed, the axis's name and the number of the sample alone.
    """
    grid = [axis for axis in swept if axis.draw is None]
    drawn = [axis for axis in swept if axis.draw is not None]
    for sample in range(samples if drawn else 1):
        found = {axis.path: _sample(axis, seed, sample) for axis in drawn}
        for values in product(*(axis.values for axis in grid)):
            point = found | dict(zip((axis.path for axis in grid), values, strict=True))
            yield {axis.path: point[axis.path] for axis in swept}


def _sample(axis: Axis, seed: int, sample: int) -> Any:
    assert axis.draw is not None
    keys = (zlib.crc32(axis.name.encode()), sample)
    return axis.draw(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=keys)))


def nested(settings: Mapping[KeyPath, Any]) -> dict[str, Any]:
    """Return settings by path as nested dictionaries."""
    result: dict[str, Any] = {}
    for path, value in settings.items():
        target = result
        for key in path[:-1]:
            target = target.setdefault(key, {})
        target[path[-1]] = value
    return result
