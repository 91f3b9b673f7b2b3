"""rsac: what it keeps of its episodes, what it draws from them, and the losses of its page."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.conformance import learners as conformance
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


def test_every_step_is_drawn_about_as_often_as_any_other(played):
    """As often as one in the middle of a long sequence, or up to three times."""
    actor, count, steps = played[1], 20_000, 5
    kept = replace(played[0], length=torch.tensor([8, 1, 5, 2, 7, 6]))
    got = sample(kept, actor, np.random.default_rng(0), count, steps)
    places = int((kept.length + steps - 1).sum())
    drawn = got.rewards[got.mask].unique(return_counts=True)[1]
    assert len(drawn) == kept.length.sum()
    relative = drawn * places / (count * steps)
    assert 0.85 < relative.min() < 1.15
    assert relative.max() < 3


def test_sequences_hold_no_padding_and_none_without_a_step(played):
    """What stands behind an end may be anything: it is 0 here, and a sequence of it is gone."""
    kept, _, packed, _ = played
    behind = torch.arange(STEPS) >= kept.length[:, None]
    assert behind.any()
    for values in (kept.rewards, kept.actions, kept.begins[:, :-1], kept.terminated):
        assert not values[behind].any()
    assert not kept.obs[:, 1:][behind].any()
    blocks, actor, _ = play("gru")
    blocks = [replace(b, mask=b.mask & (np.arange(TASKS) > 0)[:, None, None]) for b in blocks]
    assert len(Sequences.of(blocks, actor, FEATURES)) == SEQUENCES
    assert len(kept) == len(packed.length.flatten())


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
    """A learner, parameters that are no longer initial, lagging critics, and a stretch to learn."""
    setup = make_setup("rsac", policy="gru", action_scale=0.8, gamma=0.9, target_std=0.3)
    learner = learners.build(setup)
    state = learner.init()
    iterate(setup, state, jobs=1)
    snapshot = state.snapshot()
    actor = setup.actor(snapshot)
    stretch = sample(state.kept, actor, np.random.default_rng(0), 5, 12)
    draw = torch.Generator().manual_seed(3)
    mask = stretch.mask & (torch.rand(stretch.mask.shape, generator=draw) < 0.8)
    ended = torch.rand(stretch.mask.shape, generator=draw) < 0.3
    theta = {
        name: value + 0.1 * torch.randn(value.shape, generator=draw)
        for name, value in state.params.items()
    }
    target = {name: theta[name] * 0.7 for name in state.target}
    stretch = replace(stretch, mask=mask, terminated=ended)
    return learner, theta, target, stretch, snapshot.return_scale


def q(params, k, obs, action, task):
    """Return the value of critic ``k`` at one step, without the batched layers."""
    hidden = torch.cat([obs, action, task])
    for layer in "01":
        weight, bias = params[f"critic.{layer}.weight"][k], params[f"critic.{layer}.bias"][k, 0]
        hidden = hidden @ weight + bias
        hidden = (hidden - hidden.mean()) / (hidden.var(correction=0) + 1e-5).sqrt()
        hidden = hidden.clamp(min=0)
    return (hidden @ params["critic.2.weight"][k] + params["critic.2.bias"][k, 0]).squeeze()


def expected(step):
    """Return the losses of the page for critics, policy and alpha, a step at a time."""
    learner, theta, target, stretch, unit = step
    settings, policy = learner.settings, learner.setup.policy
    theta = {name: value.clone().requires_grad_() for name, value in theta.items()}
    memory = policy.initial_memory(1, stretch.x.shape[1], stretch.x)
    out = policy.forward(theta, stretch.x, stretch.first, memory)
    eps = torch.randn(out.action_params.shape, generator=torch.Generator().manual_seed(7))
    sigma = theta["log_std"].exp()
    fresh = rsac.bounded(settings.action_scale * (out.action_params + sigma * eps))[0]
    sent = fresh.detach()
    critic = value = torch.zeros(())
    count = int(stretch.mask.sum())
    for b, t in stretch.mask[0].nonzero().tolist():
        obs, after, task = stretch.obs[0, b, t], stretch.obs[0, b, t + 1], stretch.task[0, b]
        y = stretch.rewards[0, b, t] / unit
        if not stretch.terminated[0, b, t]:
            best = min(float(q(target, k, after, sent[b, t + 1], task)) for k in (0, 1))
            y = y + settings.gamma * best
        for k in (0, 1):
            error = q(theta, k, obs, stretch.actions[0, b, t], task) - y
            critic = critic + error**2 / count
        value = (
            value + torch.minimum(*(q(theta, k, obs, fresh[b, t], task) for k in (0, 1))) / count
        )
    entropy = sum(0.5 * math.log(2 * math.pi * math.e) + theta["log_std"].flatten())
    goal = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(settings.target_std))
    alpha = float(theta[rsac.TEMPERATURE].detach().exp())
    by_part = {
        "critic": critic,
        "policy": -value - alpha * entropy,
        "alpha": theta[rsac.TEMPERATURE].squeeze() * (float(entropy.detach()) - goal),
    }
    return by_part, theta


def part_of(name):
    if name == rsac.TEMPERATURE:
        return "alpha"
    return "critic" if name.startswith("critic.") else "policy"


def test_every_parameter_follows_the_loss_of_its_part_on_the_page(step):
    learner, theta, target, stretch, unit = step
    by_part, leaves = expected(step)
    wanted = {}
    for part, loss in by_part.items():
        own = {name: leaf for name, leaf in leaves.items() if part_of(name) == part}
        found = torch.autograd.grad(loss, list(own.values()), retain_graph=True, allow_unused=True)
        wanted |= dict(zip(own, found, strict=True))
    mine = {name: value.clone().requires_grad_() for name, value in theta.items()}
    noise = torch.Generator().manual_seed(7)
    loss, losses = learner.loss(mine, target, stretch, 0.8, unit, noise)
    found = torch.autograd.grad(loss, list(mine.values()), allow_unused=True)
    assert losses.critic_loss == pytest.approx(float(by_part["critic"].detach()), rel=1e-4)
    for (name, want), got in zip(((n, wanted[n]) for n in mine), found, strict=True):
        if want is None:
            assert name.startswith("value."), "only the policy's value head is left alone"
            continue
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5, msg=name)
        assert want.abs().max() > 1e-5, name


def adam_steps(state):
    (steps,) = {int(each["step"]) for each in state.optimizer.state_dict()["state"].values()}
    return steps


def trained(iterations=1, **settings):
    setup = make_setup("rsac", policy="gru", **settings)
    state = learners.build(setup).init()
    for iteration in range(iterations):
        iterate(setup, state, jobs=1, iteration=iteration)
    return state


def test_optimiser_steps_keep_their_ratio_to_environment_steps():
    state = trained(2, steps_per_update=77)
    assert adam_steps(state) == state.env_steps // 77 > 10
    assert not trained(1, steps_per_update=10**6).optimizer.state_dict()["state"]


def test_the_lagging_critics_follow_at_their_rate():
    still, at_once = trained(target_rate=0.0), trained(target_rate=1.0)
    before = trained(steps_per_update=10**6).target
    for name, value in before.items():
        assert torch.equal(still.target[name], value)
        assert torch.equal(at_once.target[name], at_once.params[name])
        assert not torch.equal(at_once.params[name], value)


def test_policy_and_critics_have_step_sizes_of_their_own():
    fresh = trained(steps_per_update=10**6).params
    state = trained(critic_learning_rate=1e-12)
    moved = {part_of(n) for n in fresh if (fresh[n] - state.params[n]).abs().max() > 1e-6}
    assert moved == {"policy"}


def test_policy_and_critics_are_clipped_each_by_itself(step):
    setup = make_setup("rsac", policy="gru", max_grad_norm=0.5)
    theta = step[1]
    clipped, sizes = learners.build(setup)._clipped(theta)
    for part, size in zip(("policy", "critic"), sizes, strict=True):
        whole, short = (
            torch.cat([v.flatten() for n, v in one.items() if part_of(n) == part])
            for one in (theta, clipped)
        )
        assert float(whole.norm()) == pytest.approx(size, rel=1e-5)
        assert float(short.norm()) == pytest.approx(0.5, rel=1e-4)
    assert torch.equal(clipped[rsac.TEMPERATURE], theta[rsac.TEMPERATURE])


def test_replay_keeps_the_newest_sequences_and_at_least_an_iteration():
    horizon = 2 * make_setup("rsac").dist.spec.horizon  # of a sequence
    played = len(trained().kept)
    all_of_two, few = trained(2), trained(2, replay_steps=1)
    some = trained(2, replay_steps=(played + 3) * horizon)
    assert (len(all_of_two.kept), len(few.kept), len(some.kept)) == (2 * played, played, played + 3)
    assert torch.equal(few.kept.task, all_of_two.kept.task[-played:])


def test_a_policy_without_its_replay_still_acts(step):
    """A published checkpoint has neither sequences nor critics that lag behind."""
    learner = step[0]
    state = learner.init()
    iterate(learner.setup, state, jobs=1)
    tensors, meta = state.save()
    loaded = learner.init()
    loaded.load({n: v for n, v in tensors.items() if n.startswith(("params/", "obs/"))}, meta)
    assert loaded.kept is None
    assert all(torch.equal(value, state.params[name]) for name, value in loaded.target.items())
    one, other = (
        conformance.collect(learner.setup, each.snapshot(), jobs=1)[1][0]
        for each in (state, loaded)
    )
    assert one.post_returns == other.post_returns
    assert not any(name.startswith("critic.") for name in state.snapshot().params)
