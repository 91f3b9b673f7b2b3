"""One tree of seeds: what an episode draws depends on (seed, phase, iteration, task) alone.

Never on the worker, the order of arrival or the number of processes, so that a run gives the same
numbers on one core and on a cluster, and a lost piece of work can be replayed exactly.
"""

from __future__ import annotations

import zlib

import numpy as np


def sequence(seed: int, phase: str, *path: int) -> np.random.SeedSequence:
    """Return the node of the tree at ``phase`` and ``path`` (iteration, task index, shot, …).

    All paths of one phase must have the same length: numpy pads entropy with zeros, so ``(3,)`` and
    ``(3, 0)`` are the same node.
    """
    # crc32, not hash(): Python salts hash() per process.
    return np.random.SeedSequence([seed, zlib.crc32(phase.encode()), *path])


def generator(seed: int, phase: str, *path: int) -> np.random.Generator:
    """Return a generator seeded at that node."""
    return np.random.Generator(np.random.PCG64(sequence(seed, phase, *path)))


def episode_seeds(seed: int, phase: str, *path: int, count: int) -> list[int]:
    """Return ``count`` 63-bit seeds for environment resets at that node."""
    state = sequence(seed, phase, *path).generate_state(count, np.uint64)
    return [int(value >> np.uint64(1)) for value in state]
