"""The files of a stranger's run: refused with exit code 5, and nothing is written outside."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness.cli import publish, status, sweep, tables
from harness.errors import ExitCode
from harness.reporting.rebuild import folder_name
from harness.reporting.store.manifest import config_hash
from tests.harness.reporting.synthetic_run import make_run

KEY = "point_goal.ssm.maml.s0"
RUN = Path("results/x")
CELL = RUN / "cells" / KEY
READERS = {
    "tables": lambda: tables.main(["results/x"]),
    "status": lambda: status.main(["results/x"]),
    "publish": lambda: publish.main(["results/x", "v1", "--to", "published"]),
    "resume": lambda: sweep.main(["results/x", "--resume"]),
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, no_figures):
    """A run at results/x, and beside it what is not its business."""
    make_run(tmp_path / "here/results/x")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/mine.txt").write_text("mine")


def outside():
    """Everything that is not below results/x, with its content."""
    top, own = Path.cwd().parent, RUN.absolute()
    paths = (path for path in top.rglob("*") if not path.is_relative_to(own))
    return {path: path.read_bytes() if path.is_file() else b"" for path in paths}


def assert_refused(capsys, readers=tuple(READERS)):
    before = outside()
    for name in readers:
        assert READERS[name]() == ExitCode.REFUSED, name
        out, message = capsys.readouterr()
        assert out == ""
        assert message.startswith("error: ")
        assert message[:-1].isprintable(), "more than a line, or something that commands a terminal"
        assert "results/x" in message
        assert len(message) < 1000
    after = outside()
    after.pop(Path("published").absolute(), None)  # made before the run is opened, and empty
    assert after == before


def rewritten(change):
    """Change ``run.json`` and make its hashes fit again, as its author could."""
    content = json.loads((RUN / "run.json").read_text())
    change(content)
    for cell in content["cells"].values():
        cell["config_hash"] = config_hash(cell.get("config", {}))
    (RUN / "run.json").write_text(json.dumps(content))


def renamed(key):
    return lambda content: content["cells"].update({key: content["cells"].pop(KEY)})


def in_cell(**values):
    return lambda content: content["cells"][KEY].update(values)


CHANGES = {
    "a cell without a configuration": lambda content: content["cells"][KEY].pop("config"),
    "a distribution that its configuration does not name": in_cell(task_dist="../../../x"),
    "a key that leaves": renamed("../x"),
    "an absolute key": renamed("/tmp/x"),
    "a long key that commands a terminal": renamed("\x1b[2J" * 10_000),
    "a long field that commands a terminal": lambda content: content.update({"\x1b[2J" * 9999: 1}),
    "an evaluation that is no section": in_cell(
        config={"task_dist": "point_goal", "seed": [0], "evaluation": 3}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_run_that_does_not_fit_itself_is_refused(change, capsys):
    rewritten(change)
    assert_refused(capsys)


def test_a_configuration_of_another_version_is_not_resumed(capsys):
    rewritten(lambda content: content["cells"][KEY]["config"].update({"strange": 1}))
    assert READERS["resume"]() == ExitCode.REFUSED
    assert KEY in capsys.readouterr().err
    rewritten(lambda content: content.update(scheduling={"max_failures": "many"}))
    assert READERS["resume"]() == ExitCode.REFUSED


def linked(folder):
    elsewhere = Path.cwd().parent / "outside" / folder.name
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


OTHERS = {
    "a truncated file": lambda: (RUN / "run.json").write_text("{"),
    "a malformed state": lambda: (CELL / "state.json").write_text("[]"),
    "a folder elsewhere": lambda: linked(CELL),
    "checkpoints elsewhere": lambda: (CELL / "checkpoints").symlink_to(Path("..").resolve()),
    "a lock elsewhere": lambda: (RUN / ".lock").symlink_to(Path("../outside").resolve()),
    "a log elsewhere": lambda: (RUN / "events.jsonl").symlink_to(Path("../outside/e").resolve()),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_a_damaged_file_and_a_link_that_leaves_are_refused(change, capsys):
    change()
    assert_refused(capsys)


@pytest.mark.parametrize(
    ("part", "readers"),
    [("records", ("tables", "publish")), ("curve", ("tables", "status"))],
)
def test_a_malformed_parquet_file_is_refused(part, readers, capsys):
    (CELL / f"{part}.parquet").write_bytes(b"PAR1")
    assert_refused(capsys, readers)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 7), ("policy", "lstm"), ("learner", "rl2"), ("task_dist", "x"), ("dist_version", 2)],
)
def test_a_record_that_does_not_fit_its_cell_is_refused(name, value, capsys):
    path = CELL / "records.parquet"
    table = pq.read_table(path)
    field = table.schema.field(name)
    changed = pa.array([value, *table.column(name).to_pylist()[1:]], field.type)
    pq.write_table(table.set_column(table.schema.get_field_index(name), field, changed), path)
    assert_refused(capsys, ("tables", "publish"))


def test_a_seed_that_lacks_an_episode_everywhere_is_refused(capsys):
    path = CELL / "records.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("query_episode") == 0), path)
    assert READERS["tables"]() == ExitCode.REFUSED
    assert KEY in capsys.readouterr().err


def test_a_pipe_in_place_of_records_is_refused(capsys):
    (CELL / "records.parquet").unlink()
    os.mkfifo(CELL / "records.parquet")
    assert_refused(capsys, ("tables", "publish"))


def test_a_hostile_log_of_events_costs_no_view(capsys):
    lines = ["[" * 100_000, '{"kind": "\\ud800"}', '{"time": {}, "kind": "\x1b[2J"}', '{"a']
    (RUN / "events.jsonl").write_text("\n".join([*lines, '{"time": "2026", "kind": "node_lost"}']))
    assert status.main(["results/x"]) == 0
    out, message = capsys.readouterr()
    assert message == ""
    assert "node_lost" in out
    assert "\x1b[2J" not in out


def test_names_of_tables_stay_in_the_folder_of_figures():
    names = ["x.test_tasks=[0, 1]", "x.test_tasks=[0, 1", "x.a/b", "x.a-b", "y" * 200, "y" * 201]
    folders = [folder_name(name) for name in [*names, "point_goal, protocol=/../../../x"]]
    assert len(set(folders)) == len(folders)
    assert all(len(name) < 128 and Path(name).name == name for name in folders)
    assert folder_name("point_goal, horizon=8") == "point_goal.horizon-8"
