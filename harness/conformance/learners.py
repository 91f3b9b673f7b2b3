"""What every learner keeps: it learns, counts, restores, and does not depend on how work is cut."""

from __future__ import annotations

import json
import math
import unittest
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import torch

import policies
import task_distributions
from harness.conformance.suite import Suite
from harness.meta import adapters, learners
from harness.meta.cell_setup import Budget, CellSetup
from harness.meta.learners.base import (
    GradientRequest,
    IterationInfo,
    JobContext,
    Learner,
    PolicySnapshot,
    RequestKind,
)
from harness.meta.learners.sums import PartialGradient, tree_sum
from harness.meta.rollouts.episode_loop import Clock
from harness.types import Cell
from metarl_plugins import label_of
from policies.base import Params

SMALL: dict[str, Any] = {
    "meta_batch_size": 4,
    "episodes_per_task": 3,
    "episodes_per_iteration": 24,
    "tasks_per_iteration": 4,
    "update_epochs": 2,
    "minibatches": 2,
    "action_scale": 1.0,
}
"""24 episodes per iteration, of 4 tasks, for every learner whose settings have these names."""
REQUIRED = ("gamma", "gae_lambda", "baseline", "action_scale", "init_std")
"""Settings that acting and adapting read of every learner."""


def accepted(learner: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return those of ``settings`` that the learner has."""
    names = {entry.name for entry in fields(learners.spec(learner).settings)}
    return {name: value for name, value in settings.items() if name in names}


def make_setup(
    learner: str,
    *,
    policy: str = "mlp",
    task_dist: str = "point_goal",
    adapter: str | None = None,
    normalize_obs: bool = True,
    **settings: Any,
) -> CellSetup:
    """Return a cell of ``learner`` with the settings of ``SMALL`` and those given."""
    spec, dist = learners.spec(learner), task_distributions.load(task_dist)
    chosen = spec.settings(**accepted(learner, SMALL) | settings)
    own = adapter in (None, spec.adapter)
    adapter = adapter or spec.adapter
    inputs = spec.inputs(chosen, adapters.spec(adapter), dist)
    return CellSetup(
        cell=Cell(label_of(task_dist), label_of(policy), label_of(learner), 0),
        dist=dist,
        policy=policies.build(
            policy,
            obs_dim=inputs.dim,
            action_dim=dist.spec.action_dim,
            discrete=dist.spec.discrete,
            init_std=chosen.init_std,
        ),
        inputs=inputs,
        learner=spec,
        settings=chosen,
        adapter=adapter,
        adapter_settings=spec.adapter_settings(chosen)
        if own
        else adapters.settings_class(adapter)(),
        budget=Budget(meta_iterations=100),
        normalize_obs=normalize_obs,
        train_tasks=tuple(range(len(dist.tasks("train")))),
    )


def collect(
    setup: CellSetup, snapshot: PolicySnapshot, jobs: int, iteration: int = 0
) -> tuple[list[Any], list[Any]]:
    """Collect an iteration's data in ``jobs`` jobs; return what each keeps and the reports."""
    learner = learners.build(setup)
    size, clock = learner.tasks_per_iteration, Clock()
    bounds = [part * size // jobs for part in range(jobs + 1)]
    pairs = []
    for pair in pairwise(bounds):
        keys = tuple(range(*pair))
        tasks = setup.tasks("train", [key % len(setup.train_tasks) for key in keys])
        pairs.append(learner.collect(tasks, JobContext(iteration, keys), snapshot, clock))
    return [data for data, _ in pairs], [report for _, report in pairs]


def iterate(setup: CellSetup, state: Any, jobs: int, iteration: int = 0) -> IterationInfo:
    """Run one meta-iteration by hand in ``jobs`` jobs; return what it reports."""
    learner = learners.build(setup)
    steps = learner.iterate(state)
    request = next(steps)
    assert request.kind is RequestKind.COLLECT
    data, results = collect(setup, request.payload, jobs, iteration)
    while True:
        try:
            request = steps.send(results)
        except StopIteration as stop:
            done: IterationInfo = stop.value
            return done
        assert request.kind is RequestKind.COMPUTE
        results = [learner.compute(kept, request.payload, Clock()) for kept in data]


def through_disk(learner: Learner[Any], state: Any) -> Any:
    """Return what a checkpoint makes of a state: tensors cloned, the rest JSON."""
    tensors, meta = state.save()
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    restored = learner.init()
    restored.load(tensors, json.loads(json.dumps(meta)))
    return restored


def _off(params: Params) -> Params:
    generator = torch.Generator().manual_seed(0)
    return {k: v + 0.02 * torch.randn(v.shape, generator=generator) for k, v in params.items()}


class LearnerSuite(Suite):
    """The tests of a learner, on point_goal with a small policy unless the settings say else."""

    def make(self, **more: Any) -> CellSetup:
        """Return a cell of it."""
        return make_setup(self.name, **{**self.settings, **more})

    def test_an_iteration_learns_and_counts(self) -> None:
        setup = self.make()
        learner = learners.build(setup)
        assert isinstance(learner, Learner)
        state = learner.init()
        before = state.snapshot()
        done = iterate(setup, state, jobs=2)
        steps = learner.episodes_per_iteration * setup.dist.spec.horizon
        assert 0 < state.env_steps <= steps
        assert state.iteration == 1
        assert math.isfinite(done.pre_return)
        assert math.isfinite(done.post_return)
        assert all(math.isfinite(value) for value in done.info.values())
        assert not done.info.get("invalid_episodes")
        after = state.snapshot()
        changed = any(
            not torch.equal(before.params[key], after.params[key]) for key in after.params
        )
        assert changed is setup.learner.trains or not setup.learner.trains
        assert after.normalizer.mean.abs().max() > 0
        assert before.return_scale == 1
        assert (before.env_steps, after.env_steps) == (0, state.env_steps)

    def test_its_spec_names_what_exists(self) -> None:
        spec = learners.spec(self.name)
        assert spec.fits(adapters.spec(spec.adapter)), f"adapter {spec.adapter} does not fit"
        if spec.shared_training is not None:
            learners.spec(spec.shared_training)
        assert spec.settings() == spec.settings(), "settings compare by value"
        lacking = [name for name in REQUIRED if not hasattr(spec.settings(), name)]
        assert not lacking, f"the settings lack {', '.join(lacking)}"

    def test_the_gradient_does_not_depend_on_how_tasks_are_cut_into_jobs(self) -> None:
        setup = self.make(**accepted(self.name, {"minibatches": 1}))
        learner = learners.build(setup)
        steps = learner.iterate(learner.init())
        snapshot = next(steps).payload
        whole, quarters = (collect(setup, snapshot, jobs) for jobs in (1, 4))
        assert (len(whole[0]), len(quarters[0])) == (1, 4)
        request = steps.send(whole[1])
        assert request.kind == RequestKind.COMPUTE
        if not isinstance(request.payload, GradientRequest):
            raise unittest.SkipTest("it asks its workers for something else than a gradient")
        payload = replace(request.payload, params=_off(request.payload.params))
        one: PartialGradient[Any] = learner.compute(whole[0][0], payload, Clock())
        summed = tree_sum([learner.compute(data, payload, Clock()) for data in quarters[0]])
        for key, value in one.gradient.items():
            torch.testing.assert_close(summed.gradient[key], value, rtol=1e-4, atol=1e-5)
        assert max(float(value.abs().max()) for value in one.gradient.values()) > 1e-4
        for name, loss in one.losses.as_info().items():
            assert math.isclose(summed.losses.as_info()[name], loss, rel_tol=1e-5, abs_tol=1e-5)

    def test_a_restored_state_continues_bit_for_bit(self) -> None:
        setup = self.make()
        learner = learners.build(setup)
        straight = learner.init()
        iterate(setup, straight, jobs=1, iteration=0)
        broken = through_disk(learner, straight)
        done = [iterate(setup, state, jobs=1, iteration=1) for state in (straight, broken)]
        assert done[0] == done[1]
        saved, meta = straight.save()
        again, meta_again = broken.save()
        assert meta == meta_again
        assert saved.keys() == again.keys()
        assert all(torch.equal(saved[key], again[key]) for key in saved)

    def test_training_goes_on_beyond_its_budget_unless_its_spec_says_otherwise(self) -> None:
        if learners.spec(self.name).tied_to_budget:
            raise unittest.SkipTest(learners.spec(self.name).tied_to_budget)
        states = []
        for iterations in (1, 100):
            setup = replace(self.make(), budget=Budget(meta_iterations=iterations))
            states.append(learners.build(setup).init())
            iterate(setup, states[-1], jobs=1)
        one, other = (state.save()[0] for state in states)
        assert all(torch.equal(one[key], other[key]) for key in one), "set tied_to_budget"

    def test_a_state_is_a_function_of_the_seed_alone(self) -> None:
        learner = learners.build(self.make())
        left, right = learner.init().snapshot().params, learner.init().snapshot().params
        assert all(torch.equal(left[key], right[key]) for key in left)

    def test_a_snapshot_is_not_touched_by_later_updates(self) -> None:
        setup = self.make()
        state = learners.build(setup).init()
        sent = state.snapshot()
        kept = {key: value.clone() for key, value in sent.params.items()}
        iterate(setup, state, jobs=1)
        assert all(torch.equal(sent.params[key], kept[key]) for key in kept)

    def test_observations_are_left_alone_if_asked(self) -> None:
        setup = self.make(normalize_obs=False)
        state = learners.build(setup).init()
        iterate(setup, state, jobs=1)
        normalizer = state.snapshot().normalizer
        assert not normalizer.mean.any()
        assert (normalizer.std == 1).all()
