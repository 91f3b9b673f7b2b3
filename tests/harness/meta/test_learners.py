"""Every registered learner: an iteration by hand, its cost, its checkpoint, its jobs."""

import json
import math
from dataclasses import replace

import pytest
import torch

from harness.meta import adapters, learners
from harness.meta.learners.base import Learner
from harness.meta.learners.sequences import take
from harness.meta.learners.state import LearnerState
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params
from tests.harness.meta.meta_cases import collect, iterate, make_problem

CASES = [("maml", "ppo", "linear"), ("maml", "ppo", "value"), ("maml", "trpo", "linear")]
CASES += [(name, "ppo", "value") for name in learners.names() if name != "maml"]
every_case = pytest.mark.parametrize(("name", "outer", "baseline"), CASES)
STEPS_PER_ITERATION = 4 * 2 * 3 * 25
"""Tasks, batches (support and query), episodes, steps."""


@pytest.fixture(params=learners.names())
def name(request) -> str:
    return request.param


@every_case
def test_an_iteration_learns_and_counts(name, outer, baseline):
    problem = make_problem(name, outer=outer, baseline=baseline)
    learner = learners.build(problem)
    assert isinstance(learner, Learner)
    assert learner.name == name
    assert learner.adapter in adapters.names()
    state = learner.init()
    before = learner.policy_state(state)
    done = iterate(problem, state, jobs=2)
    assert state.env_steps == STEPS_PER_ITERATION
    assert state.iteration == 1
    assert -100 < done.pre_return < 0
    assert -100 < done.post_return < 0
    assert all(math.isfinite(value) for value in done.info.values())
    assert done.info["grad_norm"] > 0
    assert done.info["invalid_episodes"] == done.info["skipped_in_a_row"] == 0
    after = learner.policy_state(state)
    assert any(not torch.equal(before.params[key], after.params[key]) for key in after.params)
    assert before.normalizer.mean.tolist() == [0, 0]
    assert after.normalizer.mean.abs().min() > 0
    assert before.return_scale == 1
    assert after.return_scale > 1


@pytest.mark.parametrize("steps", [1, 3])
def test_every_learner_plans_as_many_episodes(name, steps):
    """PPO in more and smaller iterations; scratch none."""
    train = {"epochs": 6, "meta_batch_size": 4, "episodes_per_task": 3}
    problem = make_problem(name, adapt={"adaptation_steps": steps}, **train)
    learner = learners.build(problem)
    planned = problem.config.train.epochs * learner.episodes_per_iteration
    assert planned == (0 if name == "scratch" else 6 * 4 * 3 * (1 + steps))


def test_only_what_adapts_has_another_return_afterwards():
    pre_post = {}
    for name in learners.names():
        problem = make_problem(name, policy="gru", adapt={"inner_lr": 1.0})
        pre_post[name] = iterate(problem, learners.build(problem).init(), jobs=1)
    differs = {name for name, done in pre_post.items() if done.pre_return != done.post_return}
    assert differs == {"maml", "rl2"}


@every_case
def test_the_gradient_does_not_depend_on_how_tasks_are_cut_into_jobs(name, outer, baseline):
    policy = "mlp" if outer == "trpo" else "lstm"
    problem = make_problem(name, policy=policy, outer=outer, baseline=baseline, minibatches=1)
    learner = learners.build(problem)
    sent = learner.policy_state(learner.init())
    whole, quarters = (collect(problem, sent, jobs)[0] for jobs in (1, 4))
    assert (len(whole), len(quarters)) == (1, 4)
    payload = {"params": off(sent.params), "vector": off(sent.params)}
    payload |= {"position": 0, "mean": 0.1, "std": 2.0, "steps": 600.0}
    for kind in ["gradient", "hvp"] if outer == "trpo" else ["gradient"]:
        one, losses = learner.compute(kind, whole[0], payload, Clock())
        parts = [learner.compute(kind, data, payload, Clock()) for data in quarters]
        for key, value in one.items():
            summed = sum(part[0][key] for part in parts)
            torch.testing.assert_close(summed, value, rtol=1e-4, atol=1e-5)
        assert max(value.abs().max() for value in one.values()) > 1e-4
        for key, value in losses.items():
            assert sum(part[1][key] for part in parts) == pytest.approx(value, rel=1e-5, abs=1e-5)


