"""Budgets by name: each preset is a complete set of overrides of the defaults, on its own.

A distribution's recipe wins over a preset, a YAML file and the command line over both.
"""

from __future__ import annotations

from typing import Any

SMOKE: dict[str, Any] = {
    "train": {"epochs": 4, "meta_batch_size": 10, "episodes_per_task": 4},
    "evaluation": {"few_shot": [1, 5, 10], "episodes_per_shot": 4, "query_episodes": 2},
    "seed": [0],
}
"""Does everything run? Four policies on halfcheetah-vel in a minute or two on two cores."""

QUICK: dict[str, Any] = {
    "train": {"epochs": 25, "meta_batch_size": 20, "episodes_per_task": 10},
    "evaluation": {"few_shot": [1, 5, 10], "episodes_per_shot": 10, "query_episodes": 5},
    "seed": [0],
}
"""A first look on a laptop, one seed, 2 M steps a cell: learning shows, no claim can rest on it."""

STANDARD: dict[str, Any] = {
    "train": {"epochs": 300, "meta_batch_size": 20, "episodes_per_task": 20},
    "evaluation": {"few_shot": [1, 5, 10], "episodes_per_shot": 20, "query_episodes": 5},
    "seed": [0, 1, 2],
}
"""An overnight comparison: beyond the onset of adaptation, three seeds for an interval."""

PAPER: dict[str, Any] = {
    "train": {"epochs": 1000, "meta_batch_size": 40, "episodes_per_task": 20},
    "evaluation": {"few_shot": [1, 5, 10], "episodes_per_shot": 20, "query_episodes": 10},
    "seed": [0, 1, 2, 3, 4],
}
"""The published budgets: 40 tasks × 20 episodes, 1000 iterations (ProMP, arXiv 1810.06784)."""

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": SMOKE,
    "quick": QUICK,
    "standard": STANDARD,
    "paper": PAPER,
}
"""Name -> overrides, nested as in ``RunConfig``."""

RECIPES: dict[str, dict[str, Any]] = {
    # Its actions are offsets of the hand: the field's recipes do not scale them down.
    "metaworld-ml10": {"train": {"action_scale": 1.0}},
    "metaworld-ml45": {"train": {"action_scale": 1.0}},
    # One task, long episodes: PPO's usual discount, and jobs as wide as a few workers can share.
    "halfcheetah": {
        "train": {"action_scale": 1.0},
        "ppo": {"ppo_gamma": 0.99, "ppo_episodes": 16, "chunk_steps": 100},
        "evaluation": {"zero_shot": True, "query_episodes": 10},
        "least_jobs": 2,
    },
}
"""Distribution -> what suits it better than the defaults, nested as in ``RunConfig``."""


def _metaworld(
    protocol: str, train: tuple[int, int, int], episodes: tuple[int, int], *splits: str
) -> dict[str, Any]:
    """Return a budget: (epochs, tasks, episodes) and episodes (per shot, scored)."""
    names = ("epochs", "meta_batch_size", "episodes_per_task")
    return {
        "train": dict(zip(names, train, strict=True)),
        "evaluation": {
            "protocol": protocol,
            "splits": list(splits),
            "episodes_per_shot": episodes[0],
            "query_episodes": episodes[1],
        },
    }


def _halfcheetah(epochs: int, meta_batch_size: int, query_episodes: int) -> dict[str, Any]:
    """Return a budget; an epoch takes 8 episodes of 1000 steps for each of ``meta_batch_size``."""
    return {
        "train": {"epochs": epochs, "meta_batch_size": meta_batch_size, "episodes_per_task": 4},
        "evaluation": {"query_episodes": query_episodes},
    }


BUDGETS: dict[tuple[str, str], dict[str, Any]] = {
    # Steps cost 150 µs and episodes take 500 of them: below 2 M steps for four policies.
    ("metaworld-ml10", "smoke"): _metaworld("quick", (4, 10, 2), (2, 1), "test", "train"),
    # 45 training classes alone would take more than that: --splits test train scores them too.
    ("metaworld-ml45", "smoke"): _metaworld("quick", (4, 10, 2), (2, 1), "test"),
    # Below 12 M steps for four policies.
    ("metaworld-ml10", "quick"): _metaworld("quick", (25, 20, 4), (5, 3), "test", "train"),
    ("metaworld-ml45", "quick"): _metaworld("quick", (15, 20, 4), (4, 3), "test", "train"),
    # 10 M and 20 M steps of training a cell: half the published 20 M of ML10.
    ("metaworld-ml10", "standard"): _metaworld("official", (50, 20, 10), (10, 3), "test", "train"),
    ("metaworld-ml45", "standard"): _metaworld("official", (100, 20, 10), (10, 3), "test", "train"),
    # The published budgets, 20 M and 90 M steps: 20 tasks × 10 episodes (Meta-World+).
    ("metaworld-ml10", "paper"): _metaworld("official", (100, 20, 10), (10, 3), "test", "train"),
    ("metaworld-ml45", "paper"): _metaworld("official", (450, 20, 10), (10, 3), "test", "train"),
    # 0.06 M, 2 M, 5 M and 10 M steps a cell.
    ("halfcheetah", "smoke"): _halfcheetah(4, 2, 2),
    ("halfcheetah", "quick"): _halfcheetah(25, 10, 10),
    ("halfcheetah", "standard"): _halfcheetah(62, 10, 10),
    ("halfcheetah", "paper"): _halfcheetah(125, 10, 10),
}
"""(distribution, preset) -> what this preset is there instead."""
