"""``python -m harness.rllib``: RLlib's PPO + LSTM in the place of ours, scored as ours is.

Takes the flags of ``harness.run``. Exit codes: 0 complete, 2 bad input, 3 some cells failed,
4 interrupted (a run of RLlib cannot be taken up again), 5 refused.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from harness.cli import parser
from harness.config.distributions import open_distribution
from harness.config.schema import RunConfig
from harness.errors import UsageError, run_command
from harness.execution.preflight import check_tracking
from harness.rllib.run import LEARNERS, NETWORK

MEANINGLESS = ("backend", "num_workers", "address", "resume", "job_timeout")
"""Settings of execution that RLlib's run has no use for: it is one process."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own if not given); return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command(
        lambda: _main(given), hint=f"See {parser.PROG} --help; the flags are the same."
    )


def _main(argv: list[str]) -> int:
    invocation = parser.parse_run(argv)
    config = checked(invocation)
    check_tracking(config.execution)
    # Only now what costs seconds: bad input has been answered already.
    from harness.console.display import make_progress
    from harness.rllib.run import run_reference

    return run_reference(config, argv=argv, given=invocation.given, listener=make_progress())


def checked(invocation: parser.Invocation) -> RunConfig:
    """Return the configuration of a run of RLlib; both learners if none was named.

    Raises:
        UsageError: a setting was given that RLlib's run does not have.
    """
    config, given = invocation.config, invocation.given
    assert isinstance(config, RunConfig)
    if given.get("policy", (NETWORK,)) not in ((NETWORK,), [NETWORK]):
        raise UsageError(f"--policy: RLlib's recurrent module is an LSTM; have: {NETWORK}")
    learners = config.learner if "learner" in given else LEARNERS
    if strangers := [name for name in learners if name not in LEARNERS]:
        raise UsageError(
            f"--learner: RLlib has no {strangers[0]!r}; have: {', '.join(LEARNERS)}. "
            "Train that one by python -m harness.run"
        )
    if open_distribution(config.task_dist, config.env).spec.discrete:
        raise UsageError(
            f"--task-dist: {config.task_dist} has discrete actions, RLlib's run continuous ones "
            "alone; train it by python -m harness.run"
        )
    for name in MEANINGLESS:
        if name in given.get("execution", {}):
            raise UsageError(
                f"--{name.replace('_', '-')}: RLlib's run is one process from beginning to end; "
                "leave it out"
            )
    return dataclasses.replace(config, policy=(NETWORK,), learner=learners)


if __name__ == "__main__":
    sys.exit(main())
