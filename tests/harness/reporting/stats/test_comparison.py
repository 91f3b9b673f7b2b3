"""The comparison table has the numbers the records give, and refuses records it cannot compare."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.errors import ArtefactError
from harness.reporting.rebuild import load_comparison
from harness.reporting.stats.comparison import comparison_table
from harness.reporting.stats.intervals import detectable_difference
from harness.types import REFERENCE
from tests.harness.reporting.synthetic_run import (
    DIST,
    REFERENCES,
    expected_cells,
    frame_of,
    make_run,
    manifest_of,
    record,
    records_of,
    references,
    row_of,
    score,
)

CELLS = expected_cells()


@pytest.mark.parametrize("policy", ["ssm", "gru"])
@pytest.mark.parametrize("shots", [0, 1, 5])
def test_returns_are_the_means_the_formula_gives(table, policy, shots):
    by_hand = np.mean(
        [[score(policy, seed, task, shots) for task in range(4)] for seed in range(3)]
    )
    row = row_of(table, policy)
    assert row[f"return_{shots}"] == pytest.approx(by_hand)
    assert row[f"return_{shots}_low"] < by_hand < row[f"return_{shots}_high"]
    assert row["seeds"] == 3


def test_the_gain_is_paired_by_seed_and_task(table):
    # Seeds and tasks differ, their gains do not: paired, they are copies, without an interval.
    for policy, slope in (("ssm", 1), ("gru", 3)):
        for shots in (1, 5):
            row = row_of(table, policy)
            assert row[f"gain_{shots}"] == pytest.approx(slope * shots)
            assert np.isnan(row[f"gain_{shots}_low"])


def test_improvement_is_a_matrix_of_named_rows_without_privileged_ones():
    cells = expected_cells(learners=("maml", "oracle"))
    rows = [row for cell in cells for row in records_of(cell)]
    pairs = comparison_table(frame_of(rows), manifest_of(cells)).improvement
    names = list(zip(pairs["policy"], pairs["learner"], pairs["over_policy"], strict=True))
    assert names == [("gru", "maml", "ssm"), ("ssm", "maml", "gru")]
    assert set(pairs["over_learner"]) == {"maml"}
    assert pairs["probability"].tolist() == [1.0, 0.0]


def test_a_row_is_privileged_if_it_observes_the_task_whatever_its_label():
    cells = expected_cells(learners=("maml", "told"))
    rows = [row for cell in cells for row in records_of(cell)]
    manifest = manifest_of(cells)
    for key, cell in manifest.cells.items():
        if cell.learner == "told":
            manifest.cells[key] = cell.model_copy(update={"observes_task": True})
    table = comparison_table(frame_of(rows), manifest)
    assert {row[2] for row in table.privileged} == {"told"}
    assert set(table.improvement["over_learner"]) == {"maml"}


def test_regret_is_to_the_best_oracle_seed_by_seed():
    cells = expected_cells(learners=("maml", "oracle"))
    rows = [
        dataclasses.replace(row, return_=row.return_ + 6 * (cell.learner == "oracle"))
        for cell in cells
        for row in records_of(cell)
    ]
    table = comparison_table(frame_of(rows), manifest_of(cells))
    assert table.oracle == (DIST, "gru", "oracle", "gradient")  # at five shots gru is ahead
    ssm = row_of(table, "ssm")
    # gru starts 2 lower and gains 2 a shot more; the oracles are 6 higher; seeds cancel.
    for shots, value in ((0, 4), (1, 6), (5, 14)):
        assert ssm[f"regret_{shots}"] == pytest.approx(value)
        assert np.isnan(ssm[f"regret_{shots}_low"])
    assert np.isnan(row_of(table, "gru", "oracle")["regret_5"])


@pytest.mark.parametrize(("seeds", "best"), [((0, 1, 2), "ssm"), ((0, 1), "ssm"), ((0,), "gru")])
def test_an_oracle_of_fewer_seeds_is_not_chosen_for_its_luck(seeds, best):
    cells = expected_cells(learners=("maml", "oracle"), seeds=seeds)
    cells = [c for c in cells if (c.policy, c.learner) != ("gru", "oracle") or c.seed == 0]
    rows = [row for cell in cells for row in records_of(cell)]
    assert comparison_table(frame_of(rows), manifest_of(cells)).oracle[1] == best


def test_environment_steps_on_the_task_are_a_column(table):
    assert [row_of(table, "ssm")[f"test_steps_{count}"] for count in (0, 1, 5)] == [0, 400, 2000]


def test_every_seed_is_in_the_table(table):
    lines = table.seed_scores
    for line in lines.to_dict("records"):
        by_hand = np.mean([score(line["policy"], line["seed"], t, line["shots"]) for t in range(4)])
        assert line["return"] == pytest.approx(by_hand)
    assert len(lines) == 2 * 3 * 3
    # Seeds of a row differ by 0.5 each.
    assert table.seed_sd == pytest.approx(0.5)
    assert table.detectable == pytest.approx(detectable_difference(0.5, 3))


def test_reference_lines_are_rows_with_one_value_at_every_number_of_shots(table):
    for policy, value in (("zero-action", -12.0), ("random-action", -15.0), ("non-adaptive", -7.5)):
        row = row_of(table, policy, "reference")
        assert [row[f"return_{count}"] for count in (0, 1, 5)] == [value] * 3
    assert np.isnan(row["return_0_low"])  # an analytic value has no interval


def test_invalid_episodes_are_counted_and_never_averaged_in():
    cell = CELLS[0]
    rows = records_of(cell)
    at = next(i for i, row in enumerate(rows) if (row.task_index, row.shots) == (1, 1))
    clean = comparison_table(frame_of(rows), manifest_of([cell]))
    for poison in (float("nan"), -1e9):
        rows[at] = dataclasses.replace(rows[at], return_=poison, invalid=True)
        dirty = row_of(comparison_table(frame_of(rows), manifest_of([cell])), "ssm")
        assert dirty["return_1"] == pytest.approx(row_of(clean, "ssm")["return_1"])
        assert dirty["invalid_episodes"] == 1


def test_tasks_weigh_the_same_whatever_number_of_their_episodes_is_valid():
    cell = CELLS[0]
    rows = [record(cell, task, 0, e, return_=float(10 * task)) for task in (0, 1) for e in (0, 1)]
    rows[0] = dataclasses.replace(rows[0], return_=float("nan"), invalid=True)
    table = comparison_table(frame_of(rows), manifest_of([cell]))
    assert row_of(table, "ssm")["return_0"] == 5.0


def test_cells_scored_on_different_episodes_are_not_compared():
    rows = [row for cell in CELLS for row in records_of(cell)]
    with pytest.raises(ArtefactError, match="cannot be compared"):
        comparison_table(frame_of(rows[:-1]), manifest_of(CELLS))


def test_reference_lines_of_other_tasks_are_not_compared(tmp_path):
    folder = make_run(tmp_path / "run")
    part = folder.cell(REFERENCES).records
    old = pq.read_table(part)
    pq.write_table(old.slice(0, 2), part)
    with pytest.raises(ArtefactError, match=REFERENCES):
        load_comparison(folder.path)


def test_records_the_manifest_does_not_expect_are_refused():
    rows = [row for cell in CELLS for row in records_of(cell)]
    with pytest.raises(ArtefactError, match=CELLS[0].id):
        comparison_table(frame_of(rows), manifest_of(CELLS[1:]))


def test_train_split_records_do_not_enter_the_test_table():
    cell = CELLS[0]
    train = [
        dataclasses.replace(row, split="train", task=f"train/{row.task_index}", return_=1e6)
        for row in records_of(cell)
    ]
    table = comparison_table(frame_of([*records_of(cell), *train]), manifest_of([cell]))
    assert row_of(table, "ssm")["return_0"] < 0
    only = comparison_table(frame_of(train), manifest_of([cell]))
    assert (only.split, row_of(only, "ssm")["return_0"]) == ("train", 1e6)


def test_success_rates_appear_where_success_is_possible_even_at_zero():
    cell = CELLS[0]
    rows = frame_of(records_of(cell))
    assert not comparison_table(rows, manifest_of([cell])).has_success
    never = comparison_table(rows, manifest_of([cell], has_success=True))
    assert row_of(never, "ssm")["success_5"] == 0.0
    half = rows.assign(success=rows["query_episode"] == 0)
    assert row_of(comparison_table(half, manifest_of([cell])), "ssm")["success_5"] == 0.5


def test_one_seed_has_no_interval_and_two_have_a_wide_one(tmp_path):
    for seeds in ((0,), (0, 1)):
        table, _ = load_comparison(make_run(tmp_path / str(len(seeds)), seeds=seeds).path)
        row = row_of(table, "ssm")
        width = row["return_0_high"] - row["return_0_low"]
        if len(seeds) == 1:
            assert np.isnan(width)
            assert np.isnan(table.detectable)
        else:
            assert width == pytest.approx(2 * 12.706 * 0.25, rel=1e-3)  # t of one degree of freedom


def test_without_shots_there_is_no_gain(tmp_path):
    table, _ = load_comparison(make_run(tmp_path / "run", shots=(0,)).path)
    assert not [name for name in table.frame.columns if name.startswith("gain")]


def test_the_gap_to_the_test_tasks_is_paired_by_seed():
    cells = expected_cells()
    rows = [row for cell in cells for row in records_of(cell)] + references()
    ood = [
        dataclasses.replace(row, split="ood", task=f"ood/{row.task_index}", return_=row.return_ - 7)
        for row in rows
    ]
    table = comparison_table(frame_of([*rows, *ood]), manifest_of(cells))
    assert [part.split for part in table.splits] == ["test", "ood"]
    assert "gap_0" not in table.frame
    row = row_of(table.others[0], "gru")
    # The seeds differ by 0.5 each, their gaps do not.
    assert row["gap_5"] == pytest.approx(-7.0)
    assert np.isnan(row["gap_5_low"])
    line = row_of(table.others[0], "zero-action", REFERENCE)
    assert [line["gap_0"], line["gap_5"]] == pytest.approx([-7.0] * 2)
    assert np.isnan(line["gap_5_low"])
