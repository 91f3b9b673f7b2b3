"""RAY: how values travel between processes.

Ray sends a value either inside calls and replies, through the calling process, or through its
object store. Moving a value from one node's store to another's takes longer than sending a gradient
inline, so the limit for inline values is raised here. Tensors are pickled as arrays, because
torch's own pickling writes a file per tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

INLINE_BYTES = 2**20
"""Largest value sent inline; Ray's own limit, 100 KiB, is just below the size of a gradient."""

PackedTensor = tuple[np.ndarray[Any, Any], tuple[int, ...], tuple[int, ...], bool]
"""Elements in memory order, shape, strides, ``requires_grad``."""


def inline_object_limit() -> dict[str, Any]:
    """Return the ``runtime_env`` that raises the limit on a cluster that is already running.

    Ray reads this limit from each process's environment. A Ray of our own is started with it.
    """
    return {"env_vars": {"RAY_max_direct_call_object_size": str(INLINE_BYTES)}}


def install_tensor_serializer(_: Any = None) -> None:
    """Make this process send tensors as arrays."""
    ray.util.register_serializer(Tensor, serializer=pack, deserializer=unpack)


def install_in_actor(actor: Any) -> None:
    """Make a newly started actor send tensors as arrays, before it is given any work."""
    actor.__ray_call__.remote(install_tensor_serializer)


def pack(tensor: Tensor) -> PackedTensor:
    """Return a CPU tensor as an array, without copying if its elements are contiguous."""
    values = tensor.detach()
    if not torch.ops.aten.is_non_overlapping_and_dense(values):
        values = values.contiguous()
    elements = values.as_strided((values.numel(),), (1,)).numpy()
    return elements, tuple(values.shape), values.stride(), tensor.requires_grad


def unpack(parts: PackedTensor) -> Tensor:
    """Return the tensor with its strides, which affect the last bits of matrix products."""
    elements, shape, strides, requires_grad = parts
    flat = torch.from_numpy(elements.copy())  # received arrays are read-only
    return flat.as_strided(shape, strides).requires_grad_(requires_grad)
