"""The first iterations of a training, done again: equal bit for bit on the same kind of machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.execution.worker import JobError
from harness.meta.learners.base import DivergedError
from harness.types import Metrics
from harness.verify.findings import Findings
from harness.verify.opening import OpenCell
from metarl_plugins import PluginError

REPEATED = ("iteration", "env_steps", "pre_return", "post_return", "info", "validation")
"""What a repetition has in common with a curve; its times differ."""


def retrain(cell: OpenCell, iterations: int, elsewhere: str, found: Findings) -> int:
    """Train a cell's first iterations again; return how many are equal to its curve, bit for bit.

    Args:
        cell: a policy that the run trained.
        iterations: how many, at most.
        elsewhere: how this machine differs from that of the run; empty if it does not.
        found: takes what is found.
    """
    assert cell.config is not None
    if elsewhere:
        found.unverified.append(f"its training: the run was made elsewhere ({elsewhere})")
        return 0
    recorded = cell.folder.read_curve()[:iterations]
    backend = LocalBackend(cell.config)
    runner = CellRunner(build_setup(cell.info.cell, cell.config), cell.config, backend)
    learner = backend.start_learner(cell.info.cell, None)
    try:
        played = list(islice(runner.train(learner, 0, 0.0), len(recorded)))
    except (DivergedError, JobError, PluginError) as error:
        found.wrong.append(f"its training, done again, failed: {error}")
        return 0
    problems = list(_differences(recorded, played))
    found.compare(f"trained {len(played)} iterations again: equal bit for bit", problems[:1])
    if len(played) < cell.info.iterations:
        found.unverified.append(f"its training after iteration {len(played)}")
    return 0 if problems else len(played)


def _differences(recorded: Sequence[Metrics], played: Sequence[Metrics]) -> Iterator[str]:
    if len(played) < len(recorded):
        yield f"trained again, there are {len(played)} iterations, not {len(recorded)}"
    for then, now in zip(recorded, played, strict=False):
        for name in REPEATED:
            a, b = (_text(getattr(metrics, name)) for metrics in (then, now))
            if a != b:
                yield f"trained again, {name} of iteration {now.iteration} is {b}, not {a}"


def _text(value: object) -> str:
    """Return a value so that NaN equals NaN, and the order of a mapping does not count."""
    return repr(sorted(value.items()) if isinstance(value, Mapping) else value)
