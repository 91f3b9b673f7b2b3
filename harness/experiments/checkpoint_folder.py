"""``--ckpt-dir``: a folder of checkpoints beside the runs, which belongs to one run at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.config.sweep_file import PlannedCell
from harness.errors import UsageError
from harness.experiments.lock import being_played

OWNER = ".run.json"
"""File in the folder that names the run whose checkpoints these are."""


def claim(planned: Sequence[PlannedCell], run: Path) -> None:
    """Make the folder that gets the checkpoints of ``run`` its own.

    Those of an earlier run are moved into a folder with that run's name.

    Raises:
        UsageError: another process is writing there, nobody knows whose the checkpoints are, or
            one of them is to be scored.
    """
    folder = planned[0].config.execution.ckpt_dir
    scored = [cell.checkpoint for cell in planned if cell.checkpoint]
    if folder is None or len(scored) == len(planned):
        return
    inside = [path for path in scored if folder.resolve() in path.resolve().parents]
    if inside:
        raise UsageError(f"--ckpt-dir {folder} has {inside[0]}, which is to be scored: move it")
    owner, run = folder / OWNER, run.resolve()
    keys = [] if len(planned) == 1 else [cell.key for cell in planned]
    present = [*folder.glob("step_*.npz"), *folder.glob("latest.npz")]
    try:
        earlier = json.loads(owner.read_bytes()) if owner.is_file() else None
        before = Path(earlier["run"]) if earlier else None
        present += [folder / key for key in (earlier["cells"] if earlier else keys)]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{owner} is damaged: give another --ckpt-dir") from error
    present = [path for path in present if path.exists()]
    if before not in (None, run) and being_played(before) is not False:
        raise UsageError(f"--ckpt-dir {folder} is being written by {before}: give another one")
    if before != run and present:
        if before is None:
            raise UsageError(
                f"--ckpt-dir {folder} has checkpoints of an unknown run: move them, or give "
                "another folder"
            )
        aside = _unused(folder / before.name)
        aside.mkdir()
        for path in present:
            path.rename(aside / path.name)
    folder.mkdir(parents=True, exist_ok=True)
    owner.write_text(json.dumps({"run": str(run), "cells": keys}), encoding="utf-8")


def _unused(path: Path) -> Path:
    """Return ``path``, with a number behind it if it is taken."""
    candidates = (path.with_name(f"{path.name}-{n}") for n in range(2, 10_000))
    return next(p for p in (path, *candidates) if not p.exists())
