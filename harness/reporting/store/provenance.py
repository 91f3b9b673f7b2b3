"""Where a number comes from: package versions, git revision, machine."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "metarl-harness",
    "ray",
    "torch",
    "gymnasium",
    "mujoco",
    "metaworld",
    "numpy",
    "numba",
    "pandas",
    "pyarrow",
)
"""Packages whose version can change a number or how it is stored."""


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of ``PACKAGES``; ``absent`` for what is not installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


NUMERIC = ("python", "torch", "numpy", "numba", "mujoco", "gymnasium", "metaworld")
"""Packages whose version can change the last bits of a number, or more."""


@functools.cache
def machine() -> dict[str, Any]:
    """Return what a number may depend on besides code and seed: processor and versions."""
    return {"cpu": _cpu_model(), "packages": package_versions()}


def elsewhere(cpu: object, packages: Mapping[str, str]) -> str:
    """Return how this machine differs from the one described; an empty text if it does not."""
    here = machine()
    found = [] if cpu == here["cpu"] else [f"processor {cpu}, here {here['cpu']}"]
    for name in NUMERIC:
        then, now = packages.get(name), here["packages"][name]
        if then is not None and then != now:
            found.append(f"{name} {then}, here {now}")
    return "; ".join(found)


def git_revision() -> tuple[str, bool] | None:
    """Return the commit this package runs from and whether the tree differs from it.

    What lies below ``results/`` counts for nothing: runs write there.

    None where there is no git, or where the package is installed and not run from its repository.
    """
    here = Path(__file__).resolve()
    try:
        # Installed below somebody else's repository, HEAD would be a revision of theirs.
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        revision = _git(here.parent, "rev-parse", "HEAD").strip()
        code = ("--", ":/", ":(exclude,top)results")
        return revision, bool(_git(here.parent, "status", "--porcelain", *code).strip())
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def available_cpus() -> int:
    """Return the CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host() -> dict[str, str | int]:
    """Return what the run ran on: processor, cores this process may use, memory, system."""
    return {
        "cpu": _cpu_model(),
        "cores": available_cpus(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "platform": platform.platform(),
    }


def _cpu_model() -> str:
    """Return the name of the processor with its family and model, since some names say too little.

    ``AMD EPYC`` alone may be any generation, and they round matrix products differently.
    """
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        lines = listing.read_text(errors="replace").partition("\n\n")[0].splitlines()
        found = {
            name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if {"model name", "cpu family", "model"} <= found.keys():
            return f"{found['model name']}, family {found['cpu family']} model {found['model']}"
        if {"CPU implementer", "CPU part"} <= found.keys():  # ARM has no name there
            return f"ARM, implementer {found['CPU implementer']} part {found['CPU part']}"
    return platform.processor() or platform.machine()
