"""Figures are drawn from what there is, and old ones do not outlive their records."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.reporting.rebuild import rebuild
from harness.reporting.render.panels import Panels, spread
from tests.harness.reporting.synthetic_run import curve_of, expected_cells, make_run

CELLS = expected_cells()
PNG = b"\x89PNG\r\n\x1a\n"


def test_figures_are_pngs_and_stale_ones_do_not_survive(tmp_path):
    folder = make_run(tmp_path / "run")
    rebuild(folder.path)
    for name in ("learning_curves", "adaptation_curve"):
        data = (folder.path / "figures" / f"{name}.png").read_bytes()
        assert data.startswith(PNG)
        assert len(data) > 10_000
    for curve in folder.path.glob("cells/*/curve.parquet"):
        curve.unlink()
    rebuild(folder.path)
    assert not (folder.path / "figures" / "learning_curves.png").exists()


def test_seeds_of_different_length_and_nan_returns_can_be_drawn(tmp_path):
    folder = make_run(tmp_path / "run")
    curve = curve_of(CELLS[0])
    curve[1] = dataclasses.replace(curve[1], post_return=float("nan"))
    folder.cell(CELLS[0].id).write_curve(curve[:2])
    rebuild(folder.path)
    assert (folder.path / "figures" / "learning_curves.png").read_bytes().startswith(PNG)


def test_without_shots_there_is_no_adaptation_curve(tmp_path):
    folder = make_run(tmp_path / "run", shots=(0,))
    rebuild(folder.path)
    assert not (folder.path / "figures" / "adaptation_curve.png").exists()


@pytest.mark.parametrize(("learners", "panels"), [(4, 1), (5, 5)])
def test_many_lines_get_a_panel_per_learner(learners, panels):
    keys = [(policy, f"learner{n}") for n in range(learners) for policy in ("ssm", "gru")]
    drawn = Panels.create(keys)
    assert len(drawn.axes) == panels
    assert list(drawn.by_learner) == [f"learner{n}" for n in range(learners)]


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(-1e3, 1e3), max_size=6))
def test_labels_of_reference_lines_keep_their_order_and_distance(values):
    heights_of = spread(values, 5.0)
    ordered = sorted(values, key=lambda name: (values[name], name))
    heights = [heights_of[name] for name in ordered]
    assert all(b - a >= 5.0 - 1e-9 for a, b in itertools.pairwise(heights))
    assert all(heights_of[name] >= values[name] for name in values)
