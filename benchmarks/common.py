"""Shared by the benchmarks: interleaved timing, contenders in processes, commands, Ray clusters.

A shared machine's speed drifts more than the contenders differ. Everything is therefore measured
in short interleaved rounds, ratios are taken within a round, and medians are reported.
"""

from __future__ import annotations

import argparse
import atexit
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ROOT = Path(__file__).parents[1]
ROUND_SECONDS = 1.0
RAW, OURS = "raw mj_step", "ours"
"""Names of the two contenders that every other is compared with."""
STORE_BYTES = 80 * 1024**2
"""Shared memory of a Ray node."""
Key = TypeVar("Key")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser described by the first line of a benchmark's docstring."""
    return argparse.ArgumentParser(description=(doc or "").partition("\n")[0])


def single_threaded() -> None:
    """Make this process and its children compute on one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def interleaved(
    works: Mapping[Key, Callable[[], object]],
    rounds: int,
    *,
    repeats: int = 1,
    clock: Callable[[], float] = time.thread_time,
) -> dict[Key, list[float]]:
    """Return the seconds of every work in each round, after one round of warm-up.

    Args:
        works: the calls to time.
        rounds: rounds to count, each with every work.
        repeats: times in a row that a work runs within a round; the median counts.
        clock: the CPU time of this thread, or another clock in seconds.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in works}
    for turn in range(rounds + 1):
        for key, work in works.items():
            times = []
            for _ in range(repeats):
                start = clock()
                work()
                times.append(clock() - start)
            if turn > 0:
                seconds[key].append(statistics.median(times))
    return seconds


class Running(NamedTuple):
    """A started contender."""

    advance: Callable[[], int]
    """Takes one control step in all simulations; returns how many of them were still moving."""
    close: Callable[[], None] = lambda: None
    warm_up: int = 20
    """Calls of ``advance`` before the clock starts."""


@dataclass(frozen=True)
class Contender:
    """One way to step many environments, on one core or on two."""

    name: str
    start: Callable[[], Running]
    """Called in the contender's own process; picklable."""
    cores: int
    processes: int = 1
    """Copies that run at once; contenders that start processes themselves have one."""


def _serve(pipe: Connection, contender: Contender) -> None:
    """Start a contender in this process, then run it for as many seconds as requested."""
    advance, close, warm_up = contender.start()
    for _ in range(warm_up):
        advance()
    pipe.send("ready")
    while (seconds := pipe.recv()) is not None:
        steps, start, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            steps += advance()
        pipe.send((steps, time.perf_counter() - start, time.process_time() - cpu))
    close()


class _Processes:
    """The running processes of one contender."""

    def __init__(self, contender: Contender) -> None:
        context = multiprocessing.get_context("spawn")
        self._one_core = contender.cores == 1
        self._pipes, self._processes = [], []
        for _ in range(contender.processes):
            near, far = context.Pipe()
            process = context.Process(target=_serve, args=(far, contender))
            process.start()
            far.close()  # so that the pipe breaks if the process ends
            self._pipes.append(near)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def measure(self) -> float:
        """Return steps per second: of CPU time on one core, of wall time on two."""
        for pipe in self._pipes:
            pipe.send(ROUND_SECONDS)
        results = [pipe.recv() for pipe in self._pipes]
        return sum(steps / (cpu if self._one_core else wall) for steps, wall, cpu in results)

    def shutdown(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


def print_contest(
    groups: Mapping[str, Sequence[Contender]],
    seconds: float,
    reference: str = RAW,
    subject: str = OURS,
) -> None:
    """Measure the contenders of each group in turn, ``seconds`` each, and print a table.

    Args:
        groups: contenders by name of the group.
        seconds: time for each contender.
        reference: contender of which every other's speed is stated as a share.
        subject: contender that is compared with all those whose names do not begin with its own.
    """
    single_threaded()
    print(f"medians of interleaved rounds of {ROUND_SECONDS:g} s")
    share, compared = f"/ {reference}", f"{subject} is"
    print(f"{'':12} {'cores':>5} {'contender':18} {'steps/s':>10} {share:>13} {compared:>13}")
    for group, contenders in groups.items():
        running = [_Processes(contender) for contender in contenders]
        rounds = max(1, round(seconds / ROUND_SECONDS))
        rates = np.array([[one.measure() for one in running] for _ in range(rounds)])
        for one in running:
            one.shutdown()
        for k in range(len(contenders)):
            line = _line(contenders, k, rates, reference, subject)
            print(f"{group:12} {line}", flush=True)


def _line(
    contenders: Sequence[Contender],
    k: int,
    rates: NDArray[np.float64],
    reference: str,
    subject: str,
) -> str:
    """Return the table's line of contender k; ``rates`` [rounds, contenders] in steps/s."""
    one = contenders[k]
    column = {
        other.name: rates[:, i] for i, other in enumerate(contenders) if other.cores == one.cores
    }
    share = np.median(rates[:, k] / column[reference])
    is_peer = subject in column and not one.name.startswith((reference, subject))
    compared = f"{np.median(column[subject] / rates[:, k]):.1f} x" if is_peer else ""
    return (
        f"{one.cores:5} {one.name:18} {np.median(rates[:, k]):10,.0f} {share:13.2f} {compared:>13}"
    )


class Command:
    """A command that runs in the background; its output is shown if it fails."""

    def __init__(self, *argv: object) -> None:
        self._argv, self._log = [str(word) for word in argv], Path(f"{time.monotonic_ns()}.log")
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        settings = {"PYTHONPATH": path, "MPLBACKEND": "Agg", "RAY_USAGE_STATS_ENABLED": "0"}
        single_threaded()
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                self._argv, stdout=log, stderr=log, env=os.environ | settings
            )
        atexit.register(self.kill)

    def check(self) -> None:
        """Wait for its end; exit if it failed."""
        if self.process.wait():
            self.fail(f"exit code {self.process.returncode}")

    def fail(self, reason: str) -> None:
        """Kill it and exit with the end of its output."""
        self.kill()
        sys.exit(f"{reason}: {' '.join(self._argv)}\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()


def harness(module: str, *argv: object) -> Command:
    """Start ``python -m harness.<module>``."""
    return Command(sys.executable, "-m", f"harness.{module}", *argv)


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """Run a Ray head without CPUs and ``nodes`` nodes of one CPU."""
    from ray.cluster_utils import Cluster

    head: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False}
    started = Cluster(
        initialize_head=True, head_node_args=head | {"object_store_memory": STORE_BYTES}
    )
    try:
        for _ in range(nodes):
            add_node(started)
        yield started
    finally:
        for node in list(started.worker_nodes):  # draining each would take half a minute
            started.remove_node(node, allow_graceful=False)
        started.shutdown()


def add_node(started: Cluster) -> None:
    """Add a node of one CPU."""
    started.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
