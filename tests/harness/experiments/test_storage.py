"""``--storage``: the run's folder lies where it says, and a continued run finds it there."""

from pathlib import Path

from harness.cli.parser import load_config
from harness.config.schema import ExecutionConfig
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from tests.harness.execution.execution_cases import assert_same, played_locally, trained


def test_a_run_lies_in_its_storage_and_is_continued_there(workplace, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    assert played_locally("here", epochs=1) == 0
    assert played_locally("x", "--storage", str(shared / "new"), epochs=1) == 0
    assert (shared / "new/x/table.csv").exists()
    states = Manifest.load(shared / "new/x").cells.values()
    assert [state.status for state in states] == ["ok"]
    frame = read_records(shared / "new/x")
    frame = frame[frame.learner != "reference"].reset_index(drop=True)
    assert_same(frame[trained("here").columns], trained("here"))
    assert played_locally("x", "--storage", str(shared / "new"), "--resume", epochs=1) == 0
    assert not Path("results/x").exists()


def test_addresses_are_no_folders_but_those_of_files(workplace, tmp_path_factory, capsys):
    there = tmp_path_factory.mktemp("there")
    for address in ("s3://bucket/runs", "memory://runs", "gs://bucket"):
        assert played_locally("x", "--storage", address) == 2
        said = capsys.readouterr().err
        assert "--storage" in said
        assert address in said
    assert played_locally("x", "--storage", "/proc/nowhere") == 2
    assert "error: " in capsys.readouterr().err
    assert played_locally("x", "--storage", "file://elsewhere/runs") == 2
    assert "host 'elsewhere'" in capsys.readouterr().err
    assert not list(workplace.iterdir()), "a folder was named after an address"
    assert ExecutionConfig(storage=there.as_uri()).storage == there
    assert ExecutionConfig(storage=(there / "my runs").as_uri()).storage == there / "my runs"
    assert ExecutionConfig(storage="file://localhost/runs").storage == Path("/runs")
    flags = ("--storage", "file:///my%20runs", "--ckpt-dir", "file:///steps%23")
    told = load_config(flags).execution
    assert (told.storage, told.ckpt_dir) == (Path("/my runs"), Path("/steps#"))
    assert ExecutionConfig(storage=Path("a:b/c")).storage == workplace / "a:b/c"
