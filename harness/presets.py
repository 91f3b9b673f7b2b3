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

METAWORLD: dict[str, Any] = {"train": {"action_scale": 1.0}}
"""Its actions are offsets of the hand: the field's recipes do not scale them down."""

RECIPES: dict[str, dict[str, Any]] = {"metaworld-ml10": METAWORLD, "metaworld-ml45": METAWORLD}
"""Distribution -> what suits it better than the defaults, nested as in ``RunConfig``."""
