"""The scheduler on a scripted pool: what it sends where, what it repeats and whom it blames."""

import pytest

from harness.execution.backend import LostError
from harness.experiments.trial import reason_of
from tests.harness.execution.ray.fake_pool import JOBS, FakePool, died, run

pytestmark = pytest.mark.faults


EXPECTED = [(f"receipt {part}", f"result {part}") for part in range(3)]


def test_the_owner_of_the_data_is_sent_all_its_jobs_at_once():
    pool = FakePool(owned=JOBS)
    assert run(pool) == EXPECTED
    assert pool.log == [(what, part) for what in ("sent", "done") for part in range(3)]


def test_free_jobs_go_out_one_at_a_time():
    pool = FakePool()
    assert run(pool) == EXPECTED
    assert pool.log == [(what, part) for part in range(3) for what in ("sent", "done")]


def test_jobs_whose_owner_is_not_up_go_to_another_worker():
    pool = FakePool(size=2, owned=JOBS)
    pool.starting = {0}
    assert run(pool) == EXPECTED
    assert pool.of_kind("sent") == [0, 1, 2]


def test_finished_jobs_count_and_waiting_ones_are_not_blamed_for_a_death():
    pool = FakePool(owned=JOBS, deaths={1: [died()] * 2, 2: [died()] * 2})
    assert run(pool) == EXPECTED
    assert pool.of_kind("sent") == [0, 1, 2, 1, 1, 2, 2, 2]
    assert [event for event in pool.log if event[0] == "worker_died"] == [
        ("worker_died", str(JOBS[part]), attempt) for part in (1, 2) for attempt in (1, 2)
    ]


@pytest.mark.parametrize(
    ("memory", "kind", "label"), [(False, "worker_died", "lost"), (True, "out_of_memory", "oom")]
)
def test_a_job_that_always_kills_fails_its_cell_after_three_attempts(memory, kind, label):
    pool = FakePool(deaths={1: [died(memory=memory)] * 4})
    with pytest.raises(LostError) as raised:
        run(pool)
    assert len(pool.deaths[1]) == 1
    assert pool.of_kind(kind) == [str(JOBS[1])] * 3
    assert raised.value.memory == memory
    assert str(JOBS[1]) in str(raised.value)
    assert reason_of(raised.value).startswith(f"{label}: ")


def test_a_worker_killed_for_memory_is_told_apart_from_one_that_died():
    pool = FakePool(deaths={0: [died(memory=True), died()]})
    assert run(pool, JOBS[:1]) == EXPECTED[:1]
    assert pool.of_kind("out_of_memory", "worker_died") == [str(JOBS[0])] * 2
    assert pool.of_kind("replaced") == [0, 0]


def test_a_job_that_hangs_is_tried_twice():
    pool = FakePool()
    pool.wait = lambda *_: pool.starting.clear() or []
    with pytest.raises(LostError):
        run(pool, JOBS[:1], job_timeout=1e-9)
    assert pool.of_kind("job_timeout") == [str(JOBS[0])] * 2
    assert pool.of_kind("sent") == [0, 0]


def test_a_job_may_take_as_long_as_its_calls_are_allowed_to():
    class Slow(FakePool):
        waited = False

        def wait(self, receipts, seconds):
            ready = super().wait(receipts, seconds)
            self.waited, before = True, self.waited
            return ready if before else []

    for patience, timeouts in ((100.0, 0), (0.0, 1)):
        pool = Slow()
        run(pool, JOBS[:1], job_timeout=1e-9, patience=patience)
        assert len(pool.of_kind("job_timeout")) == timeouts


def test_an_error_of_a_job_spares_its_worker_and_replaces_the_busy_ones():
    pool = FakePool(size=3, deaths={2: [FloatingPointError()]})
    with pytest.raises(FloatingPointError):
        run(pool)
    assert pool.of_kind("replaced") == [0, 1]


def test_a_run_without_any_worker_reports_that_it_waits_and_gives_up(monkeypatch):
    pool = FakePool()
    now = iter(range(10_000))
    monkeypatch.setattr("harness.execution.ray.scheduler.time.monotonic", lambda: next(now))
    pool.available = list
    pool.wait = lambda *_: []
    with pytest.raises(LostError):
        run(pool, start_timeout=600)
    assert pool.log == [("waiting", None, None)]
