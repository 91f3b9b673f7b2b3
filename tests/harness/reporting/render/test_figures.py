"""Figures are drawn from what there is, and old ones do not outlive their records."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import task_distributions
from harness.reporting.rebuild import load_comparison, rebuild
from harness.reporting.render.figures import (
    adaptation_curve,
    first_episodes,
    learning_curves,
    steps_curve,
    validation_curves,
)
from harness.reporting.render.paired import (
    difference_of,
    differences_figure,
    parameter_figure,
    task_parameter,
)
from harness.reporting.render.panels import Panels, spread
from harness.reporting.stats.comparison import comparison_table
from harness.reporting.store.manifest import Manifest
from tests.harness.reporting.synthetic_run import (
    DIST,
    curve_of,
    expected_cells,
    frame_of,
    make_run,
    manifest_of,
    records_of,
)

CELLS = expected_cells()
MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-"}
SSM, GRU = ((DIST, policy, "maml", "gradient") for policy in ("ssm", "gru"))


def test_figures_are_pngs_and_pdfs_and_stale_ones_do_not_survive(tmp_path):
    folder = make_run(tmp_path / "run")
    rebuild(folder.path)
    names = {"learning_curves", "adaptation_curve", "test_steps", "differences", "task_parameter"}
    assert {path.stem for path in (folder.path / "figures").iterdir()} == names
    for name, (suffix, magic) in itertools.product(names, MAGIC.items()):
        data = (folder.path / "figures" / f"{name}{suffix}").read_bytes()
        assert data.startswith(magic)
        assert len(data) > 5_000
        assert b"/Type3" not in data  # fonts that journals refuse
    for curve in folder.path.glob("cells/*/curve.parquet"):
        curve.unlink()
    rebuild(folder.path)
    assert not (folder.path / "figures" / "learning_curves.png").exists()


def test_seeds_of_different_length_and_nan_returns_can_be_drawn(table, run):
    curve = curve_of(CELLS[0])
    curve[1] = dataclasses.replace(curve[1], post_return=float("nan"))
    curves = {CELLS[0].id: curve[:2], CELLS[1].id: curve_of(CELLS[1])}
    figure = learning_curves(table, Manifest.load(run), curves)
    figure.draw_without_rendering()
    mean = next(line for line in figure.axes[0].lines if line.get_linewidth() == 1.5)
    assert len(mean.get_xdata()) == 2


def test_scores_on_validation_tasks_are_drawn_where_they_were_made(table, run):
    curve = curve_of(CELLS[0])
    curve[0] = dataclasses.replace(curve[0], validation={"return_0": -9.0, "return_5": -4.0})
    curve[2] = dataclasses.replace(curve[2], validation={"return_0": -8.0, "return_5": -2.0})
    figure = validation_curves(table, Manifest.load(run), {CELLS[0].id: curve})
    lines = [ln.get_xydata().ravel().tolist() for ln in figure.axes[0].lines[:2]]
    assert lines == [[10_000, -4, 30_000, -2], [10_000, -9, 30_000, -8]]
    assert "validation" in figure.axes[0].get_ylabel()
    assert validation_curves(table, Manifest.load(run), {}) is None


def test_every_seed_is_a_dot_beside_its_interval(table, run):
    figure = adaptation_curve(table)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    drawn = sorted(y for line in dots for y in line.get_ydata())
    assert drawn == pytest.approx(sorted(table.seed_scores["return"]))
    assert "3 seeds" in figure.get_suptitle()
    assert "Student" in figure.get_suptitle()


def test_without_shots_there_is_no_adaptation_curve(tmp_path):
    table, _ = load_comparison(make_run(tmp_path / "run", shots=(0,)).path)
    assert adaptation_curve(table) is None


def test_rows_that_do_not_adapt_are_drawn_once_beside_the_others():
    cells = expected_cells(learners=("maml", "multitask"))
    rows = [
        dataclasses.replace(row, adapter="none" if cell.learner == "multitask" else "gradient")
        for cell in cells
        for row in records_of(cell)
    ]
    manifest = manifest_of(cells)
    figure = adaptation_curve(comparison_table(frame_of(rows), manifest))
    main, flat = figure.axes
    for axes, rows_drawn, shots in ((main, 2, 3), (flat, 2, 1)):
        assert len(axes.containers) == rows_drawn
        assert {len(bar.lines[0].get_xdata()) for bar in axes.containers} == {shots}


def test_the_axis_of_steps_holds_what_the_support_episodes_took(table, run):
    figure = steps_curve(table)
    lines = [bar.lines[0].get_xdata().tolist() for bar in figure.axes[0].containers]
    assert lines == [[0, 400, 2000]] * 2


def test_rewards_are_drawn_over_the_steps_of_the_first_episodes(table, run):
    rows = [
        dataclasses.replace(row, rewards=(row.shots + 1.0, 3.0) if row.query_episode == 0 else ())
        for cell in CELLS
        for row in records_of(cell)
    ]
    figure = first_episodes(comparison_table(frame_of(rows), manifest_of(CELLS)))
    lines = [(ln.get_linestyle(), *ln.get_xydata().ravel()) for ln in figure.axes[0].lines]
    # 100 steps in two parts; solid before, dashed after the first shot.
    assert lines == [("-", 25, 1, 75, 3), ("--", 25, 2, 75, 3)] * 2
    assert first_episodes(table) is None  # its records hold none


def test_differences_are_seed_by_seed(table):
    found = difference_of(table, (GRU, 5), (SSM, 5))
    assert found.seeds == pytest.approx((8, 8, 8))
    assert found.estimate.point == pytest.approx(8)


@pytest.mark.parametrize(
    ("least", "kinds"), [(0, ["Student's"]), (1, ["Student's", "Welch's"]), (2, ["Student's"])]
)
def test_the_title_names_every_kind_of_interval(least, kinds):
    cells = expected_cells(learners=("maml", "multitask"), seeds=(0, 1, 2))
    cells = [c for c in cells if c.learner == "maml" or c.seed >= least]
    rows = [row for cell in cells for row in records_of(cell)]
    figure = differences_figure(comparison_table(frame_of(rows), manifest_of(cells)))
    title = figure.get_suptitle()
    assert [kind for kind in ("Student's", "Welch's") if kind in title] == kinds


@pytest.mark.parametrize("alone", [True, False])
def test_rows_are_compared_with_the_control_of_their_policy_or_the_only_one(alone):
    cells = expected_cells(learners=("maml", "multitask"))
    if alone:
        cells = [c for c in cells if (c.policy, c.learner) != ("ssm", "multitask")]
    rows = [row for cell in cells for row in records_of(cell)]
    table = comparison_table(frame_of(rows), manifest_of(cells))
    axes = differences_figure(table).axes[-1]
    assert axes.get_title(loc="left").endswith("gru multitask" if alone else "same policy")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ssm, maml", "gru, maml"]


def test_rows_of_several_runs_are_compared_with_the_control_of_their_run():
    cells = [
        dataclasses.replace(cell, learner=f"{cell.learner} ({run})")
        for run in ("mine", "theirs")
        for cell in expected_cells(learners=("maml", "multitask"))
        if cell.policy == "gru"
    ]
    rows = [row for cell in cells for row in records_of(cell)]
    axes = differences_figure(comparison_table(frame_of(rows), manifest_of(cells))).axes[-1]
    drawn = [text.get_text() for text in axes.get_yticklabels()]
    assert drawn == ["gru, maml (mine)", "gru, maml (theirs)"]


def test_return_is_drawn_over_the_parameter_of_each_task(tmp_path):
    cells = expected_cells(seeds=(0, 1))
    tasks = task_distributions.load(DIST).tasks("test")[:4]
    rows = [
        dataclasses.replace(row, task=tasks[row.task_index].name)
        for cell in cells
        for row in records_of(cell)
    ]
    manifest = manifest_of(cells)
    table = comparison_table(frame_of(rows), manifest)
    name, values = task_parameter(table, manifest)
    assert "angle" in name
    for task in tasks:
        place = task.param("goal_x"), task.param("goal_y")
        assert (np.cos(values[task.name]), np.sin(values[task.name])) == pytest.approx(place)
    figure = parameter_figure(table, manifest)
    before, after = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert before.get_xdata().tolist() == sorted(values.values())
    assert (after.get_ydata() - before.get_ydata()) == pytest.approx([5] * 4)
    # Of another version, the tasks are not known here.
    other = manifest_of(cells, version=9)
    assert task_parameter(table, other) == ("", {})
    assert parameter_figure(table, other) is None


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
