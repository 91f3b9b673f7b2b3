"""The controls: PPO on single episodes, told nothing or everything, so that maml and rl2 mean much.

All but ``scratch`` train on as many steps as what they are compared with.
"""

from __future__ import annotations

from harness.meta.cell_setup import CellSetup
from harness.meta.learners.ppo import PPOLearner


def multitask(problem: CellSetup) -> PPOLearner:
    """One policy for all tasks, without adaptation: tells whether meta-learning did anything."""
    return _control(problem, "multitask", adapter="none")


def finetune(problem: CellSetup) -> PPOLearner:
    """Multitask, then a plain gradient step per shot: tells whether maml beats fine-tuning."""
    return _control(problem, "finetune", adapter="gradient")


def scratch(problem: CellSetup) -> PPOLearner:
    """Random weights, then a plain gradient step per shot: tells what training was for."""
    return _control(problem, "scratch", adapter="gradient")


def oracle(problem: CellSetup) -> PPOLearner:
    """Multitask with the task as an input: what knowing it from the start is worth."""
    return _control(problem, "oracle", adapter="none")


def _control(problem: CellSetup, name: str, adapter: str) -> PPOLearner:
    return PPOLearner(
        problem=problem,
        name=name,
        adapter=adapter,
        episodes_in_sequence=1,
        episodes_per_task=problem.config.train.episodes_per_task,
    )
