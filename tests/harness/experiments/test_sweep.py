"""Sweeps on Ray Tune: the numbers of harness.run, whoever dies, and nothing counted twice."""

from pathlib import Path

import pandas as pd
import pytest

import harness.reporting.rebuild
import harness.reporting.sweeps
from tests.harness.execution.execution_cases import assert_same
from tests.harness.experiments.sweep_cases import SETTINGS, play_on_ray, states, swept

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    for module in (harness.reporting.rebuild, harness.reporting.sweeps):
        monkeypatch.setattr(module, "write_figures", lambda *_: None)
    monkeypatch.setattr("harness.experiments.sweep_run.available_cpus", lambda: 4)


FAULTS = """
sweep:
  policy: [mlp]
  learner: [maml, learner-dies, raises, dies-always]
  adapt.inner_lr: [0.1, 0.2]
"""


@pytest.mark.usefixtures("_ray")
def test_cells_that_die_go_on_and_cells_that_cannot_be_played_fail_alone():
    assert play_on_ray(SETTINGS % 3 + FAULTS) == 3
    found = states()
    status_of = {key: state.status for key, state in found.items()}
    failed = {key for key in status_of if status_of[key] == "failed"}
    assert failed == {key for key in status_of if ".raises." in key or ".dies-always." in key}
    assert set(status_of.values()) == {"ok", "failed"}
    frame = swept()
    for rate in ("0.1", "0.2"):
        key = f"point_goal.mlp.raises.s0.inner_lr-{rate}"
        assert "FloatingPointError: <boom>" in found[key].reason
        lost = found[key.replace("raises", "dies-always")]
        assert lost.reason.startswith("lost: its process died")
    kinds = pd.concat(
        pd.read_json(path, lines=True) for path in Path("results/x/cells").glob("*/events.jsonl")
    ).kind.value_counts()
    assert kinds["trial_died"] == 5, (
        "one for the learner that dies once, two for each that always does"
    )
    assert kinds["cell_failed"] == 4
    own = {name: part for name, part in frame.groupby("learner") if name != "reference"}
    assert own.keys() == {"maml", "learner-dies"}
    died = own["learner-dies"].drop(columns=["cell", "learner"]).reset_index(drop=True)
    assert_same(died, own["maml"].drop(columns=["cell", "learner"]).reset_index(drop=True))
    told = Path("results/x/table.md").read_text()
    assert "FAILED:** 4 of 8 cells" in told
    assert "cells/point_goal.mlp.raises.s0.inner_lr-0.1/cell.yaml --backend local" in told
    # --resume leaves failed cells alone; --retry-failed does not.
    before = len(list(Path("results/x").rglob("events.jsonl")))
    assert play_on_ray(SETTINGS % 3 + FAULTS, "--resume") == 3
    assert len(list(Path("results/x").rglob("events.jsonl"))) == before
    frame = pd.read_csv("results/x/table.csv")
    assert set(frame["adapt.inner_lr"].dropna()) == {0.1, 0.2}
    assert set(frame[frame.learner == "maml inner_lr=0.2"]["adapt.inner_lr"]) == {0.2}
