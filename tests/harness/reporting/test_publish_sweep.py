"""A sweep is published cell by cell, whole or not at all."""

from pathlib import Path

import pytest

from harness.cli import publish
from harness.reporting.publishing import MAX_CHECKPOINT_BYTES
from harness.reporting.store.manifest import DistInfo, Manifest, config_hash
from harness.reporting.store.records import RunFolder
from harness.reporting.store.sweep_manifest import SweepCell, SweepManifest
from harness.reporting.sweeps import rebuild_sweep
from tests.harness.reporting.synthetic_run import CONFIG, DIST, curve_of, expected_cells, records_of

CELLS = expected_cells(seeds=(0, 1))


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr("harness.reporting.sweeps.write_figures", lambda *_: None)


def make_sweep(path: Path, missing=(), failed=()) -> Path:
    """Four cells whose numbers follow a formula."""
    swept = {}
    for cell in CELLS:
        own = {"policy": [cell.policy], "learner": [cell.learner], "seed": [cell.seed]}
        config = {**CONFIG, **own}
        swept[cell.id] = SweepCell(
            task_dist=DIST, policy=cell.policy, learner=cell.learner, seed=cell.seed,
            settings={}, config=config, config_hash=config_hash(config),
        )  # fmt: skip
        if cell.id in missing:
            continue
        folder = RunFolder.create(path / "cells" / cell.id)
        (folder.path / "cell.yaml").write_text("task_dist: point_goal\n")
        (folder.path / "notes.pkl").write_bytes(b"pickle")
        folder.write_records(cell.id, records_of(cell))
        folder.write_curve(cell.id, curve_of(cell))
        dist = DistInfo(name=DIST, version=1, protocol="toy, horizon 100")
        manifest = Manifest.create(
            ["x"], config, config_given={}, cells=[cell], distributions=[dist]
        )
        status = "failed" if cell.id in failed else "ok"
        manifest.with_status(cell.id, status, wall_seconds=1.0).save(folder.manifest_path)
    SweepManifest.create(["harness.sweep", "x.yaml"], {}, {}, swept).save(path)
    return path


def test_a_published_sweep_says_what_its_cells_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = make_sweep(tmp_path / "sweep")
    share = MAX_CHECKPOINT_BYTES // len(CELLS)
    for cell, size in ((CELLS[0], 9), (CELLS[1], share + 1)):
        checkpoint = sweep / "cells" / cell.id / "checkpoints" / f"{cell.id}.safetensors"
        checkpoint.write_bytes(b"0" * size)
    rebuild_sweep(sweep)
    target = tmp_path / "published"
    assert publish.main([str(sweep), "v1", "--to", str(target)]) == 0
    assert f"left out: checkpoint of {CELLS[1].id}" in capsys.readouterr().out
    names = {str(p.relative_to(target / "v1")) for p in (target / "v1").rglob("*") if p.is_file()}
    for cell in CELLS:
        own = ("manifest.json", "cell.yaml", f"records/{cell.id}.parquet")
        assert {f"cells/{cell.id}/{name}" for name in own} <= names
    assert [name for name in names if "checkpoints" in name] == [
        f"cells/{CELLS[0].id}/checkpoints/{CELLS[0].id}.safetensors"
    ]
    assert not any("notes" in name for name in names)
    for table in ("table.md", "table.csv"):
        assert (target / "v1" / table).read_bytes() == (sweep / table).read_bytes()
    for cell in CELLS:
        command = Manifest.load(target / "v1/cells" / cell.id / "manifest.json").command
        assert command[4] == f"published/v1/cells/{cell.id}/cell.yaml"
    assert publish.main([str(sweep), "v1", "--to", str(target)]) == 2


@pytest.mark.parametrize(
    ("what", "remedy"),
    [("missing", "with --resume, then"), ("failed", "with --resume --retry-failed, then")],
)
def test_a_sweep_with_a_missing_cell_is_not_published(tmp_path, capsys, what, remedy):
    sweep = make_sweep(tmp_path / "sweep", **{what: [CELLS[2].id]})
    target = tmp_path / "published"
    assert publish.main([str(sweep), "v1", "--to", str(target)]) == 2
    error = capsys.readouterr().err
    assert f"1 of {len(CELLS)} cells" in error
    assert CELLS[2].id in error
    assert remedy in error
    assert not list(target.iterdir())
