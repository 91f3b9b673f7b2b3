"""Numbers and names as short text, the same in tables and on the console."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

DASH = "–"
"""Shown where there is no number."""


def printable(text: str) -> str:
    """Return ``text`` on one line, without characters that control a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def span(counts: Iterable[float], word: str) -> str:
    """Return the range of some counts of things, such as 1 seed, 5 seeds or 3 to 5 seeds."""
    values = list(map(int, counts))
    low, high = min(values), max(values)
    return f"{low if low == high else f'{low} to {high}'} {word}{'s' * (high != 1)}"


def short_count(value: Any) -> str:
    """Return a count in three digits, such as 950, 12.5k or 3.20M; a dash if there is none."""
    if not is_number(value):
        return DASH
    if abs(value) < 999.5:
        return f"{value:.0f}"
    power = min(3, int(math.log10(float(f"{abs(value):.3g}"))) // 3)
    return f"{value / 1000**power:#.3g}".rstrip(".") + " kMG"[power]


def duration(seconds: Any) -> str:
    """Return a time as 42 s, 12.5 min or 3.2 h; a dash if there is none."""
    if not is_number(seconds):
        return DASH
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
