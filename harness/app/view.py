"""What the page shows of a run: read from its folder, nothing worked out here."""

from __future__ import annotations

import html
import io
import json
import re
import signal
from pathlib import Path
from typing import Any

from PIL import Image

from harness.app.clips import Clip, folder_of
from harness.app.run_process import STOPPED, RunProcess
from harness.console.live_table import count, duration, score
from harness.console.progress_state import CellProgress, RunProgress
from harness.reporting.rebuild import load_comparison
from harness.reporting.render.figures import learning_curves
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_curves

ENDS = {
    0: "complete",
    3: "finished, but some cells failed: the table says which",
}
"""Exit code -> what it means."""
INTERRUPTED = 4
"""Exit code of a run that ``--resume`` continues."""
CUT = (STOPPED, -signal.SIGTERM)
"""Exit codes of what was stopped before or after the part that can be continued."""
HEADER = ("cell", "status", "iteration", "env steps", "steps/s", "return", "left")


def sentence(error: Exception) -> str:
    """Return what went wrong as one line that ends like a sentence."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return f"Error: {text}{'' if text[-1] in '.!?' else '.'}"


def standing(child: RunProcess) -> str:
    """Return in a sentence what a child is doing, or how it ended."""
    took = duration(child.seconds)
    if child.running:
        return f"{'Stopping' if child.stopping else 'Running'}, {took}: {child.run.name}"
    if child.code == INTERRUPTED or (child.stopping and child.code in CUT):
        ahead = "; continue with --resume" if _resumable(child) else ""
        return f"Stopped after {took}: {child.run.name}{ahead}."
    if child.code in ENDS:
        return f"Over after {took}, {ENDS[child.code]}: {child.run.name}"
    return sentence(ValueError(child.last_words()))


def _resumable(child: RunProcess) -> bool:
    try:
        return child.code == INTERRUPTED and Manifest.load(child.run).resumable
    except ValueError:  # there is none, or it is refused
        return False


def stamp(run: Path) -> tuple[tuple[str, int], ...]:
    """Return what changes whenever there is something new to show of ``run``."""
    kinds = ("run.json", "cells/*/*.json", "cells/*/*.parquet", "table.md", "clips/*/*.json")
    paths = [path for kind in kinds for path in sorted(run.glob(kind))]
    return tuple((str(path), path.stat().st_mtime_ns) for path in paths)


def cells(run: Path) -> str:
    """Return a line per cell of ``run`` as an HTML table; '' before there is a ``run.json``.

    Raises:
        ArtefactError: a file of the run is malformed.
    """
    if not (run / "run.json").exists():
        return ""
    progress = RunProgress.of(Manifest.load(run), run)
    rows = [_row(key, cell) for key, cell in progress.cells.items()]
    return _grid(HEADER, rows)


def _row(key: str, cell: CellProgress) -> tuple[str, ...]:
    speed = "" if cell.steps_per_second is None else f"{cell.steps_per_second:,.0f}"
    returns = ""
    if cell.pre_return is not None and cell.post_return is not None:
        returns = f"{score(cell.pre_return)} → {score(cell.post_return)}"
    left = "" if cell.seconds_left is None else duration(cell.seconds_left)
    status = f"{cell.status}: {cell.reason}" if cell.reason else cell.status
    done = f"{cell.iteration} / {cell.iterations}"
    name = " ".join(key.rsplit(".", 3)[1:])  # all are of one distribution
    return name, status, done, count(cell.env_steps), speed, returns, left


def _grid(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(tag: str, cells: tuple[str, ...]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in cells)}</tr>"

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"


def learning(run: Path) -> Image.Image | None:
    """Return the learning curves of ``run`` as far as they are written, by the reports' figure.

    Raises:
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


def table(run: Path) -> str:
    """Return the run's own table as Markdown; '' before it is written."""
    path = run / "table.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def adaptation_figure(run: Path) -> str | None:
    """Return the path of the run's adaptation curve, if it is drawn."""
    path = run / "figures" / "adaptation_curve.png"
    return str(path) if path.exists() else None


def films(run: Path, task_index: int) -> list[tuple[str, str]]:
    """Return path and caption of the two films of a task; none before both are there."""
    folder = folder_of(run, task_index)
    if not (folder / "clips.json").exists():
        return []
    told: dict[str, Any] = json.loads((folder / "clips.json").read_text())
    clips = [Clip(**clip) for clip in told["clips"]]
    return [(str(folder / clip.file), _caption(told["task"], clip)) for clip in clips]


def _caption(task: str, clip: Clip) -> str:
    when = "Before adaptation" if not clip.shots else f"After {clip.shots} shots"
    if clip.shots == 1:
        when = "After 1 shot"
    fast = f", shown {clip.speed:.1f} × as fast" if clip.speed > 1.05 else ""
    return f"{when}: {task}, return {score(clip.return_)}{fast}"
