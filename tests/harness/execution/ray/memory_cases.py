"""Processes with a memory limit of their own: a control group below ours (root)."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from tests.harness.execution.execution_cases import NotPermittedError

MEMORY = Path("/sys/fs/cgroup/memory")
"""The memory controller of cgroups v1, where Ray reads the limit."""
ENTER = 'echo $$ > "$0/cgroup.procs" && mount --bind "$0" /sys/fs/cgroup/memory && exec "$@"'
"""Joins the group and presents it as the machine's to this process and its children, as a container
does."""


class Allowance:
    """A limit on the memory of everything started in it; other processes are not affected."""

    def __init__(self, limit):
        if os.geteuid() != 0:
            raise NotPermittedError("a memory limit needs root")
        if shutil.which("unshare") is None:
            raise NotPermittedError("a memory limit needs the command unshare (util-linux)")
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = [line.rpartition(":")[2] for line in lines if ":memory:" in line]
        if not own or not (MEMORY / "memory.limit_in_bytes").exists():
            raise NotPermittedError("the memory controller of cgroups v1 is needed")
        self.path = MEMORY / own[0].lstrip("/") / f"allowance-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / "memory.limit_in_bytes").write_text(str(limit))
        except OSError as error:
            raise NotPermittedError(f"cannot create a control group: {error}") from error
        probe = self.start(["true"], stderr=subprocess.PIPE, text=True)
        _, error = probe.communicate()
        if probe.returncode:
            self.close()
            raise NotPermittedError(f"cannot remount it: {error}")

    def start(self, command, **options):
        """Start ``command`` in it."""
        inside = ["unshare", "--mount", "sh", "-c", ENTER, str(self.path), *command]
        return subprocess.Popen(inside, **options)

    def close(self):
        """Kill all processes in it and remove it."""
        for _ in range(100):
            for pid in (self.path / "cgroup.procs").read_text().split():
                try:
                    psutil.Process(int(pid)).kill()
                except psutil.NoSuchProcess:
                    continue
            try:
                self.path.rmdir()
                return
            except OSError:  # processes are still exiting
                time.sleep(0.1)
        raise AssertionError(f"{self.path} cannot be removed")
