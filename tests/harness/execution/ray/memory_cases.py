"""Processes with a memory of their own that may run out: a control group below ours (root)."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from tests.harness.execution.execution_cases import NotPermittedError

MEMORY = Path("/sys/fs/cgroup/memory")
"""Where the first version of control groups has its memory, and where Ray looks for it."""
ENTER = 'echo $$ > "$0/cgroup.procs" && mount --bind "$0" /sys/fs/cgroup/memory && exec "$@"'
"""Joins the group and shows it as the machine's, to this process and its children alone: as a
container does."""


class Allowance:
    """At most so many bytes for everything that is started in it; nobody else is touched."""

    def __init__(self, limit):
        if os.geteuid() != 0:
            raise NotPermittedError("a limit of memory needs root")
        if shutil.which("unshare") is None:
            raise NotPermittedError("a limit of memory needs the command unshare (util-linux)")
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = [line.rpartition(":")[2] for line in lines if ":memory:" in line]
        if not own or not (MEMORY / "memory.limit_in_bytes").exists():
            raise NotPermittedError("control groups of the first version, with memory, are needed")
        self.path = MEMORY / own[0].lstrip("/") / f"allowance-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / "memory.limit_in_bytes").write_text(str(limit))
        except OSError as error:
            raise NotPermittedError(f"no control group of our own here: {error}") from error
        probe = self.start(["true"], stderr=subprocess.PIPE, text=True)
        _, said = probe.communicate()
        if probe.returncode:
            self.close()
            raise NotPermittedError(f"no view of it of our own here: {said}")

    def start(self, command, **options):
        """Start ``command`` in it."""
        inside = ["unshare", "--mount", "sh", "-c", ENTER, str(self.path), *command]
        return subprocess.Popen(inside, **options)

    def close(self):
        """End all processes in it, by their ids, and take it away."""
        for _ in range(100):
            for pid in (self.path / "cgroup.procs").read_text().split():
                try:
                    psutil.Process(int(pid)).kill()
                except psutil.NoSuchProcess:
                    continue
            try:
                self.path.rmdir()
                return
            except OSError:  # they are still going
                time.sleep(0.1)
        raise AssertionError(f"{self.path} cannot be taken away")
