"""Runs: open the folder, play every cell that is missing, write the tables.

A run is a list of planned cells, from one to thousands; a sweep file and the flags of
``harness.run`` make the same kind of run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from rich.console import Console, Group
from rich.markup import escape

import metarl_plugins
from harness import agents
from harness.config import plugins
from harness.config.schema import ExecutionConfig, RunConfig
from harness.config.sweep_file import PlannedCell, TuneConfig, matching, planned_cells
from harness.console.listener import RunListener
from harness.errors import (
    ArtefactError,
    ExitCode,
    HarnessError,
    SurroundingsError,
    UsageError,
    crash,
)
from harness.execution.backend import START_TIMEOUT, LostError
from harness.execution.checkpoint import CheckpointError
from harness.execution.interrupt import InterruptedRunError, StopRequest
from harness.execution.preflight import (
    check_socket_path,
    check_tracking,
    check_workers,
)
from harness.experiments import checkpoint_folder
from harness.experiments.cell_queue import CellQueue
from harness.experiments.lock import alone
from harness.experiments.mirror import Mirror, mirrored
from harness.experiments.planning import (
    cells_of,
    changed_components,
    completed,
    extended,
    plan,
    pretrained_cells,
    trained_elsewhere,
    trained_longer,
)
from harness.experiments.trial import (
    StartBackend,
    agent_source,
    play_cell,
    reason_of,
    start_backend,
)
from harness.reporting.rebuild import rebuild
from harness.reporting.render.formats import console, to_rich
from harness.reporting.store.files import (
    RESULTS,
    remove_temporaries,
    run_path,
    write_atomically,
)
from harness.reporting.store.json_io import brief
from harness.reporting.store.manifest import PLUGINS_DIR, RUN_FILE, CellState, Manifest
from harness.reporting.store.provenance import available_cpus, elsewhere
from harness.reporting.store.records import RunFolder

if TYPE_CHECKING:
    from harness.experiments.ray_tune import Cluster

COMPONENTS = ("policy", "learner", "agent")
"""What may differ between the cells that one set of workers plays."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where and how a run is played; nothing here but asha changes a number."""

    name: str
    storage: Path = RESULTS
    command: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    """Settings as given, for the manifest."""
    resume: bool = False
    """Continue the run of that name, which must consist of the same cells."""
    extend: bool = False
    """Continue it with more cells."""
    only: tuple[str, ...] = ()
    """Shell patterns of the cells to play now; all if there is none."""
    backend: Literal["ray", "local"] = "ray"
    """``local`` plays everything in this process."""
    address: str | None = None
    """Ray cluster to join; a fresh local one if not given."""
    mirror: str | None = None
    """Address that gets a copy of the folder."""
    scheduling: TuneConfig = field(default_factory=TuneConfig)
    start_backend: StartBackend | None = None
    """Start other workers than our own, in this process."""
    quiet: bool = False
    """Print no tables."""

    @classmethod
    def of_execution(cls, execution: ExecutionConfig, default_name: str, **more: Any) -> RunOptions:
        """Return the options that the execution settings of a plain run ask for."""
        name = execution.name or f"{default_name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        scheduling = TuneConfig()
        if execution.num_workers is not None:
            scheduling = TuneConfig(workers_per_cell=execution.num_workers, max_concurrent=1)
        return cls(
            name,
            storage=execution.storage or RESULTS,
            backend=execution.backend,
            address=execution.address,
            mirror=_absolute(execution.mirror),
            scheduling=scheduling,
            **more,
        )

    def stored(self) -> dict[str, Any]:
        """Return the options that ``resume`` needs again, as ``run.json`` holds them."""
        tune = TypeAdapter(TuneConfig).dump_python(self.scheduling, mode="json")
        return {**tune, "backend": self.backend, "address": self.address, "mirror": self.mirror}


def _absolute(address: str | None) -> str | None:
    """Return the address of a mirror wherever the run is continued."""
    return str(Path(address).absolute()) if address and "://" not in address else address


def run_experiment(
    config: RunConfig,
    *,
    argv: Sequence[str],
    given: Mapping[str, Any],
    listener: RunListener,
    pretrained: Sequence[Path] = (),
) -> int:
    """Train and score every cell of a plain run; return the exit code.

    Args:
        config: the settings of all cells.
        argv: the command line, for the manifest.
        given: the settings as given, for the manifest.
        listener: notified of its progress.
        pretrained: checkpoints to score in rows of their own.

    Raises:
        UsageError: the run cannot start: its folder, its resources, or a checkpoint.
        CheckpointError: a file is not a whole checkpoint.
    """
    command = ("python", "-m", "harness.run", *argv)
    options = RunOptions.of_execution(config.execution, config.label, command=command, given=given)
    planned = planned_cells(config, dict(given))
    planned += pretrained_cells(pretrained, config)
    for note in filter(None, map(trained_elsewhere, pretrained)):
        listener.note(note)
    return play(planned, options, listener)


