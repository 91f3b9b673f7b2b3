"""Scores on validation tasks while training: what they are, and that training is not moved."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch

import task_distributions
from harness.config import precedence
from harness.config.schema import RunConfig
from harness.conformance.learners import accepted
from harness.errors import UsageError
from harness.execution import heldout, scoring
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.meta.learners.base import DivergedError
from harness.types import EvalRecord, Metrics
from tests.harness.execution.execution_cases import LEARNER_SIZES

STEPS = 16 * 8
"""Environment steps of an iteration: 16 episodes of 8."""


def _config(learner: str = "maml", env_steps: int = 4 * STEPS, **execution) -> RunConfig:
    return precedence.resolve(
        {
            "task_dist": "point_goal",
            "policy": ["gru"],
            "learner": {learner: accepted(learner, LEARNER_SIZES)},
            "env": {"horizon": 8},
            "train": {"env_steps": env_steps},
            "execution": execution,
            "evaluation": {"few_shot": [1, 3], "episodes_per_shot": 2, "query_episodes": 2},
        }
    )


def _train(config: RunConfig):
    """Train the only cell; return its curve, final policy and backend."""
    cell = config.cells[0]
    setup, backend = build_setup(cell, config), LocalBackend(config)
    host = backend.start_learner(cell, None)
    curve = list(CellRunner(setup, config, backend).train(host, 0, 0.0))
    return curve, host.snapshot(), backend


def _without_times(metrics: Metrics) -> Metrics:
    return dataclasses.replace(metrics, wall_seconds=0.0, seconds={}, validation={})


@pytest.mark.parametrize("learner", ["maml", "rl2"])
def test_scoring_on_the_way_changes_no_bit_of_the_training(learner: str):
    plain, policy, _ = _train(_config(learner, eval_every="never"))
    scored, same, _ = _train(_config(learner, eval_every=2 * STEPS, eval_tasks=3))
    assert [bool(metrics.validation) for metrics in plain] == [False] * 4
    assert [bool(metrics.validation) for metrics in scored] == [False, True, False, True]
    assert list(map(_without_times, plain)) == list(map(_without_times, scored))
    for name, value in policy.params.items():
        assert torch.equal(value, same.params[name]), name
    assert torch.equal(policy.normalizer.mean, same.normalizer.mean)
    assert all(metrics.seconds["validation"] > 0 for metrics in scored if metrics.validation)


def test_the_scores_are_those_of_the_validation_tasks_after_every_number_of_shots(monkeypatch):
    jobs = []
    evaluate = scoring.evaluate

    def noted(setup, evaluation, job, snapshot, clock):
        jobs.append((job, evaluation))
        return evaluate(setup, evaluation, job, snapshot, clock)

    monkeypatch.setattr(scoring, "evaluate", noted)
    curve, _, _ = _train(_config(eval_every=2 * STEPS, eval_tasks=3))
    assert {job.split for job, _ in jobs} == {"validation"}
    assert [i for job, _ in jobs for i in job.task_indices] == [0, 1, 2] * 2
    setup = build_setup(jobs[0][0].cell, _config())
    plan = partial(scoring.plan_of, setup.dist.spec, adapter=setup.scoring_adapter())
    phases = {plan(evaluation=evaluation, job=job).phase for job, evaluation in jobs}
    assert phases == {"validate/validation"}  # a branch of the seed tree of its own
    assert {evaluation.query_episodes for _, evaluation in jobs} == {1}
    last = curve[-1]
    assert list(last.validation) == ["return_0", "return_1", "return_3"]
    assert last.validation_return == last.validation["return_3"]
    assert all(-20 < value < 0 for value in last.validation.values())
    assert curve[0].validation_return is None


def test_adaptation_that_diverges_leaves_no_score_and_does_not_end_the_training(monkeypatch):
    def diverging(*_: object) -> None:
        raise DivergedError("parameter 'x' is not finite after 3 shots")

    monkeypatch.setattr(scoring, "evaluate", diverging)
    curve, _, _ = _train(_config(eval_every=4 * STEPS))
    assert len(curve) == 4
    assert all(math.isnan(value) for value in curve[-1].validation.values())


def test_auto_scores_each_eighth_of_the_budget_but_never_a_tiny_run(monkeypatch):
    def every(**settings) -> int | None:
        config = _config(**settings)
        return heldout.interval(build_setup(config.cells[0], config), config)

    assert every(eval_every="never") is None
    assert every(eval_every="auto") == heldout.AUTO_LEAST
    assert every(eval_every="auto", env_steps=1_000_000) == pytest.approx(125_000, rel=0.01)
    assert every(eval_every="5k") == 5000
    # One scoring: 10 tasks, 2 support episodes for each of 3 shots, 3 query episodes of 8 steps.
    monkeypatch.setattr(heldout, "AUTO_SHARE", 100)
    assert every(eval_every="auto") == 100 * 10 * (2 * 3 + 3) * 8
    smoke = precedence.resolve({"task_dist": "ant-vel", "preset": "smoke"})
    assert smoke.execution.eval_every == "never"
    assert precedence.resolve({"task_dist": "ant-vel"}).execution.eval_every == "auto"


def test_tasks_are_of_as_many_classes_as_possible():
    names = {
        count: [
            task_distributions.load("metaworld-ml10").tasks("validation")[index].class_name
            for index in heldout.tasks_of(task_distributions.load("metaworld-ml10"), count)
        ]
        for count in (4, 10, 60)
    }
    assert {count: len(set(found)) for count, found in names.items()} == {4: 4, 10: 10, 60: 10}
    assert heldout.tasks_of(task_distributions.load("ant-dir"), 4) == (0, 1, 2, 3)


def test_means_are_over_valid_episodes():
    fields = dataclasses.fields(EvalRecord)
    blank = EvalRecord(**{field.name: 0 for field in fields})  # type: ignore[arg-type]
    rows = [
        dataclasses.replace(blank, shots=shots, return_=value, success=value > 2, invalid=invalid)
        for shots, value, invalid in (
            (0, 1.0, False),
            (0, 3.0, False),
            (0, 9.0, True),
            (1, 4, True),
        )
    ]
    found = heldout.summary(rows, success=True)
    assert (found["return_0"], found["success_0"]) == (2.0, 0.5)
    assert math.isnan(found["return_1"])
    assert list(heldout.summary(rows, success=False)) == ["return_0", "return_1"]


def test_settings_without_effect_are_refused(monkeypatch):
    with pytest.raises(UsageError, match=r"--eval-tasks: has no effect"):
        precedence.resolve(
            {"task_dist": "point_goal", "execution": {"eval_every": "never", "eval_tasks": 3}},
            {("execution", "eval_tasks"): "--eval-tasks"},
        )
    cls = type(task_distributions.load("point_goal"))
    lists = cls.tasks
    monkeypatch.setattr(cls, "tasks", lambda self, s: () if s == "validation" else lists(self, s))
    with pytest.raises(UsageError, match=r"eval_every: point_goal has no validation tasks"):
        precedence.resolve({"task_dist": "point_goal", "execution": {"eval_every": 100}})
    config = precedence.resolve({"task_dist": "point_goal", "execution": {"eval_every": "auto"}})
    assert heldout.interval(build_setup(config.cells[0], config), config) is None
