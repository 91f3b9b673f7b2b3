"""What adaptation gains: one checkpoint scored before and after it, and the difference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import UsageError, config_as_dict
from harness.console.listener import RunListener
from harness.experiments import experiment, online_adaptation
from harness.reporting.rebuild import load_comparison
from harness.reporting.render.writers import console
from harness.reporting.stats.statistics import Estimate, estimate
from harness.reporting.store.files import run_path, write_atomically

FILE = "adaptation.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Gain:
    """Mean returns over the test tasks and their paired difference, with 95 % intervals."""

    steps: int
    """Shots, or gradient steps of each online adaptation."""
    pre: Estimate
    post: Estimate
    gain: Estimate
    online: bool = False

    def text(self) -> str:
        """Return the three on one line."""
        kind = "steps at a time, while acting" if self.online else "adaptation steps"
        parts = (("before", self.pre), (f"after {self.steps} {kind}", self.post))
        shown = "; ".join(f"{name} {_shown(value)}" for name, value in parts)
        return f"return {shown}; gain {_shown(self.gain, sign='+')}"

    def save(self, folder: Path, config: AdaptCommandConfig) -> None:
        """Write this and what it was asked with to ``adaptation.json``."""
        told = dataclasses.asdict(self) | {"config": config_as_dict(config)}
        text = json.dumps(_finite(told), indent=1, allow_nan=False)
        write_atomically(folder / FILE, text.encode())


def adapt_checkpoint(
    config: AdaptCommandConfig, *, argv: Sequence[str], progress: RunListener
) -> int:
    """Score a checkpoint before and after adaptation, print the gain; return the exit code.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: the run cannot start, or the policy cannot adapt so.
    """
    execution = config.execution
    if execution.mirror is not None:
        raise UsageError("--mirror: adapt takes none; it is of runs that take long")
    name = execution.name or f"adapt-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    config = dataclasses.replace(config, execution=dataclasses.replace(execution, name=name))
    folder = run_path(execution.storage or experiment.RESULTS, name)
    if config.online:
        gain, code = _online(config, folder, progress), 0
    else:
        code = experiment.evaluate_checkpoint(config, argv=argv, progress=progress)
        if code:
            return code
        gain = _measured(folder, config.adapt_steps)
    gain.save(folder, config)
    console().print(gain.text(), highlight=False)
    return code


def _measured(folder: Path, steps: int) -> Gain:
    """Read the gain off the table of a run of one cell."""
    frame = load_comparison(folder)[0].frame
    row = frame[frame["learner"] != "reference"].iloc[0]

    def column(name: str) -> Estimate:
        return Estimate(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))

    return Gain(steps, column("return_0"), column(f"return_{steps}"), column(f"gain_{steps}"))


def _online(config: AdaptCommandConfig, folder: Path, progress: RunListener) -> Gain:
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"--name: {folder} exists already; give another name") from error
    cell, stored = experiment.described(config)
    chosen = config.applied_to(stored)
    try:
        pre, post = online_adaptation.play(config, cell, chosen, progress)
    finally:
        progress.closed()
    per_task = [np.mean(values, axis=1)[np.newaxis] for values in (pre, post)]
    before, after = per_task
    return Gain(
        config.adapt_steps, estimate(before), estimate(after), estimate(after - before), True
    )


def _shown(value: Estimate, sign: str = "") -> str:
    text = f"{value.point:{sign}.1f}"
    if np.isnan(value.low):
        return f"{text} (no interval: one task)"
    return f"{text} [{value.low:{sign}.1f}, {value.high:{sign}.1f}]"


def _finite(value: object) -> object:
    """Return nested plain values with ``None`` for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
