"""Area under the validation curve, and the steps until it exceeds a reference line."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harness.reporting.rebuild import load_comparison
from harness.reporting.render.tables import grids
from harness.reporting.stats.comparison import comparison_table
from harness.reporting.stats.curves import area, steps_above, with_curves
from harness.types import Metrics
from tests.harness.reporting.synthetic_run import (
    expected_cells,
    frame_of,
    make_run,
    manifest_of,
    records_of,
    references,
    row_of,
)


def _curve(*points: tuple[int, float]) -> list[Metrics]:
    """Scores after 5 shots at some steps, and iterations without between them."""
    rows = []
    for number, (steps, value) in enumerate(points, 1):
        plain = Metrics(number, steps, 0.0, 0.0, 1.0)
        scored = {"return_0": -99.0, "return_5": value}
        rows += [dataclasses.replace(plain, validation=scored), plain]
    return rows


def test_the_area_is_a_mean_over_steps_not_over_scorings():
    assert area(_curve((100, 0.0), (200, 10.0), (400, 10.0))) == pytest.approx((5 + 20) / 3)
    assert area(_curve((100, 3.0))) == 3.0
    assert math.isnan(area([Metrics(1, 100, 0.0, 0.0, 1.0)]))


def test_steps_count_to_the_first_score_above_the_line():
    curve = _curve((100, 0.0), (200, 10.0), (300, 5.0))
    assert steps_above(curve, 0.0) == 200
    assert steps_above(curve, -1.0) == 100
    assert steps_above(curve, 10.0) == math.inf


def test_rows_have_the_area_of_their_seeds_and_the_median_steps():
    cells = expected_cells()
    rows = [row for cell in cells for row in records_of(cell)]
    manifest = manifest_of(cells, eval_line=-12.0)
    table = comparison_table(frame_of([*rows, *references()]), manifest)
    assert "validation_area" not in with_curves(table, manifest, {}).frame
    height = {"ssm": -20.0, "gru": -10.0}
    curves = {
        cell.id: _curve((100, height[cell.policy] + cell.seed), (300 + cell.seed, -11.5))
        for cell in cells
    }
    found = with_curves(table, manifest, curves)
    gru, ssm = row_of(found, "gru"), row_of(found, "ssm")
    assert ssm["validation_area"] == pytest.approx(-15.25)
    assert ssm["validation_area_low"] < ssm["validation_area"] < ssm["validation_area_high"]
    assert (gru["steps_to_line"], ssm["steps_to_line"]) == (100, 301)
    last = next(cell.id for cell in cells if (cell.policy, cell.seed) == ("ssm", 2))
    failed = manifest.cells[last].model_copy(update={"status": "failed"})
    fewer = manifest.model_copy(update={"cells": {**manifest.cells, last: failed}})
    assert row_of(with_curves(table, fewer, curves), "ssm")["steps_to_line"] == 300.5
    (grid,) = [grid for grid in grids(found) if "validation tasks" in grid.title]
    assert [cells[-1][0] for cells in grid.rows] == ["301", "100"]
    unknown = with_curves(table, manifest_of(cells), curves)
    (grid,) = [grid for grid in grids(unknown) if "validation tasks" in grid.title]
    assert [cells[-1][0] for cells in grid.rows] == ["–", "–"]


def test_a_run_without_scores_has_no_such_columns(tmp_path):
    table, _ = load_comparison(make_run(tmp_path / "run").path)
    assert "steps_to_line" not in table.frame
