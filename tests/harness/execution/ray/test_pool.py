"""Which nodes are told of as lost, on a Ray that notices late."""

import pytest

from harness.execution.ray import pool


class Bare(pool.WorkerPool):
    """Actors that are nothing."""

    def _started(self):
        return None

    def check(self, worker):
        self.checking[f"is {worker} up?"] = worker


@pytest.fixture
def made(monkeypatch):
    """Three actors, one here and two there; what is told of, and the nodes that Ray believes in."""
    told, alive = [], {"here", "there"}
    monkeypatch.setattr(pool.ray, "kill", lambda _: None)
    monkeypatch.setattr(pool, "_alive", lambda: alive)
    bare = Bare(None, 3, lambda kind, **fields: told.append({"kind": kind, **fields}), {})
    bare._nodes = {0: "here", 1: "there", 2: "there"}
    return bare, told, alive


@pytest.mark.parametrize("late", [False, True])
def test_a_lost_node_is_told_of_once_however_late_ray_notices(made, monkeypatch, late):
    bare, told, alive = made
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.0)
    if not late:
        alive.discard("there")
    bare.replace(1)
    bare.replace(2)
    bare.tell_of_lost_nodes()
    assert len(told) == (not late)
    alive.discard("there")
    for _ in range(3):
        bare.tell_of_lost_nodes()
    assert told == [{"kind": "node_lost", "node": "there", "workers": 2}]


def test_a_node_that_only_lost_an_actor_is_not_asked_after_for_ever(made, monkeypatch):
    bare, told, alive = made
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.0)
    bare.replace(0)
    monkeypatch.setattr(pool, "SUSPECT_SECONDS", 0.0)
    bare.tell_of_lost_nodes()
    alive.clear()
    bare.tell_of_lost_nodes()
    assert not told
