"""A cell that has diverged fails, however it diverged; one that recovers does not."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from harness.config.sweep_file import TuneConfig
from harness.execution import divergence
from harness.experiments import ray_tune
from harness.meta.learners.base import DivergedError, PolicySnapshot
from harness.meta.rollouts.normalizer import Moments, Normalizer
from harness.types import Cell, Metrics
from tests.harness.execution.execution_cases import curves, events, manifest, played_locally
from tests.harness.reporting.synthetic_run import record

pytestmark = pytest.mark.faults
NAN, INF = math.nan, math.inf


def snapshot(**changes):
    params = {"mean.weight": torch.ones(1, 2, 2), "log_std": torch.zeros(1, 1, 1, 2)}
    return replace(PolicySnapshot(params, Normalizer.identity(2)), **changes)


@pytest.mark.parametrize(
    "broken",
    [
        {"params": {"mean.weight": torch.tensor([1.0, NAN])}},
        {"params": {"step_size.mean.weight": torch.tensor([-INF])}},
        {"params": {"log_std": torch.tensor([100.0])}},  # e^100 is infinite in float32
        {"normalizer": Normalizer(torch.tensor([NAN]), torch.ones(1))},
        {"normalizer": Moments(2.0, np.array([1.0]), np.array([INF])).normalizer()},
        {"return_scale": INF},
    ],
)
def test_a_policy_that_is_not_finite_does_not_leave_the_learner(broken):
    divergence.check_policy(snapshot(), 7)
    with pytest.raises(DivergedError) as caught:
        divergence.check_policy(snapshot(**broken), 7)
    assert caught.value.iteration == 7


GOOD, SKIPPED, EMPTY, INFINITE = range(4)


def curve(*kinds):
    rows = []
    for number, kind in enumerate(kinds, 1):
        post = NAN if kind == EMPTY else -1.0
        info = {
            "skipped_in_a_row": float(kind == SKIPPED),
            "surrogate": INF if kind == INFINITE else 0.5,
        }
        rows.append(Metrics(number, 10 * number, -1.0, post, 1.0, info=info))
    return rows


@pytest.mark.parametrize("bad", [SKIPPED, EMPTY, INFINITE])
@pytest.mark.parametrize(
    ("kinds", "over", "diverged"),
    [
        ("", True, False),
        ("gggggbb", False, False),
        ("gggggbbb", False, True),
        ("gbbgbbgbbg", True, False),
        ("bgg", True, False),
        ("ggb", True, False),
        ("gbb", True, True),
        ("b", False, False),
        ("b", True, True),
        ("ggggggbb", True, False),
    ],
)
def test_iterations_without_effect_in_a_row_end_the_training(bad, kinds, over, diverged):
    rows = curve(*(bad if kind == "b" else GOOD for kind in kinds))
    if not diverged:
        divergence.check_training(rows, 3, over=over)
        return
    with pytest.raises(DivergedError) as caught:
        divergence.check_training(rows, 3, over=over)
    assert caught.value.iteration == len(kinds)


def test_iterations_broken_in_different_ways_count_together():
    with pytest.raises(DivergedError):
        divergence.check_training(curve(GOOD, SKIPPED, EMPTY, INFINITE), 3, over=False)


def test_a_score_without_a_valid_episode_is_none():
    def row(shots, episode, **changes):
        return record(Cell("point_goal", "mlp", "maml", 0), 0, shots, episode, **changes)

    bad = [row(1, episode, invalid=True, return_=NAN) for episode in range(2)]
    divergence.check_scores([row(0, 0), bad[0], row(1, 1)])
    with pytest.raises(DivergedError):
        divergence.check_scores([row(0, 0), *bad])


DIVERGING = {
    # Settings with which a learner blows up, each in a way of its own.
    "parameters": ("multitask", "--learning-rate", "1e37"),
    "deviation of the actions": ("oracle", "--learning-rate", "1e3"),
    "training episodes": ("maml", "--action-scale", "1e39"),
    "episodes that a step size follows": (
        *("multitask", "--action-scale", "1e39", "--target-kl", "0.1"),
    ),
    "adaptation in training": ("maml", "--inner-lr", "1e38"),
    "adaptation when scored": ("finetune", "--adapt-learning-rate", "1e37"),
    "adaptation without training": ("scratch", "--adapt-learning-rate", "1e36"),
    "updates": ("rl2", "--init-std", "1e-44"),
}


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("kind", DIVERGING)
def test_every_learner_that_blows_up_is_a_failed_cell_without_a_number(kind):
    learner, *settings = DIVERGING[kind]
    policy = "gru" if learner == "rl2" else "mlp"
    assert played_locally("x", "--learner", learner, *settings, policy=(policy,)) == 3
    (cell,) = manifest().cells.values()
    assert cell.status == "failed"
    assert cell.reason.startswith("diverged: ")
    (event,) = events("x").to_dict("records")
    assert event["kind"] == "cell_failed"
    assert event["cause"] in cell.reason
    table = pd.read_csv("results/x/table.csv").set_index("policy")
    assert table.loc[policy].filter(like="return_").isna().all()


@pytest.mark.usefixtures("workplace")
def test_what_was_lost_in_training_is_in_the_table_and_an_event():
    assert played_locally("x", "--learner", "nan-once") == 0
    (event,) = events("x").to_dict("records")
    assert (event["kind"], event["skipped_updates"]) == ("training_faults", 1)
    table = pd.read_csv("results/x/table.csv").set_index("policy")
    assert table.skipped_updates["mlp"] == 1
    assert table.invalid_training_episodes["mlp"] == 0


@pytest.mark.usefixtures("workplace")
def test_a_diverged_training_keeps_its_curve_and_diverges_again_when_resumed():
    argv = ("--learner", "maml", "--action-scale", "1e39", "--max-skipped", "2")
    assert played_locally("x", *argv, epochs=9, checkpoint_every=1) == 3
    (cell,) = manifest().cells.values()
    (before,) = curves("x").values()
    assert len(before) == 2
    assert played_locally("x", "--resume") == 3
    (after,) = curves("x").values()
    assert str(after) == str(before)  # NaN differs from itself
    assert manifest().cells[next(iter(manifest().cells))].reason == cell.reason


class Trial:
    def __init__(self, trial_id):
        self.trial_id = trial_id


def test_asha_judges_a_diverged_cell_as_the_worst():
    asha = ray_tune._Asha(TuneConfig(scheduler="asha", grace_env_steps=100, reduction_factor=2))
    trials = {name: Trial(name) for name in ("diverged", "nan", "poor", "good")}
    for trial in trials.values():
        asha.on_trial_add(None, trial)
    asha.on_trial_complete(
        None, trials["diverged"], {"env_steps": 30, "validation_return": -2.0, "diverged": True}
    )
    at_rung = {"env_steps": 100}
    assert (
        asha.on_trial_result(None, trials["nan"], at_rung | {"validation_return": NAN})
        == "CONTINUE"
    )
    for name, value in (("poor", -50.0), ("good", 1.0)):
        result = asha.on_trial_result(None, trials[name], at_rung | {"validation_return": value})
        assert result == "CONTINUE"
    cutoffs = {milestone: rung for milestone, rung in asha._brackets[0]._rungs if rung}
    assert cutoffs == {
        100: {"diverged": ray_tune.WORST, "nan": ray_tune.WORST, "poor": -50.0, "good": 1.0}
    }
    late = Trial("late")
    asha.on_trial_add(None, late)
    assert asha.on_trial_result(None, late, at_rung | {"validation_return": NAN}) == "STOP"
