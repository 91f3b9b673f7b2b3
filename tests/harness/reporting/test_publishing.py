"""A run whose settings vary: its tables, and that it is published whole or not at all."""

from pathlib import Path

import pandas as pd
import pytest

from harness.cli import publish, tables
from harness.experiments import publishing
from harness.reporting.rebuild import exit_code, load_tables, rebuild
from harness.reporting.store.checksums import changed_files
from harness.reporting.store.manifest import CellState, Manifest
from harness.reporting.store.records import RunFolder
from tests.harness.reporting.synthetic_run import (
    expected_cells,
    make_run,
    make_swept_run,
    records_of,
)

pytestmark = pytest.mark.usefixtures("no_figures")


def test_settings_that_vary_name_the_rows_and_are_columns_of_the_csv(tmp_path):
    run = make_swept_run(tmp_path / "run")
    (table,) = rebuild(run)
    frame = pd.read_csv(run / "table.csv")
    frame = frame[frame.learner != "reference"]
    assert list(frame.learner) == ["maml inner_lr=0.1"] * 2 + ["maml inner_lr=0.2"] * 2
    assert list(frame["adapt.inner_lr"]) == [0.1, 0.1, 0.2, 0.2]
    assert list(frame.seeds) == [3] * 4
    assert exit_code([table]) == 0


def test_cells_that_are_scored_differently_share_no_table(tmp_path):
    run = make_swept_run(tmp_path / "run", "evaluation.query_episodes", (2, 3))
    first, second = rebuild(run)
    assert first.title.endswith("query_episodes=2")
    assert second.title.endswith("query_episodes=3")
    assert {path.name for path in (run / "figures").iterdir()} == {
        "point_goal.query_episodes-2",
        "point_goal.query_episodes-3",
    }
    assert len(pd.read_csv(run / "table.csv")) == 4
    assert tables.main([str(run)]) == 0


def test_a_published_run_says_what_its_cells_say(tmp_path):
    run, target = make_swept_run(tmp_path / "run"), tmp_path / "published"
    rebuild(run)
    assert publish.main([str(run), "v1", "--to", str(target)]) == 0
    for name in ("table.md", "table.csv"):
        assert (target / "v1" / name).read_bytes() == (run / name).read_bytes()
    cells = {path.name for path in (run / "cells").iterdir()}
    assert {path.name for path in (target / "v1/cells").iterdir()} == cells
    assert publish.main([str(run), "v1", "--to", str(target)]) == 2


def test_a_publication_that_is_stopped_keeps_the_one_before(tmp_path, monkeypatch):
    run, target = make_swept_run(tmp_path / "run"), tmp_path / "published/v1"
    publishing.publish(run, "v1", target.parent, partial=True)
    rename = Path.rename

    def stop(path, to):
        if path.suffix == ".tmp":
            raise SystemExit(4)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(SystemExit):
        publishing.publish(run, "v1", target.parent, partial=True)
    assert list(target.parent.iterdir()) == [target]
    assert changed_files(target) == []


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_a_run_with_a_cell_that_is_not_ok_is_not_published(tmp_path, capsys, state):
    run, target = make_swept_run(tmp_path / "run"), tmp_path / "published"
    key = next(iter(load_keys(run)))
    RunFolder(run).cell(key).write_state(CellState(status=state))
    assert publish.main([str(run), "v1", "--to", str(target)]) == 2
    error = capsys.readouterr().err
    assert f"1 of 12 cells are not ok ({key})" in error
    assert "--resume, then" in error
    assert not list(target.iterdir())


def load_keys(run: Path):
    return sorted(path.name for path in (run / "cells").glob("*maml*"))


def test_the_finished_cells_of_a_run_are_published_as_they_come(tmp_path):
    target = tmp_path / "published"
    argv = ["--partial", "--to", str(target)]
    names = [cell.id for cell in expected_cells()]
    nothing = make_run(tmp_path / "nothing", pending=names).path
    assert publish.main([str(nothing), "v1", *argv]) == 2
    assert not list(target.iterdir())

    run = make_run(tmp_path / "run", pending=names[2:])
    assert publish.main([str(run.path), "v1", *argv]) == 0
    assert load_tables(target / "v1")[0].missing == tuple(names[2:])
    assert not (target / "v1/cells" / names[2]).exists()
    (target / "v1/submission.yaml").write_text("who: me\n")
    cell = run.cell(names[2])
    cell.create()
    cell.write_records(records_of(expected_cells()[2]))
    cell.write_state(CellState(status="ok"))
    assert publish.main([str(run.path), "v1", *argv]) == 0
    assert load_tables(target / "v1")[0].missing == tuple(names[3:])
    assert (target / "v1/submission.yaml").read_text() == "who: me\n"
    assert [path.name for path in target.iterdir()] == ["v1"]

    other = make_run(tmp_path / "other").path
    stored = Manifest.load(other).model_copy(update={"created": "2020-01-01T00:00:00+00:00"})
    stored.save(other)
    assert publish.main([str(other), "v1", *argv]) == 2
    assert load_tables(target / "v1")[0].missing == tuple(names[3:])


def test_tables_tells_missing_cells_from_failed_ones(tmp_path):
    run = make_swept_run(tmp_path / "run")
    first, second, *_ = load_keys(run)
    for keys, state, code in (((first,), "failed", 3), ((second,), "pending", 4)):
        for key in keys:
            RunFolder(run).cell(key).write_state(CellState(status=state, reason="why"))
        assert tables.main([str(run)]) == code
    (table,) = load_tables(run)
    assert (list(table.failed), table.missing) == ([first], (second,))
