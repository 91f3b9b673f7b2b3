"""Arrays and one text in a plain ``.npz``: readable with numpy alone, and never a pickle."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

TEXT = "checkpoint.json"
"""Name of the member that holds the text, as bytes."""
MAX_BYTES = 2**31
"""Largest total size of the unpacked members."""

Arrays = dict[str, np.ndarray[Any, Any]]


def pack(arrays: Mapping[str, np.ndarray[Any, Any]], text: str) -> bytes:
    """Return the file that holds ``arrays`` and ``text``."""
    out = io.BytesIO()
    members: dict[str, Any] = {TEXT: np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(out, allow_pickle=False, **members)
    return out.getvalue()


def unpack(payload: bytes) -> tuple[Arrays, str]:
    """Return the arrays and the text of a file.

    Raises:
        ValueError: the file is not an npz, unpacks to more than ``MAX_BYTES``, or holds objects,
            which would be pickles.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"it unpacks to {size} bytes, more than {MAX_BYTES}")
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            arrays: Arrays = {name: file[name] for name in file.files}
        text = bytes(arrays.pop(TEXT)).decode()
    except (
        *(zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, TypeError),
        RuntimeError,  # a flipped bit declares the file encrypted, or compressed by another method
    ) as error:
        raise ValueError(f"not an npz checkpoint ({error})") from error
    return arrays, text
