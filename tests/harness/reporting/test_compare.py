"""Runs are compared where they were scored alike, refused by name where not, and never changed."""

import dataclasses
import hashlib
import io
from pathlib import Path

import pandas as pd
import pytest

import harness.reporting.compare as module
from harness.cli import compare as command
from harness.cli import status
from harness.errors import UsageError
from harness.reporting.compare import compare
from harness.reporting.rebuild import load_comparison, one_csv
from harness.reporting.store.files import find_run
from harness.reporting.store.manifest import CellState, Manifest, config_hash
from harness.reporting.store.records import RunFolder
from harness.types import Cell
from tests.harness.reporting.synthetic_run import (
    CONFIG,
    DIST,
    expected_cells,
    make_run,
    make_swept_run,
    manifest_of,
    records_of,
)


def state_of(folder):
    """The bytes and times of every file."""
    return {
        path.relative_to(folder): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def another_run(path, learner="rl2", policy="gru", seeds=(0, 1, 2), **changes):
    """A run of one row whose returns are 5 higher, and without reference lines."""
    folder = RunFolder.create(path)
    cells = [Cell(DIST, policy, learner, seed) for seed in seeds]
    dist = {"protocol": "toy, horizon 100", "references": {"non-adaptive": -7.5}, **changes}
    config = CONFIG | {"evaluation": CONFIG["evaluation"] | dist.pop("evaluation", {})}
    plan = manifest_of(cells, config=config, **dist)
    plan.model_copy(update={"references": {}}).save(path)
    for cell in cells:
        scored = records_of(cell, (0, 1), dist_version=dist.get("version", 1))
        rows = [dataclasses.replace(r, return_=r.return_ + 5) for r in scored]
        folder.cell(cell.id).write_state(CellState(status="ok"))
        folder.cell(cell.id).write_records(rows)
    return path


def test_a_run_is_found_by_its_name_below_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    make_run(tmp_path / "results/one")
    assert compare(["one"]).frame.equals(compare([tmp_path / "results/one"]).frame)
    assert status.main(["one"]) == 0
    assert find_run("two") == Path("results/two")  # where a mirror's copy would go
    assert find_run("../two") == Path("../two")
    another_run(tmp_path / "one")  # a folder that exists wins
    assert "rl2" in set(compare(["one"]).frame.learner)


def test_rows_of_several_runs_stand_in_one_table_with_their_own_numbers(tmp_path):
    one, two = make_run(tmp_path / "one").path, another_run(tmp_path / "two")
    before = state_of(tmp_path)
    found = compare([one, two])
    (name,) = found.tables
    assert name == f"{DIST}@1"
    table = found.tables[name]
    assert table.shots == (0, 1)  # `two` has no 5 shots
    own = load_comparison(one)[0].frame
    rows = {(r["policy"], r["learner"]): r for r in table.frame.to_dict("records")}
    for line in own.to_dict("records"):
        row = rows[line["policy"], line["learner"]]
        for column in ("return_0", "return_1", "return_1_low", "gain_1", "seeds"):
            assert row[column] == pytest.approx(line[column], nan_ok=True)
    assert rows["gru", "rl2"]["return_0"] == rows["gru", "maml"]["return_0"] + 5
    assert (rows["gru", "rl2"]["run"], rows["gru", "maml"]["run"]) == ("two", "one")
    assert len(rows) == 3 + 3  # reference lines once
    assert found.exit_code == 0
    assert state_of(tmp_path) == before
    text = " ".join(table.caption)
    assert "one: Created" in text
    assert "two: Created" in text


def test_equal_names_are_told_apart_by_the_run(tmp_path):
    runs = [make_run(tmp_path / "one").path, another_run(tmp_path / "two", "maml", seeds=(7, 8))]
    (table,) = compare(runs).tables.values()
    rows = {(r["policy"], r["learner"]): r for r in table.frame.to_dict("records")}
    assert rows["gru", "maml (one)"]["seeds"] == 3
    assert rows["gru", "maml (two)"]["seeds"] == 2
    assert rows["ssm", "maml"]["run"] == "one"
    pairs = table.improvement
    assert set(pairs["learner"]) == {"maml (one)", "maml (two)", "maml"}


def test_runs_of_other_folders_with_the_same_name_have_longer_names(tmp_path):
    runs = [make_run(tmp_path / "a/run").path, another_run(tmp_path / "b/run")]
    (table,) = compare(runs).tables.values()
    assert {"a/run", "b/run"} <= set(table.frame["run"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol": "toy, horizon 50"}, "horizon 50"),
        ({"evaluation": {"query_episodes": 3}}, "evaluation.query_episodes is 2 and 3"),
    ],
)
def test_what_differs_in_protocol_is_refused_by_name(tmp_path, capsys, changes, named):
    runs = [make_run(tmp_path / "one").path, another_run(tmp_path / "two", **changes)]
    out = tmp_path / "out"
    assert command.main([*map(str, runs), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("one", "two", DIST, named):
        assert part in line
    assert not out.exists()


def test_versions_of_a_distribution_have_tables_of_their_own(tmp_path):
    runs = [make_run(tmp_path / "one").path, another_run(tmp_path / "two", version=2)]
    tables = compare(runs).tables
    assert list(tables) == [f"{DIST}@1", f"{DIST}@2"]
    assert [set(table.frame["run"]) - {""} for table in tables.values()] == [{"one"}, {"two"}]


def test_other_tasks_and_missing_or_repeated_runs_are_refused(tmp_path, capsys):
    one, two = make_run(tmp_path / "one").path, another_run(tmp_path / "two")
    swept = make_swept_run(tmp_path / "swept", "evaluation.episodes_per_shot", (2, 4))
    for runs in ([one, one], [one, tmp_path / "none"], [one, swept]):
        assert command.main([*map(str, runs)]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    folder = RunFolder(two)
    for cell in expected_cells(learners=("rl2",)):
        if cell.policy == "gru":
            folder.cell(cell.id).write_records(records_of(cell, (0, 1), tasks=3))
    with pytest.raises(UsageError, match=r"other test tasks \(4 and 3\)"):
        compare([one, two])


def test_failed_and_missing_cells_of_any_run_show_in_the_exit_code(tmp_path, capsys):
    whole = another_run(tmp_path / "two")
    failed = expected_cells()[0].id
    assert command.main([str(whole), str(make_run(tmp_path / "one", failed=[failed]).path)]) == 3
    assert f"one/{failed}" in capsys.readouterr().out.replace("\n", "")


def test_out_gets_tables_and_figures_and_is_never_overwritten(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "write_figures", lambda *given: drawn.append(given[-1].name))
    runs = [make_run(tmp_path / "one").path, another_run(tmp_path / "two")]
    before, out = state_of(tmp_path), tmp_path / "out"
    assert command.main([*map(str, runs), "--out", str(out)]) == 0
    after = state_of(tmp_path)
    assert {key: value for key, value in after.items() if "out" not in key.parts} == before
    assert drawn == [f"{DIST}@1"]
    frame = pd.read_csv(io.StringIO((out / "table.csv").read_text()))
    assert set(frame["run"].dropna()) == {"one", "two"}
    assert "rl2" in (out / "table.md").read_text()
    assert command.main([*map(str, runs), "--out", str(out)]) == 2


def renamed(run, path, name, **changes):
    """Write the cells of a run as those of another distribution, with a changed configuration."""
    plan = Manifest.load(run)
    RunFolder.create(path)
    info = plan.tables[DIST].model_copy(update={"name": name})
    cells = {}
    for key, cell in plan.cells.items():
        config = cell.config | {"task_dist": name} | changes
        update = {"task_dist": name, "config": config, "config_hash": config_hash(config)}
        cells[key] = cell.model_copy(update=update)
    plan.model_copy(update={"tables": {DIST: info}, "cells": cells, "references": {}}).save(path)
    for key, cell in cells.items():
        folder = RunFolder(path).cell(key)
        folder.write_state(CellState(status="ok"))
        folder.write_records(records_of(cell.cell, cell=key, task_dist=name))
    return path


def test_distributions_that_only_one_run_has_keep_their_own_table(tmp_path):
    one = make_run(tmp_path / "one").path
    found = compare([one, renamed(one, tmp_path / "two", "other")])
    assert list(found.tables) == [f"{DIST}@1", "other@1"]
    assert set(found.frame["task_dist"]) == {DIST, "other"}
    assert found.across == ()  # one has no constants


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"horizon": 10}},
        {"test_tasks": [0, 1, 2, 3]},
        {"evaluation": {"protocol": "quick"}},
    ],
)
def test_scores_on_other_tasks_are_not_normalised(tmp_path, change):
    one = make_run(tmp_path / "one").path
    dir_, vel = (renamed(one, tmp_path / name, name) for name in ("ant-dir", "ant-vel"))
    (part,) = compare([dir_, vel]).across
    assert part.distributions == ("ant-dir@1", "ant-vel@1")
    found = compare([dir_, renamed(one, tmp_path / "changed", "ant-vel", **change)])
    assert found.across == ()
    assert [module.NOT_AGGREGATED in table.caption for table in found.tables.values()] == [
        False,
        True,
    ]


