"""Differences are paired by seed where they can be, and never between other tasks."""

import pytest

from harness.reporting.stats.scores import UnpairedError, row_difference
from harness.reporting.store.records import read_records
from tests.harness.reporting.synthetic_run import DIST


def test_difference_of_two_rows(run):
    records = read_records(run)
    ssm, gru = ((DIST, policy, "maml", "gradient") for policy in ("ssm", "gru"))
    result = row_difference(records, gru, ssm, shots=(5, 5))
    assert result.point == pytest.approx(8)
    assert row_difference(records, ssm, ssm, shots=(1, 0)).point == pytest.approx(1)
    with pytest.raises(UnpairedError):
        row_difference(records, gru, ssm, shots=(3, 0))
    # Seeds 0.5 apart: with one seed fewer on a side, their spread is no longer subtracted.
    uneven = records[(records["policy"] == "ssm") | (records["seed"] < 2)]
    result = row_difference(uneven, gru, ssm, shots=(1, 1))
    assert result.point == pytest.approx(0 - 0.25)
    assert result.high - result.low > 1
    other = records[(records["policy"] == "ssm") | (records["task_index"] < 2)]
    with pytest.raises(UnpairedError):
        row_difference(other, gru, ssm, shots=(1, 1))
