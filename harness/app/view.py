"""A run as the page shows it: read from the run's folder, nothing computed here."""

from __future__ import annotations

import html
import io
import json
import re
import signal
from pathlib import Path
from typing import Any

from PIL import Image

from harness.app.clips import Clip, clips_folder
from harness.app.run_process import STOPPED, RunProcess
from harness.console.live_table import duration, score
from harness.console.progress_state import CellProgress, RunProgress
from harness.errors import ExitCode
from harness.reporting.rebuild import load_comparison
from harness.reporting.render.figures import learning_curves
from harness.reporting.store.manifest import RUN_FILE, Manifest
from harness.reporting.store.records import read_curves
from harness.reporting.text import short_count

TERMINATED = (STOPPED, -signal.SIGTERM)
"""Exit codes of a process that was stopped before or after its training."""
HEADER = ("cell", "status", "iteration", "env steps", "steps/s", "return", "time left")


def error_sentence(error: Exception) -> str:
    """Return an error as one line that ends with a full stop."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return f"Error: {text}{'' if text[-1] in '.!?' else '.'}"


def status(process: RunProcess) -> str:
    """Return the status line of a run: running, or how it ended."""
    time, name, code = duration(process.seconds), process.folder.name, process.exit_code
    if process.running:
        return f"{'Stopping' if process.stopping else 'Running'} ({time}): {name}"
    if code == ExitCode.COMPLETE:
        return f"Complete after {time}: {name}"
    if code == ExitCode.CELLS_FAILED:
        return f"Finished after {time} with failed cells (see the table): {name}"
    if code == ExitCode.INTERRUPTED or (process.stopping and code in TERMINATED):
        hint = ". Continue it with --resume" if _resumable(process) else ""
        return f"Stopped after {time}: {name}{hint}."
    return error_sentence(ValueError(process.last_message()))


def _resumable(process: RunProcess) -> bool:
    try:
        code = process.exit_code
        return code == ExitCode.INTERRUPTED and Manifest.load(process.folder).resumable
    except ValueError:  # no run.json, or a malformed one
        return False


def fingerprint(run: Path) -> tuple[tuple[str, int], ...]:
    """Return a value that changes whenever a displayed file of ``run`` does."""
    kinds = (RUN_FILE, "cells/*/*.json", "cells/*/*.parquet", "table.md", "clips/*/*.json")
    paths = [path for kind in kinds for path in sorted(run.glob(kind))]
    return tuple((str(path), path.stat().st_mtime_ns) for path in paths)


def cells_table(run: Path) -> str:
    """Return an HTML table with a row per cell; '' before there is a ``run.json``.

    Raises:
        ArtefactError: a file of the run is malformed.
    """
    if not (run / RUN_FILE).exists():
        return ""
    progress = RunProgress.of(Manifest.load(run), run)
    return _html_table(HEADER, [_row(key, cell) for key, cell in progress.cells.items()])


def _row(key: str, cell: CellProgress) -> tuple[str, ...]:
    speed = "" if cell.steps_per_second is None else f"{cell.steps_per_second:,.0f}"
    returns = ""
    if cell.pre_return is not None and cell.post_return is not None:
        returns = f"{score(cell.pre_return)} → {score(cell.post_return)}"
    left = "" if cell.seconds_left is None else duration(cell.seconds_left)
    status = f"{cell.status}: {cell.reason}" if cell.reason else cell.status
    iteration = f"{cell.iteration} / {cell.iterations}"
    name = " ".join(key.rsplit(".", 3)[1:])  # without the distribution, which all cells share
    return name, status, iteration, short_count(cell.env_steps), speed, returns, left


def _html_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(tag: str, cells: tuple[str, ...]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in cells)}</tr>"

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"


def learning_figure(run: Path) -> Image.Image | None:
    """Draw the learning curves of ``run`` so far, as its report does; None before the first.

    Raises:
        UsageError: there is no run.
        ArtefactError: a file of the run is malformed.
    """
    curves = read_curves(run)
    if not curves:
        return None
    table, manifest = load_comparison(run)
    figure = learning_curves(manifest.dist_name, table, manifest, curves)
    if figure is None:
        return None
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return Image.open(out)


def comparison_table(run: Path) -> str:
    """Return the table of the run as Markdown; '' before it is written."""
    path = run / "table.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def adaptation_figure(run: Path) -> str | None:
    """Return the path of the run's adaptation curve, if it has been drawn."""
    path = run / "figures" / "adaptation_curve.png"
    return str(path) if path.exists() else None


def clips(run: Path, task_index: int) -> list[tuple[str, str]]:
    """Return path and caption of the two clips of a task; none until both are rendered."""
    folder = clips_folder(run, task_index)
    if not (folder / "clips.json").exists():
        return []
    content: dict[str, Any] = json.loads((folder / "clips.json").read_text())
    both = [Clip(**clip) for clip in content["clips"]]
    return [(str(folder / clip.file), _caption(content["task"], clip)) for clip in both]


def _caption(task: str, clip: Clip) -> str:
    shots = "1 shot" if clip.shots == 1 else f"{clip.shots} shots"
    when = f"After {shots}" if clip.shots else "Before adaptation"
    speed = f", shown at {clip.speed:.1f}× speed" if clip.speed > 1.05 else ""
    return f"{when}: {task}, return {score(clip.return_)}{speed}"
