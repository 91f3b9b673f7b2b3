"""maml with faults: learners that die, hang, raise, exhaust memory or compute NaN.

Each is named after its fault. A fault that strikes once leaves a file in ``$FAULTS_DIR``.
"""

import os
import signal
import time
from pathlib import Path

import torch

from harness.meta import learners
from harness.meta.learners.policy_gradient import PolicyGradientLearner

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
    "eats-once",
    "eats-always",
    "first-job-last",
    "slow-gradient",
)


def install():
    """Register the faulty learners beside the real ones; Ray's set-up hook in workers."""
    for name in NAMES:
        attribute = name.replace("-", "_")
        globals()[attribute] = build
        learners.REGISTRY[name] = f"{__name__}:{attribute}"


def once(name):
    """Whether the fault ``name`` has not struck yet. Safe between processes."""
    try:
        (Path(os.environ["FAULTS_DIR"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def eat():
    """Take memory, 50 MB at a time and 1.4 GB at most, until this process is killed for it."""
    eaten = []
    for _ in range(28):
        eaten.append(b"x" * 50_000_000)
        time.sleep(0.1)
    time.sleep(30)
    raise MemoryError(f"not killed at {sum(map(len, eaten))} bytes")


def wait_for_the_others(where, jobs):
    """Delay the first job of an iteration until all the others have begun."""
    folder = Path(os.environ["FAULTS_DIR"])
    prefix = f"begun-{where.iteration}-"
    (folder / f"{prefix}{where.seed_keys[0]}").touch()
    end = time.monotonic() + 120
    while where.seed_keys[0] == 0 and len(list(folder.glob(f"{prefix}*"))) < jobs:
        if time.monotonic() > end:
            raise TimeoutError("the other jobs waited for this one")
        time.sleep(0.01)


class Faulty(PolicyGradientLearner):
    """maml with the fault that it is named after."""

    def collect(self, tasks, where, payload, clock):
        if self.name == "first-job-last":
            wait_for_the_others(where, jobs=self.problem.config.least_jobs)
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

    def compute(self, kind, data, payload, clock):
        params, info = super().compute(kind, data, payload, clock)
        if self.name == "dies-in-gradient" and once(self.name):
            die()
        if self.name == "slow-gradient":
            time.sleep(2.5)
        if self.name == "nan-always" or (self.name == "nan-once" and once(self.name)):
            params = {key: torch.full_like(value, torch.nan) for key, value in params.items()}
        return params, info

    def iterate(self, state):
        inner = super().iterate(state)
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
            return stop.value

    def policy_state(self, state):
        if self.name == "learner-dies-before-evaluation" and once(self.name):
            die()
        return super().policy_state(state)

    def save(self, state):
        if self.name == "disk-full":
            raise OSError(28, "No space left on device")
        return super().save(state)


def build(problem):
    train = problem.config.train
    return Faulty(problem, problem.cell.learner, "gradient", 1, train.episodes_per_task)
