"""Draw docs/images/adaptation.png: one policy on held-out tasks, before and after adaptation.

    python docs/make_adaptation_picture.py

Scores the published GRU policy that maml trained on point_goal and draws its query episodes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from harness.execution.checkpoint import load_policy
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner
from harness.meta.rollouts.episode_loop import Clock

ROOT = Path(__file__).parents[1]
POLICY = ROOT / "results/published/point-goal/cells/point_goal.gru.maml.s0/policy.safetensors"
TASKS = tuple(range(8))
SHOTS = (0, 1, 10)
EPISODES = 10


def main() -> None:
    """Play the tasks and draw one panel per number of shots."""
    setup, policy = load_policy(POLICY)
    tasks = setup.tasks("test", TASKS)
    plan = MetaEpisodePlan(
        query_after=SHOTS,
        support_episodes=EPISODES,
        query_episodes=1,
        deterministic_query=True,
        seed=0,
        phase="picture",
        seed_keys=TASKS,
    )
    runner = MetaEpisodeRunner(setup.dist, setup.scoring_adapter(), setup.estimator(policy))
    queries = runner.run(tasks, setup.actor(policy), plan, Clock()).episodes.query
    figure, axes = plt.subplots(1, len(SHOTS), figsize=(8.4, 3.2), sharex=True, sharey=True)
    for axis, shots in zip(axes, SHOTS, strict=True):
        query = queries[shots]
        for n, task in enumerate(tasks):
            color, goal = f"C{n}", (task.param("goal_x"), task.param("goal_y"))
            path = np.concatenate([query.obs[n, 0], query.last_obs[n, :1]])
            axis.plot(*path.T, color=color)
            axis.plot(*goal, marker="*", markersize=13, color=color, linestyle="none")
        when = "before adaptation" if shots == 0 else f"after {shots} shot{'s' * (shots > 1)}"
        axis.set_title(f"{when}\nmean return {query.returns.mean():.1f}")
        axis.set_aspect("equal")
    figure.savefig(ROOT / "docs/images/adaptation.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
