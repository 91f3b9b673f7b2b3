"""Nodes whose network can be cut: network namespaces on one machine (root)."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.harness.execution.execution_cases import NotPermittedError

ROOT = Path(__file__).parents[4]
PATIENCE = 120
"""Seconds within which even a busy machine starts a Ray node."""


def ip(*argv):
    """Run the command ``ip``; return its output."""
    return subprocess.run(["ip", *argv], check=True, capture_output=True, text=True).stdout


class Network:
    """A head and places around it, each with its own address and a link to the head's switch.

    Every process in it is one of ours: ``close`` ends them all.
    """

    def __init__(self, folder, *places):
        if os.geteuid() != 0:
            raise NotPermittedError("network namespaces need root")
        if shutil.which("ip") is None:
            raise NotPermittedError("network namespaces need the command ip (iproute2)")
        self._folder = folder
        """Ray's folder. Short: the paths of its sockets are limited to 107 bytes."""
        self._mark = f"cut{os.getpid()}"
        self.addresses = {"head": "10.77.0.1"}
        self._token = secrets.token_hex(32)
        try:
            self._add("head", "switch", "type", "bridge")
            for number, place in enumerate(places, 2):
                self.addresses[place] = f"10.77.0.{number}"
                self._add(place, "eth0", "type", "veth", "peer", "name", place, "netns", "HEAD")
                ip("-n", self._name("head"), "link", "set", place, "master", "switch", "up")
        except subprocess.CalledProcessError as error:
            self.close()
            raise NotPermittedError(f"no network namespaces here: {error.stderr}") from error
        except BaseException:  # stopped in the middle
            self.close()
            raise

    def _name(self, place):
        return f"{self._mark}{place}"

    def _add(self, place, device, *kind):
        """Create a place and its network device with its address."""
        name = self._name(place)
        head = self._name("head")
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "add", device, *(head if word == "HEAD" else word for word in kind))
        ip("-n", name, "addr", "add", f"{self.addresses[place]}/24", "dev", device)
        ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "route", "add", "default", "dev", device)

    def cut(self, place):
        """Take the link to ``place`` down."""
        ip("-n", self._name("head"), "link", "set", place, "down")

    def heal(self, place):
        """Bring it up again."""
        ip("-n", self._name("head"), "link", "set", place, "up")

    def pids(self, place):
        """Return the processes that run in ``place``."""
        return [int(pid) for pid in ip("netns", "pids", self._name(place)).split()]

    def workers(self, place):
        """Return the rollout actors there."""
        found = []
        for pid in self.pids(place):
            try:
                process = psutil.Process(pid)
                found += [process] if "ray::Worker" in " ".join(process.cmdline()) else []
            except psutil.NoSuchProcess:
                continue
        return found

    def end(self, place):
        """Kill every process there."""
        for _ in range(50):
            pids = self.pids(place)
            for pid in pids:
                try:
                    psutil.Process(pid).kill()
                except psutil.NoSuchProcess:
                    continue
            if not pids:
                return
            time.sleep(0.1)
        raise AssertionError(f"processes that cannot be ended: {pids}")

    def close(self):
        """Kill all processes and remove the network, complete or not."""
        there = ip("netns", "list").split()
        with contextlib.ExitStack() as stack:  # continue whatever fails
            for place in self.addresses:
                if self._name(place) in there:
                    stack.callback(ip, "netns", "delete", self._name(place))
                    stack.callback(self.end, place)

    @property
    def address(self):
        """Address of Ray's head."""
        return f"{self.addresses['head']}:6379"

    def start(self, place, command, **options):
        """Start ``command`` there; only a Ray with our token may join the cluster."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "MPLBACKEND": "Agg",
        }
        inside = ["ip", "netns", "exec", self._name(place), *command]
        return subprocess.Popen(inside, env=environment, **options)

    def start_ray(self, place, *argv):
        """Start a Ray node in ``place``; return once it is up."""
        log = self._folder / f"{place}.log"
        options = [
            f"--node-ip-address={self.addresses[place]}",
            *("--object-store-memory=80000000", "--disable-usage-stats", "--block", *argv),
        ]
        if place == "head":
            head = ("--head", "--port=6379", "--include-dashboard=false")
            options += [*head, f"--temp-dir={self._folder}"]
        else:
            options += [f"--address={self.address}"]
        ray = Path(sys.executable).with_name("ray")
        with log.open("w") as file:
            node = self.start(
                place, [str(ray), "start", *options], stdout=file, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + PATIENCE
        while "Ray runtime started" not in log.read_text():
            output = log.read_text()[-2000:]
            assert node.poll() is None, f"Ray did not start in {place}: {output}"
            assert time.monotonic() < end, f"Ray did not start in time in {place}: {output}"
            time.sleep(0.1)
        return node
