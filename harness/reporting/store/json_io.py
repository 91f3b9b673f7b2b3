"""Files read with distrust: models without conversions, JSON without repeats and infinities."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """A value read with distrust: nothing missing, nothing more, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value`` as JSON holds it: tuples as lists, keys and paths as text.

    Raises:
        ValueError: it holds something JSON has no place for.
    """
    try:
        result: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False, default=_text))
    except TypeError as error:
        raise ValueError(f"configuration is not plain data: {error}") from error
    return result


def _text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is no JSON value")


def parsed_strictly(path: Path) -> str:
    """Return the text of a JSON file without repeated keys and infinite numbers.

    Raises:
        ValueError: it is none.
    """
    text = path.read_bytes().decode()
    json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def brief(error: Exception) -> str:
    """Return what is wrong with a file on one short line that commands no terminal."""
    text = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = f"{place}: {first['msg']}"
        if place == "format" and isinstance(first["input"], int):
            text = f"format {first['input']} is of another version of the harness"
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:300]


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a stored configuration; empty where there is none.

    Raises:
        ValueError: something else stands there.
    """
    found = config.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no section of a configuration")
    return found
