"""Strict JSON models: nothing missing, nothing extra, no conversions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ArtefactError
from harness.reporting.store.files import write_atomically

MAX_BYTES = 64 << 20
"""Largest JSON file that is opened."""


class Strict(BaseModel):
    """A frozen value that is read from an untrusted file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def write(self, path: Path) -> None:
        """Write the value to ``path`` atomically."""
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the value at ``path``.

        Raises:
            ArtefactError: the file is oversized, or not a value of this version of the class.
        """
        if path.stat().st_size > MAX_BYTES:
            raise ArtefactError(f"{path}: larger than {MAX_BYTES} bytes")
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> Self:
        """Return the value that the file ``name`` contains.

        Raises:
            ArtefactError: it is not a value of this version of the class.
        """
        try:
            return cls.model_validate_json(content)
        except (ValueError, RecursionError) as error:
            raise ArtefactError(f"{name}: not valid ({brief(error)})") from error


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value`` as JSON stores it: tuples as lists, keys and paths as text.

    Raises:
        ValueError: it contains something that JSON cannot represent.
    """
    try:
        result: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False, default=_text))
    except TypeError as error:
        raise ValueError(f"configuration is not plain data: {error}") from error
    return result


def _text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is not a JSON value")


def brief(error: Exception) -> str:
    """Return what is wrong with a file, on one short line."""
    text = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = f"{place}: {first['msg']}"
        if place == "format" and isinstance(first["input"], int):
            text = f"format {first['input']} is of another version of the harness"
    return " ".join(text.split())[:300]
