"""A worker pool without Ray: jobs end as scripted, at once."""

import pytest

from harness.config.schema import ExecutionConfig
from harness.execution.backend import Work
from harness.execution.jobs import Job
from harness.execution.ray.calls import DeadActorError
from harness.execution.ray.scheduler import JobScheduler
from harness.meta.learners.base import Request, RequestKind
from harness.types import Cell

CELL = Cell("point_goal", "mlp", "maml", 0)
JOBS = [Job(CELL, "train", 0, part, "train", (part,), (part,)) for part in range(3)]


def died(*, memory=False):
    return DeadActorError("an actor died: <why>", learner=True, memory=memory)


class FakePool:
    """Workers on one node, of whom the first owns the data of ``owned`` jobs.

    ``deaths`` lists, by job, the errors of the attempts that fail. A replaced worker is up again
    at the next wait. ``log`` records what happened.
    """

    def __init__(self, size=1, deaths=None, owned=()):
        self.deaths = {part: list(errors) for part, errors in (deaths or {}).items()}
        self.owners = {job.key: 0 for job in owned}
        self.size, self.starting, self.log = size, set(), []

    def __len__(self):
        return self.size

    def available(self):
        return [worker for worker in range(self.size) if worker not in self.starting]

    def submit(self, worker, work, job):
        self.log.append(("sent", job.part))
        return (len(self.log), job.part), f"result {job.part}"

    def wait(self, receipts, seconds):
        self.starting.clear()
        # All calls to a dead worker fail at once; the last one may be noticed first.
        return list(receipts)[-1:]

    def receipt(self, reference):
        _, part = reference
        if self.deaths.get(part):
            raise self.deaths[part].pop(0)
        return f"receipt {part}"

    def probe(self, worker):
        pytest.fail("no worker is in doubt")

    def replace(self, worker):
        self.log.append(("replaced", worker))
        self.starting.add(worker)
        self.owners = {key: owner for key, owner in self.owners.items() if owner != worker}

    def same_node(self, worker):
        return []

    def data_owner(self, job):
        return self.owners.get(job.key)

    def set_data_owner(self, job, worker):
        self.log.append(("done", job.part))

    def of_kind(self, *kinds):
        """Return the second entry of every log line of these kinds."""
        return [entry[1] for entry in self.log if entry[0] in kinds]


def run(pool, jobs=JOBS, *, patience=0.0, **settings):
    """Complete ``jobs`` on ``pool``; faults go to its log."""

    def report(kind, **fields):
        pool.log.append((kind, fields.get("job"), fields.get("attempt")))

    execution = ExecutionConfig(**settings)
    work = Work(Request(RequestKind.COMPUTE, "payload"), jobs, patience=patience)
    return JobScheduler(pool, work, execution, report, None).run()
