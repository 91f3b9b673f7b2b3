"""Success and return per class: the part of a task's name before the ``/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.reporting.stats.scores import REFERENCE, ROW, Scores, scores
from harness.reporting.stats.statistics import Array, wilson
from task_distributions.base import class_of

CLASS = "class"


def class_table(records: pd.DataFrame, table: pd.DataFrame, shots: Sequence[int]) -> pd.DataFrame:
    """Return one row per class and row of ``table``: ``success_K`` and ``return_K``.

    Means over seeds, goals and episodes. ``success_K_low`` and ``_high`` are Wilson's interval with
    one trial per goal, which is wide on purpose: a class has few goals. Lines of no record have
    none.
    """
    kinds = records["task"].map(class_of)
    lines = []
    for kind in dict.fromkeys(kinds.sort_values()):
        part = records[kinds == kind]
        rates, returns = scores(part, "success"), scores(part, "return_")
        for row in table[list(ROW)].itertuples(index=False, name=None):
            if row in rates:
                known = {CLASS: kind} | dict(zip(ROW, row, strict=True))
                lines.append(known | _numbers(row, rates, returns, shots))
    return pd.DataFrame(lines)


def _numbers(
    row: tuple[str, ...], rates: Scores, returns: Scores, shots: Sequence[int]
) -> dict[str, Any]:
    numbers: dict[str, Any] = {"goals": next(iter(rates[row].values())).shape[1]}
    for count in shots:
        # A reference line does not adapt: one value for every number of shots.
        source = 0 if row[2] == REFERENCE else count
        rate, value = rates[row].get(source), returns[row].get(source)
        numbers |= _success(f"success_{count}", rate)
        numbers[f"return_{count}"] = _mean(value)
    return numbers


def _success(name: str, rate: Array | None) -> dict[str, float]:
    point = _mean(rate)
    known = 0 if rate is None else int((~np.isnan(rate).all(axis=0)).sum())
    low, high = wilson(point, known) if known else (np.nan, np.nan)
    return {name: point, f"{name}_low": low, f"{name}_high": high}


def _mean(values: Array | None) -> float:
    """Return the mean over seeds and tasks; NaN marks a task without a valid episode."""
    if values is None or np.isnan(values).all():
        return float("nan")
    return float(np.nanmean(values))
