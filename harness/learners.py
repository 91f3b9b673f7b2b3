"""Learners for other data than episodes: ``MetaMAML`` for supervised tasks and series.

The learners of reinforcement learning are ``harness.meta.learners``.
"""

from harness.meta.supervised import MetaMAML, SupervisedTask

__all__ = ["MetaMAML", "SupervisedTask"]
