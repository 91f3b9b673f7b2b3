"""Scores on validation tasks while training, as numbers of a table's rows.

The area under the curve is the mean return over the environment steps from the first scoring to the
last; rows with the same budget and interval can be compared by it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import NO_ESTIMATE, student
from harness.reporting.store.manifest import Manifest
from harness.types import Metrics


def area(curve: Sequence[Metrics]) -> float:
    """Return the mean return after the most shots over environment steps; NaN if never scored."""
    steps, returns = _points(curve)
    if len(steps) < 2:
        return float(returns.mean()) if len(steps) else math.nan
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def steps_above(curve: Sequence[Metrics], line: float) -> float:
    """Return the environment steps at the first score above ``line``; inf if none is."""
    steps, returns = _points(curve)
    above = steps[returns > line]
    return float(above[0]) if len(above) else math.inf


def _points(curve: Sequence[Metrics]) -> tuple[np.ndarray, np.ndarray]:
    scored = [(m.env_steps, m.validation_return) for m in curve if m.validation_return is not None]
    points = np.array(scored, np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def with_curves(
    table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Comparison:
    """Return the table with ``validation_area`` and ``steps_to_line``, where curves have scores.

    ``steps_to_line`` is the median over seeds of the steps to the first score above the best return
    of behaviour that is the same on all the tasks scored; inf where half of the seeds never get
    there, NaN where that return is not known.
    """
    scored = {key: curve for key, curve in curves.items() if len(_points(curve)[0])}
    if not manifest.cells.keys() & scored.keys():
        return table
    (info,) = manifest.distributions
    line = info.eval_line
    rows = []
    for policy, learner in zip(table.frame["policy"], table.frame["learner"], strict=True):
        own = [
            scored[key]
            for key, cell in manifest.cells.items()
            if (cell.policy, cell.learner) == (policy, learner)
            and key in scored
            and cell.status == "ok"
        ]
        found = student(np.array([area(curve) for curve in own])) if own else NO_ESTIMATE
        steps = [] if line is None else [steps_above(curve, line) for curve in own]
        reached = float(np.median(steps)) if steps else math.nan
        rows.append(found.columns("validation_area") | {"steps_to_line": reached})
    frame = pd.concat([table.frame, pd.DataFrame(rows, index=table.frame.index)], axis=1)
    return dataclasses.replace(table, frame=frame)
