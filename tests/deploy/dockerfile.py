"""A Dockerfile as data, and a ``.dockerignore`` that says yes or no: as much of both as we use."""

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field


@dataclass
class Stage:
    base: str
    name: str
    steps: list = field(default_factory=list)

    def all(self, keyword):
        return [rest for word, rest in self.steps if word == keyword]

    def copies(self):
        """Return (sources, destination) of what comes from the build context."""
        words = [shlex.split(rest) for rest in self.all("COPY")]
        return [(w[:-1], w[-1]) for w in words if not w[0].startswith("--from=")]

    def commands(self):
        """Return every shell command of its RUN lines as words."""
        return [
            shlex.split(part) for rest in self.all("RUN") for part in re.split(r"&&|\|\||;", rest)
        ]

    def exec_form(self, keyword):
        """Return the words of a CMD or HEALTHCHECK in exec form."""
        return json.loads(self.all(keyword)[-1].partition("CMD")[2] or self.all(keyword)[-1])


def parse(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        else:
            stages[-1].steps.append((word, rest.strip()))
    return stages


def environment(stage):
    pairs = [pair.split("=", 1) for rest in stage.all("ENV") for pair in shlex.split(rest)]
    return dict(pairs)


def reaches_daemon(path, patterns):
    """Tell whether ``path`` is sent: the last pattern that covers it or a folder above decides."""
    sent = True
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if any(_covers(bare, each) for each in above):
            sent = pattern.startswith("!")
    return sent


def _covers(pattern, path):
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern[3:])
    same_depth = pattern.count("/") == path.count("/")
    return same_depth and fnmatch.fnmatchcase(path, pattern)
