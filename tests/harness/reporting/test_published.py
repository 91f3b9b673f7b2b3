"""Published runs load with this code, and their tables match their records."""

import shutil
from pathlib import Path

import pytest

from harness.cli import tables as command
from harness.config.schema import config_as_dict
from harness.config.validation import config_from_dict
from harness.errors import ExitCode
from harness.reporting.compare import compare
from harness.reporting.rebuild import rebuilt_texts
from harness.reporting.store.manifest import Manifest, config_hash

PUBLISHED = sorted(
    path.parent
    for folder in ("published", "studies")
    for path in (Path(__file__).parents[3] / "results" / folder).glob("*/run.json")
)

PLAYED = (ExitCode.COMPLETE, ExitCode.INTERRUPTED)
"""No cell failed; some may be missing."""


def test_there_are_published_runs():
    assert PUBLISHED


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_published_tables_match_their_records(run):
    assert not Manifest.load(run).failures()
    written = {name: text for name, text in rebuilt_texts(run).items() if text}
    assert {"table.csv", "table.md", "table.tex", "report.html"} <= written.keys()
    assert [name for name in written if (run / name).read_text() != written[name]] == []


@pytest.mark.slow
def test_the_published_runs_are_compared_by_one_command():
    comparison = compare([run for run in PUBLISHED if run.parent.name == "published"])
    assert {"halfcheetah-vel@1", "halfcheetah-gravity@1", "halfcheetah-gravity@2"} <= set(
        comparison.tables
    )


DRAWN = ("halfcheetah-vel", "metaworld-ml10", "adaptation")
"""Together they have every kind of figure, and one has several tables."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "run", [run for run in PUBLISHED if run.name in DRAWN], ids=lambda r: r.name
)
def test_rebuilding_a_published_run_changes_no_file(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / run.name)
    assert command.main([str(copy)]) in PLAYED
    before, after = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (run, copy)
    )
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_published_cells_have_the_settings_they_are_hashed_by(run):
    for cell in Manifest.load(run).cells.values():
        assert config_hash(cell.config) == cell.config_hash
        assert part_of(cell.config, config_as_dict(config_from_dict(cell.config)))


def part_of(stored, now):
    """Whether nothing stored has changed; settings that are newer may be missing there."""
    if not isinstance(stored, dict):
        return stored == now
    return stored.keys() <= now.keys() and all(part_of(stored[key], now[key]) for key in stored)
