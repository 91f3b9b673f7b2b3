"""A sweep: open its folder, find the cells that are missing, have them played, write the table."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness.config.schema import UsageError, config_as_dict
from harness.config.sweep_file import Sweep, TuneConfig
from harness.console.sweep_view import CellView, SweepListener, SweepView
from harness.execution.interrupt import StopRequest
from harness.execution.preflight import available_cpus, check_tracking
from harness.experiments.cell_queue import CellQueue, settled
from harness.experiments.experiment import INTERRUPTED, RESULTS
from harness.experiments.mirror import Mirror, mirrored
from harness.reporting.render.formats import console
from harness.reporting.store.files import ArtefactError, remove_temporaries, run_path
from harness.reporting.store.manifest import config_hash
from harness.reporting.store.sweep_manifest import CELLS, FILE, SweepCell, SweepManifest
from harness.reporting.sweeps import rebuild_sweep, render_sweep

if TYPE_CHECKING:
    from harness.experiments.ray_tune import Cluster

LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the file."""

    name: str
    """Folder below results/."""
    resume: bool = False
    extend: bool = False
    """Continue with a file that adds cells."""
    retry_failed: bool = False
    address: str | None = None
    mirror: str | None = None
    """Where a copy of the sweep's folder is kept; see ``harness.experiments.mirror``."""


def run_sweep(sweep: Sweep, options: Options, *, argv: Sequence[str], watch: SweepListener) -> int:
    """Play every cell of ``sweep`` that is missing; return the exit code.

    Raises:
        UsageError: the sweep cannot start: its folder, its resumption or its resources.
        ArtefactError: a file of the sweep to resume is malformed.
    """
    check_tracking(sweep.cells[0].config.execution)  # the same in all cells
    described = describe(sweep, argv)
    with contextlib.ExitStack() as stack:
        cluster = None
        if options.address is None:
            check_workers(sweep.tune, available_cpus(), "this machine")
        else:
            cluster = stack.enter_context(_cluster(options.address))
            check_workers(sweep.tune, cluster.cpus, "the cluster")
        folder = _folder(options)
        if options.mirror is not None:
            again = options.resume or options.extend
            Mirror(options.mirror, options.name).open(folder, resume=again)
        manifest = _opened(folder, described, options)
        stack.enter_context(_alone(folder))
        stack.enter_context(mirrored(options.mirror, folder, _unreported))
        if options.extend:
            manifest.save(folder)
        remove_temporaries(folder)
        conductor = _conductor(sweep, folder, manifest, options, watch)
        began = time.monotonic()
        interrupted = bool(conductor.waiting) and _play(conductor, cluster)
        code = _conclude(folder, time.monotonic() - began)
    return INTERRUPTED if interrupted else code


def _unreported(kind: str, **fields: object) -> None:
    """A sweep has no event log of its own; the log that the user reads has told it."""


def _cluster(address: str | None) -> Cluster:
    # Imported here: bad input need not pay for importing ray.
    from harness.experiments.ray_tune import Cluster

    return Cluster(address)


def _folder(options: Options) -> Path:
    try:
        return run_path(RESULTS, options.name).absolute()
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_workers(tune: TuneConfig, cpus: int, where: str) -> None:
    """Raise UsageError if one cell needs more CPUs than there are."""
    needed = max(1, tune.workers_per_cell or 0)
    if needed > cpus:
        raise UsageError(
            f"workers_per_cell {needed}: a cell needs {needed} CPUs, {where} has {cpus}. Ask for "
            f"at most {cpus}, or join a larger cluster with --address"
        )


def describe(sweep: Sweep, argv: Sequence[str]) -> SweepManifest:
    """Return ``sweep`` as ``sweep.json`` holds it."""
    cells = {}
    for planned in sweep.cells:
        config = config_as_dict(planned.config)
        cells[planned.key] = SweepCell(
            task_dist=planned.cell.task_dist,
            policy=planned.cell.policy,
            learner=planned.cell.learner,
            seed=planned.cell.seed,
            settings=planned.settings,
            config=config,
            config_hash=config_hash(config),
        )
    tune = TypeAdapter(TuneConfig).dump_python(sweep.tune, mode="json")
    command = ("python", "-m", "harness.sweep", *argv)
    return SweepManifest.create(command, sweep.values, tune, cells)


