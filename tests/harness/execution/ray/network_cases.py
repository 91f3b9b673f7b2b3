"""Nodes with a network between them that can be cut: network namespaces on one machine (root)."""

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
"""Seconds that a busy machine may take to start a node of Ray."""


def ip(*argv):
    """Run the command ``ip``; return what it prints."""
    return subprocess.run(["ip", *argv], check=True, capture_output=True, text=True).stdout


class Network:
    """A head and places around it, each with an address and a cable to the head's switch.

    Every process in it is one of ours: ``close`` ends them all.
    """

    def __init__(self, folder, *places):
        if os.geteuid() != 0:
            raise NotPermittedError("networks of its own need root")
        if shutil.which("ip") is None:
            raise NotPermittedError("networks of its own need the command ip (iproute2)")
        self._folder = folder
        """Of Ray. Short: the paths of its sockets are limited to 107 bytes."""
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
        """Make a place and its device, with the address that is its own."""
        name = self._name(place)
        head = self._name("head")
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "add", device, *(head if word == "HEAD" else word for word in kind))
        ip("-n", name, "addr", "add", f"{self.addresses[place]}/24", "dev", device)
        ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "route", "add", "default", "dev", device)

    def cut(self, place):
        """Take the cable to ``place`` out."""
        ip("-n", self._name("head"), "link", "set", place, "down")

    def heal(self, place):
        """Put it back."""
        ip("-n", self._name("head"), "link", "set", place, "up")

    def pids(self, place):
        """Return the processes that run in ``place``."""
        return [int(pid) for pid in ip("netns", "pids", self._name(place)).split()]

    def workers(self, place):
        """Return our rollout actors there."""
        found = []
        for pid in self.pids(place):
            try:
                process = psutil.Process(pid)
                found += [process] if "ray::Worker" in " ".join(process.cmdline()) else []
            except psutil.NoSuchProcess:
                continue
        return found

    def end(self, place):
        """End every process there, by its id."""
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
        """End all processes and take the network away, however far it was built."""
        there = ip("netns", "list").split()
        with contextlib.ExitStack() as stack:  # all of it, whatever fails
            for place in self.addresses:
                if self._name(place) in there:
                    stack.callback(ip, "netns", "delete", self._name(place))
                    stack.callback(self.end, place)

    @property
    def address(self):
        """Where Ray's head answers."""
        return f"{self.addresses['head']}:6379"

    def start(self, place, command, **options):
        """Start ``command`` there; a Ray with our token alone gets into the cluster."""
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
        """Start Ray's part of the cluster in ``place``; return when it is up."""
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
            told = log.read_text()[-2000:]
            assert node.poll() is None, f"Ray did not start in {place}: {told}"
            assert time.monotonic() < end, f"Ray did not start in time in {place}: {told}"
            time.sleep(0.1)
        return node
