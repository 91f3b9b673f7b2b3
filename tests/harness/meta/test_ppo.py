"""PPO: minibatches, chunks, the learning rate, and settings that contradict each other."""

from dataclasses import replace

import pytest

from harness.meta import learners
from harness.meta.cell_setup import Budget
from harness.meta.learners.ppo import MinibatchRequest, PPOSettings, RL2Settings
from harness.meta.rollouts.episode_loop import Clock
from tests.harness.meta.meta_cases import collect, iterate, make_setup


def test_minibatches_share_the_sequences_of_many_small_jobs():
    """One sequence a job: none of the optimiser's steps may be left without data, or get it all."""
    setup = make_setup("multitask", minibatches=2)
    learner = learners.build(setup)
    snapshot = learner.init().snapshot()
    kept, _ = collect(setup, snapshot, 4)
    kept = [replace(data, batch=data.batch.take([0])) for data in kept]
    for epoch, minibatch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        payload = MinibatchRequest(snapshot.params, epoch, minibatch, 0.0, 1.0, 50.0)
        answers = [learner.compute(data, payload, Clock()) for data in kept]
        assert sum(answer.losses.sequences for answer in answers) == 2


@pytest.mark.parametrize(
    ("policy", "given", "longest"),
    [
        *(("gru", None, 50), ("gru", 30, 30), ("gru", "whole", 75)),
        *(("transformer", None, 75), ("transformer", 30, 30)),
    ],
)
def test_a_window_is_learned_from_in_whole_by_default(policy, given, longest):
    setup = make_setup("rl2", policy=policy, bptt_steps=given, episodes_in_context=3)
    (kept,), _ = collect(setup, learners.build(setup).init().snapshot(), 1)
    assert kept.batch.x.shape[2] == longest


@pytest.mark.parametrize(
    "budget", [Budget(meta_iterations=4), Budget(env_steps=4 * 24 * 25), Budget(2400, 100)]
)
def test_the_learning_rate_falls_linearly_with_the_budget(budget):
    setup = replace(make_setup("multitask", learning_rate=8e-3), budget=budget)
    state = learners.build(setup).init()
    rates = []
    while not budget.exhausted(state.iteration, state.env_steps):
        iterate(setup, state, jobs=1, iteration=state.iteration)
        rates += [group["lr"] for group in state.optimizer.param_groups]
    assert rates == pytest.approx([8e-3, 6e-3, 4e-3, 2e-3])


def test_a_sequence_longer_than_an_iteration_is_refused():
    assert RL2Settings(episodes_in_context=5, episodes_per_iteration=5).episodes_in_sequence == 5
    with pytest.raises(ValueError, match=r"episodes_in_context.*6.*5"):
        RL2Settings(episodes_in_context=6, episodes_per_iteration=5)


@pytest.mark.parametrize(
    ("episodes", "tasks", "expected"), [(100, 50, (50, 2)), (7, 50, (7, 1)), (30, 4, (4, 7))]
)
def test_an_iteration_has_whole_sequences_for_each_task(episodes, tasks, expected):
    sizes = {"episodes_per_iteration": episodes, "tasks_per_iteration": tasks}
    setup = replace(make_setup("multitask"), settings=PPOSettings(**sizes))
    learner = learners.build(setup)
    assert (learner.tasks_per_iteration, learner.envs_per_task) == expected
    assert learner.episodes_per_iteration == expected[0] * expected[1] <= episodes