def resume(
    folder: Path,
    listener: RunListener,
    *,
    mirror: str | None = None,
    more: Mapping[str, Any] | None = None,
    only: tuple[str, ...] = (),
    **execution: Any,
) -> int:
    """Continue the run in ``folder`` with the settings it was started with; return the exit code.

    Args:
        folder: of the run. If it is not here, it is fetched from ``mirror``.
        listener: notified of its progress.
        mirror: address of the copy; the run's own if not given.
        more: to play more: ``seed``, a list of seeds of which each cell gets those that it lacks;
            and ``train``, the larger budget up to which cells are trained on.
        only: shell patterns of the cells to play now; all if there is none.
        execution: execution settings to change, by the names of ``ExecutionConfig``.

    Raises:
        UsageError: there is no such run, or it cannot be continued.
        ArtefactError: one of its files is malformed.
    """
    mirror = _absolute(mirror)
    if mirror is not None:
        Mirror(mirror, folder.name).open(folder, resume=True)
    manifest = Manifest.load(folder)
    if not manifest.resumable:
        raise UsageError(f"{folder} cannot be resumed: start a new run with another --name")
    _refuse_changes(manifest, folder)
    if differs := elsewhere(manifest.host.get("cpu"), manifest.packages):
        listener.note(f"the run began elsewhere ({differs}): its cells may differ in their noise")
    stored = dict(manifest.scheduling)
    own = {name: stored.pop(name, None) for name in ("backend", "address", "mirror")}
    own |= {name: value for name, value in execution.items() if name in own}
    own["backend"] = own["backend"] or "ray"
    for name in ("num_workers", "address"):
        if own["backend"] == "local" and execution.get(name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: the run has --backend local; give --backend ray with it")
    if execution.get("num_workers") is not None:
        stored |= {"workers_per_cell": execution["num_workers"], "max_concurrent": 1}
    try:
        scheduling = TypeAdapter(TuneConfig).validate_python(stored)
    except ValueError as error:
        raise ArtefactError(f"{folder / RUN_FILE}: not valid ({brief(error)})") from error
    more = dict(more or {})
    cells = cells_of(manifest, execution)
    planned = extended(cells, more.get("seed", ()), more.get("train", {}))
    given = dict(manifest.given)
    if planned != cells:
        given["extended"] = [*given.get("extended", []), more]
    options = RunOptions(
        folder.name,
        storage=folder.parent,
        command=manifest.command,
        given=given,
        resume=planned == cells,
        extend=planned != cells,
        only=only,
        scheduling=scheduling,
        **own | {"mirror": mirror or own["mirror"]},
    )
    return play(planned, options, listener)


def _refuse_changes(manifest: Manifest, folder: Path) -> None:
    """Refuse to continue a run whose components from outside are not what they were."""
    remedy = f"Restore it (plug-ins as they were are in {folder / PLUGINS_DIR})"
    for cell in manifest.cells.values():
        try:
            outside = cell.config.get("plugins", {})
            copies = plugins.copies(outside, folder).items()
            metarl_plugins.provide({place: copy.read_bytes() for place, copy in copies})
            changed = plugins.changes(outside)
        except UsageError as error:
            raise UsageError(f"cannot resume: {error} {remedy}") from error
        except ValueError as error:
            raise ArtefactError(f"{folder / RUN_FILE}: {error}") from error
        if changed:
            raise UsageError(
                f"cannot resume: {changed[0]}. {remedy}, or start a new run with another --name"
            )


def play(planned: Sequence[PlannedCell], options: RunOptions, listener: RunListener) -> int:
    """Play every cell that is missing; write and print the tables; return the exit code.

    Raises:
        UsageError: the run cannot start: its folder, its resumption or its resources.
        ArtefactError: a file of the run to continue, or the checkpoint to score, is malformed.
        CrashError: a bug stopped the run; it can be resumed.
    """
    check_tracking(planned[0].config.execution)  # the same for all cells
    _check_agents(planned)
    cells = {cell.key: cell for cell in planned}
    chosen = set(matching(list(cells), options.only))
    with contextlib.ExitStack() as stack:
        cluster = None
        where, cpus = "this machine", available_cpus()
        if options.backend == "ray" and (options.address is not None or _ray_is_up()):
            timeout = planned[0].config.execution.start_timeout
            cluster = stack.enter_context(_cluster(options.address, timeout))
            where, cpus = "the cluster", cluster.cpus
        if options.backend == "ray":
            check_socket_path(options.address)
            check_workers(options.scheduling.workers_per_cell, where, cpus)
        described = plan(planned, options.command, options.given, options.stored())
        place = _place(options)
        checkpoint_folder.claim(planned, place)
        try:
            folder, manifest = _open(described, planned, options, place)
        except OSError as error:
            raise SurroundingsError(f"{place} cannot be written: {error}") from error
        stack.enter_context(alone(folder.path))
        stack.enter_context(mirrored(options.mirror, folder))
        if options.extend:
            for key in manifest.ids("pending"):  # a cell that trains on was complete until now
                cell = folder.cell(key)
                cell.write_state(CellState(cpu=cell.read_state().cpu))
            manifest.save(folder.path)
        remove_temporaries(folder.path)
        queue = CellQueue(
            folder,
            manifest,
            cells,
            chosen,
            tune=options.scheduling,
            listener=listener,
            revision=described.git.revision if described.git else "",
        )
        began, interrupted = time.monotonic(), False
        try:
            if queue.waiting:
                interrupted = _play_queue(queue, options, cpus)
            code = _conclude(queue, time.monotonic() - began, quiet=options.quiet)
        except HarnessError:
            raise
        except OSError as error:
            raise SurroundingsError(
                f"{error}: the run is kept in {folder.path}, and --resume continues it"
            ) from error
        except Exception as error:
            raise crash(folder.path, error) from error
    return ExitCode.INTERRUPTED if interrupted else code


def _check_agents(planned: Sequence[PlannedCell]) -> None:
    """Refuse what makes no agents."""
    for cell in {each.cell.policy: each for each in planned if each.config.agent}.values():
        try:
            agents.check(agent_source(cell.config, cell.factory))
        except agents.AgentError as error:
            raise UsageError(f"{cell.cell.policy}: {error}") from error


def _ray_is_up() -> bool:
    """Return whether the caller has started Ray in this process."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _cluster(address: str | None, timeout: float = START_TIMEOUT) -> Cluster:
    # Imported here: bad input need not pay for importing ray.
    from harness.experiments.ray_tune import Cluster

    return Cluster(address, timeout)


def _copy_sources(config: RunConfig, folder: Path) -> None:
    """Keep the files that components are defined in beside the run."""
    for place, content in plugins.sources(config).items():
        target = folder / Path(place).name
        if target.exists() and target.read_bytes() != content:
            target = folder / f"{hashlib.sha256(content).hexdigest()[:12]}-{target.name}"
        folder.mkdir(exist_ok=True)
        write_atomically(target, content)


def _place(options: RunOptions) -> Path:
    """Return where the run is; for a new one, where nothing is yet."""
    path = run_path(options.storage, options.name)
    if not (options.resume or options.extend):
        RunFolder.check_free(path)
    return path


def _open(
    described: Manifest, planned: Sequence[PlannedCell], options: RunOptions, path: Path
) -> tuple[RunFolder, Manifest]:
    """Create the run's folder at ``path``, or open the one there; return it with its manifest."""
    again = options.resume or options.extend
    if options.mirror is not None:
        Mirror(options.mirror, options.name).open(path, resume=again)
    if not again:
        folder = RunFolder.create(path)
        try:
            described.save(path)
        except OSError:
            shutil.rmtree(path)  # or its name would be taken by nothing
            raise
        for cell in planned:
            _copy_sources(cell.config, path / PLUGINS_DIR)
        return folder, described
    stored = completed(Manifest.load(path))
    if options.extend:
        manifest = stored.extended(described, trained_longer(stored, planned))
        for cell in planned:
            _copy_sources(cell.config, path / PLUGINS_DIR)
        return RunFolder(path), manifest
    stored.check_resume(described)
    return RunFolder(path), stored


def schedule(tune: TuneConfig, cells: int, cpus: int) -> tuple[int, int]:
    """Return how many cells are played at once, and the rollout workers of each.

    As many cells as CPUs or more: one process and one CPU each (0 workers). Fewer: one after
    another, with a worker per CPU.
    """
    limit = tune.max_concurrent or cpus
    if tune.workers_per_cell is not None:
        return max(1, min(cpus // max(1, tune.workers_per_cell), limit)), tune.workers_per_cell
    if cells >= cpus or tune.scheduler != "none":
        return min(cpus, limit), 0
    return 1, cpus


def _play_queue(queue: CellQueue, options: RunOptions, cpus: int) -> bool:
    """Play the waiting cells where the options say; return whether a stop was requested."""
    cells = sum(key in queue.planned for key in queue.waiting) or 1
    at_once, workers = schedule(options.scheduling, cells, cpus)
    here = options.backend == "local" or options.start_backend is not None
    one_by_one = at_once == 1 and workers and options.scheduling.scheduler == "none"
    listener = queue.listener
    queue.stop_file.unlink(missing_ok=True)
    listener.started(queue.progress())
    listener.note(f"writing to {queue.folder.path}")
    waiting = (queue.planned[key] for key in queue.waiting if key in queue.planned)
    for path in {cell.checkpoint for cell in waiting if cell.checkpoint}:
        with contextlib.suppress(CheckpointError):  # the cell will fail alone
            for note in changed_components(path):
                listener.note(note)
    try:
        if here or one_by_one:
            _one_by_one(queue, options.start_backend or start_backend, 0 if here else workers)
        else:
            from harness.experiments import ray_tune

            # Only in a worker can an agent that hangs be interrupted: Tune plays in a thread.
            agent = any(cell.config.agent for cell in queue.planned.values())
            with _cluster(None), StopRequest(queue.request_stop):
                ray_tune.play(queue, at_once, max(workers, int(agent)), cpus)
    except (InterruptedRunError, KeyboardInterrupt, SystemExit):
        # While Ray starts, its own handler turns SIGTERM into SystemExit.
        queue.request_stop("interrupted")
    finally:
        listener.closed()
    stopped = queue.stop_file.exists()
    queue.stop_file.unlink(missing_ok=True)
    return stopped


def _one_by_one(queue: CellQueue, start: StartBackend, workers: int) -> None:
    """Play the cells in this process; the workers stay while the settings stay the same."""
    used: RunConfig | None = None
    with contextlib.ExitStack() as stack:
        while (key := queue.next()) is not None:
            spec = queue.spec(key, workers)
            if used is None or not _covers(used, spec.config):
                stack.close()
                used = _shared_config(spec.config, queue)
                try:
                    backend = start(used, queue.folder, queue.listener)
                except LostError as error:  # a cell that cannot start costs no other one
                    used = None
                    queue.failed(key, reason_of(error))
                    continue
                stack.callback(backend.close)
                # Only now: Ray installs handlers of its own while it starts.
                stop = stack.enter_context(StopRequest(queue.request_stop))
            play_cell(spec, backend, queue.listener, stop)
            queue.running.discard(key)


def _shared_config(config: RunConfig, queue: CellQueue) -> RunConfig:
    """Return ``config`` with the components of all cells that differ from it in these alone."""
    chosen: dict[str, Any] = {name: dict(getattr(config, name)) for name in COMPONENTS}
    for planned in queue.planned.values():
        other = dataclasses.replace(planned.config, execution=config.execution)
        if _without_components(other) == _without_components(config):
            chosen = {name: {**getattr(other, name), **chosen[name]} for name in COMPONENTS}
    return dataclasses.replace(config, **chosen)


def _covers(shared: RunConfig, config: RunConfig) -> bool:
    """Return whether workers started with ``shared`` can play the cell of ``config``."""
    return _without_components(shared) == _without_components(config) and all(
        getattr(config, name).items() <= getattr(shared, name).items() for name in COMPONENTS
    )


def _without_components(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, policy={}, learner={}, agent={}, seed=(0,))


def _conclude(queue: CellQueue, seconds: float, *, quiet: bool) -> ExitCode:
    """Write and print the tables of what is complete; return the exit code of the run."""
    folder = queue.folder.path
    out, manifest = Console(quiet=True) if quiet else console(), Manifest.load(folder)
    if manifest.ids("pending", "running") and not any(folder.glob("cells/*/records.parquet")):
        again = "continue with --resume" if manifest.resumable else "it cannot be resumed"
        out.print(f"nothing complete yet in {folder}; {again}", markup=False)
        return ExitCode.INTERRUPTED
    tables = rebuild(folder)
    out.print(Group(*(to_rich(table) for table in tables)))
    out.print(f"[dim]{escape(str(folder))} · {seconds:.0f} s[/dim]", highlight=False)
    return queue.exit_code()