def off(params: Params) -> Params:
    generator = torch.Generator().manual_seed(0)
    return {k: v + 0.02 * torch.randn(v.shape, generator=generator) for k, v in params.items()}


def through_disk(learner: Learner, state: LearnerState) -> LearnerState:
    """What a checkpoint does: tensors cloned, the rest JSON."""
    tensors, meta = learner.save(state)
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    return learner.restore(tensors, json.loads(json.dumps(meta)))


@every_case
def test_a_restored_state_continues_bit_for_bit(name, outer, baseline):
    problem = make_problem(name, outer=outer, baseline=baseline)
    learner = learners.build(problem)
    straight = learner.init()
    iterate(problem, straight, jobs=1, iteration=0)
    broken = through_disk(learner, straight)
    done = [iterate(problem, state, jobs=1, iteration=1) for state in (straight, broken)]
    assert done[0] == done[1]
    saved, meta = learner.save(straight)
    again, meta_again = learner.save(broken)
    assert meta == meta_again
    assert saved.keys() == again.keys()
    assert all(torch.equal(saved[key], again[key]) for key in saved)
    assert any(key.startswith("adam/exp_avg/") for key in saved) == (outer == "ppo")


def test_minibatches_share_the_sequences_of_many_small_jobs():
    """One sequence a job: none of the optimiser's steps may be left without data, or get it all."""
    problem = make_problem("multitask", minibatches=2)
    learner = learners.build(problem)
    sent = learner.policy_state(learner.init())
    kept, _ = collect(problem, sent, 4)
    for data in kept:
        object.__setattr__(data, "batch", take(data.batch, [0]))
    payload = {"params": sent.params, "mean": 0.0, "std": 1.0, "steps": 50.0}
    for position in range(4):
        answers = [
            learner.compute("gradient", data, {**payload, "position": position}, Clock())
            for data in kept
        ]
        assert sum(answer[1]["rows"] for answer in answers) == 2


def test_a_state_is_a_function_of_the_seed_alone(name):
    learner = learners.build(make_problem(name))
    left, right = learner.init().snapshot(), learner.init().snapshot()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_snapshot_is_not_touched_by_later_updates(name):
    problem = make_problem(name)
    learner = learners.build(problem)
    state = learner.init()
    sent = learner.policy_state(state)
    kept = {key: value.clone() for key, value in sent.params.items()}
    iterate(problem, state, jobs=1)
    assert all(torch.equal(sent.params[key], kept[key]) for key in kept)


def test_observations_are_left_alone_if_asked(name):
    problem = make_problem(name, normalize_obs=False)
    learner = learners.build(problem)
    state = learner.init()
    iterate(problem, state, jobs=1)
    normalizer = learner.policy_state(state).normalizer
    assert normalizer.mean.tolist() == [0, 0]
    assert normalizer.std.tolist() == [1, 1]


def test_an_unknown_learner_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown learner 'reptile'; have: maml"):
        learners.build(make_problem("reptile"))


@pytest.mark.parametrize(
    ("policy", "given", "longest"),
    [
        *(("gru", None, 50), ("gru", 30, 30), ("gru", "whole", 75)),
        *(("transformer", None, 75), ("transformer", 30, 30)),
    ],
)
def test_a_window_is_learned_from_in_whole_unless_told_otherwise(policy, given, longest):
    problem = make_problem("rl2", policy=policy)
    ppo = replace(problem.config.ppo, chunk_steps=given, episodes_in_context=3)
    problem = replace(problem, config=replace(problem.config, ppo=ppo))
    learner = learners.build(problem)
    (kept,), _ = collect(problem, learner.policy_state(learner.init()), 1)
    assert kept.batch.x.shape[2] == longest
