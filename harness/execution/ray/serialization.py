"""RAY: how values travel between processes.

Ray knows two ways: inside calls and answers, through the process that calls, or by its object
store, whose hand-over from node to node takes longer than the bytes do. Whatever is not large goes
inside calls here. And tensors are pickled as arrays: torch's own way writes a file for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

DIRECT_BYTES = 2**20
"""Largest value inside an answer; Ray's own limit is just below the size of a gradient."""
STORE_BEYOND = 100 * 1024
"""Ray's own limit."""
DIRECT_WORKERS = 64
"""Workers beyond which values take the store: not all of them through the driver's process."""

Packed = tuple[np.ndarray[Any, Any], tuple[int, ...], tuple[int, ...], bool]
"""Elements as they lie in memory, shape, strides, whether it wants a gradient."""


def direct_up_to(size: int) -> dict[str, Any]:
    """Return the ``runtime_env`` of processes whose answers hold values of up to ``size`` bytes.

    Ray reads this setting from each process's environment. A Ray of our own is started with it.
    """
    return {"env_vars": {"RAY_max_direct_call_object_size": str(size)}}


def options(workers: int, sum_beyond: int) -> dict[str, Any]:
    """Return what actors are started with on a Ray that was joined, where there are so many.

    Values take the store where there are many, and where a node has room for so many that it adds
    up its gradients: those are to stay on it. (A Ray of our own is one node, and the setting that
    it was started with counts for more.)
    """
    room = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    by_store = workers > DIRECT_WORKERS or min(workers, room) > sum_beyond
    return {"runtime_env": direct_up_to(STORE_BEYOND)} if by_store else {}


def prepare(actor: Any) -> None:
    """Let an actor that has just been started send tensors as arrays, before it gets any work."""
    actor.__ray_call__.remote(tensors_as_arrays)


def tensors_as_arrays(_: Any = None) -> None:
    """From now on, let this process send tensors as arrays."""
    ray.util.register_serializer(Tensor, serializer=packed, deserializer=unpacked)


def packed(tensor: Tensor) -> Packed:
    """Return a tensor on the CPU as an array, without copying if its elements lie side by side."""
    plain = tensor.detach()
    if not torch.ops.aten.is_non_overlapping_and_dense(plain):
        plain = plain.contiguous()
    elements = plain.as_strided((plain.numel(),), (1,)).numpy()
    return elements, tuple(plain.shape), plain.stride(), tensor.requires_grad


def unpacked(parts: Packed) -> Tensor:
    """Return the tensor: strides count in matrix products, to the last bit."""
    elements, shape, strides, wants_gradient = parts
    flat = torch.from_numpy(elements.copy())  # what arrives can only be read
    return flat.as_strided(shape, strides).requires_grad_(wants_gradient)
