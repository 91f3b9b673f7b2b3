"""Episodes as they are recorded: masks, ends, invalid ones, log-probabilities, the normaliser."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import policies
import task_distributions
from harness.meta.rollouts import trajectories
from harness.meta.rollouts.actor import Actor, rollout
from harness.meta.rollouts.batch import AdvantageEstimator, prepare
from harness.meta.rollouts.episode_loop import Clock, draw_noise, run_episodes
from harness.meta.rollouts.inputs import Inputs
from harness.meta.rollouts.normalizer import CLIP, Moments, Normalizer
from policies.params import repeat
from task_distributions import EnvSpec, Task
from task_distributions.task_env import BatchedTaskEnv

HORIZON, TASKS, EPISODES = 6, 2, 3
# Environment b ends by itself after END[b] steps, or goes invalid at step INVALID[b] (from 0).
END = np.array([6, 2, 99, 99, 4, 99])
INVALID = np.array([99, 99, 3, 99, 99, 0])
LENGTHS = [[6, 2, 4], [6, 4, 1]]


class Scripted(BatchedTaskEnv):
    """Observation (step count, b); reward 1 a step and success from the third."""

    def _start(self, rows, rngs):
        self.count = 0
        return np.stack([np.zeros(len(rows)), rows], 1)

    def _advance(self, controls, valid, obs, reward):
        valid &= self.count != INVALID
        self.count += 1
        obs[valid, 0] = self.count
        reward[:] = 1.0
        self._success |= valid & (self.count >= 3)
        return self.count >= END


LINEAR = AdvantageEstimator(0.99, 1.0, "linear")


def tasks() -> list[Task]:
    return [Task("scripted", 1, "train", i, f"train/{i}", ()) for i in range(TASKS)]


def scripted_env() -> Scripted:
    return Scripted(EnvSpec(2, 2, HORIZON), tasks(), EPISODES)


def make_actor(name="gru", num_tasks=TASKS, normalizer=None) -> Actor:
    policy = policies.build(name, obs_dim=2, action_dim=2)
    params = repeat(policy.init_params(0), num_tasks)
    generator = torch.Generator().manual_seed(1)
    params = {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in params.items()}
    inputs = Inputs(EnvSpec(2, 2, HORIZON))
    return Actor(policy, params, normalizer or Normalizer.identity(2), 1.0, inputs)


def noise_of(spec: EnvSpec, num_tasks: int = TASKS) -> np.ndarray:
    generators = [np.random.default_rng(i) for i in range(num_tasks)]
    return draw_noise(generators, spec, EPISODES)


@pytest.fixture(scope="module")
def ended():
    env = scripted_env()
    return rollout(env, make_actor(), list(range(6)), noise_of(env.spec), Clock())[0]


def test_ends_of_every_kind_are_recorded(ended):
    """Terminated at the horizon and early, invalid in the middle and at once, truncated."""
    assert ended.lengths.tolist() == LENGTHS
    assert ended.invalid.tolist() == [[False, False, True], [False, False, True]]
    assert ended.terminated.tolist() == [[True, True, False], [False, True, False]]
    assert ended.success.tolist() == [[True, False, False], [True, True, False]]
    assert ended.env_steps == sum(map(sum, LENGTHS))
    steps = np.where(ended.invalid, 0, ended.lengths)
    assert np.array_equal(ended.mask, np.arange(HORIZON) < steps[..., None])
    expected = np.where(ended.invalid, np.nan, steps)
    assert np.array_equal(ended.returns, expected, equal_nan=True)


def test_invalid_episodes_are_blank_and_what_is_recorded_is_finite(ended):
    for array in (ended.obs, ended.actions, ended.log_probs, ended.rewards, ended.last_obs):
        assert np.isfinite(array).all()
        assert not array[ended.invalid].any()
    assert not ended.rewards[~ended.mask].any()


def test_last_obs_is_the_one_after_the_last_step(ended):
    valid = ~ended.invalid
    assert np.array_equal(ended.last_obs[valid][:, 0], ended.lengths[valid])
    assert np.array_equal(ended.obs[0, 0, :, 0], np.arange(HORIZON))


def test_a_rollout_stops_when_nobody_is_left():
    spec = EnvSpec(2, 2, 200)
    env, calls = Scripted(spec, tasks(), EPISODES), []

    def act(step, obs):
        calls.append(step)
        actions = np.zeros((TASKS, EPISODES, 2), np.float32)
        if step == 7:
            actions[:] = np.nan
        return actions, None

    episodes = run_episodes(env, act, list(range(6)), action_scale=1.0, clock=Clock())
    assert calls == list(range(8))
    assert episodes.lengths.tolist() == [[6, 2, 4], [8, 4, 1]]
    assert episodes.invalid.tolist() == [[False, False, True], [True, False, True]]


@pytest.mark.parametrize("name", policies.names())
def test_stored_log_probs_equal_the_unrolled_ones(name):
    """With a normaliser and parameters that differ per task, acting and learning agree."""
    normalizer = Normalizer(torch.tensor([0.2, -0.1]), torch.tensor([0.5, 0.3]))
    dist = task_distributions.load("point_goal", horizon=None)
    actor = make_actor(name, normalizer=normalizer)
    env = dist.make_batch(dist.tasks("train")[:TASKS], EPISODES)
    episodes = rollout(env, actor, list(range(6)), noise_of(env.spec), Clock())[0]
    batch = prepare([episodes], actor, tuple(env.tasks), LINEAR)
    out = batch.forward(actor.policy, actor.params)
    got = out.head.log_prob(batch.actions)
    torch.testing.assert_close(got, batch.log_probs, atol=1e-4, rtol=0)
    assert batch.log_probs.std() > 0.1


def test_action_scale_reaches_the_environment_and_not_the_record():
    class Recorder(Scripted):
        def step(self, actions):
            self.sent = getattr(self, "sent", [])
            self.sent.append(actions.copy())
            return super().step(actions)

    env = Recorder(EnvSpec(2, 2, HORIZON), tasks(), EPISODES)
    actor = replace(make_actor(), action_scale=0.1)
    episodes = rollout(env, actor, list(range(6)), noise_of(env.spec), Clock())[0]
    sent = env.sent[0].reshape(TASKS, EPISODES, 2)
    valid = ~episodes.invalid
    np.testing.assert_allclose(sent[valid], 0.1 * episodes.actions[valid][:, 0], rtol=1e-6)


def test_deterministic_actions_are_the_means():
    env, actor = scripted_env(), make_actor()
    episodes = rollout(env, actor, list(range(6)), None, Clock())[0]
    batch = prepare([episodes], actor, tuple(env.tasks), LINEAR)
    out = batch.forward(actor.policy, actor.params)
    torch.testing.assert_close(
        out.action_params[batch.mask], batch.actions[batch.mask], atol=1e-5, rtol=0
    )


def test_value_after_the_last_step_bootstraps_truncated_episodes_only(ended):
    """The value at the step behind the last, with memory carried there; 0 where the MDP ended."""
    actor = make_actor()
    played = trajectories.pack([ended], actor)
    values = trajectories.inputs_along(played, actor, tuple(tasks())).values(actor)
    advantages, _ = AdvantageEstimator(0.5, 0.0, "value").estimate(played, values)
    # Episode [0, 0] was truncated at the horizon: unroll it by hand one step further.
    whole = torch.cat([torch.from_numpy(a) for a in (ended.obs, ended.last_obs[:, :, None])], 2)
    first = torch.zeros(whole.shape[:3], dtype=torch.bool)
    first[..., 0] = True
    memory = actor.policy.initial_memory(TASKS, EPISODES, whole)
    value = actor.policy.forward(actor.params, whole, first, memory).value
    truncated = ~torch.from_numpy(ended.terminated) & torch.from_numpy(ended.lengths == HORIZON)
    assert truncated.any()
    got, at, after = (x[truncated] for x in (advantages[..., -1], value[..., -2], value[..., -1]))
    torch.testing.assert_close(got, 1.0 + 0.5 * after - at)
    # Episode [0, 1] terminated after two steps.
    assert ended.terminated[0, 1]
    assert ended.lengths[0, 1] == 2
    torch.testing.assert_close(advantages[0, 1, 1], 1.0 - value[0, 1, 1])
    assert not advantages[~played.mask].any()


@pytest.mark.parametrize("baseline", ["linear", "value"])
def test_prepare_hides_what_did_not_happen(ended, baseline):
    estimator = AdvantageEstimator(0.99, 1.0, baseline, return_scale=2.0)
    batch = prepare([ended], make_actor(), tuple(tasks()), estimator)
    assert torch.equal(batch.mask, torch.from_numpy(ended.mask))
    assert not batch.advantages[~batch.mask].any()
    for n in range(TASKS):
        steps = batch.advantages[n][batch.mask[n]]
        assert steps.mean().item() == pytest.approx(0, abs=1e-5)
        assert steps.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert torch.equal(batch.first, torch.arange(HORIZON).eq(0).expand_as(batch.first))


def test_value_targets_are_returns_in_units_of_the_return_scale(ended):
    """With lambda 1 and an episode that terminated, nothing of the value head is left in them."""
    estimator = AdvantageEstimator(0.5, 1.0, "value", return_scale=4.0)
    batch = prepare([ended], make_actor(), tuple(tasks()), estimator)
    assert batch.value_targets[0, 1, :2].tolist() == pytest.approx([1.5 / 4, 1 / 4], abs=1e-6)


def test_moments_add_and_ignore_what_is_masked(ended):
    moments = Moments.of(ended, Normalizer.identity(2))
    obs = ended.obs[ended.mask].astype(np.float64)
    assert moments.count == len(obs) == 6 + 2 + 6 + 4
    twice = moments + moments
    assert twice.count == 2 * moments.count
    for got in (moments.normalizer(), twice.normalizer(), (Moments.zero(2) + moments).normalizer()):
        np.testing.assert_allclose(got.mean, obs.mean(0), rtol=1e-6)
        np.testing.assert_allclose(got.std, obs.std(0) + 1e-2, rtol=1e-5)


def test_one_flung_object_does_not_hide_the_others(ended):
    """A single value of 1000 made the scale of ML45's objects 100 times as large."""
    usual = sum([Moments.of(ended, Normalizer.identity(2))] * 100, Moments.zero(2))
    normalizer = usual.normalizer()
    obs = ended.obs.copy()
    obs[0, 0, 0, 1] = 1000.0
    flung = replace(ended, obs=obs)
    after = usual + Moments.of(flung, normalizer)
    assert after.normalizer().std[1] < 1.1 * normalizer.std[1]
    assert (usual + Moments.of(flung, Normalizer.identity(2))).normalizer().std[1] > 10
    same = Moments.of(ended, normalizer)
    assert (same.total == Moments.of(ended, Normalizer.identity(2)).total).all()


