"""``python -m harness.rllib``: RLlib's PPO + LSTM in place of ours, scored like ours.

Takes the flags of ``harness.run``. Exit codes: 0 complete, 2 bad input, 3 some cells failed,
4 interrupted (runs of RLlib cannot be resumed), 5 a file was refused, 70 internal error.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.cli import parser
from harness.config.distributions import open_distribution
from harness.config.presets import Layer
from harness.config.schema import RunConfig
from harness.config.sweep_file import planned_cells
from harness.console.listener import RunListener
from harness.errors import UsageError, run_command
from harness.execution.backend import Backend
from harness.execution.preflight import check_tracking
from harness.experiments.run import RunOptions, play
from harness.reporting.store.records import RunFolder
from harness.rllib.weights import NETWORK

LABEL = "rllib-lstm"
"""The policy in tables: RLlib's default recurrent module."""
LEARNERS = ("multitask", "rl2")
"""Learners with a counterpart in RLlib's PPO."""
DEFAULTS: Layer = {"policy": [NETWORK], "learner": list(LEARNERS)}
"""The components of a run without ``--policy`` and ``--learner``."""
MEANINGLESS = ("backend", "num_workers", "address", "job_timeout")
"""Settings of execution without effect here: RLlib trains in one process."""
LACKING = (
    "target_kl",
    "warm_up",
    "random_phase",
    "burn_in",
    "normalize_advantages",
    "baseline",
    "task_critic",
    "task_coef",
)
"""Settings of our PPO that RLlib's does not have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own if not given); return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command(
        lambda: _main(given), hint=f"See {parser.PROG} --help; the flags are the same."
    )


def _main(argv: list[str]) -> int:
    request = parser.parse_run(argv, below=[DEFAULTS])
    if isinstance(request, parser.Resume):
        raise UsageError("--resume: RLlib trains in one process and cannot continue a run")
    config = checked(request)
    check_tracking(config.execution)
    # Slow imports last: bad input has been refused by now.
    try:
        importlib.import_module("ray.rllib")
    except ImportError as error:
        raise UsageError(
            f"RLlib cannot be imported ({error}): pip install -c constraints.txt -e '.[rllib]'"
        ) from error
    from harness.console.display import make_progress

    return run_reference(config, argv=argv, given=request.given, listener=make_progress())


def checked(request: parser.Run) -> RunConfig:
    """Return the configuration of a run of RLlib.

    Raises:
        UsageError: a setting was given that a run of RLlib does not have.
    """
    config, given = request.config, request.given
    if request.pretrained:
        raise UsageError("--pretrained: score policies beside it with python -m harness.run")
    policy, *others = config.policy.values()
    if others or policy.kind != NETWORK:
        raise UsageError(f"--policy: RLlib's recurrent module is an LSTM; choose {NETWORK}")
    for label, learner in config.learner.items():
        if learner.kind not in LEARNERS:
            raise UsageError(
                f"--learner: RLlib has no {learner.kind!r}; choose from: {', '.join(LEARNERS)}. "
                "Train it with python -m harness.run"
            )
        default = type(learner.settings)()
        for name in LACKING:
            if getattr(learner.settings, name) != getattr(default, name):
                flag, wanted = f"--{label}.{name.replace('_', '-')}", getattr(default, name)
                raise UsageError(f"{flag}: RLlib's PPO has no such setting; it has to be {wanted}")
    if open_distribution(config.task_dist, config.env).spec.discrete:
        raise UsageError(
            f"--task-dist: {config.task_dist} has discrete actions, and this reference supports "
            "continuous ones only; train with python -m harness.run"
        )
    for name in MEANINGLESS:
        if name in given.get("execution", {}):
            raise UsageError(
                f"--{name.replace('_', '-')}: has no effect: RLlib trains in one process"
            )
    return dataclasses.replace(config, policy={LABEL: policy})


def run_reference(
    config: RunConfig, *, argv: Sequence[str], given: Mapping[str, Any], listener: RunListener
) -> int:
    """Train every cell of ``config`` with RLlib and score it; return the exit code.

    Raises:
        UsageError: the run cannot start: its folder.
    """
    options = RunOptions.of_execution(
        config.execution,
        f"rllib-{config.label}",
        command=("python", "-m", "harness.rllib", *argv),
        given=given,
        start_backend=_start,
    )
    return play(planned_cells(config, dict(given)), options, listener)


def _start(config: RunConfig, folder: RunFolder, listener: RunListener) -> Backend:
    from harness.rllib.reference import RllibBackend

    return RllibBackend(config)


if __name__ == "__main__":
    sys.exit(main())
