"""``python -m harness.run``: meta-train and compare policies, or score or export a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from harness.cli import parser
from harness.config.scoring import AdaptConfig, EvaluateConfig
from harness.errors import run_command
from harness.execution.preflight import preflight


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own if not given); return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command(partial(_main, given), hint=f"See {parser.PROG} --help.")


def _main(argv: list[str]) -> int:
    request = parser.parse(argv)
    if isinstance(request, parser.Export):
        from harness.execution import checkpoint

        checkpoint.write(request.to, checkpoint.read(request.checkpoint))
        return 0
    if isinstance(request, parser.Resume):
        return _resume(request)
    config = request.config if isinstance(request, parser.Run) else request
    preflight(config.execution)
    # Only now what takes seconds: bad input has been refused already.
    from harness.console.display import make_progress

    listener = make_progress()
    if isinstance(request, EvaluateConfig):
        from harness.experiments import evaluate

        if isinstance(request, AdaptConfig):
            return evaluate.adapt_checkpoint(request, argv=argv, listener=listener)
        return evaluate.evaluate_checkpoint(request, argv=argv, listener=listener)
    from harness.experiments.run import run_experiment

    return run_experiment(
        request.config,
        argv=argv,
        given=request.given,
        listener=listener,
        pretrained=request.pretrained,
    )


def _resume(request: parser.Resume) -> int:
    from harness.config.schema import folder
    from harness.console.display import make_progress
    from harness.experiments.run import resume
    from harness.reporting.store.files import RESULTS, run_path

    execution = dict(request.execution)
    storage = execution.pop("storage", None)
    return resume(
        run_path(folder(storage) if storage else RESULTS, request.name),
        make_progress(),
        mirror=execution.pop("mirror", None),
        more=request.more,
        **execution,
    )
