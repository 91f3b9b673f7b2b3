"""The RLlib reference: its inputs, weights and scores follow our own protocol."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness import seeding
from harness.cli import parser
from harness.config.sweep_file import planned_cells
from harness.execution.backend import LostError
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.experiments.trial import _Trial
from harness.meta import adapters, learners
from harness.meta.learners.base import (
    CollectReport,
    DivergedError,
    PolicySnapshot,
    ScalarMoments,
)
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.normalizer import Normalizer
from harness.meta.rollouts.trajectories import inputs_along, pack
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_curves, read_records
from harness.rllib import __main__ as command
from harness.rllib.sequence_env import SequenceEnv, SequenceSource, assignments
from harness.rllib.weights import from_rllib, to_rllib

SIZES = [
    *("--test-tasks", "1", "3", "4", "--epochs", "2", "--seed", "5"),
    *("--episodes-per-iteration", "24", "--tasks-per-iteration", "2"),
    *("--update-epochs", "2", "--minibatches", "2"),
    *("--few-shot", "1", "2", "--query-episodes", "2", "--episodes-per-shot", "3"),
]
"""Two tasks with four sequences of three episodes, or twelve of one."""

WEIGHTS_OF_MEAN = ("pi.head.net.mlp.0.weight", "pi.head.net.mlp.0.bias")


def planned(learner, *argv, task_dist="point_goal", horizon=8):
    """One cell of RLlib and the configuration of its run."""
    which = ["--task-dist", task_dist, "--horizon", str(horizon)]
    flags = [*which, *SIZES, "--policy", "lstm", "--learner", learner, *argv]
    if learner == "rl2":
        flags += ["--episodes-in-context", "3"]
    (planned,) = planned_cells(command.checked(parser.parse_run(flags)), {})
    return planned.cell, planned.config


def state_of(setup):
    """A state in which every unit shows: shifted, scaled, and of actions beyond the bounds."""
    params = setup.policy.init_params(3)
    params["mean.weight"] = 50 * params["mean.weight"]
    mean = torch.linspace(-0.2, 0.1, setup.dist.spec.obs_dim)
    return PolicySnapshot(params, Normalizer(mean, mean.abs() + 0.05), return_scale=7.0)


@pytest.mark.parametrize(
    ("task_dist", "learner"),
    [("point_goal", "multitask"), ("point_goal", "rl2"), ("walker2d-vel", "rl2")],
)
def test_a_sequence_shows_the_inputs_of_our_policy(task_dist, learner):
    """The actions of our own learner's sequences are repeated in the sequence environment."""
    horizon = 100 if task_dist == "walker2d-vel" else 8
    flags = ["--action-scale", "0.7", "--min-jobs", "1"]
    cell, config = planned(learner, *flags, task_dist=task_dist, horizon=horizon)
    setup = build_setup(cell, config)
    ppo, state = learners.build(setup), state_of(setup)
    actor, estimator = setup.actor(state), setup.estimator(state)
    (job,) = CellRunner(setup, config, LocalBackend(config)).training_jobs(0)
    tasks = setup.tasks("train", job.task_indices)
    last = ppo.settings.episodes_in_context - 1
    carrier = adapters.build("memory" if last else "none", inner_lr=0.1)
    plan = MetaEpisodePlan.for_training(
        seed=cell.seed,
        iteration=0,
        seed_keys=job.seed_keys,
        shots=last,
        episodes=ppo.envs_per_task,
    )
    runner = MetaEpisodeRunner(setup.dist, carrier, estimator)
    played = runner.run(tasks, actor, plan, Clock()).episodes
    blocks = (*played.support, played.query[last])
    trajectories = pack(blocks, actor)
    inputs = inputs_along(trajectories, actor, tuple(tasks)).x.numpy()

    source = SequenceSource(setup, assignments(setup, ppo), state)
    env = SequenceEnv(source)
    for n in range(len(tasks)):
        for e in range(ppo.envs_per_task):
            inputs_seen, rewards, over = [env.reset()[0]], [], (False, False)
            for action in trajectories.actions[n, e, : trajectories.length[n, e]].numpy():
                assert over == (False, False)
                x, reward, *over, _ = env.step(action)
                over = tuple(over)
                inputs_seen.append(x)
                rewards.append(reward)
            ended = bool(blocks[-1].terminated[n, e])
            assert over == (ended, not ended)
            np.testing.assert_allclose(
                np.stack(inputs_seen), inputs[n, e, : len(inputs_seen)], atol=1e-5
            )
            expected = trajectories.rewards[n, e, : len(rewards)].numpy() / state.return_scale
            np.testing.assert_allclose(rewards, expected, atol=1e-6)
    if task_dist == "walker2d-vel":
        assert any(block.terminated.any() for block in blocks)
    if learner == "rl2":  # the last reward of an episode is seen at the first step of the next
        first = int(played.support[0].lengths[0, 0])
        assert inputs[0, 0, first, -1] == 1
        reward = np.clip(played.support[0].rewards[0, 0, first - 1] / actor.reward_unit, -10, 10)
        assert inputs[0, 0, first, -2] == pytest.approx(reward)
        assert reward != 0

    ours, theirs = CollectReport.on(blocks, state, setup.settings.gamma), source.pop_reports()
    assert source.env_steps == sum(report.env_steps for report in theirs) == ours.env_steps
    total = sum(report.moments.total for report in theirs)
    np.testing.assert_allclose(total, ours.moments.total, rtol=1e-5, atol=1e-3)
    returns = sum((report.returns for report in theirs), ScalarMoments())
    np.testing.assert_allclose(astuple(returns), astuple(ours.returns), rtol=1e-5)


