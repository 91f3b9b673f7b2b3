"""``python -m harness.rllib``: train with RLlib's PPO and LSTM, score with our evaluator.

Takes the flags of ``harness.run``. Exit codes: 0 complete, 2 bad input, 3 some cells failed,
4 interrupted (it cannot be resumed), 5 refused artefact.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from harness.cli import parser
from harness.config.distributions import open_distribution
from harness.config.schema import RunConfig, UsageError
from harness.execution.preflight import check_tracking
from harness.reporting.store.files import ArtefactError
from harness.rllib.run import LEARNERS
from harness.rllib.weights import NETWORK

MEANINGLESS = ("backend", "num_workers", "address", "resume", "job_timeout")
"""Execution settings without effect here: RLlib trains in one process and cannot resume."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``, by default the process's own; return the exit code."""
    given_argv = list(sys.argv[1:] if argv is None else argv)
    try:
        invocation = parser.parse_run(given_argv)
        config = checked(invocation)
        check_tracking(config.execution)
        # Slow imports last: bad input has been reported by now.
        from harness.console.display import make_progress
        from harness.rllib.run import run_reference

        progress = make_progress(config.execution.name or config.task_dist)
        return run_reference(config, argv=given_argv, given=invocation.given, progress=progress)
    except SystemExit as done:  # tyro has printed the help or an error
        return int(done.code or 0)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\nSee {parser.PROG} --help; the flags are the same.\n")
        return 2
    except ArtefactError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 5


def checked(invocation: parser.Invocation) -> RunConfig:
    """Return the configuration of an RLlib run, with both learners unless some were named.

    Raises:
        UsageError: a setting was given that RLlib cannot follow.
    """
    config, given = invocation.config, invocation.given
    assert isinstance(config, RunConfig)
    if given.get("policy", (NETWORK,)) not in ((NETWORK,), [NETWORK]):
        raise UsageError(f"--policy: RLlib's default recurrent module is an LSTM; have: {NETWORK}")
    learners = config.learner if "learner" in given else LEARNERS
    if unknown := [name for name in learners if name not in LEARNERS]:
        raise UsageError(
            f"--learner: RLlib has no {unknown[0]!r}; have: {', '.join(LEARNERS)}. "
            "Train it with python -m harness.run"
        )
    if open_distribution(config.task_dist, config.env).spec.discrete:
        raise UsageError(
            f"--task-dist: {config.task_dist} has discrete actions, and the RLlib reference "
            "supports continuous ones only; train it with python -m harness.run"
        )
    for name in MEANINGLESS:
        if name in given.get("execution", {}):
            raise UsageError(
                f"--{name.replace('_', '-')}: the RLlib reference runs in one process and cannot "
                "be resumed; leave it out"
            )
    return dataclasses.replace(config, policy=(NETWORK,), learner=learners)
