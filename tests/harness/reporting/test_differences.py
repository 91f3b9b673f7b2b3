"""How the rows of a table differ from one of them."""

from pathlib import Path

import pandas as pd
import pytest

from harness.cli import tables
from harness.reporting.stats.differences import differences
from tests.harness.reporting.synthetic_run import make_run

PUBLISHED = Path(__file__).parents[3] / "results/published/halfcheetah-vel-5m-seeds"


def test_rows_are_paired_by_seed_and_task(tmp_path):
    run = make_run(tmp_path / "run").path
    (block,) = differences(run, "ssm")
    ((name, *cells),) = block.rows
    assert name == ("gru", "maml, gradient")
    # Seeds and tasks differ by far more than the rows: paired, nothing of that is left.
    assert cells == [(text, f"[{text.lstrip('+')}, {text.lstrip('+')}]") for text in NUMBERS]


NUMBERS = ("-2.00", "+0.00", "+8.00")


def test_rows_with_other_seeds_have_no_difference(tmp_path):
    run = make_run(tmp_path / "run", failed=("point_goal.gru.maml.s1",)).path
    (block,) = differences(run, "ssm maml")
    assert {text for text, _ in block.rows[0][1:]} == {"not the same"}


def test_a_sweep_is_compared_like_a_run():
    (block,) = differences(PUBLISHED, "multitask")
    frame = pd.read_csv(PUBLISHED / "table.csv").query("learner != 'reference'")
    frame = frame.set_index("learner")["return_1"]
    base = frame["multitask"]
    assert len(block.rows) == len(frame) - 1 == 2
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
    assert "return minus that of gru maml gradient" in capsys.readouterr().out


def test_the_only_row_has_nothing_to_differ_from(tmp_path):
    failed = [f"point_goal.gru.maml.s{seed}" for seed in range(3)]
    run = make_run(tmp_path / "run", failed=failed).path
    with pytest.raises(ValueError, match="or the only one; have: ssm maml gradient"):
        differences(run, "ssm")
