"""Aggregates across distributions are rliable's, and their constants say how they were measured."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import task_distributions
from harness.reporting.rebuild import load_tables
from harness.reporting.stats.across import (
    FEW_SEEDS,
    SUITES,
    across,
    aggregate,
    constants,
    improvement,
    iqm,
    optimality_gap,
    performance_profile,
)
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import stratified_bootstrap

X = np.array([[1.0, 2], [2, 2], [1, 1], [2, 1]])
Y = np.array([[1.0, 1], [2, 2], [3, 3]])
RAMP = np.arange(80.0).reshape(5, 16)


def test_rliables_example_data_give_rliables_numbers():
    # tests/rliable/metrics_test.py of rliable 1.2.0.
    assert (iqm(X), iqm(Y)) == (1.5, 2.0)
    assert improvement(X, Y).point == pytest.approx(1 / 3)
    # The arrays of its library_test.py, through its metrics.
    assert iqm(RAMP) == 39.5
    assert optimality_gap(RAMP) == pytest.approx(0.0125)
    assert (iqm(RAMP / 40), optimality_gap(RAMP / 40)) == pytest.approx((0.9875, 0.25625))
    assert improvement(RAMP, RAMP[::-1]).point == 0.5
    profile = performance_profile(RAMP / 40, np.array([0.0, 0.25, 0.5, 1.0]))
    assert profile == pytest.approx([79 / 80, 69 / 80, 59 / 80, 39 / 80])


def test_the_iqm_is_the_mean_of_the_middle_half_of_all_runs():
    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    for part in x:
        assert iqm(part) == pytest.approx(np.sort(part, axis=None)[5:15].mean())
    assert iqm(x) == pytest.approx([iqm(part) for part in x])
    assert iqm(np.array([[1.0, 2, 3, 100]])) == 2.5


def mean(scores):
    return scores.mean(axis=(-2, -1))


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_over_distributions_cover_about_as_often_as_they_say(seeds, monkeypatch):
    monkeypatch.setattr("harness.reporting.stats.intervals.REPLICATES", 300)
    rng, hits, bare = np.random.default_rng(seeds), 0, 0
    for _ in range(300):
        scores = rng.normal(np.linspace(0, 1, 6), 0.1, (seeds, 6))
        found, (low, high) = aggregate(scores, mean), stratified_bootstrap(scores, mean)
        hits += found.low <= 0.5 <= found.high
        bare += low <= 0.5 <= high
    assert 0.88 <= hits / 300 <= 0.97
    assert bare < hits  # what the widening is for


def test_few_runs_have_no_interval():
    assert math.isnan(aggregate(np.zeros((1, 20)), iqm).low)
    assert math.isnan(aggregate(np.eye(3), iqm).low)  # nine runs
    assert not math.isnan(aggregate(np.arange(10.0).reshape(5, 2), iqm).low)


def test_every_constant_is_of_a_version_that_can_be_played_and_says_its_source():
    for key, constant in constants().constants.items():
        name, _, version = key.partition("@")
        assert name in task_distributions.names()
        assert version.isdigit()
        assert constant.one.value > constant.zero.value
        measured = constant.one.source != "definition"
        assert measured == (constant.one.seeds is not None) == (constant.measure == "return")
        assert constant.apply(np.array([constant.zero.value, constant.one.value])).tolist() == [
            0,
            1,
        ]
    for names in SUITES.values():
        assert set(names) <= set(task_distributions.names())
    assert len(SUITES["all"]) == 10


def test_constants_from_a_published_run_are_those_of_its_table():
    root, checked = Path(__file__).parents[4], 0
    for key, constant in constants().constants.items():
        if not constant.one.source.startswith("results/published/"):
            continue
        (table,) = load_tables(root / constant.one.source)
        rows, oracle = table.frame, table.frame["learner"].str.partition(" ")[0].eq("oracle")
        zero = rows.loc[rows["policy"].eq("zero-action"), "return_0"].item()
        many = rows["seeds"] >= min(FEW_SEEDS, rows.loc[oracle, "seeds"].max())
        best = rows.loc[rows.loc[oracle & many, "return_0"].idxmax()]
        assert constant.zero.value == pytest.approx(zero, abs=0.051), key
        assert constant.one.value == pytest.approx(best["return_0"], abs=0.051), key
        assert constant.one.row == f"{best['policy']} oracle"
        assert (constant.one.seeds, constant.one.env_steps) == (
            best["seeds"],
            pytest.approx(best["train_env_steps"], rel=0.01),
        )
        checked += 1
    assert checked


def table_of(scores, measure="return"):
    """A table with these rows: (policy, learner) -> score of each seed."""
    lines = [
        {
            "task_dist": "d", "policy": policy, "learner": learner, "adapter": "none",
            "seed": seed, "shots": shots, measure: value,
        }
        for (policy, learner), values in scores.items()
        for seed, value in enumerate(values)
        for shots in (0, 1)
    ]  # fmt: skip
    return Comparison(
        "d", pd.DataFrame(), (0, 1), 1, "test", {}, (), seed_scores=pd.DataFrame(lines),
        privileged=frozenset({("d", "gru", "oracle", "none")}),
    )  # fmt: skip


def test_rows_are_normalised_per_distribution_and_pooled(monkeypatch):
    vel, ml10 = (
        constants().constants["imujoco-halfcheetah@1"],
        constants().constants["metaworld-ml10@2"],
    )
    monkeypatch.setattr("harness.reporting.stats.across.FEW_SEEDS", vel.one.seeds + 1)
    span = vel.one.value - vel.zero.value
    returns = {
        ("gru", "rl2"): [vel.zero.value, vel.one.value],
        ("gru", "oracle"): [vel.one.value] * 2,
    }
    returns["lstm", "rl2"] = [vel.zero.value + span / 2] * 3
    rates = {("gru", "rl2"): [0.5, 0.5], ("gru", "oracle"): [1.0, 1.0], ("lstm", "rl2"): [0.2, 0.2]}
    rates["mlp", "rl2"] = [0.0]
    tables = {
        "imujoco-halfcheetah@1": table_of(returns),
        "metaworld-ml10@2": table_of(rates, ml10.measure),
        "point@9": table_of(returns),  # without constants
    }
    (found,) = across(tables)
    assert found.suite == "these"
    assert found.distributions == ("imujoco-halfcheetah@1", "metaworld-ml10@2")
    assert found.provisional == ("imujoco-halfcheetah@1",)
    rows = {(row["policy"], row["learner"]): row for row in found.frame.to_dict("records")}
    assert rows["gru", "rl2"]["iqm_1"] == rows["gru", "rl2"]["mean"] == pytest.approx(0.5)
    assert rows["gru", "oracle"]["optimality_gap"] == pytest.approx(0.0)
    assert rows["lstm", "rl2"]["mean"] == pytest.approx((0.5 + 0.2) / 2)
    assert (
        rows["lstm", "rl2"]["seeds"] == 2
    )  # a third seed on one of the two is left out, and named
    assert set(rows) == {("gru", "rl2"), ("gru", "oracle"), ("lstm", "rl2")}
    assert len(found.left_out) == 2
    pairs = found.improvement
    assert set(zip(pairs["policy"], pairs["over_policy"], strict=True)) == {
        ("gru", "lstm"), ("lstm", "gru"),
    }  # fmt: skip
    assert "oracle" not in set(pairs["learner"]) | set(pairs["over_learner"])
    win = pairs[pairs["policy"] == "gru"]["probability"].item()
    assert win == pytest.approx((0.5 + 1.0) / 2)


def test_of_one_seed_each_the_probability_is_a_share_of_distributions():
    names = [f"{name}@1" for name in SUITES["metaworld"]]
    rates = [(0.1, 0.2), (0.3, 0.2)]
    tables = {
        name: table_of({("gru", "rl2"): [gru], ("ssm", "rl2"): [ssm]}, "success")
        for name, (gru, ssm) in zip(names, rates, strict=True)
    }
    (part,) = across(tables)
    assert part.improvement["probability"].tolist() == [0.5, 0.5]


def test_a_suite_is_aggregated_when_it_is_complete():
    names = [f"{name}@1" for name in SUITES["metaworld"]]
    tables = {name: table_of({("gru", "rl2"): [0.1, 0.2]}, "success") for name in names}
    assert [part.suite for part in across(tables)] == ["metaworld"]
    assert across({names[0]: tables[names[0]]}) == []
    tables["ant-dir@1"] = table_of({("gru", "rl2"): [300.0, 310.0]})
    assert [part.suite for part in across(tables)] == ["metaworld", "these"]


def test_a_seed_without_a_valid_episode_is_no_score():
    tables = {
        "ant-dir@1": table_of({("gru", "rl2"): [300.0, float("nan")]}),
        "ant-vel@1": table_of({("gru", "rl2"): [300.0, 310.0]}),
    }
    (found,) = across(tables)
    assert found.frame.empty
    assert found.left_out
    assert dataclasses.is_dataclass(found)
