"""``--mirror``: a copy of the run, in an object store, that another machine can go on from."""

import json
import shutil
from pathlib import Path

import fsspec
import pytest

import harness.console.display
import harness.reporting.rebuild
from harness.cli import main, sweep
from harness.errors import UsageError
from harness.experiments import mirror
from tests.harness.execution.execution_cases import (
    Listener,
    assert_same,
    curves,
    events,
    played_locally,
    records,
)
from tests.harness.experiments.sweep_cases import settings

STORE = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(mirror, "EVERY", 0.05)
    STORE.store.clear()
    yield
    STORE.store.clear()


def copied(name):
    """What the store holds of a run: path -> bytes."""
    root = f"/runs/{name}"
    return {path.removeprefix(f"{root}/"): STORE.cat_file(path) for path in STORE.find(root)}


def here(name):
    folder = Path("results") / name
    found = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in found}
    return {
        name: path.read_bytes()
        for name, path in named.items()
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_the_copy_is_the_run_and_no_more(workplace):
    assert played_locally("x", "--mirror", "memory://runs") == 0
    assert copied("x") == here("x")
    assert len(list(Path("results/x").rglob("*.safetensors"))) == 2, "older ones are pruned"


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_folder_on_disk_takes_a_copy_whatever_the_files_are_called(tmp_path, prefix):
    run = tmp_path / "proj [v2]" / "run"
    for name in ("run.json", "cells/c/state.json", "figures/test_tasks-[0.1]/plot.png"):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    mirror.Mirror(f"{prefix}{tmp_path}/store", "run").copy(run)
    copies = {path.relative_to(tmp_path / "store/run") for path in tmp_path.glob("store/**/*.*")}
    assert copies == {path.relative_to(run) for path in run.rglob("*.*")}


@pytest.mark.parametrize("newer", ["records.parquet", "checkpoints/iteration-000002.safetensors"])
def test_a_run_that_went_on_elsewhere_is_not_overwritten_by_an_older_folder(tmp_path, newer):
    here, there = tmp_path / "here/run", tmp_path / "there/run"
    for folder, names in ((here, ()), (there, (newer,))):
        for name in ("checkpoints/iteration-000001.safetensors", *names):
            path = folder / "cells/c" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    copy = mirror.Mirror(str(tmp_path / "store"), "run")
    copy.copy(there)
    with pytest.raises(UsageError, match="went on elsewhere"):
        copy.open(here, resume=True)
    copy.open(there, resume=True)


def test_a_run_is_continued_elsewhere_from_its_copy(workplace, monkeypatch):
    assert played_locally("whole", epochs=4) == 0

    def stop(iteration):
        if iteration == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(harness.console.display, "make_progress", lambda *_: Listener(stop))
        assert played_locally("x", "--mirror", "memory://runs", epochs=4) == 4
    shutil.rmtree("results/x")  # as on another machine
    assert played_locally("x", "--mirror", "memory://runs", "--resume", epochs=4) == 0
    assert_same(records("x"), records("whole"))
    assert curves("x") == curves("whole")
    assert copied("x") == here("x")


def test_it_is_kept_while_the_run_goes_on(workplace, monkeypatch):
    seen = []

    def look(iteration):
        for _ in range(200 if iteration > 1 else 1):
            if any(name.endswith(f"-{iteration - 1:06d}.safetensors") for name in copied("x")):
                break
            mirror.threading.Event().wait(0.05)
        seen.append(any("checkpoints" in name for name in copied("x")))

    monkeypatch.setattr(harness.console.display, "make_progress", lambda *_: Listener(look))
    assert played_locally("x", "--mirror", "memory://runs", epochs=3) == 0
    assert seen[-1]


def test_a_store_that_takes_nothing_costs_the_copy_and_not_the_run(workplace, monkeypatch, caplog):
    def refuse(*_, **__):
        raise PermissionError("the bucket is read-only")

    monkeypatch.setattr(type(STORE), "put_file", refuse)
    monkeypatch.setattr(mirror.LOGGER, "propagate", True)
    assert played_locally("x", "--mirror", "memory://runs") == 0
    told = events("x")
    assert set(told.kind) == {"mirror_failed"}
    assert 1 <= len(told) <= 2, "once while it runs, once at its end"
    assert "the bucket is read-only" in told.cause[0]


def test_no_checkpoint_is_there_before_its_rows_of_the_curve(workplace, monkeypatch):
    put = STORE.put_file

    def no_curve(source, target, **options):
        if target.endswith("curve.parquet"):
            raise TimeoutError(target)
        return put(source, target, **options)

    monkeypatch.setattr(STORE, "put_file", no_curve)
    assert played_locally("x", "--mirror", "memory://runs") == 0
    assert any("/" not in name for name in copied("x"))
    assert not [name for name in copied("x") if "checkpoints" in name]


def test_a_store_that_says_not_found_is_told_of(workplace, monkeypatch):
    def lost(*_, **__):
        raise FileNotFoundError("no such bucket")

    monkeypatch.setattr(STORE, "put_file", lost)
    assert played_locally("x", "--mirror", "memory://runs") == 0
    assert "no such bucket" in events("x").cause[0]


def test_what_is_gone_there_already_is_no_matter(tmp_path):
    kept = mirror.Mirror("memory://runs", "x")
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    kept.copy(tmp_path)
    STORE.rm_file("/runs/x/a")
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    kept.copy(tmp_path)
    assert set(copied("x")) == {"c"}


def test_a_store_with_errors_of_its_own_is_refused_in_a_sentence(workplace, monkeypatch, capsys):
    def unknown(*_):
        raise RuntimeError("Unable to locate credentials")

    monkeypatch.setattr(STORE, "exists", unknown)
    assert played_locally("x", "--mirror", "memory://runs") == 2
    assert "does not answer: Unable to locate credentials" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [("nowhere://runs", "Protocol not known: nowhere"), ("s3://runs", "s3fs")],
)
def test_addresses_that_nothing_answers_are_refused_before_anything_is_made(
    workplace, capsys, address, said
):
    assert played_locally("x", "--mirror", address) == 2
    assert said in capsys.readouterr().err
    assert not Path("results/x").exists()


