"""The K path on point_goal: what is collected with which parameters, from which seeds."""

import dataclasses

import numpy as np
import pytest
import torch

from harness.conformance.learners import make_setup
from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.adapters.unchanged import NO_ADAPTER
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner, Outcome
from harness.meta.rollouts.actor import Actor, rollout
from harness.meta.rollouts.batch import AdvantageEstimator
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.inputs import Inputs
from harness.meta.rollouts.normalizer import Normalizer
from harness.types import Episodes

SUPPORT, QUERY = 3, 2
ARRAYS = ("obs", "actions", "log_probs", "rewards", "mask", "last_obs")


def make_plan(keys, query_after=(0, 1, 2), **changes) -> MetaEpisodePlan:
    plan = MetaEpisodePlan(
        query_after=query_after,
        support_episodes=SUPPORT,
        query_episodes=QUERY,
        deterministic_query=True,
        seed=0,
        phase="evaluate/test",
        seed_keys=tuple(keys),
    )
    return dataclasses.replace(plan, **changes)


def play(keys=(0, 1, 2), policy="gru", adapter=None, seed=0, **plan) -> tuple[Outcome, Actor]:
    setup = make_setup("maml", policy=policy)
    adapter = adapter or GradientAdapter(0.5)
    params, inputs = setup.policy.init_params(seed), Inputs(setup.dist.spec)
    actor = Actor(setup.policy, params, Normalizer.identity(2), 1.0, inputs)
    runner = MetaEpisodeRunner(setup.dist, adapter, AdvantageEstimator(0.99, 1.0, "linear"))
    tasks = setup.tasks("test", keys)
    return runner.run(tasks, actor, make_plan(keys, **plan), Clock()), actor


def assert_same(left: Episodes, right: Episodes, atol: float = 0.0) -> None:
    for name in ARRAYS:
        a, b = getattr(left, name), getattr(right, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)


def pick(episodes: Episodes, tasks: slice) -> Episodes:
    names = Episodes.__dataclass_fields__
    return Episodes(**{name: getattr(episodes, name)[tasks] for name in names})


@pytest.fixture(scope="module")
def played():
    return play()


def test_queries_come_after_the_shots_asked_for():
    outcome, _ = play(query_after=(0, 2))
    assert list(outcome.episodes.query) == [0, 2]
    assert len(outcome.episodes.support) == len(outcome.support) == len(outcome.samplers) == 2
    assert outcome.episodes.query[0].rewards.shape == (3, QUERY, 25)
    assert outcome.episodes.support[0].rewards.shape == (3, SUPPORT, 25)
    seconds = outcome.episodes.adapt_seconds
    assert seconds[0] == 0
    assert seconds[2] > 0


@pytest.mark.parametrize("query_after", [(0,), (0, 1), (0, 5)])
def test_zero_shot_does_not_depend_on_the_shots_asked_for(played, query_after):
    outcome, _ = play(query_after=query_after)
    assert_same(outcome.episodes.query[0], played[0].episodes.query[0])


def test_a_query_does_not_depend_on_the_shots_scored_before_it(played):
    """Neither support nor parameters know what was scored on the way."""
    outcome, _ = play(query_after=(2,))
    assert_same(outcome.episodes.query[2], played[0].episodes.query[2])


def test_each_shot_is_collected_with_the_parameters_of_the_shots_before(played):
    outcome, actor = played
    setup, adapter = make_setup("maml"), GradientAdapter(0.5)
    params, plan = actor.params, make_plan((0, 1, 2))
    tasks = setup.tasks("test", (0, 1, 2))
    for shot, support in enumerate(outcome.episodes.support):
        env = setup.dist.make_batch(tasks, SUPPORT)
        stream = plan.support_seeds(shot)
        now = dataclasses.replace(actor, params=params)
        noise, seeds = stream.noise(setup.dist.spec), stream.episode_seeds()
        assert_same(rollout(env, now, seeds, noise, Clock())[0], support, atol=1e-6)
        assert_params(outcome.samplers[shot], params)
        params = adapter.adapt(actor.policy, params, Shot(outcome.support[shot]))
    assert_params(outcome.adapted.params, params)


