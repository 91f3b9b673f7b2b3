"""PPO: minibatches, chunks, the learning rate, and settings that contradict each other."""

from dataclasses import replace

import pytest
import torch

from harness.conformance.learners import collect, iterate, make_setup
from harness.meta import learners
from harness.meta.cell_setup import Budget
from harness.meta.learners import task_head
from harness.meta.learners.critic import acting_params, critic_values, split
from harness.meta.learners.ppo import (
    MinibatchRequest,
    PPOSettings,
    RL2Settings,
    _advantage_statistics,
)
from harness.meta.learners.state import LearnerState, norm
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.inputs import Goals


@pytest.mark.parametrize(("tasks", "size"), [(4, 1), (4, 2), (5, 3)])
def test_minibatches_share_the_sequences_of_many_small_jobs(tasks, size):
    """None of the optimiser's steps is left with much less data than another."""
    setup = make_setup("multitask", minibatches=3, tasks_per_iteration=tasks)
    learner = learners.build(setup)
    snapshot = learner.init().snapshot()
    kept, _ = collect(setup, snapshot, -(-tasks // size))
    total = sum(data.batch.x.shape[1] for data in kept)
    for epoch in range(2):
        payloads = [MinibatchRequest(snapshot.params, epoch, part, 0.0, 1.0) for part in range(3)]
        steps = [
            sum(learner.compute(data, payload, Clock()).losses.steps for data in kept)
            for payload in payloads
        ]
        assert sum(steps) == total * 25
        assert max(steps) - min(steps) <= 25


def test_more_minibatches_than_sequences_take_the_gradient_of_each_sequence_alone():
    """A step's gradient is a mean over its own data, however little that is."""
    few, many = (
        make_setup("multitask", minibatches=count, update_epochs=1, episodes_per_iteration=4)
        for count in (4, 9)
    )
    results = []
    for setup in (few, many):
        state = learners.build(setup).init()
        info = iterate(setup, state, jobs=1).info
        results.append((state.params, info))
    for name, value in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], value, rtol=0, atol=1e-2)
    assert results[0][1]["grad_norm"] == pytest.approx(results[1][1]["grad_norm"], rel=0.5)


def test_reported_losses_are_means_over_the_last_pass():
    setup = make_setup("multitask", update_epochs=1, minibatches=2, learning_rate=1e-12)
    state = learners.build(setup).init()
    (data,), _ = collect(setup, state.snapshot(), 1)
    info = iterate(setup, state, jobs=1).info
    batch, policy = data.batch, setup.policy
    mask, targets = batch.mask, batch.value_targets[batch.mask]
    error = targets - batch.forward(policy, state.params).value[mask]
    huber = torch.where(error.abs() < 1, error.square() / 2, error.abs() - 0.5)
    assert info["value_loss"] == pytest.approx(huber.mean().item(), rel=1e-4)
    explained = 1 - error.var() / targets.var()
    assert info["explained_variance"] == pytest.approx(explained.item(), abs=1e-3)
    assert info["kl"] == pytest.approx(0, abs=1e-6)
    assert info["clip_fraction"] == 0


def test_the_linear_baseline_trains_everything_but_the_value_head():
    setup = make_setup("rl2", policy="gru", baseline="linear")
    state = learners.build(setup).init()
    before = {name: value.clone() for name, value in state.params.items()}
    info = iterate(setup, state, jobs=2).info
    same = {name for name, value in state.params.items() if torch.equal(value, before[name])}
    assert same == {"value.weight", "value.bias"}
    assert {"value_loss", "explained_variance"}.isdisjoint(info)
    assert info["kl"] > 0


