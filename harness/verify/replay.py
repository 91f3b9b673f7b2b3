"""Records against a replay: the same bits on the same kind of machine, a test of means elsewhere.

A replay plays a whole job, the tasks that were scored as one batch, because batch sizes change the
last bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from harness.agents import AgentError
from harness.execution.worker import JobError
from harness.experiments.rescore import CellReplay
from harness.meta.learners.base import DivergedError
from harness.reporting.store.provenance import git_revision
from harness.reporting.store.schema import REWARDS
from harness.verify.findings import Findings, Replay
from harness.verify.opening import OpenCell
from metarl_plugins import PluginError

KEYS = ["policy", "split", "task_index", "shots", "query_episode"]
OWN = {"run", "cell", "adapt_seconds"}
"""Columns that a replay does not repeat: names of folders, and time."""
NOISY = {"return_", "success", "length_steps", "invalid", "support_env_steps", REWARDS}
"""Columns that may differ on another kind of machine."""
LEVEL = 1e-3
"""Probability that an honest cell fails the test of its means."""
NEGLIGIBLE = 1e-3
"""Difference of means, as a share of the mean absolute return, that is not tested."""


def replay(
    cell: OpenCell, rng: np.random.Generator, elsewhere: str, found: Findings
) -> Replay | None:
    """Play a random task of a cell again, with the others of its job; return how it matched.

    Args:
        cell: a cell without an obstacle.
        rng: draws the task.
        elsewhere: how this machine differs from that of the run; empty if it does not.
        found: takes what is found.
    """
    assert cell.config is not None
    try:
        again = CellReplay.of(
            cell.folder, cell.info, cell.config, cell.model, reference=cell.reference
        )
        tasks = [job for job in again.jobs for _ in job.task_indices]
        job = tasks[int(rng.integers(len(tasks)))]
        rows = again.score(job)
    except (AgentError, DivergedError, JobError, PluginError) as error:
        found.wrong.append(f"its replay failed: {error}")
        return None
    recorded = again.records
    mine = recorded["split"].eq(job.split) & recorded["task_index"].isin(job.task_indices)
    recorded, played = _aligned(recorded[mine]), _aligned(pd.DataFrame(map(asdict, rows)))
    what = f"{len(played)} records of {len(job.task_indices)} {job.split} tasks"
    if not recorded.index.equals(played.index):
        found.wrong.append(f"a replay plays other episodes than the {len(recorded)} recorded")
        return None
    differing = [n for n in played.columns if _unequal(recorded[n], played[n]).any()]
    if not differing:
        found.verified.append(f"replayed {what}: equal bit for bit")
        return "bits"
    if not elsewhere or set(differing) - NOISY:
        shown = _shown(recorded, played, differing)
        found.wrong.append(f"replayed {what}: {shown}{_revisions(cell)}")
        return None
    shots = played.index.get_level_values("shots")
    by_shots = {
        int(count): same_mean(recorded[shots == count], played[shots == count])
        for count in shots.unique()
    }
    worst = min(by_shots, key=lambda count: by_shots[count])
    p = min(1.0, by_shots[worst] * len(by_shots))
    test = f"Welch's t-test of the returns minus their task's mean, Bonferroni: p = {p:.2g}"
    if p < LEVEL:
        found.wrong.append(f"replayed {what}: other mean returns after {worst} shots ({test})")
        return None
    found.verified.append(f"replayed {what}: the same mean returns ({test})")
    found.unverified.append(f"single records: the run was made elsewhere ({elsewhere})")
    return "statistics"


def _revisions(cell: OpenCell) -> str:
    """Return which revisions recorded and replayed a cell, where they differ, for a message."""
    then, git = cell.info.revision, git_revision()
    if not then or (git and git[0] == then):
        return ""
    return f"; recorded by revision {then[:12]}, replayed by {git[0][:12] if git else 'another'}"


def _aligned(records: pd.DataFrame) -> pd.DataFrame:
    """Return what a replay repeats of records, by episode."""
    own = [name for name in records.columns if name in OWN]
    return records.drop(columns=own).set_index(KEYS).sort_index()


def _unequal(a: pd.Series, b: pd.Series) -> np.ndarray:
    """Return where two columns differ; NaN equals NaN."""
    if a.name == REWARDS:
        return np.array([not np.array_equal(x, np.float32(y)) for x, y in zip(a, b, strict=True)])
    return ~(a.eq(b) | (a.isna() & b.isna())).to_numpy()


def _shown(recorded: pd.DataFrame, played: pd.DataFrame, names: Sequence[str]) -> str:
    """Return how records and replay differ, with one example."""
    name = "return_" if "return_" in names else names[0]
    where = np.flatnonzero(_unequal(recorded[name], played[name]))
    at = played.index[where[0]]
    place = ", ".join(f"{key} {value}" for key, value in zip(KEYS, at, strict=True))
    a, b = (frame[name].iloc[where[0]] for frame in (recorded, played))
    return f"{len(where)} differ in {', '.join(names)}; {name} is {a} on record, {b} now ({place})"


def same_mean(recorded: pd.DataFrame, played: pd.DataFrame) -> float:
    """Return the probability of so large a difference of means if there is none.

    Welch's t-test on returns less the recorded mean of their task, which the seed's policy scores
    alike in both; where each task has one episode, that is the paired t-test over tasks.

    Args:
        recorded: the records of one cell at one number of shots.
        played: the same episodes, played again.
    """
    valid = ~(recorded["invalid"] | played["invalid"])
    a, b = recorded.loc[valid, "return_"], played.loc[valid, "return_"]
    means = a.groupby(level=["split", "task_index"]).transform("mean")
    x, y = (a - means).to_numpy(), (b - means).to_numpy()
    if not len(x) or abs(y.mean() - x.mean()) <= NEGLIGIBLE * float(a.abs().mean()):
        return 1.0
    if len(x) < 2 or not (np.ptp(x) or np.ptp(y)):
        return 0.0
    from scipy import stats  # it takes half a second

    p = float(stats.ttest_ind(x, y, equal_var=False).pvalue)
    return 0.0 if math.isnan(p) else p
