"""What a few random steps reveal of a task's parameters; see ``make_task_cards.py``.

Array letters: B episodes, F features, G parameters of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.meta.rollouts.inputs import Goals
from task_distributions import SPLITS, Split, TaskDistribution

STEPS = (1, 5, 20)
"""Random steps from which a task's parameters are estimated."""
EPISODES = 30
"""Episodes per task of that estimate."""
PENALTIES = 10.0 ** np.arange(-4, 5)
"""Of the ridge regression, relative to the number of rows; the validation tasks choose."""


def explained(dist: TaskDistribution) -> tuple[list[str], np.ndarray]:
    """Return parameters, and R² of each on the test tasks after ``STEPS`` random steps [H, G].

    The parameters are those that an oracle observes. Descriptions of a task count as one parameter:
    some parts may have the same factor in all test tasks.
    """
    goals = Goals.of_distribution(dist)
    parts = [_random_steps(dist, goals, split) for split in ("train", "validation", "test")]
    names = [
        n
        for key in goals.keys
        for n in (("cos `angle`", "sin `angle`") if key == "angle" else (f"`{key}`",))
    ]
    pooled = bool(dist.tasks("train")[0].description)
    if pooled:
        names = [f"factors of all {len(names)} parts"]
    scores = [_r_squared([(x[h], y) for x, y in parts], pooled) for h in range(len(STEPS))]
    return names, np.array(scores)


def _random_steps(
    dist: TaskDistribution, goals: Goals, split: Split
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return what is seen after each of ``STEPS`` [B, F], and the tasks' features [B, G].

    It is every observation, action and reward and, summed over steps, the squared action, and the
    products of that and of the reward with the observation, and of the action with its change.
    """
    tasks, rng = dist.tasks(split), np.random.default_rng(SPLITS.index(split))
    env, count = dist.make_batch(tasks, EPISODES), len(tasks) * EPISODES
    seen, sums, found = [env.reset(range(count)).copy()], 0.0, []
    for step in range(1, STEPS[-1] + 1):
        actions = rng.uniform(-1.0, 1.0, (count, dist.spec.action_dim))
        if dist.spec.discrete:
            actions = np.eye(dist.spec.action_dim)[actions.argmax(axis=1)]
        out = env.step(actions)
        reward, cost = out.reward[:, np.newaxis], np.square(actions).sum(axis=1, keepdims=True)
        moved = np.einsum("bo,ba->boa", out.obs - seen[-1], actions).reshape(count, -1)
        sums = sums + np.concatenate([cost, reward * out.obs, cost * out.obs, moved], axis=1)
        seen += [actions, reward.copy(), out.obs.copy()]
        if step in STEPS:
            found.append(np.concatenate([*seen, sums], axis=1))
    return found, np.repeat(goals.of(tasks).numpy(), EPISODES, axis=0)


def _r_squared(parts: Sequence[tuple[np.ndarray, np.ndarray]], pooled: bool) -> np.ndarray:
    """Return R² of each target, or of all, on the last of (train, validation, test), by ridge."""
    mean, scale = parts[0][0].mean(axis=0), parts[0][0].std(axis=0) + 1e-9
    (x, y), *others = [((x - mean) / scale, y - parts[0][1].mean(axis=0)) for x, y in parts]
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    projected = vectors.T @ (x.T @ y) / len(x)

    def score(penalty: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        error = y - x @ (vectors @ (projected / (values.clip(0.0)[:, np.newaxis] + penalty)))
        axis = None if pooled else 0
        left, total = np.square(error).sum(axis), np.square(y - y.mean(axis=0)).sum(axis)
        return np.atleast_1d(1.0 - left / total)

    scores = [(score(penalty, *others[0]), score(penalty, *others[1])) for penalty in PENALTIES]
    best = np.argmax([validation for validation, _ in scores], axis=0)
    return np.array([scores[n][1][target] for target, n in enumerate(best)])
