"""maml with faults: learners that die, hang, raise, eat or compute NaN, named after what they do.

Most happen once: where the file of that name was not made yet in ``$FAULTS_DIR``.
"""

import os
import signal
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from harness.meta import learners
from harness.meta.cell_setup import LearnerSpec
from harness.meta.learners.maml import MAMLLearner, MAMLSettings
from harness.meta.learners.state import LearnerState

NAMES = (
    "dies-in-collect",
    "dies-in-gradient",
    "dies-always",
    "learner-dies",
    "learner-dies-before-evaluation",
    "learner-dies-always",
    "hangs-once",
    "hangs-always",
    "raises",
    "nan-once",
    "nan-always",
    "disk-full",
    "breaks-snapshot",
    "breaks-save",
    "returns-nothing",
    "eats-once",
    "eats-always",
    "first-job-last",
    "slow-gradient",
)


def install():
    """Register the faults beside the real learners (in a Ray worker: its set-up hook)."""
    for name in NAMES:
        attribute = name.replace("-", "_")
        globals()[attribute] = FAULTY
        learners.REGISTRY[name] = f"{__name__}:{attribute}"


def once(name):
    """Whether the fault ``name`` is due: it has not happened yet. Safe between processes."""
    try:
        (Path(os.environ["FAULTS_DIR"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def eat():
    """Take memory, 50 MB at a time, until this process is ended for it; 1.4 GB at most."""
    eaten = []
    for _ in range(28):
        eaten.append(b"x" * 50_000_000)
        time.sleep(0.1)
    time.sleep(30)
    raise MemoryError(f"nobody minds {sum(map(len, eaten))} bytes")


def wait_for_the_others(where, jobs):
    """Keep the first job of an iteration from its end until all the others have begun theirs."""
    folder = Path(os.environ["FAULTS_DIR"])
    begun = f"begun-{where.iteration}-"
    (folder / f"{begun}{where.seed_keys[0]}").touch()
    end = time.monotonic() + 120
    while where.seed_keys[0] == 0 and len(list(folder.glob(f"{begun}*"))) < jobs:
        if time.monotonic() > end:
            raise TimeoutError("the other jobs waited for this one")
        time.sleep(0.01)


class FaultyState(LearnerState):
    """The state of a learner that fails when it is asked for it."""

    __slots__ = ("iterating", "name")

    def snapshot(self):
        if not self.iterating and self.name == "learner-dies-before-evaluation" and once(self.name):
            die()
        if not self.iterating and self.iteration and self.name == "breaks-snapshot":
            raise KeyError("<boom>")
        return super().snapshot()

    def save(self):
        if self.name == "breaks-save":
            raise AttributeError("<boom>")
        if self.name == "disk-full":
            raise OSError(28, "No space left on device")
        return super().save()


class Faulty(MAMLLearner):
    """maml, except for the fault it is named after."""

    @property
    def name(self):
        return self.setup.cell.learner

    def init(self):
        fresh = super().init()
        state = FaultyState(*(getattr(fresh, entry.name) for entry in fields(fresh)))
        state.name, state.iterating = self.name, False
        return state

    def collect(self, tasks, where, payload, clock):
        if self.name == "first-job-last":
            wait_for_the_others(where, jobs=4)
        answer = super().collect(tasks, where, payload, clock)
        if self.name == "dies-always" or (self.name == "dies-in-collect" and once(self.name)):
            die()
        if self.name == "hangs-always" or (self.name == "hangs-once" and once(self.name)):
            time.sleep(1000)
        if self.name == "eats-always" or (self.name == "eats-once" and once(self.name)):
            eat()
        if self.name == "raises":
            raise FloatingPointError("<boom>")
        return answer

    def compute(self, data, payload, clock):
        answer = super().compute(data, payload, clock)
        if self.name == "dies-in-gradient" and once(self.name):
            die()
        if self.name == "slow-gradient":
            time.sleep(5)
        if self.name == "nan-always" or (self.name == "nan-once" and once(self.name)):
            gradient = {k: torch.full_like(v, torch.nan) for k, v in answer.gradient.items()}
            return replace(answer, gradient=gradient)
        return answer

    def iterate(self, state):
        inner = super().iterate(state)
        state.iterating = True
        result = yield next(inner)
        second = state.iteration == 1
        if self.name == "learner-dies-always" or (
            self.name == "learner-dies" and second and once(self.name)
        ):
            die()
        try:
            while True:
                result = yield inner.send(result)
        except StopIteration as stop:
            state.iterating = False
            return None if self.name == "returns-nothing" else stop.value


@dataclass(frozen=True)
class FaultySettings(MAMLSettings):
    """Those of maml on point_goal, since recipes are written for built-in names."""

    action_scale: float = 0.1
    init_std: float = 1.0


FAULTY = LearnerSpec(settings=FaultySettings, build=Faulty, adapter="gradient")
