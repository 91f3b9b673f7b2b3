"""Actors that Ray kills because memory runs out: dead actors, and told apart from others."""

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from harness.config import ExecutionConfig
from harness.execution import supervisor
from harness.execution.backend import LostError, Work
from harness.execution.jobs import Job
from harness.execution.session import reason_of
from harness.types import Cell

pytestmark = pytest.mark.faults
TOLD = "Task was killed due to the node running low on memory.\nMemory on the node was ..."


class OneWorker:
    """A crew of one whose jobs end as told, one after the other."""

    def __init__(self, ends):
        self.ends, self.replaced, self.checking = list(ends), 0, {}

    def __len__(self):
        return 1

    def submit(self, worker, work, job):
        return self.ends.pop(0), "result"

    def home(self, job):
        return None

    node = settle = lambda self, *_: None

    def on(self, node):
        return []

    def replace(self, worker):
        self.replaced += 1

    def check(self, worker):
        raise AssertionError("nobody is in doubt")


def play(monkeypatch, *ends):
    """Play one job; each try answers or raises what is in ``ends``."""

    def get(answer):
        if isinstance(answer, Exception):
            raise answer
        return answer

    crew, events = OneWorker(ends), []
    monkeypatch.setattr(supervisor.ray, "get", get)
    monkeypatch.setattr(supervisor.ray, "wait", lambda references, **_: (references, []))

    def report(kind, **fields):
        events.append(kind)
        # A worker that was replaced is up at once.
        round_._idle.add(0)

    job = Job(Cell("point_goal", "mlp", "maml", 0), "train", 0, 0, "train", (0,), (0,))
    round_ = supervisor.Round(crew, Work("collect", [job], None), ExecutionConfig(), report, None)
    return round_, crew, events


def test_a_worker_killed_for_memory_is_replaced_and_its_job_done_again(monkeypatch):
    out = OutOfMemoryError(TOLD)
    round_, crew, events = play(monkeypatch, out, ActorDiedError(), "receipt")
    (landed,) = round_.play()
    assert landed.receipt == "receipt"
    assert events == ["out_of_memory", "worker_died"]
    assert crew.replaced == 2


def test_a_job_that_always_needs_too_much_fails_its_cell_after_three_times(monkeypatch):
    round_, crew, _ = play(monkeypatch, *[OutOfMemoryError(TOLD)] * 4)
    with pytest.raises(LostError) as raised:
        round_.play()
    assert len(crew.ends) == 1, "three tries, no more"
    assert reason_of(raised.value).startswith("oom: ")
    assert "running low on memory" in reason_of(raised.value)
