"""What a few random steps reveal of a task's parameters; see ``make_task_cards.py``.

Array letters: B episodes, F features, G parameters of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.meta.rollouts.inputs import Goals
from task_distributions import SPLITS, Split, Task, TaskDistribution

STEPS = (1, 5, 20)
"""Random steps from which a task's parameters are estimated."""
HORIZONS = range(len(STEPS))
EPISODES = 30
"""Episodes per task of that estimate."""
CLASS_EPISODES = 4
"""The same where tasks have classes, with more tasks."""
PENALTIES = 10.0 ** np.arange(-4, 5)
"""Of the ridge regression, relative to the number of rows; the validation tasks choose."""


def explained(dist: TaskDistribution) -> tuple[list[str], np.ndarray]:
    """Return parameters, and R² of each on the test tasks after ``STEPS`` random steps [H, G].

    The parameters are those that an oracle observes. Descriptions of a task count as one parameter:
    some parts may have the same factor in all test tasks.
    """
    goals = Goals.of_distribution(dist)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    parts = [
        _random_steps(dist, goals, dist.tasks(split), EPISODES, SPLITS.index(split))
        for split in splits
    ]
    names = [
        n
        for key in goals.keys
        for n in (("cos `angle`", "sin `angle`") if key == "angle" else (f"`{key}`",))
    ]
    pooled = bool(dist.tasks("train")[0].description)
    if pooled:
        names = [f"factors of all {len(names)} parts"]
    scores = [_r_squared([(x[h], y) for x, y in parts], pooled) for h in HORIZONS]
    return names, np.array(scores)


def explained_in_classes(dist: TaskDistribution) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return R² after ``STEPS``: of the class, one-hot [H], and, by class, of one parameter [H].

    It is the parameter that is least visible if the class is known. The tasks are other goals of
    the training classes: half of ``validation`` chooses the penalties, and the other is scored.
    """
    goals, valid = Goals.of_distribution(dist), dist.tasks("validation")
    groups, first, hidden = (dist.tasks("train"), valid[::2], valid[1::2]), len(goals.mean), {}
    classes = []
    for name in goals.classes:
        own = [tuple(task for task in group if task.class_name == name) for group in groups]
        parts = [_random_steps(dist, goals, own[n], CLASS_EPISODES, n) for n in range(3)]
        varies = np.flatnonzero(np.ptp(parts[0][1][:, :first], axis=0))
        scores = [_r_squared([(x[h], y[:, varies]) for x, y in parts], False) for h in HORIZONS]
        hidden[name] = np.min(scores, axis=1)
        classes.append(parts)
    groups_of_all = [
        (
            [np.concatenate(x) for x in zip(*(x for x, _ in parts), strict=True)],
            np.concatenate([y[:, first:] for _, y in parts]),
        )
        for parts in zip(*classes, strict=True)
    ]
    found = [_r_squared([(x[h], y) for x, y in groups_of_all], True)[0] for h in HORIZONS]
    return np.array(found), hidden


def _random_steps(
    dist: TaskDistribution, goals: Goals, tasks: tuple[Task, ...], episodes: int, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return what is seen after each of ``STEPS`` [B, F], and the tasks' features [B, G].

    It is every observation, action and reward and, summed over steps, the squared action, and the
    products of that and of the reward with the observation, and of the action with its change.
    """
    rng = np.random.default_rng(seed)
    env, count = dist.make_batch(tasks, episodes), len(tasks) * episodes
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
    return found, np.repeat(goals.of(tasks).numpy(), episodes, axis=0)


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
