"""Saved agents: settings that name a file, and the agent that each kind of file stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

SUFFIXES = {
    ".zip": "sb3",
    ".pt": "torch",
    ".pth": "torch",
    ".pt2": "torch",
    ".safetensors": "checkpoint",
    ".npz": "checkpoint",
}
"""Suffix of a file that may be given in place of an agent's name -> the agent that loads it."""


def _existing(value: Any) -> Any:
    """Return the absolute path of a file, as text if it was text.

    Raises:
        ValueError: there is no such file.
    """
    if not isinstance(value, str | Path):
        return value
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    return type(value)(path)


File = Annotated[Path, BeforeValidator(_existing)]
"""A file that exists, from any working directory."""
