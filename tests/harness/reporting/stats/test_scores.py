"""Differences are paired by seed where they can be, and never between other tasks."""

import numpy as np
import pandas as pd
import pytest

from harness.reporting.stats.scores import difference, scores, success_scores
from harness.reporting.store.records import read_records
from tests.harness.reporting.synthetic_run import DIST


def test_difference_of_two_rows(run):
    records = read_records(run)
    ssm, gru = ((DIST, policy, "maml", "gradient") for policy in ("ssm", "gru"))
    found = scores(records, "return_")
    assert difference(found[gru][5], found[ssm][5]).point == pytest.approx(8)
    assert difference(found[ssm][1], found[ssm][0]).point == pytest.approx(1)
    # Seeds 0.5 apart: with one seed fewer on a side, their spread is no longer subtracted.
    uneven = scores(records[(records["policy"] == "ssm") | (records["seed"] < 2)], "return_")
    result = difference(uneven[gru][1], uneven[ssm][1])
    assert result.point == pytest.approx(0 - 0.25)
    assert result.high - result.low > 1
    less = scores(records[records["task_index"] < 2], "return_")
    with pytest.raises(ValueError, match="different tasks"):
        difference(less[gru][1], found[ssm][1])


def test_a_class_counts_once_however_many_of_its_tasks_were_scored():
    # Three goals of reach are learned, the one of push is not: half, not three of four.
    tasks = [("reach-v3/0", 1.0), ("reach-v3/1", 1.0), ("reach-v3/2", 1.0), ("push-v3/0", 0.0)]
    lines = [
        ("d", "p", "l", "a", seed, shots, task, rate * (shots > 0), False)
        for seed in (0, 1)
        for shots in (0, 5)
        for task, rate in tasks
    ]
    names = ["task_dist", "policy", "learner", "adapter", "seed", "shots", "task", "success"]
    records = pd.DataFrame(lines, columns=[*names, "invalid"])
    (matrices,) = success_scores(records, "test").values()
    assert matrices[5].tasks == ("push-v3", "reach-v3")
    np.testing.assert_array_equal(matrices[5].by_seed, [0.5, 0.5])
    np.testing.assert_array_equal(matrices[0].by_seed, [0.0, 0.0])
    # Tasks without classes, whose names begin with the split, are taken one by one.
    alone = records.assign(task=records["task"].str.replace(r".*-v3/", "test/", regex=True))
    alone = alone[records["task"].str.startswith("reach")]
    (matrices,) = success_scores(alone, "test").values()
    assert len(matrices[5].tasks) == 3