def test_a_relative_folder_stays_the_same_from_elsewhere(workplace, tmp_path, monkeypatch):
    assert played_locally("x", "--mirror", "copies", epochs=1) == 0
    place = Path.cwd()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = ["--resume", "x", "--storage", str(place / "results"), "--seeds", "1"]
    assert main.main(["run", *run]) == 0
    assert not (elsewhere / "copies").exists()
    assert len(list((place / "copies/x/cells").glob("*.s1"))) == 1


def test_a_copy_of_another_run_is_not_written_over(workplace, capsys):
    STORE.pipe_file("/runs/x/run.json", b"{}")
    assert played_locally("x", "--mirror", "memory://runs") == 2
    assert "Continue with --resume or pick another --name" in capsys.readouterr().err
    assert copied("x") == {"run.json": b"{}"}
    assert not Path("results/x").exists(), "another run was fetched"


def test_a_copy_of_another_run_is_not_written_over_by_a_resumed_one_either(workplace, capsys):
    assert played_locally("x", "--mirror", "memory://runs", epochs=1) == 0
    there = copied("x")
    Path("results/x").rename("results/y")
    assert played_locally("x", "--seed", "1", epochs=1) == 0
    created = json.loads(Path("results/x/run.json").read_text())
    created["created"] = "2020-01-01T00:00:00+00:00"
    Path("results/x/run.json").write_text(json.dumps(created))
    assert played_locally("x", "--resume", "--mirror", "memory://runs") == 2
    assert "a copy of another run" in capsys.readouterr().err
    assert copied("x") == there


@pytest.mark.parametrize("place", ["results", "results/x", "results/x/cells"])
def test_a_run_is_not_copied_into_itself(workplace, place):
    assert played_locally("x", "--mirror", place, epochs=1) == 2
    assert not Path("results/x").exists()


@pytest.mark.parametrize("name", ["../out", "a/../../out"])
def test_names_that_leave_the_folder_are_not_fetched(workplace, monkeypatch, name):
    copy = mirror.Mirror("memory://runs", "x")
    with pytest.raises(UsageError, match="leads out of the run's folder"):
        copy._fetch(Path("results/x").absolute(), [name])
    assert not list(Path().rglob("out"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_sweep_is_copied_and_continued_from_its_copy(workplace):
    text = settings(2) + "sweep:\n  seed: [0, 1]\n"
    Path("x.yaml").write_text(f"{text}tune: {{workers_per_cell: 0}}\n")
    assert sweep.main(["x.yaml", "--mirror", "memory://runs"]) == 0
    whole = here("x")
    assert copied("x") == whole
    shutil.rmtree("results/x")
    assert sweep.main(["x.yaml", "--mirror", "memory://runs", "--resume"]) == 0
    again = here("x")
    same = [name for name in whole if name.endswith((".parquet", ".csv", ".safetensors"))]
    assert same
    assert all(again[name] == whole[name] for name in same)
