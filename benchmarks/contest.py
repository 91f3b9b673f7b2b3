"""Contenders that run as processes of their own and are measured in turn.

All are started once and then measured in short rounds, one after the other; ratios are taken within
a round and their medians reported, because a shared machine's speed drifts more than they differ.
One core is measured in steps per second of the process's own CPU time, two cores in steps per
second of the clock.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUND_SECONDS = 1.0
RAW, OURS = "raw mj_step", "ours"
"""Names of the two that all others are compared with."""


class Running(NamedTuple):
    """A contender at work."""

    advance: Callable[[], int]
    """Plays one control step of all its simulations; returns how many really moved."""
    close: Callable[[], None] = lambda: None
    warm_up: int = 20
    """Calls of ``advance`` before the clock starts."""


@dataclass(frozen=True)
class Contender:
    """One way to step many environments, on one core or on two."""

    name: str
    start: Callable[[], Running]
    """Called in its process; must be picklable."""
    cores: int
    processes: int = 1
    """Copies of it that run at once; contenders with processes of their own have one."""


def _serve(pipe: Connection, contender: Contender) -> None:
    """Body of a process: start a contender, then play for as many seconds as asked."""
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


class WorkerPool:
    """The running processes of one contender."""

    def __init__(self, contender: Contender) -> None:
        context = multiprocessing.get_context("spawn")
        self.contender = contender
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(contender.processes):
            near, far = context.Pipe()
            process = context.Process(target=_serve, args=(far, contender))
            process.start()
            self._pipes.append(near)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def measure(self, seconds: float) -> float:
        """Return steps per second: of CPU time on one core, of the clock on two."""
        for pipe in self._pipes:
            pipe.send(seconds)
        results = [pipe.recv() for pipe in self._pipes]
        on_one_core = self.contender.cores == 1
        return sum(steps / (cpu if on_one_core else wall) for steps, wall, cpu in results)

    def dismiss(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


HEADER = f"{'cores':>5} {'contender':16} {'steps/s':>10} {'of raw':>8} {'ours is':>10}"


def compare(contenders: Sequence[Contender], seconds: float) -> list[str]:
    """Measure the contenders in turn, ``seconds`` each; return the lines of the table."""
    crews = [WorkerPool(contender) for contender in contenders]
    rounds = max(1, round(seconds / ROUND_SECONDS))
    rates = np.array([[crew.measure(ROUND_SECONDS) for crew in crews] for _ in range(rounds)])
    for crew in crews:
        crew.dismiss()
    return [_line(contenders, k, rates) for k in range(len(crews))]


def _line(contenders: Sequence[Contender], k: int, rates: NDArray[np.float64]) -> str:
    """Return the table's line of contender k; ``rates`` [rounds, contenders] in steps/s."""
    one = contenders[k]
    same_cores = [i for i, other in enumerate(contenders) if other.cores == one.cores]
    column = {contenders[i].name: rates[:, i] for i in same_cores}
    of_raw = np.median(rates[:, k] / column[RAW])
    is_peer = OURS in column and not one.name.startswith((RAW, OURS))
    ours_is = f"{np.median(column[OURS] / rates[:, k]):.1f} x" if is_peer else ""
    return (
        f"{one.cores:5} {one.name:16} {np.median(rates[:, k]):10,.0f} {of_raw:8.2f} {ours_is:>10}"
    )
