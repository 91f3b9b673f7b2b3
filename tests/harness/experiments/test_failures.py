"""Cells that fail: named, listed, never averaged in, and the others go on."""

import pandas as pd
import pytest

from harness.cli import publish, status
from harness.execution import scoring
from harness.reporting.store.records import CellFolder
from tests.harness.execution.execution_cases import (
    assert_same,
    curves,
    events,
    manifest,
    played_locally,
    records,
    trained,
)

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("workplace")]


def cell_states(name="x"):
    cells = manifest(name).cells.values()
    return {state.learner: state for state in cells}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nan-always", "diverged: "),
        ("raises", "error: "),
        ("disk-full", "disk: "),
        ("breaks-snapshot", "error: snapshot of point_goal.mlp.breaks-snapshot.s0 failed: KeyErr"),
        ("breaks-save", "error: save of point_goal.mlp.breaks-save.s0 failed: AttributeError"),
        ("returns-nothing", "error: point_goal.mlp.returns-nothing.s0: iterate returned NoneType"),
    ],
)
def test_one_failed_cell_leaves_the_others_alone(fault, reason, capsys):
    argv = ["--learner", fault, "maml", "--max-skipped", "3"]
    assert played_locally("x", *argv) == 3
    found = cell_states()
    assert found["maml"].status == "ok"
    assert found[fault].status == "failed"
    assert found[fault].reason.startswith(reason)
    assert set(trained("x").learner) == {"maml"}
    assert list(events("x").kind) == ["cell_failed"]
    shown = capsys.readouterr().out
    assert f"point_goal.mlp.{fault}.s0" in shown
    assert reason.split(":")[0] in shown
    table = pd.read_csv("results/x/table.csv", comment="#")
    (row,) = table[table.learner == fault].to_dict("records")
    assert row["seeds"] == 0
    assert all(pd.isna(value) for key, value in row.items() if key.startswith("return"))
    assert played_locally("alone", "--learner", "maml") == 0
    assert_same(trained("x"), trained("alone"))


def test_a_failed_cell_is_tried_again_on_resume(monkeypatch):
    argv = ["--learner", "raises"]
    assert played_locally("x", *argv) == 3
    from tests.harness.execution.faulty_learners import Faulty

    monkeypatch.setattr(Faulty, "collect", Faulty.__mro__[1].collect)
    assert played_locally("x", "--resume") == 0
    assert cell_states()["raises"].reason == ""
    assert played_locally("alone") == 0
    assert_same(
        trained("x", without=["cell", "learner"]), trained("alone", without=["cell", "learner"])
    )


def test_an_error_names_the_tasks_and_the_way_to_see_it_again():
    assert played_locally("x", "--learner", "raises", "--seed", "5") == 3
    reason = cell_states()["raises"].reason
    for part in ("FloatingPointError: <boom>", "train tasks", "point_goal.mlp.raises.s5"):
        assert part in reason
    assert "the same command with --backend local" in reason


def test_one_nan_gradient_is_skipped_and_counted():
    assert played_locally("x", "--learner", "nan-once") == 0
    rows = curves("x")["point_goal.mlp.nan-once.s0"]
    assert [row[0] for row in rows] == [1, 2, 3]
    assert trained("x").return_.notna().all()
    assert [row[4]["skipped_in_a_row"] for row in rows] == [1.0, 0.0, 0.0]


def test_failing_reference_lines_are_failed_rows_and_cost_no_cell(monkeypatch, capsys):
    def broken(*_):
        raise FloatingPointError("<boom>")

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "reference", broken)
        assert played_locally("x") == 3
    lines = ["zero-action", "random-action"]
    failed = manifest().failed_references
    assert list(failed) == lines
    (reason,) = set(failed.values())
    assert reason.startswith("error: reference")
    assert "FloatingPointError: <boom>" in reason
    assert "the same command with --backend local" in reason
    assert list(events("x").kind) == ["cell_failed"]
    assert "FAILED: 2 of 3 cells and reference lines" in capsys.readouterr().out
    assert status.main(["results/x"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 tables without reference lines" in told
    assert "point_goal.reference.s0: failed: error: reference" in told
    table = pd.read_csv("results/x/table.csv").set_index("policy").loc[lines]
    assert list(table.seeds_failed) == [1, 1]
    assert table.return_0.isna().all()
    assert publish.main(["results/x", "x"]) == 2
    assert played_locally("whole") == 0
    assert_same(trained("x"), trained("whole"))
    # Scored again, they are as if they had never failed.
    assert played_locally("x", "--resume") == 0
    assert_same(records("x"), records("whole"))
    assert not manifest().failed_references


def test_a_full_disk_costs_the_reference_lines_and_no_cell(monkeypatch):
    write = CellFolder.write_records

    def full(folder, rows):
        if "reference" in folder.key:
            raise OSError(28, "No space left on device")
        write(folder, rows)

    with monkeypatch.context() as patch:
        patch.setattr(CellFolder, "write_records", full)
        assert played_locally("x", epochs=1) == 3
    assert {reason[:5] for reason in manifest().failed_references.values()} == {"disk:"}
    table = pd.read_csv("results/x/table.csv").set_index("policy")
    assert list(table.loc[["zero-action", "random-action"]].seeds_failed) == [1, 1]
    assert table.return_0.notna()["mlp"]
    assert played_locally("x", "--resume", epochs=1) == 0


def test_a_run_of_which_nothing_worked_is_over_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "reference", lambda *_: 1 / 0)
    assert played_locally("x", "--learner", "raises") == 3
    assert "FAILED: 3 of 3 cells and reference lines" in capsys.readouterr().out
