"""Differences between the rows of a table and one of them."""

from pathlib import Path

import pandas as pd
import pytest

from harness.cli import tables
from harness.reporting.render.differences import differences
from tests.harness.reporting.synthetic_run import make_run

PUBLISHED = Path(__file__).parents[4] / "results" / "published" / "maml-options"


def test_rows_are_paired_by_seed_and_task(tmp_path):
    run = make_run(tmp_path / "run").path
    (block,) = differences(run, "ssm")
    ((name, *cells),) = block.rows
    assert name == ("gru", "maml, gradient")
    # Seeds and tasks differ by more than the rows; pairing removes that.
    assert cells == [(text, f"[{text.lstrip('+')}, {text.lstrip('+')}]") for text in NUMBERS]


NUMBERS = ("-2.00", "+0.00", "+8.00")


def test_rows_with_other_seeds_have_no_difference(tmp_path):
    run = make_run(tmp_path / "run", failed=("point_goal.gru.maml.s1",)).path
    (block,) = differences(run, "ssm maml")
    assert {text for text, _ in block.rows[0][1:]} == {"not the same"}


def test_a_sweep_is_compared_by_its_settings():
    against = "ssm first_order=False learned_inner_lr=False"
    (block,) = differences(PUBLISHED, against)
    frame = pd.read_csv(PUBLISHED / "table.csv").query("learner != 'reference'")
    frame = frame.set_index("learner")["return_1"]
    base = frame["maml first_order=False learned_inner_lr=False"]
    assert len(block.rows) == len(frame) - 1 == 3
    for (_, row), _, (text, interval), *_ in block.rows:
        assert float(text) == pytest.approx(frame[row.split(",")[0]] - base, abs=0.051)
        low, high = map(float, interval.strip("[]").split(","))
        assert low <= float(text) <= high


@pytest.mark.parametrize("against", ["lstm", "maml", ""])
def test_a_row_that_is_not_there_or_not_alone_is_refused(tmp_path, capsys, monkeypatch, against):
    monkeypatch.setattr("harness.reporting.rebuild.write_figures", lambda *_: ())
    run = make_run(tmp_path / "run").path
    assert tables.main([str(run), "--against", against]) == 2
    assert "have: gru maml gradient, ssm maml gradient" in capsys.readouterr().err
    assert tables.main([str(run), "--against", "gru"]) == 0
    assert "minus return of gru maml gradient" in capsys.readouterr().out


def test_the_only_row_has_nothing_to_differ_from():
    with pytest.raises(ValueError, match="have: mlp maml gradient"):
        differences(PUBLISHED.parent / "cartpole", "mlp")
