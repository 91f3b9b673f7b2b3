"""Every registered learner: an iteration by hand, its cost, its checkpoint, its jobs."""

import json
import math
from dataclasses import fields, replace

import pytest
import torch

from harness.meta import adapters, learners
from harness.meta.learners.base import GradientRequest, Learner, RequestKind
from harness.meta.learners.state import LearnerState
from harness.meta.learners.sums import tree_sum
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params
from tests.harness.meta.meta_cases import accepted, collect, iterate, make_setup

VARIANTS = ({}, {"baseline": "value"}, {"outer": "trpo"})
CASES = [
    (name, variant)
    for name in learners.names()
    for variant in VARIANTS
    if accepted(name, variant) == variant
]
every_case = pytest.mark.parametrize(("name", "variant"), CASES)


@pytest.fixture(params=learners.names())
def name(request) -> str:
    return request.param


@every_case
def test_an_iteration_learns_and_counts(name, variant):
    setup = make_setup(name, **variant)
    learner = learners.build(setup)
    assert isinstance(learner, Learner)
    state = learner.init()
    before = state.snapshot()
    done = iterate(setup, state, jobs=2)
    assert state.env_steps == learner.episodes_per_iteration * setup.dist.spec.horizon
    assert state.iteration == 1
    assert -100 < done.pre_return < 0
    assert -100 < done.post_return < 0
    assert all(math.isfinite(value) for value in done.info.values())
    assert done.info["grad_norm"] > 0
    assert done.info["invalid_episodes"] == done.info["skipped_in_a_row"] == 0
    after = state.snapshot()
    assert any(not torch.equal(before.params[key], after.params[key]) for key in after.params)
    assert before.normalizer.mean.tolist() == [0, 0]
    assert after.normalizer.mean.abs().min() > 0
    assert before.return_scale == 1
    assert after.return_scale > 1
    assert (before.env_steps, after.env_steps) == (0, state.env_steps)


def test_its_spec_agrees_with_the_registries(name):
    spec = learners.spec(name)
    assert spec.adapter in adapters.names()
    assert spec.shared_training in (None, *learners.names())
    assert spec.settings() == spec.settings(), "settings compare by value"
    documented = {entry.name for entry in fields(spec.settings)}
    assert {"gamma", "gae_lambda", "action_scale", "init_std"} <= documented


@every_case
def test_the_gradient_does_not_depend_on_how_tasks_are_cut_into_jobs(name, variant):
    policy = "mlp" if "outer" in variant else "lstm"
    small = accepted(name, {"minibatches": 1})
    setup = make_setup(name, policy=policy, **variant, **small)
    learner = learners.build(setup)
    steps = learner.iterate(learner.init())
    snapshot = next(steps).payload
    whole, quarters = (collect(setup, snapshot, jobs) for jobs in (1, 4))
    assert (len(whole[0]), len(quarters[0])) == (1, 4)
    request = steps.send(whole[1])
    assert request.kind == RequestKind.COMPUTE
    assert isinstance(request.payload, GradientRequest)
    payload = replace(request.payload, params=off(request.payload.params))
    one = learner.compute(whole[0][0], payload, Clock())
    summed = tree_sum([learner.compute(data, payload, Clock()) for data in quarters[0]])
    for key, value in one.gradient.items():
        torch.testing.assert_close(summed.gradient[key], value, rtol=1e-4, atol=1e-5)
    assert max(value.abs().max() for value in one.gradient.values()) > 1e-4
    assert summed.losses.as_info() == pytest.approx(one.losses.as_info(), rel=1e-5, abs=1e-5)


def off(params: Params) -> Params:
    generator = torch.Generator().manual_seed(0)
    return {k: v + 0.02 * torch.randn(v.shape, generator=generator) for k, v in params.items()}


def through_disk(learner: Learner, state: LearnerState) -> LearnerState:
    """What a checkpoint does: tensors cloned, the rest JSON."""
    tensors, meta = state.save()
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    restored = learner.init()
    restored.load(tensors, json.loads(json.dumps(meta)))
    return restored


@every_case
def test_a_restored_state_continues_bit_for_bit(name, variant):
    setup = make_setup(name, **variant)
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


def test_a_state_is_a_function_of_the_seed_alone(name):
    learner = learners.build(make_setup(name))
    left, right = learner.init().snapshot().params, learner.init().snapshot().params
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_snapshot_is_not_touched_by_later_updates(name):
    setup = make_setup(name)
    state = learners.build(setup).init()
    sent = state.snapshot()
    kept = {key: value.clone() for key, value in sent.params.items()}
    iterate(setup, state, jobs=1)
    assert all(torch.equal(sent.params[key], kept[key]) for key in kept)


def test_observations_are_left_alone_if_asked(name):
    setup = make_setup(name, normalize_obs=False)
    state = learners.build(setup).init()
    iterate(setup, state, jobs=1)
    normalizer = state.snapshot().normalizer
    assert normalizer.mean.tolist() == [0, 0]
    assert normalizer.std.tolist() == [1, 1]


def test_an_unknown_learner_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'reptile'.*maml"):
        learners.spec("reptile")


def test_only_what_adapts_while_training_has_another_return_afterwards():
    pre_post = {}
    for name in ("maml", "rl2", "multitask", "finetune", "oracle"):
        setup = make_setup(name, policy="gru", **accepted(name, {"inner_lr": 1.0}))
        pre_post[name] = iterate(setup, learners.build(setup).init(), jobs=1)
    differs = {name for name, done in pre_post.items() if done.pre_return != done.post_return}
    assert differs == {"maml", "rl2"}