def assert_params(left, right) -> None:
    for key, value in right.items():
        torch.testing.assert_close(left[key], value, rtol=0, atol=1e-7)


def test_every_shot_has_fresh_support_and_adaptation_changes_what_is_done(played):
    outcome, _ = played
    first, second = outcome.episodes.support
    assert not np.array_equal(first.obs[:, :, 0], second.obs[:, :, 0])
    before, after = outcome.episodes.query[0], outcome.episodes.query[1]
    assert np.array_equal(before.obs[:, :, 0], after.obs[:, :, 0])  # paired
    assert np.abs(before.actions - after.actions).max() > 1e-3
    # Different tasks went different ways.
    assert np.abs(after.actions[0, 0] - after.actions[1, 0]).max() > 1e-3


def test_a_subset_of_the_tasks_scores_as_it_does_in_the_whole():
    whole, _ = play(keys=(0, 1, 2, 3, 4))
    alone, _ = play(keys=(3, 4))
    for shots, query in alone.episodes.query.items():
        assert_same(query, pick(whole.episodes.query[shots], slice(3, 5)), atol=1e-4)
    for left, right in zip(alone.episodes.support, whole.episodes.support, strict=True):
        assert_same(left, pick(right, slice(3, 5)), atol=1e-4)


def test_query_episodes_take_the_mean_action_if_deterministic(played):
    assert not played[0].episodes.query[1].log_probs.any()
    sampled, _ = play(deterministic_query=False, query_after=(0,))
    assert sampled.episodes.query[0].log_probs.all()
    assert played[0].episodes.support[0].log_probs.all()
    std = np.std(sampled.episodes.query[0].actions - played[0].episodes.query[0].actions)
    assert 0.5 < std < 0.7  # init_std is 0.6


def test_policies_meet_the_same_episodes(played):
    """The same resets and the same action noise whatever acts."""
    outcome, _ = play(policy="mlp", seed=3)
    for mine, other in (
        (outcome.episodes.query[2], played[0].episodes.query[2]),
        (outcome.episodes.support[1], played[0].episodes.support[1]),
    ):
        assert np.array_equal(mine.obs[:, :, 0], other.obs[:, :, 0])
    first, other = outcome.episodes.support[0], played[0].episodes.support[0]
    np.testing.assert_allclose(first.log_probs, other.log_probs, atol=1e-5)


@pytest.mark.parametrize("change", [{"seed": 1}, {"phase": "train"}, {"iteration": 1}])
def test_another_place_in_the_seed_tree_is_another_draw(played, change):
    setup = make_setup("maml")
    plan, other = make_plan((0, 1)), make_plan((0, 1), **change)
    for mine, theirs in (
        (plan.query_seeds, other.query_seeds),
        (plan.support_seeds(0), other.support_seeds(0)),
        (plan.support_seeds(0), plan.support_seeds(1)),
        (plan.query_seeds, plan.support_seeds(0)),
    ):
        assert not set(mine.episode_seeds()) & set(theirs.episode_seeds())
        assert not np.array_equal(
            mine.noise(setup.dist.spec)[:, :, :2], theirs.noise(setup.dist.spec)[:, :, :2]
        )
    seeds = plan.query_seeds.episode_seeds()
    assert len(set(seeds)) == len(seeds) == 2 * QUERY


def test_without_adaptation_every_number_of_shots_is_the_same():
    outcome, actor = play(adapter=NO_ADAPTER)
    assert outcome.episodes.support == ()
    query = outcome.episodes.query
    assert_same(query[0], query[1])
    assert_same(query[0], query[2])
    assert outcome.adapted.params is actor.params


def test_the_normaliser_is_frozen(played):
    outcome, actor = played
    assert outcome.adapted.normalizer is actor.normalizer
    assert torch.equal(actor.normalizer.mean, torch.zeros(2))
