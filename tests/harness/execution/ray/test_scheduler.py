"""Jobs that wait behind others on one worker: sent at once, and blamed for nothing."""

import pytest
from ray.exceptions import ActorDiedError

from harness.config.schema import ExecutionConfig
from harness.execution.backend import LostError, Work
from harness.execution.jobs import Job
from harness.execution.ray import scheduler
from harness.meta.learners.base import Request, RequestKind
from harness.types import Cell

CELL = Cell("point_goal", "mlp", "maml", 0)
JOBS = [Job(CELL, "train", 0, part, "train", (part,), (part,)) for part in range(3)]


class Holder:
    """A crew of one that holds the data of all jobs until it dies: job -> how often at it."""

    def __init__(self, deaths=None):
        self.deaths, self.alive, self.log, self.checking = deaths or {}, True, [], {}

    def __len__(self):
        return 1

    def submit(self, worker, work, job):
        self.log.append(("sent", job.part))
        return (len(self.log), job.part), job.part

    def home(self, job):
        return 0 if self.alive else None

    def node(self, worker):
        return None

    def on(self, node):
        return []

    def tell_of_lost_nodes(self):
        pass

    def settle(self, job, worker):
        self.log.append(("landed", job.part))

    def replace(self, worker):
        self.alive = False
        self.checking = {"up?": 0}

    def checked(self, reference):
        return self.checking.pop(reference)

    def get(self, reference):
        if self.deaths.get(reference[1]):
            self.deaths[reference[1]] -= 1
            raise ActorDiedError
        return "receipt"


def play(monkeypatch, crew):
    monkeypatch.setattr(scheduler.ray, "get", crew.get)
    # A dead worker's calls all fail: the last to be asked for is told of first.
    monkeypatch.setattr(scheduler.ray, "wait", lambda waited, **_: (waited[-1:], []))

    def report(kind, **fields):
        crew.log.append((kind, fields["job"], fields["attempt"]))

    work = Work(Request(RequestKind.COMPUTE, "payload"), JOBS)
    return scheduler.JobScheduler(crew, work, ExecutionConfig(), report, None).play()


def test_who_holds_their_data_is_sent_all_jobs_at_once(monkeypatch):
    crew = Holder()
    assert [landed.result for landed in play(monkeypatch, crew)] == [0, 1, 2]
    assert crew.log == [(what, part) for what in ("sent", "landed") for part in range(3)]


def test_what_was_done_before_a_death_counts_and_who_waited_is_not_blamed(monkeypatch):
    crew = Holder({1: 2, 2: 2})
    assert [landed.result for landed in play(monkeypatch, crew)] == [0, 1, 2]
    sent = [part for what, part, *_ in crew.log if what == "sent"]
    assert sent == [0, 1, 2, 1, 1, 2, 2, 2]
    assert [event for event in crew.log if event[0] == "worker_died"] == [
        ("worker_died", str(JOBS[part]), attempt) for part in (1, 2) for attempt in (1, 2)
    ]


def test_the_job_that_kills_is_the_one_that_was_lost(monkeypatch):
    with pytest.raises(LostError, match=r"tasks 1 was lost 3 times \(worker_died"):
        play(monkeypatch, Holder({1: 9}))
