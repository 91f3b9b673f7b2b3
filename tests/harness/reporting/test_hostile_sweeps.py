"""The files of a stranger's sweep: refused with exit 5 and a sentence, nothing written outside."""

import json
import os
import shutil
from pathlib import Path

import pytest

from harness.cli import publish, status, sweep, tables
from harness.config import sweep_file
from harness.config.schema import config_as_dict
from harness.errors import ArtefactError
from harness.experiments.sweep_run import describe
from harness.reporting.store import sweep_manifest
from harness.reporting.store.files import check_links
from harness.reporting.store.manifest import DistInfo, Manifest, config_hash
from harness.reporting.store.records import RunFolder
from harness.reporting.store.sweep_manifest import SweepManifest
from harness.reporting.sweeps import _folder_name
from tests.harness.reporting.synthetic_run import curve_of, records_of

KEY, OTHER = "point_goal.ssm.maml.s0", "point_goal.gru.maml.s1"
FILE = Path("results/x/sweep.json")
CELL = Path(f"results/x/cells/{KEY}")
READERS = {
    "tables": lambda: tables.main(["results/x"]),
    "status": lambda: status.main(["results/x"]),
    "publish": lambda: publish.main(["results/x", "v1", "--to", "published"]),
    "resume": lambda: sweep.main(["x.yaml", "--resume"]),
}
SWEEP = "base: {task_dist: point_goal}\nsweep: {policy: [ssm, gru], seed: [0, 1]}\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep as it stands when all is done; its numbers follow a formula."""
    here = tmp_path_factory.mktemp("finished")
    (here / "x.yaml").write_text(SWEEP)
    planned = sweep_file.load(here / "x.yaml")
    dist = DistInfo(name="point_goal", version=1, protocol="toy, horizon 100")
    for one in planned.cells:
        folder = RunFolder.create(here / "results/x/cells" / one.key)
        folder.write_records(one.cell.id, records_of(one.cell))
        folder.write_curve(one.cell.id, curve_of(one.cell))
        config = config_as_dict(one.config)
        own = Manifest.create(
            ["x"], config, config_given={}, cells=[one.cell], distributions=[dist]
        )
        own.with_status(one.cell.id, "ok", wall_seconds=1.0).save(folder.manifest_path)
    describe(planned, ["x.yaml"]).save(here / "results/x")
    return here


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, finished):
    """The sweep at results/x, and beside it what is not its business."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("harness.reporting.sweeps.write_figures", lambda *_: None)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/mine.txt").write_text("mine")


def outside():
    """Everything that is not below results/x, with its content."""
    top = Path.cwd().parent
    found = {path: path.read_bytes() if path.is_file() else b"" for path in top.rglob("*")}
    own = Path("results/x").absolute()
    return {path: text for path, text in found.items() if not path.is_relative_to(own)}


def assert_refused(capsys, readers=tuple(READERS)):
    before = outside()
    for name in readers:
        assert READERS[name]() == 5, name
        out, told = capsys.readouterr()
        assert out == ""
        assert told.startswith("error: ")
        assert told.endswith("\n")
        line = told[:-1]
        assert line.isprintable(), "more than a line, or something that commands a terminal"
        assert "results/x" in line
        assert len(line) < 1000
    after = outside()
    after.pop(Path("published").absolute(), None)  # made before the sweep is opened, and empty
    assert after == before


def rewritten(change):
    """Change ``sweep.json`` and make its own hashes fit again, as its author could."""
    content = json.loads(FILE.read_text())
    change(content)
    if isinstance(content["cells"], dict):
        for cell in content["cells"].values():
            cell["config_hash"] = config_hash(cell["config"])
        fitting = sweep_manifest._hash(
            content["tune"],
            {
                key: sweep_manifest.SweepCell.model_construct(**c)
                for key, c in content["cells"].items()
            },
        )
        content["sweep_hash"] = fitting
    FILE.write_text(json.dumps(content))


def renamed(key):
    def change(content):
        content["cells"][key] = content["cells"].pop(KEY)

    return change


def in_cell(**values):
    return lambda content: content["cells"][KEY].update(values)


def named(task_dist):
    """Another name of the distribution, in the cell and in its configuration."""

    def change(content):
        cell = content["cells"][KEY]
        cell["task_dist"] = cell["config"]["task_dist"] = task_dist

    return change


def in_config(**values):
    return lambda content: content["cells"][KEY]["config"].update(values)


def newer(content):
    content.update(format=2, cells=[], nodes={"a": 1})


CHANGES = {
    "a newer format": newer,
    "cells of the wrong type": lambda content: content.update(cells=[]),
    "no cells": lambda content: content.update(cells={}),
    "a seed of the wrong type": in_cell(seed="0"),
    "a section of the wrong type": in_config(evaluation=[]),
    "settings that are none": in_cell(settings={"policy": "x"}),
    "a number that is none": in_cell(settings={"train.epochs": float("nan")}),
    "a key that leaves": renamed("../x"),
    "a name that leaves": named("../../../outside/x"),
    "a long key that commands a terminal": renamed("\x1b[2J" * 10_000),
    "a long field that commands a terminal": lambda content: content.update({"\x1b[2J" * 9999: 1}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_sweep_that_does_not_fit_itself_is_refused(change, capsys):
    rewritten(change)
    assert_refused(capsys)


def test_a_newer_format_is_told_as_such(capsys):
    rewritten(newer)
    assert tables.main(["results/x"]) == 5
    assert "format 2 is of another version of the harness" in capsys.readouterr().err


TEXTS = {
    "truncated": lambda text: text[: len(text) // 2],
    "no text": lambda text: b"\xff\xfe" + text,
    "a key twice": lambda text: text.replace(b'"format":', b'"format": 1, "format":'),
    "deep nesting": lambda text: b"[" * 100_000,
    "a number too long": lambda text: text.replace(b'"seed": 0', b'"seed": ' + b"9" * 5000),
    "half a character": lambda text: text.replace(b'"created": "', b'"created": "\\ud800'),
    "infinite": lambda text: text.replace(b'"seed": 0', b'"seed": 1e999'),
}


@pytest.mark.parametrize("change", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("path", [FILE, CELL / "manifest.json"], ids=["sweep", "cell"])
def test_a_file_that_is_no_such_text_is_refused(change, path, capsys):
    text = path.read_bytes()
    changed = change(text)
    assert changed != text, "the test changes nothing"
    path.write_bytes(changed)
    assert_refused(capsys)


@pytest.mark.parametrize("path", [FILE, CELL / "manifest.json"], ids=["sweep", "cell"])
def test_an_oversized_file_is_not_read(path, capsys):
    os.truncate(path, sweep_manifest.MAX_BYTES + 1)  # no block of it on the disk
    assert_refused(capsys)


OTHERS = {
    "another cell's manifest": lambda: (CELL / "manifest.json").write_bytes(
        Path(f"results/x/cells/{OTHER}/manifest.json").read_bytes()
    ),
    "a folder elsewhere": lambda: linked(CELL),
    "records elsewhere": lambda: linked(CELL / "records"),
    "a lock elsewhere": lambda: Path("results/x/.lock").symlink_to(Path("../outside").resolve()),
    "a log elsewhere": lambda: (CELL / "events.jsonl").symlink_to(Path("../outside/e").resolve()),
    "a link to itself": lambda: Path("results/x/figures").symlink_to("figures"),
}


def linked(folder):
    elsewhere = Path.cwd().parent / "outside" / folder.name
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_a_cell_that_is_elsewhere_or_another_is_refused(change, capsys):
    change()
    assert_refused(capsys)


@pytest.mark.parametrize(
    ("part", "readers"),
    [("records", ("tables", "publish", "resume")), ("curves", ("tables", "status"))],
)
def test_a_part_that_is_none_is_refused(part, readers, capsys):
    (CELL / part / f"{KEY}.parquet").write_bytes(b"PAR1")
    assert_refused(capsys, readers)


def test_links_that_stay_inside_are_no_matter(capsys):
    Path("results/x/latest").symlink_to(f"cells/{KEY}", target_is_directory=True)
    (CELL / "wandb").mkdir()
    (CELL / "wandb/debug.log").symlink_to("/tmp/wandb.log")  # W&B's own doing
    check_links(Path("results/x"))
    assert tables.main(["results/x"]) == 0
    Path("results/x/out").symlink_to("..")
    with pytest.raises(ArtefactError, match="leaves"):
        SweepManifest.load(Path("results/x"))


def test_names_of_parts_stay_in_the_folder_of_figures(capsys):
    """Swept settings of the scoring name a part, and parts have folders of their own."""
    before = outside()
    rewritten(in_cell(settings={"evaluation.protocol": "/../../../../outside/x"}))
    assert tables.main(["results/x"]) == 0
    (other,) = (path for path in Path("results/x/figures").iterdir() if path.name != "point_goal")
    assert other.name.startswith("point_goal.protocol--..-..-..-..-outside-x-")
    assert outside() == before


def test_a_hostile_log_of_events_costs_no_view(capsys):
    lines = ["[" * 100_000, '{"kind": "\\ud800"}', '{"time": {}, "kind": "\x1b[2J"}', '{"a']
    (CELL / "events.jsonl").write_text("\n".join([*lines, '{"time": "2026", "kind": "node_lost"}']))
    assert status.main(["results/x"]) == 0
    out, told = capsys.readouterr()
    assert told == ""
    assert "node_lost" in out
    assert "\x1b[2J" not in out


def test_a_cell_named_as_the_logs_of_wandb_is_no_way_out(capsys):
    rewritten(renamed("wandb"))
    CELL.rename(CELL.with_name("wandb"))
    records = CELL.with_name("wandb") / "records"
    elsewhere = Path.cwd().parent / "outside" / "records"
    records.rename(elsewhere)
    records.symlink_to(elsewhere)
    assert_refused(capsys)


def test_a_run_publishes_no_file_that_is_a_link(capsys, monkeypatch):
    """Of a plain run no links are refused: someone may keep checkpoints on another disk."""
    monkeypatch.setattr("harness.reporting.rebuild.write_figures", lambda *_: None)
    (CELL / "events.jsonl").symlink_to(Path("../outside/mine.txt").resolve())
    assert publish.main([str(CELL), "v1", "--to", "published"]) == 0
    assert not Path("published/v1/events.jsonl").exists()


def test_what_a_setting_says_does_not_command_the_terminal(capsys):
    settings = {"train.epochs": "\x1b[2Jx"}
    rewritten(in_cell(settings=settings))
    code = tables.main(["results/x", "--against", "nobody"])
    _, told = capsys.readouterr()
    assert code in (2, 5)
    assert told[:-1].isprintable()


def test_parts_whose_names_are_cut_or_mended_keep_figures_of_their_own():
    names = ["x.test_tasks=[0, 1]", "x.test_tasks=[0, 1", "x.a/b", "x.a-b", "y" * 200, "y" * 201]
    folders = [_folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(len(name) < 128 and Path(name).name == name for name in folders)
    assert _folder_name("point_goal, horizon=8") == "point_goal.horizon-8"