def _opened(folder: Path, described: SweepManifest, options: Options) -> SweepManifest:
    """Return the manifest: written now, of the sweep that is resumed, or of what it is to be."""
    if options.resume or options.extend:
        try:
            stored = SweepManifest.load(folder)
            if options.extend:
                return stored.extended(described)
            stored.check_resume(described)
        except ArtefactError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from error
        return stored
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty. Continue with --resume or pick another --name")
    (folder / CELLS).mkdir(parents=True)
    described.save(folder)
    return described


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the sweep: the lock goes with the process, however it ends."""
    with (folder / LOCK).open("w") as lock:
        # harness.status holds it for a moment when it looks.
        for wait in (0.1, 0.3, 1.0, None):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait is None:
                    raise UsageError(
                        f"{folder} is being played by another process. Wait for it, or stop it"
                    ) from None
                time.sleep(wait)
        yield


def _conductor(
    sweep: Sweep, folder: Path, manifest: SweepManifest, options: Options, watch: SweepListener
) -> CellQueue:
    """Read what the cells say of themselves; whatever is not over is waiting."""
    view = SweepView(options.name)
    done = ("ok", "stopped") if options.retry_failed else ("ok", "stopped", "failed")
    waiting = []
    known = {planned.key: planned for planned in sweep.cells}
    # In the manifest's order: whichever cell scored the reference lines is still the first.
    planned_cells = {key: known[key] for key in manifest.cells}
    for key in planned_cells:
        cell = view.cells[key] = CellView()
        state = manifest.state(folder, key)
        if state is not None:
            settled(view, key, state)
        references = state is not None and options.retry_failed and state.failed_references
        if cell.status not in done or references:
            cell.status = "left"
            waiting.append(key)
    conductor = CellQueue(folder, manifest, planned_cells, sweep.tune, watch, waiting, view)
    conductor.stop_file.unlink(missing_ok=True)
    return conductor


def _play(conductor: CellQueue, joined: Cluster | None) -> bool:
    """Have the waiting cells played; return whether a stop was asked for."""
    from harness.experiments import ray_tune

    watch = conductor.watch

    def ask(text: str) -> None:
        conductor.stop_file.touch()
        watch.note(text)

    watch.started(conductor.view)
    try:
        with contextlib.nullcontext(joined) if joined else _cluster(None) as cluster:
            workers = workers_of(conductor.tune, len(conductor.waiting), cluster.cpus)
            watch.note(f"writing to {conductor.folder}; {_told(workers)}, {cluster.cpus} CPUs")
            with StopRequest(ask):
                ray_tune.play(conductor, workers, cluster.cpus)
    except (KeyboardInterrupt, SystemExit):  # while Ray starts, its own handler turns SIGTERM so
        conductor.stop_file.touch()
    finally:
        watch.closed()
    stopped = conductor.stop_file.exists()
    conductor.stop_file.unlink(missing_ok=True)
    return stopped


def workers_of(tune: TuneConfig, cells: int, cpus: int) -> int:
    """Return the rollout actors of a cell: as told, or the CPUs shared out."""
    if tune.workers_per_cell is not None:
        return tune.workers_per_cell
    return max(1, cpus // max(1, min(cells, tune.max_concurrent or cells)))


def _told(workers: int) -> str:
    return f"{workers} workers a cell" if workers else "a process a cell"


def _conclude(folder: Path, seconds: float) -> int:
    """Write and print the tables of what is complete; return the exit code they stand for."""
    out = console()
    tables = rebuild_sweep(folder)
    out.print(render_sweep(tables))
    out.print(f"[dim]{folder} · {FILE} · {seconds:.0f} s[/dim]", highlight=False)
    return tables.exit_code
