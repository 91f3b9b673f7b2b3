"""The caption says how the numbers were made and which cells they leave out."""

import pytest

from harness.reporting.rebuild import load_comparison
from harness.reporting.render.tables import is_warning
from tests.harness.reporting.synthetic_run import DIST, expected_cells, make_run

CELLS = [cell.id for cell in expected_cells()]


def caption_of(path, **changes):
    return load_comparison(make_run(path, **changes).path)[0].caption


def test_a_complete_run_has_no_warning(run):
    table, manifest = load_comparison(run)
    assert table.title == f"{DIST}@1"
    text = " ".join(table.caption)
    for part in ("horizon 100", "Seeds: 0, 1, 2", "4 test tasks", "2 query", "4 new support"):
        assert part in text
    for package, version in manifest.packages.items():
        assert f"{package} {version}" in text
    assert not any(map(is_warning, table.caption))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_caption_says_what_the_intervals_are(tmp_path, seeds):
    text = " ".join(caption_of(tmp_path / "run", seeds=seeds))
    several = len(seeds) > 1
    assert ("Student's t over the seeds of the row (n = 3)" in text) == several
    assert ("One seed: no interval" in text) != several
    # The seeds of a row are 0.5 apart: paired t tests of three find 2.3 in 80 %.
    assert ("is 0.50 (pooled" in text and "difference of 2.31" in text) == several


def test_missing_cells_come_first(tmp_path):
    first, *_ = caption_of(tmp_path / "run", pending=CELLS[:2])
    mark, _, text = first.partition(":")
    assert mark == "INCOMPLETE"
    assert all(cell in text for cell in CELLS[:2])


def test_a_failed_cell_is_listed_with_a_short_reason(tmp_path):
    first, *_ = caption_of(tmp_path / "run", failed=CELLS[:1], reason="x" * 1000)
    mark, _, text = first.partition(":")
    assert mark == "FAILED"
    assert CELLS[0] in text
    assert 200 < text.count("x") < 400
