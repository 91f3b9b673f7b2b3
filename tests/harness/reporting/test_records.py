import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import ArtefactError, UsageError
from harness.reporting.store import files, json_io, provenance, schema
from harness.reporting.store.files import run_path, write_atomically
from harness.reporting.store.manifest import CellState, Manifest, config_hash
from harness.reporting.store.records import CellFolder, RunFolder, read_curves, read_records
from harness.types import EvalRecord, Metrics
from tests.harness.reporting.synthetic_run import (
    CONFIG,
    DIST,
    curve_of,
    expected_cells,
    manifest_of,
    record,
    records_of,
)

CELL = expected_cells()[0]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    manifest_of(expected_cells(), status="pending").save(folder.path)
    return folder


@pytest.fixture
def folder(run: RunFolder) -> CellFolder:
    cell = run.cell(CELL.id)
    cell.create()
    return cell


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/b", "a\\b", "", ".", "..", ".hidden", "a\nb", "x" * 200, "-x"]
)
def test_names_that_leave_results_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="run name"):
        run_path(tmp_path, name)


def test_a_link_that_leaves_results_is_refused(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leaves"):
        run_path(tmp_path / "results", "link")


def test_a_used_folder_is_refused(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    with pytest.raises(UsageError, match=r"--resume.*--name"):
        RunFolder.create(tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        RunFolder.create(tmp_path / "file")
    assert folder.path.is_dir()


def test_records_survive_the_round_trip(folder):
    rows = records_of(CELL)
    rows[3] = dataclasses.replace(rows[3], return_=math.nan, invalid=True)
    rows[2] = dataclasses.replace(rows[2], rewards=(0.5, -0.25))
    # numpy's scalars are what a rollout hands over
    rows[4] = dataclasses.replace(rows[4], return_=np.float32(0.5), success=np.bool_(True))
    folder.write_records(rows)
    frame = read_records(folder.path.parents[1])
    assert list(frame.columns) == [field.name for field in dataclasses.fields(EvalRecord)]
    back = [EvalRecord(**row) for row in frame.to_dict("records")]
    key = lambda row: tuple(getattr(row, name) for name in schema.UNIQUE)  # noqa: E731
    assert [repr(r) for r in sorted(back, key=key)] == [
        repr(dataclasses.replace(r, return_=float(r.return_), success=bool(r.success)))
        for r in sorted(rows, key=key)
    ]


def test_records_come_back_in_one_order_whatever_order_they_were_written_in(folder):
    folder.write_records(records_of(CELL))
    first = read_records(folder.path.parents[1])
    folder.write_records(records_of(CELL)[::-1])
    assert read_records(folder.path.parents[1]).equals(first)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"return_": math.nan}, "not marked invalid"),
        ({"return_": math.inf}, "infinite"),
        ({"return_": 1e999}, "infinite"),
        ({"return_": -1e300}, "single precision"),
        ({"shots": 1.5}, "not of type int"),
        ({"shots": True}, "not of type int"),
        ({"success": 1}, "not of type bool"),
        ({"policy": None}, "not of type str"),
        ({"shots": -1}, "negative"),
        ({"adapt_seconds": math.nan}, "adapt_seconds"),
        ({"cell": "another"}, "another"),
        ({"policy": "x" * 5000}, "5000 characters"),
        ({"rewards": (0.5, math.inf)}, "rewards"),
    ],
)
def test_impossible_records_are_refused_before_anything_is_written(folder, change, reason):
    rows = [record(CELL, 0, 0, 0), dataclasses.replace(record(CELL, 0, 0, 1), **change)]
    with pytest.raises(ValueError, match=reason):
        folder.write_records(rows)
    assert not folder.records.exists()


def test_duplicates_and_empty_results_are_refused(folder):
    row = record(CELL, 0, 0, 0)
    with pytest.raises(ValueError, match="duplicate"):
        folder.write_records([row, dataclasses.replace(row, return_=3.0)])
    with pytest.raises(ValueError, match="no rows"):
        folder.write_records([])


@pytest.mark.parametrize("key", ["../../evil", "", ".hidden"])
def test_a_key_cannot_leave_the_folder(run, key):
    with pytest.raises(ValueError, match="cell"):
        run.cell(key)


def _part(folder: CellFolder) -> Path:
    folder.write_records(records_of(CELL))
    return folder.records


def _set(table: pa.Table, name: str, value: object) -> pa.Table:
    place = table.schema.get_field_index(name)
    values = [value, *table.column(name).to_pylist()[1:]]
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def _with_null(table: pa.Table) -> pa.Table:
    nullable = pa.schema([field.with_nullable(True) for field in table.schema])
    return _set(table.cast(nullable), "seed", None)


