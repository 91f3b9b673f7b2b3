"""Play the published sweeps one after another, at lowest priority, and publish every finished cell.

    nohup python tune_configs/published/play.py --commit > play.log 2>&1 &
    python tune_configs/published/play.py --only '*.mlp.*' '*.rl2.*' --commit  # some cells first
    python tune_configs/published/play.py --status

It may be stopped at any moment and started again, also in a fresh clone: what was published counts
as played. After seeds are added to a file, it plays them too. After a recipe has changed, --replace
drops the published cells that it concerns, which are then played again; --replace '*.oracle.*' also
those that match, as after a change of the code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from filecmp import cmpfiles
from fnmatch import fnmatch
from pathlib import Path

from harness.config import sweep_file
from harness.errors import UsageError
from harness.experiments.planning import completed, plan
from harness.experiments.publishing import publish
from harness.reporting.store.manifest import CELLS_DIR, STATE_FILE, Manifest
from harness.zoo.building import build

HERE = Path(__file__).parent
ORDER = (
    "point_goal-sparse",
    "point_goal",
    "halfcheetah-vel",
    "halfcheetah-gravity-1",
    "halfcheetah-gravity",
    "walker2d-vel",
    "imujoco-halfcheetah",
    "ant-dir",
    "ant-mass-1",
    "ant-mass",
    "ant-vel",
    "imujoco-ant",
    "metaworld-ml10",
    "metaworld-ml45",
)
"""The sweep files in the order in which they are played: cheap ones first."""
RUNS, PUBLISHED = Path("results"), Path("results/published")
ZOO_INDEX = Path("harness/zoo/index.json")
POLL_SECONDS = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Play the files; return the number of those that did not end well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="sweep files (default: all, in order)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="play only cells whose names match"
    )
    parser.add_argument("--commit", action="store_true", help="commit every finished cell")
    parser.add_argument(
        "--replace",
        nargs="*",
        metavar="PATTERN",
        help="play again published cells of other settings, and those whose names match",
    )
    parser.add_argument("--status", action="store_true", help="print where each sweep stands")
    given = parser.parse_args(argv)
    files = given.files or [HERE / f"{name}.yaml" for name in ORDER]
    if given.status:
        sys.stdout.writelines(f"{line}\n" for line in status(files))
        return 0
    os.nice(19)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
    how = {"commit": given.commit, "only": given.only, "replace": given.replace}
    return sum(play(file, **how) != 0 for file in files)


def play(
    file: Path, *, commit: bool, only: Sequence[str] = (), replace: Sequence[str] | None = None
) -> int:
    """Play what is left of one sweep, publishing as cells finish; return its exit code.

    Args:
        file: the sweep.
        commit: commit what is published.
        only: shell patterns of the cells to play; all without any.
        replace: see ``begin``.
    """
    begin(file, replace)
    publish_finished(file.stem, commit=commit)  # what another process was killed before it did
    command = next_command(file, only)
    if command is None:
        return 0
    with stopped_at_the_end(subprocess.Popen([sys.executable, "-m", *command])) as process:
        while True:
            code = process.poll()
            publish_finished(file.stem, commit=commit)
            if code is not None:
                return code
            time.sleep(POLL_SECONDS)


def begin(file: Path, replace: Sequence[str] | None = None) -> None:
    """Begin a sweep with its published cells, unless it was begun here or never published.

    Args:
        file: the sweep.
        replace: leave out cells whose settings are no longer those of the file, and those that
            match one of these patterns. The published folder stays as it is until a cell has
            finished.
    """
    run, published = RUNS / file.stem, PUBLISHED / file.stem
    if run.exists() or not published.exists():
        return
    if replace is None:
        shutil.copytree(published, run)
        return
    sweep = sweep_file.load(file)
    new = plan(sweep.cells, (), sweep.values, {}).cells
    old = completed(Manifest.load(published))
    shared = old.cells.keys() & new.keys()
    changed = {key for key in shared if old.cells[key].config_hash != new[key].config_hash}
    changed |= matching(shared, replace)
    shutil.copytree(published, run, ignore=shutil.ignore_patterns(*changed))
    kept = {key: new[key] if key in changed else cell for key, cell in old.cells.items()}
    old.model_copy(update={"cells": kept}).save(run)


def planned(file: Path, only: Sequence[str] = ()) -> set[str]:
    """Return the keys of the cells of a sweep that match any of ``only``; all without patterns."""
    keys = {cell.key for cell in sweep_file.load(file).cells}
    return matching(keys, only) if only else keys


def matching(keys: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Return the keys that match any of the shell patterns."""
    return {key for key in keys if any(fnmatch(key, pattern) for pattern in patterns)}


def next_command(file: Path, only: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Return the command that begins, continues or extends a sweep; None if nothing is left."""
    run = RUNS / file.stem
    command = ("harness.sweep", str(file), "--name", file.stem)
    wanted = planned(file, only)
    if wanted <= finished_cells(run):
        return None
    some = ("--only", *sorted(wanted)) if only else ()
    if not run.exists():
        return (*command, *some)
    extend = not planned(file) <= Manifest.load(run).cells.keys()
    return (*command, "--extend" if extend else "--resume", *some)


def finished_cells(run: Path) -> set[str]:
    """Return the keys of the cells of a run that are complete."""
    with contextlib.suppress(UsageError):  # not begun yet
        return set(Manifest.load(run).ids("ok"))
    return set()


def publish_finished(name: str, *, commit: bool) -> None:
    """Publish a run if cells of it have finished that are not published as they are."""
    run = RUNS / name
    states = {f"{CELLS_DIR}/{key}/{STATE_FILE}": key for key in finished_cells(run)}
    published, *_ = cmpfiles(run, PUBLISHED / name, states, shallow=False)
    fresh = sorted(states[file] for file in states.keys() - published)
    if fresh:
        publish(run, name, PUBLISHED, partial=True)
        if commit:
            commit_published(name, fresh)


def commit_published(name: str, cells: Sequence[str]) -> None:
    """Commit the published folder of a sweep and the index of the zoo, and nothing else."""
    build(PUBLISHED).write(ZOO_INDEX)
    paths = ["--", str(PUBLISHED / name), str(ZOO_INDEX)]
    subprocess.run(["git", "add", *paths], check=True)
    subject = f"Publish {len(cells)} more cells of {name}"
    message = f"{subject}\n\n" + "\n".join(cells)
    subprocess.run(["git", "commit", "-q", "-m", message, *paths], check=True)


@contextlib.contextmanager
def stopped_at_the_end(
    process: subprocess.Popen[bytes],
) -> Iterator[subprocess.Popen[bytes]]:
    """Ask the sweep to write its checkpoints and end if this process ends first."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def status(files: Sequence[Path]) -> Iterator[str]:
    """Yield a line per sweep: finished cells, all cells, and core-hours so far."""
    for file in files:
        wanted = planned(file)
        run = RUNS / file.stem
        run = run if run.exists() else PUBLISHED / file.stem
        done = finished_cells(run) & wanted
        cells = Manifest.load(run).cells if done else {}
        hours = sum(cells[key].wall_seconds or 0.0 for key in done) / 3600
        yield f"{file.stem:22} {len(done):3} of {len(wanted):3} cells, {hours:6.1f} core-hours"


if __name__ == "__main__":
    sys.exit(main())
