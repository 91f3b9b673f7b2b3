"""``python -m harness.run``: meta-train and compare policies, or score or export one checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.cli import parser
from harness.cli.commands import ExportConfig
from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import EvaluateConfig
from harness.errors import run_command
from harness.execution.preflight import preflight


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own if not given); return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _main(given), hint=f"See {parser.PROG} --help.")


def _main(argv: list[str]) -> int:
    invocation = parser.parse(argv)
    if isinstance(invocation.config, ExportConfig):
        return _export(invocation.config)
    preflight(invocation.config.execution)
    return _run(invocation, argv)


def _run(invocation: parser.Invocation, argv: list[str]) -> int:
    # Only now what costs seconds: bad input has been answered already.
    from harness.console.display import make_progress
    from harness.experiments.evaluate import adapt_checkpoint, evaluate_checkpoint
    from harness.experiments.run import run_experiment

    config, listener = invocation.config, make_progress()
    assert not isinstance(config, ExportConfig)
    if isinstance(config, AdaptCommandConfig):
        return adapt_checkpoint(config, argv=argv, listener=listener)
    if isinstance(config, EvaluateConfig):
        return evaluate_checkpoint(config, argv=argv, listener=listener)
    return run_experiment(config, argv=argv, given=invocation.given, listener=listener)


def _export(config: ExportConfig) -> int:
    from harness.execution import checkpoint

    checkpoint.write(config.to, checkpoint.read(config.checkpoint))
    return 0


if __name__ == "__main__":
    sys.exit(main())