HOSTILE = {
    "a column missing": lambda t: t.drop_columns(["seed"]),
    "a column more": lambda t: t.append_column("x", pa.array([1] * len(t))),
    "another type": lambda t: t.set_column(0, "run", pa.array([b"x"] * len(t), pa.binary())),
    "a null": _with_null,
    "an infinite return": lambda t: _set(t, "return_", math.inf),
    "a NaN return": lambda t: _set(t, "return_", math.nan),
    "a duplicate": lambda t: pa.concat_tables([t, t.slice(0, 1)]),
    "another cell's row": lambda t: _set(t, "cell", "x"),
    "no rows": lambda t: t.slice(0, 0),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_malformed_parts_are_refused_by_name(folder, change):
    path = _part(folder)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(ArtefactError, match=CELL.id):
        read_records(folder.path.parents[1])


NOT_PARQUET = {
    "empty": lambda part: b"",
    "text": lambda part: b"not parquet",
    "the marks alone": lambda part: b"PAR1" + b"\0" * 100 + b"PAR1",
    "truncated": lambda part: part[:-20],
}


@pytest.mark.parametrize("change", NOT_PARQUET.values(), ids=NOT_PARQUET.keys())
def test_files_that_are_not_parquet_are_refused(folder, change):
    path = _part(folder)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ArtefactError, match=CELL.id):
        read_records(folder.path.parents[1])


def test_oversized_parts_are_refused_on_disk_and_unpacked(folder, monkeypatch):
    path = _part(folder)
    monkeypatch.setattr(schema, "MAX_BYTES", 100)
    with pytest.raises(ArtefactError, match="at most 100"):
        read_records(folder.path.parents[1])
    # A small file of a hundred thousand equal rows: the size on disk alone says nothing.
    table = pa.concat_tables([pq.read_table(path)] * 4_000)
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(schema, "MAX_BYTES", path.stat().st_size + 1)
    with pytest.raises(ArtefactError, match="unpacks to"):
        read_records(folder.path.parents[1])


def test_curves_survive_the_round_trip_with_changing_keys_and_nan(folder):
    rows = [
        Metrics(1, 100, -3.0, math.nan, 1.0, {"physics": 0.5}, {}),
        Metrics(2, 200, -2.0, -1.0, 2.0, {"learner": 0.1, "physics": 0.5}, {"kl": math.inf}),
    ]
    assert folder.read_curve() == ()
    folder.write_curve(rows)
    assert repr(folder.read_curve()) == repr(tuple(rows))
    assert set(read_curves(folder.path.parents[1])) == {CELL.id}


def test_a_curve_with_a_foreign_column_is_refused(folder):
    folder.write_curve(curve_of(CELL))
    path = folder.curve
    table = pq.read_table(path)
    pq.write_table(table.append_column("payload", pa.array(["x"] * len(table))), path)
    with pytest.raises(ArtefactError, match="payload"):
        read_curves(folder.path.parents[1])


def test_a_crash_before_the_rename_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "part"
    write_atomically(path, b"old")

    def crash(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_no_part_and_resume_sweeps_up(folder):
    folder.write_records(records_of(CELL))
    before = read_records(folder.path.parents[1])
    script = (
        "import os, sys; from pathlib import Path\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "from harness.reporting.store.files import write_atomically\n"
        "write_atomically(Path(sys.argv[1]), b'half')"
    )
    command = [sys.executable, "-c", script, str(folder.records)]
    assert subprocess.run(command, check=False).returncode == 9
    (leftover,) = folder.path.glob(".*.tmp")
    assert read_records(folder.path.parents[1]).equals(before)
    folder.create()
    assert not leftover.exists()


def test_events_are_one_json_line_each_and_survive_a_torn_line(run):
    folder = run
    folder.event("worker_restarted", worker=3, loss=math.nan)
    path = folder.path / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"torn')
    folder.event("cell_finished", cell=CELL.id)
    lines = path.read_text().splitlines()
    first, last = json.loads(lines[0], parse_constant=pytest.fail), json.loads(lines[-1])
    assert (first["kind"], first["worker"], first["loss"]) == ("worker_restarted", 3, "nan")
    assert last["cell"] == CELL.id
    assert len(lines) == 3


def test_a_run_survives_the_round_trip_and_says_where_it_comes_from(run):
    plan = manifest_of(expected_cells(), status="pending")
    loaded = Manifest.load(run.path)
    assert loaded == plan.model_copy(update={"created": loaded.created})
    run.cell(CELL.id).write_state(CellState(status="failed", reason="diverged", wall_seconds=3.5))
    stored = (run.path / "run.json").read_text()
    found = Manifest.load(run.path)
    assert (found.cells[CELL.id].status, found.cells[CELL.id].wall_seconds) == ("failed", 3.5)
    assert found.ids("failed") == (CELL.id,)
    assert found.seeds == (0, 1, 2)
    assert {"python", "ray", "torch", "mujoco", "numpy", "metarl-harness"} <= set(found.packages)
    assert found.host["cores"] >= 1
    assert "diverged" not in stored, "states belong to the cells"


def test_only_what_changes_a_number_is_compared_on_resume():
    def plan(**config):
        return manifest_of([CELL], config=CONFIG | config)

    then = plan()
    then.check_resume(plan(execution={"num_workers": 99}))
    with pytest.raises(UsageError, match=r"train.epochs: 3 then, 4 now.*--name"):
        then.check_resume(plan(train={"epochs": 4}))
    with pytest.raises(UsageError, match="defined differently"):
        then.check_resume(manifest_of([CELL], version=2))
    assert config_hash({"a": (1, 2)}) == config_hash({"a": [1, 2]})


def test_configurations_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="plain data"):
        config_hash({"a": object()})
    with pytest.raises(ValueError, match="JSON"):
        config_hash({"a": math.nan})