@pytest.fixture
def start(_ray):
    """Start RLlib's learner of a cell in the Ray of the tests; give the threads back after."""
    from harness.rllib.reference import RllibBackend

    threads, started = torch.get_num_threads(), []

    def begin(cell, config):
        started.append(RllibBackend(config))
        return started[-1], started[-1].start_learner(cell, None)

    yield begin
    for backend in started:
        backend.close()
    torch.set_num_threads(threads)


@pytest.mark.ray
def test_rllib_computes_what_our_lstm_computes(start):
    cell, config = planned("rl2")
    _, learner = start(cell, config)
    learner.advance()
    weights = {name: torch.from_numpy(value.copy()) for name, value in learner.weights().items()}
    for name in [*weights]:
        if "const" not in name:
            weights[name] += 0.1 * torch.randn(weights[name].shape)
    setup = build_setup(cell, config)
    params = from_rllib({name: value.numpy() for name, value in weights.items()})
    module = learner._algorithm.get_module()
    module.load_state_dict(weights)
    x = torch.randn(3, 7, setup.inputs.dim)
    h, c = torch.randn(2, 3, params["value.weight"].shape[1])
    batch = {"obs": x, "state_in": {"h": h[:, None], "c": c[:, None]}}
    with torch.no_grad():
        theirs = module.forward_train(batch)
        value = module.compute_values(batch)
    first = torch.zeros(1, 3, 7, dtype=torch.bool)
    ours = setup.policy.forward(params, x[None], first, (h[None], c[None]))
    mean, log_std = theirs["action_dist_inputs"].chunk(2, -1)
    torch.testing.assert_close(ours.action_params[0], mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.log_std.expand(1, 3, 7, -1)[0], log_std)
    torch.testing.assert_close(ours.value[0], value, atol=1e-5, rtol=1e-5)
    again = from_rllib(to_rllib(params))
    assert all(torch.equal(again[name], value) for name, value in params.items())


@pytest.mark.ray
def test_training_starts_from_our_weights_on_our_tasks(start, monkeypatch):
    cell, config = planned("rl2")
    setup = build_setup(cell, config)
    played, reset = [], SequenceEnv.reset

    def noted(env, **kwargs):
        first = reset(env, **kwargs)
        played.append(env._env.unwrapped.task)
        return first

    monkeypatch.setattr(SequenceEnv, "reset", noted)
    _, learner = start(cell, config)
    runner = learner._algorithm.get_module().get_state()
    for name, value in to_rllib(setup.policy.init_params(cell.seed)).items():
        np.testing.assert_array_equal(learner.weights()[name], value)
        np.testing.assert_array_equal(runner[name], value)
    step = learner.advance()
    ours = learners.build(setup)
    count = ours.tasks_per_iteration * ours.envs_per_task
    ahead = assignments(setup, ours)
    assert played == [next(ahead).task for _ in range(count)]
    assert step.env_steps == count * 3 * 8
    assert step.done.pre_return < 0
    moved = learner.weights()
    assert not np.array_equal(moved["pi.head.log_std"], runner["pi.head.log_std"])


@pytest.mark.ray
@pytest.mark.parametrize("learner", ["multitask", "rl2"])
def test_a_policy_that_stands_still_scores_as_zero_action_does(start, learner):
    cell, config = planned(learner)
    backend, handle = start(cell, config)
    still = {name: np.zeros_like(handle.weights()[name]) for name in WEIGHTS_OF_MEAN}
    handle._set_weights(still)
    runner = CellRunner(build_setup(cell, config), config, backend)
    scored = runner.evaluate(handle, lambda done, jobs: None)
    lines = runner.scorer.reference(lambda done, jobs: None)
    zero = {(r.task, r.query_episode): r.return_ for r in lines if r.policy == "zero-action"}
    assert {r.shots for r in scored} == {0, 1, 2}
    assert len(scored) == 3 * 3 * 2
    for record in scored:
        assert record.return_ == zero[record.task, record.query_episode]
        assert (record.policy, record.learner) == ("rllib-lstm", learner)
        assert record.num_params == sum(
            value.size for name, value in handle.weights().items() if "const" not in name
        )
        remembered = record.shots * 8 if learner == "rl2" else 0
        assert record.support_env_steps == remembered


