"""Checks that need neither torch nor Ray, made before a run's folder is created."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec

from harness.config.schema import ExecutionConfig
from harness.errors import SurroundingsError, UsageError
from harness.reporting.store.provenance import available_cpus

MAX_SOCKET_PATH = 103
"""Longest path of a socket on every system that Ray runs on; Linux allows 107 characters."""


def preflight(execution: ExecutionConfig) -> None:
    """Refuse a run that could never start.

    Raises:
        UsageError: more workers than this machine has CPUs, or a missing package.
    """
    check_tracking(execution)
    if execution.backend == "ray" and execution.address is None:
        check_socket_path(None)
        check_workers(execution.num_workers, "this machine", available_cpus())


def check_socket_path(address: str | None) -> None:
    """Refuse a temporary folder whose path is too long for the sockets of a Ray of our own.

    Raises:
        SurroundingsError: it names the folder and the variable that chooses another one.
    """
    if address is not None:
        return
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
    try:
        folder = chosen or tempfile.gettempdir()
    except FileNotFoundError as error:
        raise SurroundingsError(f"{error}: set TMPDIR to one") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SurroundingsError(
            f"the temporary folder {folder} cannot be written to: set TMPDIR to one that can"
        )
    path = f"{folder}/ray/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    excess = len(os.fsencode(path)) - MAX_SOCKET_PATH
    if excess > 0:
        raise SurroundingsError(
            f"the temporary folder {folder} is {excess} characters too long for Ray's sockets: set "
            "TMPDIR to a shorter path, such as TMPDIR=/tmp, or run without Ray (--backend local)"
        )


def check_workers(wanted: int | None, where: str, cpus: int) -> None:
    """Refuse more workers per cell than there are CPUs; every cell needs one.

    Raises:
        UsageError: it names both numbers.
    """
    needed = max(1, wanted or 0)
    if needed > cpus:
        raise UsageError(
            f"--num-workers {needed} (workers_per_cell) needs {needed} CPUs, {where} has {cpus}. "
            f"Ask for at most {cpus}, or join a larger cluster with --address"
        )


def check_tracking(execution: ExecutionConfig) -> None:
    """Refuse tracking whose package is not installed.

    Raises:
        UsageError: it names the package and the flag that does without it.
    """
    if execution.tensorboard and find_spec("tensorboardX") is None:
        raise UsageError(
            "files for TensorBoard are written with tensorboardX, which is not installed: "
            "pip install tensorboardX, or leave them out with --no-tensorboard"
        )
    for name in ("wandb", "trackio"):
        if getattr(execution, name) and find_spec(name) is None:
            raise UsageError(
                f"--{name}: {name} is not installed: pip install {name}, or leave it out"
            )
