"""Budgets by name. Each preset is complete, so that none inherits a value from another.

A layer of settings is nested as in YAML; ``components`` holds settings by component kind, which
act where that component is chosen. The recipe of a distribution (``task_distributions.recipe``)
wins over a preset, a YAML file and the command line over both.
"""

from __future__ import annotations

from typing import Any

Layer = dict[str, Any]


def _preset(
    env_steps: int,
    maml: tuple[int, int],
    evaluation: tuple[int, int],
    seeds: int,
    eval_every: str = "auto",
) -> Layer:
    """Return a layer.

    Args:
        env_steps: the training budget of a cell.
        maml: tasks per iteration, and episodes per task.
        evaluation: episodes per shot, and query episodes.
        seeds: number of seeds.
        eval_every: when to score validation tasks.
    """
    return {
        "train": {"env_steps": env_steps},
        "execution": {"eval_every": eval_every},
        "components": {"maml": {"meta_batch_size": maml[0], "episodes_per_task": maml[1]}},
        "evaluation": {
            "few_shot": [1, 5, 10],
            "episodes_per_shot": evaluation[0],
            "query_episodes": evaluation[1],
        },
        "seed": list(range(seeds)),
    }


PRESETS: dict[str, Layer] = {
    # Does everything run? Four policies on halfcheetah-vel in a minute or two on two cores.
    "smoke": _preset(64_000, (10, 4), (4, 2), 1, "never"),
    # A first look on a laptop, one seed: learning shows, but supports no claim.
    "quick": _preset(2_000_000, (5, 10), (10, 5), 1),
    # An overnight comparison: beyond the onset of adaptation, three seeds for an interval.
    "standard": _preset(48_000_000, (20, 20), (20, 5), 3),
    # The published budgets: 40 tasks × 20 episodes, 1000 iterations (ProMP, arXiv 1810.06784).
    "paper": _preset(320_000_000, (40, 20), (20, 10), 5),
}
"""Name -> layer of settings."""
