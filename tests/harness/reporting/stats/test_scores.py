"""Differences are paired by seed and task, or refused."""

import pytest

from harness.reporting.stats.scores import UnpairedError, paired_difference
from harness.reporting.store.records import read_records
from tests.harness.reporting.synthetic_run import DIST


def test_paired_difference_of_two_rows(run):
    records = read_records(run)
    ssm, gru = ((DIST, policy, "maml", "gradient") for policy in ("ssm", "gru"))
    result = paired_difference(records, gru, ssm, shots=(5, 5))
    assert (result.point, result.low, result.high) == pytest.approx((8, 8, 8))
    assert paired_difference(records, ssm, ssm, shots=(1, 0)).point == pytest.approx(1)
    with pytest.raises(UnpairedError):
        paired_difference(records, gru, ssm, shots=(3, 0))
    uneven = records[(records["policy"] == "ssm") | (records["seed"] < 2)]
    with pytest.raises(UnpairedError):
        paired_difference(uneven, gru, ssm, shots=(1, 1))