BROKEN = {
    "not json": lambda text: "{",
    "not text": lambda text: "\udcff",
    "a missing key": lambda text: text.replace('"created"', '"made"'),
    "an unknown key": lambda text: text.replace('"host"', '"extra": 1, "host"'),
    "a newer format": lambda text: text.replace('"format": 1', '"format": 2'),
    "no cells": lambda text: json.dumps(json.loads(text) | {"cells": {}}),
    "1e999": lambda text: text.replace('"epochs": 3', '"epochs": 1e999'),
    "NaN": lambda text: text.replace('"epochs": 3', '"epochs": NaN'),
    "a changed configuration": lambda text: text.replace('"epochs": 3', '"epochs": 300'),
    "a key that leaves": lambda text: text.replace(f'"{CELL.id}"', '"../../x"'),
    "another seed": lambda text: text.replace('"seed": 0', '"seed": 7', 1),
    "an unknown table": lambda text: text.replace(f'"table": "{DIST}"', '"table": "x"'),
    "deep nesting": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_broken_runs_are_refused_by_name(run, change):
    path = run.path / "run.json"
    text = change(path.read_text())
    assert text != path.read_text(), "the test changes nothing"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ArtefactError, match=r"run.json"):
        Manifest.load(run.path)


@pytest.mark.parametrize("text", ["{", '{"status": "fine"}', '{"status": "ok", "more": 1}'])
def test_broken_states_are_refused_by_name(run, text):
    run.cell(CELL.id).create()
    (run.cell(CELL.id).path / "state.json").write_text(text)
    with pytest.raises(ArtefactError, match=CELL.id):
        Manifest.load(run.path)


def test_an_oversized_file_is_not_read(run):
    os.truncate(run.path / "run.json", json_io.MAX_BYTES + 1)  # sparse: no block of it on disk
    with pytest.raises(ArtefactError, match="larger"):
        Manifest.load(run.path)


def test_links_may_not_lead_out_of_the_run(run):
    (run.path / "latest").symlink_to(f"cells/{CELL.id}", target_is_directory=True)
    logs = run.cell(CELL.id).path / "wandb"
    logs.mkdir(parents=True)
    (logs / "debug.log").symlink_to("/tmp/wandb.log")  # Weights & Biases does that itself
    Manifest.load(run.path)
    (run.path / "figures").symlink_to(run.path.parent)
    with pytest.raises(ArtefactError, match="leaves"):
        Manifest.load(run.path)


def test_a_missing_run_is_bad_input_not_a_refused_artefact(tmp_path):
    with pytest.raises(UsageError, match="no run at"):
        Manifest.load(tmp_path)


def test_temporaries_are_named_so_that_readers_skip_them(tmp_path, monkeypatch):
    seen = []
    real = os.fsync
    monkeypatch.setattr(
        files.os, "fsync", lambda fd: (seen.extend(tmp_path.glob("*.parquet")), real(fd))
    )
    write_atomically(tmp_path / "a.parquet", b"x")
    # First fsync: the data, before any *.parquet exists; second: the folder, after the rename.
    assert seen == [tmp_path / "a.parquet"]


def test_processors_are_told_apart_by_family_and_model(monkeypatch):
    here = provenance.machine() | {"cpu": "AMD EPYC, family 25 model 17"}
    monkeypatch.setattr(provenance, "machine", lambda: here)
    assert not provenance.elsewhere("AMD EPYC, family 25 model 17", here["packages"])
    for other in ("AMD EPYC, family 25 model 1", "AMD EPYC", "", None):
        assert "processor" in provenance.elsewhere(other, here["packages"])


def test_results_beside_the_code_are_no_change_of_it(tmp_path, monkeypatch):
    module = tmp_path / "package" / "module.py"
    module.parent.mkdir()
    module.touch()
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "x")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.md").touch()
    assert provenance.git_revision()[1] is False
    module.write_text("changed")
    assert provenance.git_revision()[1] is True
