"""Differences between the rows of a table and one of them."""

import pytest

from harness.cli import tables
from harness.errors import UsageError
from harness.reporting.render.differences import differences
from tests.harness.reporting.synthetic_run import make_run, make_swept_run


def test_rows_are_paired_by_seed_and_task(tmp_path):
    run = make_run(tmp_path / "run").path
    (block,) = differences(run, "ssm")
    ((name, *cells),) = block.rows
    assert name == ("gru", "maml, gradient")
    # Seeds and tasks differ by more than the rows; pairing removes that.
    assert cells == [(text, "") for text in NUMBERS]  # equal seeds have no interval


NUMBERS = ("-2.00", "+0.00", "+8.00")


def test_rows_with_other_seeds_have_an_unpaired_interval(tmp_path):
    run = make_run(tmp_path / "run", failed=("point_goal.gru.maml.s1",)).path
    (block,) = differences(run, "ssm maml")
    assert [text for text, _ in block.rows[0][1:]] == list(NUMBERS)
    low, high = map(float, block.rows[0][1][1].strip("[]").split(","))
    assert high - low > 2  # seeds are 0.5 apart


def test_a_run_whose_settings_vary_is_compared_by_them(tmp_path):
    run = make_swept_run(tmp_path / "run")
    (grid,) = differences(run, "ssm inner_lr=0.1")
    found = {f"{name} {learner}": text for (name, learner), (text, _), *_ in grid.rows}
    assert found == {
        "gru maml inner_lr=0.1, gradient": "-2.00",
        "gru maml inner_lr=0.2, gradient": "-2.00",
        "ssm maml inner_lr=0.2, gradient": "+0.00",
    }


@pytest.mark.parametrize("against", ["lstm", "maml", ""])
def test_a_row_that_is_not_there_or_not_alone_is_refused(tmp_path, capsys, monkeypatch, against):
    monkeypatch.setattr("harness.reporting.rebuild.write_figures", lambda *_: ())
    run = make_run(tmp_path / "run").path
    assert tables.main([str(run), "--against", against]) == 2
    assert "choose from: gru maml gradient, ssm maml gradient" in capsys.readouterr().err
    assert tables.main([str(run), "--against", "gru"]) == 0
    assert "minus return of gru maml gradient" in capsys.readouterr().out


def test_the_only_row_has_nothing_to_differ_from(tmp_path):
    run = make_run(tmp_path / "run", pending=[f"point_goal.gru.maml.s{seed}" for seed in range(3)])
    with pytest.raises(UsageError, match="choose from: ssm maml gradient"):
        differences(run.path, "ssm")
