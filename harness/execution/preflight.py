"""What is refused before torch and Ray are loaded, and before a run's folder is made."""

from __future__ import annotations

import os

from harness.config import ExecutionConfig, UsageError


def available_cpus() -> int:
    """Return the CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def preflight(execution: ExecutionConfig) -> None:
    """Refuse what could never be scheduled.

    Raises:
        UsageError: more workers than this machine has CPUs.
    """
    wanted, have = execution.num_workers, available_cpus()
    elsewhere = execution.backend == "local" or execution.address is not None
    if not elsewhere and wanted is not None and wanted > have:
        raise UsageError(
            f"--num-workers {wanted} needs {wanted} CPUs, this machine has {have}. "
            f"Ask for at most {have}, or join a larger cluster with --address"
        )
