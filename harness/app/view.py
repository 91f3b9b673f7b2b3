"""Runs as the page shows them: read from their folders, nothing computed here."""

from __future__ import annotations

import html
import io
import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from harness.app.clips import Clip, clips_folder
from harness.app.run_process import STOPPED, RunProcess
from harness.console.live_table import clock_time, score
from harness.console.progress_state import CellProgress, RunProgress
from harness.errors import ExitCode
from harness.reporting.compare import compare
from harness.reporting.rebuild import load_comparison, report
from harness.reporting.render.figures import learning_curves
from harness.reporting.render.tables import shot_label
from harness.reporting.store.manifest import RUN_FILE, Manifest
from harness.reporting.store.records import read_curves
from harness.reporting.text import short_count
from harness.zoo.weights import CLONE
from metarl_plugins import PluginError

TERMINATED = (STOPPED, -signal.SIGTERM)
"""Exit codes of a process that was stopped before or after its training."""
REFUSED = (ValueError, OSError, PluginError)
"""What bad input raises; the page shows its message."""
REPORT = "/report"
"""Path of reports on the page's server."""
HEADER = ("cell", "status", "iteration", "env steps", "steps/s", "return", "time left")


def error_sentence(error: Exception) -> str:
    """Return an error as one line that ends with a full stop."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return f"Error: {text}{'' if text[-1] in '.!?' else '.'}"


def status(process: RunProcess) -> str:
    """Return the status line of a run: running, or how it ended."""
    time, name, code = clock_time(process.seconds), process.folder.name, process.exit_code
    if process.running:
        return f"{'Stopping' if process.stopping else 'Running'} ({time}): {name}"
    if code == ExitCode.COMPLETE:
        return f"Complete after {time}: {name}"
    if code == ExitCode.CELLS_FAILED:
        return f"Finished after {time} with failed cells (see the table): {name}"
    if code == ExitCode.INTERRUPTED or (process.stopping and code in TERMINATED):
        hint = ". Resume continues it" if resumable(process) else ""
        return f"Stopped after {time}: {name}{hint}."
    return error_sentence(ValueError(process.last_message()))


def resumable(process: RunProcess) -> bool:
    """Whether a run was stopped and can be continued."""
    try:
        code = process.exit_code
        ended = not process.running and code == ExitCode.INTERRUPTED
        return ended and Manifest.load(process.folder).resumable
    except ValueError:  # no run.json, or a malformed one
        return False


def fingerprint(run: Path) -> tuple[tuple[str, int], ...]:
    """Return a value that changes whenever a displayed file of ``run`` does."""
    kinds = (RUN_FILE, "cells/*/*.json", "cells/*/*.parquet", "report.html", "clips/*/*.json")
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
    left = "" if cell.seconds_left is None else clock_time(cell.seconds_left)
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
        ArtefactError: a file of the run is malformed.
    """
    curves = read_curves(run) if (run / RUN_FILE).exists() else {}
    if not curves:
        return None
    table, manifest = load_comparison(run)
    figure = learning_curves(table, manifest, curves)
    if figure is None:
        return None
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return Image.open(out)


def films(run: Path, task_index: int) -> str:
    """Return the films of a task as HTML; '' until all are there."""
    folder = clips_folder(run, task_index)
    if not (folder / "clips.json").exists():
        return ""
    content: dict[str, Any] = json.loads((folder / "clips.json").read_text())
    both = "".join(_film(folder, content["task"], Clip(**clip)) for clip in content["clips"])
    return f'<div class="films">{both}</div>'


def _film(folder: Path, task: str, clip: Clip) -> str:
    when = f"After {shot_label(clip.shots)}" if clip.shots else "Before adaptation"
    speed = f", shown at {clip.speed:.1f}× speed" if clip.speed > 1.05 else ""
    text = html.escape(f"{when}: {task}, return {score(clip.return_)}{speed}")
    source = f"/gradio_api/file={html.escape(str((folder / clip.file).absolute()))}"
    play = "autoplay loop muted playsinline controls"
    return f'<figure><video src="{source}" {play}></video><figcaption>{text}</figcaption></figure>'


def runs(storage: Path) -> list[tuple[str, str]]:
    """Return label and path of every run below ``storage``, newest first, and published run."""
    own = sorted(storage.glob(f"*/{RUN_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    found = [(path.parent.name, str(path.parent)) for path in own]
    public = sorted(CLONE.glob(f"*/{RUN_FILE}"))
    return [*found, *((f"published: {path.parent.name}", str(path.parent)) for path in public)]


def report_frame(folders: Sequence[str]) -> str:
    """Return a frame with the report of runs, and a link to it, as HTML."""
    if not folders:
        return "Choose a run to see its report, several to compare them."
    written = [_newest(Path(run)) for run in folders]  # so that no older report is shown
    address = html.escape(f"{REPORT}?{urlencode({'run': folders, 'at': written}, doseq=True)}")
    return (
        f'<div class="frame"><iframe src="{address}#table1" title="Report"></iframe></div>'
        f'<a href="{address}" target="_blank">Open the report in a tab of its own</a>'
    )


def report_page(folders: Sequence[str]) -> str:
    """Return the report of one run, or one that compares several, as an HTML page.

    Raises:
        UsageError: there is no such run, or runs cannot be compared.
        ArtefactError: a file of a run is malformed.
    """
    if len(folders) > 1:
        return compare(folders).report()
    run = Path(folders[0])
    stored = run / "report.html"
    if stored.exists() and (run.is_relative_to(CLONE) or _newest(run) <= stored.stat().st_mtime_ns):
        return stored.read_text(encoding="utf-8")
    return report(run)


def _newest(run: Path) -> int:
    return max((time for _, time in fingerprint(run)), default=0)
