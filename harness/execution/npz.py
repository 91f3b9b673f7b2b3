"""Arrays and one text in a plain ``.npz``: what numpy alone can open, and never a pickle."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

TEXT = "checkpoint.json"
"""Name of the member that holds the text, as bytes."""
MAX_BYTES = 2**31
"""Most that the members may unpack to."""

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
        ValueError: it is no npz, unpacks to more than ``MAX_BYTES``, or holds objects: those are
            pickles, which are never loaded.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"it unpacks to {size} bytes, more than {MAX_BYTES}")
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            arrays: Arrays = {name: file[name] for name in file.files}
        text = bytes(arrays.pop(TEXT)).decode()
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, TypeError) as error:
        raise ValueError(f"not an npz checkpoint ({error})") from error
    return arrays, text


def digest(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the sha256 of names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name}\0{array.dtype.str}\0{arrays[name].shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()
