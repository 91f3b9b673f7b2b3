"""One tree of seeds: random numbers depend only on (seed, phase, iteration, task, …).

They do not depend on the worker, the order of arrival or the number of processes. A run therefore
gives the same numbers on one core and on a cluster, and lost work can be repeated exactly.
"""

from __future__ import annotations

import zlib

import numpy as np


def sequence(seed: int, phase: str, *path: int) -> np.random.SeedSequence:
    """Return the seed sequence for ``phase`` and ``path`` (iteration, task index, shot, …).

    All paths of one phase must have the same length: numpy pads entropy with zeros, so ``(3,)`` and
    ``(3, 0)`` give the same sequence.
    """
    # crc32 rather than hash(), which Python salts per process.
    return np.random.SeedSequence([seed, zlib.crc32(phase.encode()), *path])


def generator(seed: int, phase: str, *path: int) -> np.random.Generator:
    """Return a generator seeded by ``sequence(seed, phase, *path)``."""
    return np.random.Generator(np.random.PCG64(sequence(seed, phase, *path)))


def episode_seeds(seed: int, phase: str, *path: int, count: int) -> list[int]:
    """Return ``count`` 63-bit environment seeds from ``sequence(seed, phase, *path)``."""
    state = sequence(seed, phase, *path).generate_state(count, np.uint64)
    return [int(value >> np.uint64(1)) for value in state]