def test_aggregates_stay_when_a_later_run_has_the_same_rows(tmp_path):
    one = make_run(tmp_path / "one").path
    published = [renamed(one, tmp_path / name, name) for name in ("ant-dir", "ant-vel")]
    mine = [renamed(one, tmp_path / f"my-{name}", name) for name in ("ant-dir", "ant-vel")]
    (alone,) = compare(published).across
    for more in (mine[:1], mine):
        (part,) = compare([*published, *more]).across
        pd.testing.assert_frame_equal(part.frame, alone.frame)
        told = " ".join(part.left_out)
        assert [path.name in told for path in mine] == [path in more for path in mine]


def test_the_first_version_of_metaworld_has_its_own_default_settings():
    assert module._default_settings("metaworld-ml10@1")["reward_version"] == "v1"
    assert module._default_settings("metaworld-ml10@2")["reward_version"] == "v2"
    assert module._default_settings("ant-mass@1") == {"horizon": None}


def test_tables_of_different_columns_are_one_csv():
    joined = one_csv(["a,b\n1,2\n", "b,c\n3,4\n"])
    assert joined == "a,b,c\n1,2,\n,3,4\n"
    assert one_csv(["a,b\n1,2\n", "a,b\n3,4\n"]) == "a,b\n1,2\n3,4\n"


def test_runs_without_a_scored_cell_take_part(tmp_path):
    whole, bare = make_run(tmp_path / "one").path, another_run(tmp_path / "bare")
    for records in bare.glob("cells/*/records.parquet"):
        records.unlink()
    waiting = make_run(tmp_path / "two", pending=[cell.id for cell in expected_cells()]).path
    for runs in ([bare], [waiting], [waiting, whole], [whole, bare], [bare, whole]):
        assert compare(runs).exit_code == 4