def test_the_task_is_predicted_at_every_step_and_its_head_does_not_act():
    setup = make_setup(
        "rl2", policy="gru", task_coef=1.0, update_epochs=1, learning_rate=1e-12, minibatches=1
    )
    learner = learners.build(setup)
    state = learner.init()
    beside = set(state.params) - set(setup.policy.init_params(0))
    assert beside == {f"{task_head.NAME}.weight", f"{task_head.NAME}.bias"}
    assert beside.isdisjoint(acting_params(state.params))

    (data,), _ = collect(setup, state.snapshot(), 1)
    info = iterate(setup, state, jobs=1).info
    features = data.batch.forward(setup.policy, state.params).features
    tasks = setup.tasks("train", data.context.seed_keys)
    goals = Goals.of_distribution(setup.dist).of(tasks).float().tolist()
    error = task_head.task_error(state.params, features, data.batch.task)
    assert info["task_error"] == pytest.approx(error[data.batch.mask].mean().item(), rel=1e-4)
    assert {*map(tuple, data.batch.task[data.batch.mask].tolist())} == {*map(tuple, goals)}


def test_the_error_of_the_predicted_task_shapes_memory():
    """Its gradient reaches every layer before the heads, in proportion to its weight."""
    setup = make_setup("rl2", policy="gru", task_coef=1.0, minibatches=1)
    learner = learners.build(setup)
    state = learner.init()
    (data,), _ = collect(setup, state.snapshot(), 1)
    request = MinibatchRequest(state.params, 0, 0, 0.0, 1.0)
    without, one, three = (
        learners.build(replace(setup, settings=replace(setup.settings, task_coef=coef)))
        .compute(data, request, Clock())
        .gradient
        for coef in (0.0, 1.0, 3.0)
    )
    heads = [name for name in one if name.split(".")[0] in ("mean", "value", "log_std")]
    assert len(heads) < len(one)
    for name in one:
        change = one[name] - without[name]
        assert (name in heads) == (not change.abs().max()), name
        torch.testing.assert_close(three[name] - without[name], 3 * change, rtol=1e-3, atol=1e-3)


def test_a_policy_learns_to_predict_the_task():
    """The best guess that is the same for all tasks has an error of 1."""
    setup = make_setup(
        "rl2",
        policy="gru",
        task_coef=1.0,
        tasks_per_iteration=16,
        episodes_per_iteration=32,
        learning_rate=1e-2,
    )
    state = learners.build(setup).init()
    errors = [iterate(setup, state, 1, iteration=n).info["task_error"] for n in range(16)]
    assert sum(errors[-3:]) / 3 < 0.8


def test_there_is_one_baseline():
    with pytest.raises(ValueError, match="task_critic"):
        RL2Settings(task_critic=True, baseline="linear")
    assert "value_coef" in PPOSettings(baseline="linear").unused()
    assert "value_coef" not in PPOSettings(baseline="value").unused()


def test_kl_and_clip_fraction_are_those_of_the_moved_policy():
    setup = make_setup("multitask", minibatches=1, clip=0.05)
    learner = learners.build(setup)
    state = learner.init()
    (data,), _ = collect(setup, state.snapshot(), 1)
    moved = {name: value + 0.05 for name, value in state.params.items()}
    losses = learner.compute(data, MinibatchRequest(moved, 0, 0, 0.0, 1.0), Clock()).losses.means()
    batch = data.batch
    old, new = (batch.forward(setup.policy, params).head for params in (state.params, moved))
    exact = old.kl(new)[batch.mask].mean().item()
    assert losses["kl"] == pytest.approx(exact, rel=0.2)
    ratio = (new.log_prob(batch.actions) - batch.log_probs)[batch.mask].exp()
    assert losses["clip_fraction"] == pytest.approx(
        ((ratio - 1).abs() > 0.05).float().mean().item()
    )


@pytest.mark.parametrize(("target", "factor"), [(10.0, 1.5), (1e-9, 1 / 1.5)])
def test_the_step_size_follows_the_kl_divergence_and_survives_a_checkpoint(target, factor):
    setup = make_setup("multitask", target_kl=target, learning_rate=1e-3)
    learner = learners.build(setup)
    state = learner.init()
    assert iterate(setup, state, jobs=1).info["learning_rate"] == pytest.approx(1e-3)
    restored = learner.init()
    restored.load(*state.save())
    assert iterate(setup, restored, 1, iteration=1).info["learning_rate"] == pytest.approx(
        1e-3 * factor
    )