@pytest.mark.ray
def test_an_empty_sample_and_weights_that_are_not_finite_fail_the_cell(start, monkeypatch):
    _, learner = start(*planned("multitask"))
    broken = {"vf.net.mlp.0.bias": np.full(1, np.nan, np.float32)}
    learner._set_weights(broken)
    with pytest.raises(DivergedError):
        learner.advance()
    _, learner = start(*planned("rl2"))
    monkeypatch.setattr(learner._algorithm, "train", dict)
    with pytest.raises(LostError):
        learner.advance()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("_ray", "workplace")
def test_a_run_of_rllib_is_a_complete_run():
    argv = ["--task-dist", "point_goal", "--horizon", "8", *SIZES, "--episodes-in-context", "3"]
    argv += ["--name", "reference"]
    assert command.main(argv) == 0
    folder = Path("results/reference")
    manifest = Manifest.load(folder)
    assert manifest.command[:3] == ("python", "-m", "harness.rllib")
    assert [state.status for state in manifest.cells.values()] == ["ok", "ok"]
    records, curves = read_records(folder), read_curves(folder)
    assert set(records.learner) == {"multitask", "rl2", "reference"}
    for cell, state in manifest.cells.items():
        rows = records[records.cell == cell]
        assert len(rows) == 3 * 3 * 2  # tasks, numbers of shots, query episodes
        assert set(rows.adapter) == {"memory" if state.learner == "rl2" else "none"}
        assert set(rows.train_env_steps) == {curves[cell][-1].env_steps}
        assert curves[cell][0].env_steps * len(curves[cell]) == curves[cell][-1].env_steps
    assert "rllib-lstm" in (folder / "table.md").read_text()
    for cell, path in harness.load_run(folder).checkpoints.items():  # as any other checkpoint
        again = harness.evaluate(path, name=f"again-{cell}", backend="local").records
        keys = ["task", "shots", "query_episode"]
        then, now = (
            frame[frame.cell == cell].set_index(keys).return_.sort_index()
            for frame in (records, again)
        )
        np.testing.assert_array_equal(then, now)
    assert command.main(argv) == 2  # the folder is taken


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--learner", "maml"), "maml"),
        (("--policy", "gru"), "lstm"),
        (("--num-workers", "2"), "--num-workers"),
        (("--learner", "rl2", "--rl2.task-coef", "1"), "--rl2.task-coef"),
        (("--learner", "multitask", "--multitask.baseline", "linear"), "--multitask.baseline"),
        (("--resume", "x"), "--resume"),
        (("--pretrained", "point_goal/gru/rl2"), "--pretrained"),
    ],
)
def test_unsupported_settings_are_refused(flags, word, capsys):
    assert command.main(["--task-dist", "point_goal", *flags]) == 2
    assert word in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("when", ["starting", "at once", "after the reference lines"])
def test_an_interrupted_run_does_not_offer_to_resume(monkeypatch, capsys, when):
    def interrupted(*_):
        raise KeyboardInterrupt

    # No Ray is needed: what is scored before the first cell needs no learner.
    at_start = when == "starting"
    monkeypatch.setattr(
        command, "_start", interrupted if at_start else lambda c, *_: LocalBackend(c)
    )
    monkeypatch.setattr(_Trial, "_score" if when == "at once" else "_attempt", interrupted)
    argv = ["--task-dist", "point_goal", "--horizon", "8", *SIZES, "--name", "x"]
    assert command.main(argv) == 4
    shown = capsys.readouterr()
    assert "interrupted" in shown.err
    assert "--resume" not in shown.err + shown.out


def test_seeds_of_a_sequence_are_leaves_of_our_tree():
    cell, config = planned("rl2")
    setup = build_setup(cell, config)
    ours = learners.build(setup)
    sequence, count = next(assignments(setup, ours)), ours.envs_per_task
    first = seeding.episode_seeds(5, "train/support", 0, 0, 0, count=count)[0]
    last = seeding.episode_seeds(5, "train/query", 0, 0, count=count)[0]
    assert (sequence.seeds[0], sequence.seeds[-1]) == (first, last)
