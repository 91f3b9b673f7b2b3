"""rsac: what it keeps of its episodes, what it draws from them, and the losses of its page."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.conformance.learners import iterate, make_setup
from harness.meta import learners
from harness.meta.learners import rsac
from harness.meta.learners.replay import Sequences, sample
from harness.meta.rollouts import trajectories
from tests.harness.meta.test_sequences import HORIZON, SEQUENCES, TASKS, play

STEPS = 2 * HORIZON
FEATURES = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture(scope="module")
def played():
    """Sequences with early ends and invalid episodes, and what the policy was fed along them."""
    blocks, actor, tasks = play("gru")
    packed = trajectories.pack(blocks, actor)
    inputs = trajectories.inputs_along(packed, actor, tasks)
    return Sequences.of(blocks, actor, FEATURES), actor, packed, inputs


def test_stretches_are_what_the_policy_was_fed(played):
    """Each is a part of its sequence, found again by its rewards, from its step to one beyond."""
    kept, actor, packed, inputs = played
    length = packed.length.flatten()
    x, rewards = inputs.x.flatten(0, 1), packed.rewards.flatten(0, 1)
    sent = (packed.actions * actor.action_scale).clamp(-1, 1).flatten(0, 1)
    begun = set()
    for draw in range(60):
        got = sample(kept, actor, np.random.default_rng(draw), 1, 3)
        (steps,) = got.mask.sum(-1).flatten().tolist()
        places = (rewards == got.rewards[0, 0, 0]).nonzero().tolist()
        ((row, at),) = [place for place in places if place[1] < length[place[0]]]
        begun.add((row, at))
        assert steps == min(3, int(length[row]) - at) or at == 0
        till = at + steps
        torch.testing.assert_close(got.x[0, 0, : steps + 1], x[row, at : till + 1])
        torch.testing.assert_close(got.obs[0, 0], got.x[0, 0, :, :3])
        assert torch.equal(got.actions[0, 0, :steps], sent[row, at:till])
        ended = packed.terminated.flatten(0, 1)[row, at:till]
        assert torch.equal(got.terminated[0, 0, :steps], ended)
        assert torch.equal(got.task[0, 0], FEATURES[row // SEQUENCES])
        assert got.first[0, 0].tolist() == [True, False, False, False]
    assert len(begun) > 15, "stretches begin anywhere"
    rows = {row for row, at in begun if at == 0}
    assert rows == set(range(TASKS * SEQUENCES)), "and often where the sequences begin"


def test_the_newest_sequences_are_kept_whole(played):
    kept = played[0]
    twice = Sequences.joined([kept, kept])
    assert twice.steps == 2 * kept.steps
    assert torch.equal(twice.newest(kept.steps).rewards, kept.rewards)
    assert twice.newest(1).length.tolist() == kept.length[-1:].tolist()
    assert twice.newest(kept.steps - 1).steps < kept.steps
    assert twice.newest(10**9).steps == twice.steps


def test_the_gradient_of_the_bound_leads_back_inside():
    x = torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    y = rsac.bounded(x)
    assert y.tolist() == [-1, -1, 0, 0.5, 1, 1]
    (up,) = torch.autograd.grad(-y.sum(), x, retain_graph=True)
    assert (-up).tolist() == [1.25, 1.0, 0.5, 0.25, 0.0, -0.25]
    (down,) = torch.autograd.grad(y.sum(), x)
    assert (-down).tolist() == [0.25, 0.0, -0.5, -0.75, -1.0, -1.25]


@pytest.fixture(scope="module")
def step():
    """A state with some experience, and a stretch of it."""
    setup = make_setup("rsac", policy="gru", max_grad_norm=1e9, steps_per_update=100)
    learner = learners.build(setup)
    state = learner.init()
    iterate(setup, state, jobs=1)
    snapshot = state.snapshot()
    actor = setup.actor(snapshot)
    stretch = sample(state.kept, actor, np.random.default_rng(0), 32, 64)
    return learner, state, stretch, actor, snapshot.return_scale


def gradient(step, state=None, stretch=None):
    learner, own, default, actor, scale = step
    noise = torch.Generator().manual_seed(7)
    return learner._gradient(state or own, stretch or default, actor, scale, noise)


def with_params(state, **changes):
    return replace(state, params=state.params | changes)


@pytest.mark.parametrize("name", ["critic.0.weight", "critic.1.bias", "critic.2.weight"])
def test_the_critics_gradient_is_that_of_the_squared_error(step, name):
    """By central differences: nothing of the policy's loss reaches the critics."""
    state = step[1]
    direction = torch.randn(state.params[name].shape, generator=torch.Generator().manual_seed(1))
    losses = [
        gradient(step, with_params(state, **{name: state.params[name] + sign * 1e-3 * direction}))
        for sign in (1, -1)
    ]
    slope = (losses[0][1].critic_loss - losses[1][1].critic_loss) / 2e-3
    mine = float((gradient(step)[0][name] * direction).sum())
    assert mine == pytest.approx(slope, rel=0.03)
    assert abs(slope) > 1e-4


def test_the_target_ends_with_the_mdp(step):
    """With critics that always say 2: y is the scaled reward, and gamma times 2 unless it ended."""
    learner, state, stretch, _, scale = step
    says_2 = {
        name: torch.full_like(value, 2.0 if name == "critic.2.bias" else 0.0)
        for name, value in state.target.items()
    }
    there = replace(with_params(state, **says_2), target=says_2)
    for ended, after in ((False, 2 * learner.settings.gamma), (True, 0.0)):
        flags = torch.full_like(stretch.terminated, ended)
        _, losses = gradient(step, there, replace(stretch, terminated=flags))
        error = (2 - stretch.rewards / scale - after)[stretch.mask]
        assert losses.critic_loss == pytest.approx(2 * float(error.square().mean()), rel=1e-5)
        assert losses.value == pytest.approx(2.0)


def test_steps_behind_the_end_count_nowhere(step):
    stretch = step[2]
    mask = stretch.mask.clone()
    mask[..., -5:] = False
    rewards = stretch.rewards.clone()
    rewards[..., -5:] = 1e6
    one, other = (
        gradient(step, stretch=replace(stretch, mask=mask, rewards=each))
        for each in (stretch.rewards, rewards)
    )
    assert one[1] == other[1]
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_alpha_rises_where_actions_vary_less_than_asked(step):
    state = step[1]
    goal = math.log(step[0].settings.target_std)
    for log_std, sign in ((goal - 1, -1), (goal + 1, 1)):
        there = with_params(state, log_std=torch.full_like(state.params["log_std"], log_std))
        assert math.copysign(1, float(gradient(step, there)[0][rsac.TEMPERATURE])) == sign


def test_the_policys_loss_raises_the_value_of_its_actions(step):
    """A step against the gradient of the policy alone: the critics' value of its actions rises."""
    _, state, _, _, _ = step
    slope, before = gradient(step)
    policy = {n: v for n, v in state.params.items() if not n.startswith("critic.")}
    policy.pop("log_std")
    moved = {name: value - 1e-3 * slope[name] for name, value in policy.items()}
    assert gradient(step, with_params(state, **moved))[1].value > before.value


def test_a_policy_without_its_replay_still_acts(step):
    """A published checkpoint has neither sequences nor critics that lag behind."""
    learner, state = step[:2]
    tensors, meta = state.save()
    alone = {name: value for name, value in tensors.items() if name.startswith(("params/", "obs/"))}
    loaded = learner.init()
    loaded.load(alone, meta)
    assert loaded.kept is None
    assert all(
        torch.equal(value, state.params[name]) for name, value in loaded.snapshot().params.items()
    )