def test_an_adapted_step_size_falls_in_the_last_tenth():
    setup = make_setup("multitask", target_kl=0.01, learning_rate=1e-3)
    state = learners.build(setup).init()
    for iteration, rate in ((95, 0.5e-3), (96, 0.4e-3), (97, 0.3e-3)):  # of 100
        state.iteration = iteration
        assert iterate(setup, state, jobs=1).info["learning_rate"] == pytest.approx(rate)


@pytest.mark.parametrize("name", ["multitask", "maml"])
def test_warm_up_measures_the_scale_before_the_first_update(name):
    setup = make_setup(name, warm_up=True)
    learner = learners.build(setup)
    state = learner.init()
    steps = learner.iterate(state)
    requests = [next(steps)]
    requests.append(steps.send(collect(setup, requests[0].payload, 1)[1]))
    assert [request.kind.value for request in requests] == ["collect", "collect"]
    identity, measured = (request.payload for request in requests)
    assert identity.normalizer.std.tolist() == [1.0, 1.0]
    assert (measured.normalizer.std - 1).abs().min() > 1e-3
    assert measured.return_scale != 1.0
    assert measured.env_steps == 24 * 25
    state.iteration = 1
    follow_up = learner.iterate(state)
    next(follow_up)
    assert follow_up.send(collect(setup, identity, 1)[1]).kind.value == "compute"


def test_a_random_phase_cuts_elsewhere_in_every_iteration():
    setup = make_setup("rl2", policy="gru", bptt_steps=20, random_phase=True, burn_in=5)
    snapshot = learners.build(setup).init().snapshot()
    phases = set()
    for iteration in range(4):
        (data,), _ = collect(setup, snapshot, 1, iteration)
        assert data.batch.x.shape[2] == 25
        assert data.batch.mask.sum() == 24 * 25
        phases.add(int(data.batch.mask[0].sum(-1).min()))
    assert len(phases) > 1


def test_a_critic_that_observes_the_task_replaces_the_value_head():
    setup = make_setup("rl2", policy="gru", task_critic=True, bptt_steps=20, random_phase=True)
    learner = learners.build(setup)
    state = learner.init()
    kept, _ = collect(setup, state.snapshot(), 2)
    for data in kept:
        batch = data.batch
        values = critic_values(state.params, batch.x, batch.task)[batch.mask]
        torch.testing.assert_close(
            batch.value_targets[batch.mask], values + batch.advantages[batch.mask]
        )
        assert len(batch.task[0, :, 0].unique(dim=0)) == 2  # tasks of a job
        request = MinibatchRequest(state.params, 0, 0, 0.0, 1.0)
        gradient = learner.compute(data, request, Clock()).gradient
        assert gradient["value.weight"].abs().max() == 0
        assert all(gradient[name].abs().max() > 0 for name in split(gradient)[1])
    assert acting_params(state.params).keys() == setup.policy.init_params(0).keys()


@pytest.mark.parametrize("by", ["all", "task"])
def test_advantages_are_normalised_over_all_tasks_or_each(by):
    setup = make_setup("multitask", tasks_per_iteration=4, normalize_advantages=by)
    kept, reports = collect(setup, learners.build(setup).init().snapshot(), 2)
    tasks = torch.cat([d.batch.advantages.view(2, -1) for d in kept])  # 2 tasks a job
    assert tasks.shape[0] == 4
    own = tasks.mean(1).abs().max() < 1e-5, (tasks.std(1) - 1).abs().max() < 1e-2
    assert own == (by == "task", by == "task")
    mean, std = _advantage_statistics(reports)
    assert abs(((tasks - mean) / std).mean()) < 1e-5
    assert ((tasks - mean) / std).std() == pytest.approx(1.0, abs=1e-2)


def test_policy_and_critic_are_clipped_each_by_itself(monkeypatch):
    setup = make_setup("rl2", task_critic=True, minibatches=1, update_epochs=1, max_grad_norm=1e-3)
    state = learners.build(setup).init()
    taken = []
    monkeypatch.setattr(LearnerState, "adam_step", lambda self, gradient: taken.append(gradient))
    iterate(setup, state, jobs=1)
    assert [norm(part) for part in split(taken[0])] == pytest.approx([1e-3, 1e-3], rel=0.01)


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
    assert RL2Settings(episodes_in_context=5, episodes_per_iteration=5).episodes_in_context == 5
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
