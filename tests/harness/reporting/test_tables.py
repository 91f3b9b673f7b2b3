import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from harness.cli import publish, tables
from harness.execution import checkpoint
from harness.execution.checkpoint import Checkpoint
from harness.experiments.publishing import MAX_POLICY_BYTES
from harness.reporting.rebuild import (
    exit_code,
    load_comparison,
    load_tables,
    rebuild,
    with_settings,
)
from harness.reporting.render.formats import to_markdown
from harness.reporting.store.manifest import CellState, Manifest, varied
from harness.reporting.store.records import RunFolder
from harness.types import REFERENCE
from tests.harness.reporting.synthetic_run import (
    expected_cells,
    make_run,
    make_swept_run,
    manifest_of,
    printed,
    row_of,
    score,
)

CELLS = expected_cells()
TABLES = ("table.csv", "table.md", "table.tex")


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the slow part of rebuilding where a test does not look at it."""
    monkeypatch.setattr("harness.reporting.rebuild.write_figures", lambda *_: ())


@pytest.mark.usefixtures("undrawn")
def test_failed_cells_are_listed_and_never_averaged_in(tmp_path):
    failed = CELLS[2].id
    folder = make_run(tmp_path / "run", failed=[failed])
    (table,) = rebuild(folder.path)
    row = row_of(table, "ssm")
    by_hand = np.mean([[score("ssm", seed, task, 0) for task in range(4)] for seed in (0, 1)])
    assert row["return_0"] == pytest.approx(by_hand)
    assert (row["seeds"], row["seeds_failed"], row["seeds_missing"]) == (2, 1, 0)
    for name in ("table.md", "table.tex"):
        text = (folder.path / name).read_text()
        assert failed in text.replace("\\_", "_")
        assert "diverged" in text
        assert "FAILED" in text
    assert "FAILED" in printed(table)
    assert tables.main([str(folder.path)]) == 3


@pytest.mark.usefixtures("undrawn")
def test_a_run_with_missing_cells_is_marked_incomplete_everywhere(tmp_path):
    pending = [cell.id for cell in CELLS if cell.policy == "gru"]
    folder = make_run(tmp_path / "run", pending=pending)
    (table,) = rebuild(folder.path)
    assert table.missing == tuple(pending)
    assert row_of(table, "gru")["seeds"] == 0  # still a row: nothing disappears silently
    for text in (printed(table), *((folder.path / n).read_text() for n in TABLES[1:])):
        assert "INCOMPLETE" in text
        assert "3 missing" in text
    assert tables.main([str(folder.path)]) == 4


def test_an_ok_cell_whose_records_are_gone_is_missing(tmp_path):
    folder = make_run(tmp_path / "run")
    folder.cell(CELLS[0].id).records.unlink()
    assert load_comparison(folder.path)[0].missing == (CELLS[0].id,)


def test_a_run_in_which_nothing_finished_still_has_a_table(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    manifest_of(CELLS).save(folder.path)
    for cell in CELLS:
        folder.cell(cell.id).write_state(CellState(status="failed"))
    (table,) = rebuild(folder.path)
    assert len(table.failed) == len(CELLS)
    assert "FAILED" in printed(table)


def test_rebuilding_gives_the_same_bytes_whatever_the_order_of_rows(tmp_path):
    folder = make_run(tmp_path / "run")
    rebuild(folder.path)
    names = [*TABLES, "report.html", "figures/learning_curves.png", "figures/adaptation_curve.png"]
    before = {name: (folder.path / name).read_bytes() for name in names}
    rng = np.random.default_rng(0)
    for part in folder.path.glob("cells/*/records.parquet"):
        rows = pq.read_table(part)
        pq.write_table(rows.take(rng.permutation(len(rows))), part)
    for name in names:
        (folder.path / name).unlink()
    rebuild(folder.path)
    assert {name: (folder.path / name).read_bytes() for name in names} == before


def test_settings_that_vary_are_those_of_the_row_or_of_the_whole_table(tmp_path):
    folder = make_run(tmp_path / "run").path
    table, manifest = load_comparison(folder)
    cells = {
        key: cell.model_copy(update={"settings": {f"policy.{cell.policy}.n": 8, "env.horizon": 5}})
        for key, cell in manifest.cells.items()
    }
    frame = with_settings(table, manifest.model_copy(update={"cells": cells})).frame
    rows = frame.set_index("policy")
    assert set(frame["env.horizon"]) == {5}
    for policy, other in (("gru", "ssm"), ("ssm", "gru")):
        assert rows.loc[policy, f"policy.{policy}.n"] == 8
        assert rows.loc[policy, f"policy.{other}.n"] is None
    assert rows.loc["zero-action", ["policy.gru.n", "policy.ssm.n"]].isna().all()


def test_tasks_that_vary_have_tables_of_their_own(tmp_path):
    run = make_swept_run(tmp_path / "run", "test_tasks", ([0, 1], [2, 3]))
    assert [table.frame["test_tasks"].unique() for table in load_tables(run)] == [
        ["[0, 1]"],
        ["[2, 3]"],
    ]


def test_values_that_differ_have_texts_that_differ():
    texts = dict(varied({"a": 0.99999991, "b": 0.99999992, "c": 1e-3, "d": 64}))
    assert texts == {"a": "0.99999991", "b": "0.99999992", "c": "0.001", "d": "64"}
    hybrid = {"kind": "hybrid", "experience_weight": 0.3}
    assert dict(varied({"adapter": hybrid})) == {"adapter": "hybrid experience_weight=0.3"}


@pytest.mark.usefixtures("undrawn")
def test_adapters_that_vary_are_rows_and_their_column_stands_once(tmp_path):
    (table,) = rebuild(make_swept_run(tmp_path / "run", "adapter", ("gradient", "hybrid")))
    columns = list(table.frame.columns)
    assert columns.count("adapter") == 1
    rows = table.frame[table.frame["learner"] != REFERENCE]
    assert set(zip(rows["learner"], rows["adapter"], strict=True)) == {
        ("maml adapter=gradient", "gradient"),
        ("maml adapter=hybrid", "hybrid"),
    }


@pytest.mark.usefixtures("undrawn")
def test_tables_prints_the_table_and_answers_0(run, capsys):
    assert tables.main([str(run)]) == 0
    assert "zero-action" in capsys.readouterr().out


def test_tables_answers_2_for_a_folder_that_is_no_run(tmp_path, capsys):
    assert tables.main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Check the path" in error


@pytest.mark.parametrize("main", [tables.main, publish.main])
def test_help_tells_the_exit_codes(main, capsys):
    assert main(["--help"]) == 0
    assert "exit codes" in capsys.readouterr().out


def test_tables_is_a_program_that_needs_neither_torch_nor_ray(tmp_path):
    code = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[1]]\n"
        "try: runpy.run_module('harness.tables', run_name='__main__')\n"
        "finally: print({'torch', 'ray', 'harness.publish'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.strip() == "set()"


def test_publish_copies_a_complete_run_and_never_overwrites(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    folder.event("done")
    first, second = (folder.cell(cell.id) for cell in CELLS[:2])
    for cell, size in ((first, 8), (second, MAX_POLICY_BYTES)):
        tensors = {"params/w": torch.zeros(size), "adam/w": torch.zeros(size)}
        saved = Checkpoint(tensors, {"iteration": 7}, {})
        checkpoint.write(checkpoint.path_of(cell.checkpoints, 7), saved)
    (first.path / "notes.pkl").write_bytes(b"pickle")
    target = tmp_path / "published"
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 0
    output = capsys.readouterr().out
    names = {str(p.relative_to(target / "v1")) for p in (target / "v1").rglob("*") if p.is_file()}
    assert {"run.json", "events.jsonl", *TABLES} <= names
    own = ("state.json", "records.parquet", "curve.parquet")
    assert {f"cells/{cell.id}/{name}" for cell in CELLS for name in own} <= names
    assert "figures/adaptation_curve.png" in names
    policy = f"cells/{CELLS[0].id}/policy.safetensors"
    assert {name for name in names if name.endswith(".safetensors")} == {policy}
    assert list(checkpoint.read(target / "v1" / policy).tensors) == ["params/w"]
    (unpublished,) = (
        line for line in output.splitlines() if CELLS[1].id in line and "left" in line
    )
    assert unpublished.endswith(CELLS[1].id)
    assert not any("notes" in name for name in names)
    assert "table.csv" in output
    text = to_markdown(load_comparison(folder.path)[0])
    assert (target / "v1" / "table.md").read_text() == text
    assert exit_code([load_comparison(target / "v1")[0]]) == 0
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    # A run that is continued from a published folder has no other checkpoint.
    assert publish.main([str(target / "v1"), "v2", "--to", str(target)]) == 0
    assert (target / "v2" / policy).read_bytes() == (target / "v1" / policy).read_bytes()


@pytest.mark.parametrize(
    "what",
    [
        {"command": ("python", "-m", "harness.rllib", "--name", "x")},
        {"given": {"checkpoint": "x.safetensors"}},
    ],
)
def test_what_cannot_be_resumed_is_not_said_to_be(tmp_path, capsys, what):
    folder = make_run(tmp_path / "run", pending=[CELLS[0].id])
    Manifest.load(folder.path).model_copy(update=what).save(folder.path)
    assert publish.main([str(folder.path), "v1", "--to", str(tmp_path / "published")]) == 2
    error = capsys.readouterr().err
    table, manifest = load_comparison(folder.path)
    assert not manifest.resumable
    assert "--resume" not in error + " ".join(table.caption)


def test_publish_refuses_names_that_leave_the_folder(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    assert publish.main([str(folder.path), "../evil", "--to", str(tmp_path / "published")]) == 2
    assert "bad run name" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists()


def test_publish_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run")
    target = tmp_path / "published"

    def full(path):
        raise OSError("disk full")

    monkeypatch.setattr("harness.experiments.publishing.rebuild", full)
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 2
    assert not list(target.iterdir())
