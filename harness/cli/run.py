"""``python -m harness.run``: meta-train and compare policies, or score or export one checkpoint.

Exit codes: 0 complete, 2 bad input, 3 some cells failed, 4 interrupted (resumable), 5 refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.cli import parser
from harness.cli.commands import ExportConfig
from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import EvaluateConfig
from harness.errors import ArtefactError, UsageError
from harness.execution.preflight import preflight


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own if not given); return the exit code."""
    given_argv = list(sys.argv[1:] if argv is None else argv)
    try:
        invocation = parser.parse(given_argv)
    except SystemExit as answered:  # tyro printed the help, or what it could not read
        return int(answered.code or 0)
    except UsageError as error:
        return _refuse(error)
    try:
        if isinstance(invocation.config, ExportConfig):
            return _export(invocation.config)
        preflight(invocation.config.execution)
        return _run(invocation, given_argv)
    except UsageError as error:
        return _refuse(error)
    except ArtefactError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 5


def _run(invocation: parser.Invocation, argv: list[str]) -> int:
    # Only now what costs seconds: bad input has been answered already.
    from harness.console.display import make_progress
    from harness.experiments.adapting import adapt_checkpoint
    from harness.experiments.experiment import evaluate_checkpoint, run_experiment

    config = invocation.config
    assert not isinstance(config, ExportConfig)
    if isinstance(config, EvaluateConfig):
        progress = make_progress(config.execution.name or config.checkpoint.stem)
        if isinstance(config, AdaptCommandConfig):
            return adapt_checkpoint(config, argv=argv, progress=progress)
        return evaluate_checkpoint(config, argv=argv, progress=progress)
    progress = make_progress(config.execution.name or config.task_dist)
    return run_experiment(config, argv=argv, given=invocation.given, progress=progress)


def _export(config: ExportConfig) -> int:
    from harness.execution import checkpoint

    checkpoint.write(config.to, checkpoint.read(config.checkpoint))
    return 0


def _refuse(error: UsageError) -> int:
    sys.stderr.write(f"error: {error}\nSee {parser.PROG} --help.\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