def test_normalizer_is_the_identity_before_anything_was_seen():
    obs = torch.tensor([[3.0, -2.0], [50.0, -50.0]])
    before = obs.clone()
    got = Moments.zero(2).normalizer()(obs)
    assert got.tolist() == [[3.0, -2.0], [CLIP, -CLIP]]
    assert torch.equal(obs, before)


class Careless:
    """A stranger's environment: what it returns is not always finite, and it does not say so."""

    def __init__(self, env):
        self.env, self.spec, self.tasks = env, env.spec, env.tasks
        self.episodes_per_task, self.steps = env.episodes_per_task, 0

    def reset(self, seeds):
        return self.env.reset(seeds)

    def step(self, actions):
        batch = self.env.step(actions)
        obs, reward = batch.obs.copy(), batch.reward.copy()
        if self.steps == 0:
            reward[0], obs[1, 0] = np.nan, np.inf
        self.steps += 1
        return replace(batch, obs=obs, reward=reward)


def test_an_episode_with_a_number_that_is_not_finite_is_invalid():
    env = scripted_env()
    rollout_of = [env, Careless(scripted_env())]
    good, bad = (rollout(e, make_actor(), list(range(6)), None, Clock())[0] for e in rollout_of)
    assert not good.invalid[0, :2].any()
    assert bad.invalid.tolist() == [[True, True, True], good.invalid[1].tolist()]
    assert np.isnan(bad.returns[0, :2]).all()
    assert bad.returns[1, :2].tolist() == good.returns[1, :2].tolist()
    for array in (bad.obs, bad.rewards, bad.last_obs):
        assert np.isfinite(array).all()
