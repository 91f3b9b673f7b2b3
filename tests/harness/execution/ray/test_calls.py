"""Results of actor calls: Ray's errors become ours."""

import contextlib
import os
import signal

import pytest
import ray
from ray.exceptions import OutOfMemoryError

from harness.execution.backend import LostError
from harness.execution.ray import calls


class Stillborn:
    def __init__(self):
        raise FloatingPointError("boom")


class Actor:
    def echo(self, value):
        return value

    def fail(self):
        raise FloatingPointError("boom")

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def actors(_ray):
    """One actor to kill, and one to talk to."""
    actor_class = ray.remote(num_cpus=0)(Actor)
    pair = actor_class.remote(), actor_class.remote()
    yield pair
    for actor in pair:
        with contextlib.suppress(Exception):
            ray.kill(actor)


@pytest.mark.ray
def test_values_and_the_calls_own_errors_come_through(actors):
    _, actor = actors
    assert calls.get([actor.echo.remote(1), actor.echo.remote(2)]) == [1, 2]
    with pytest.raises(FloatingPointError, match=r"^boom$"):
        calls.get(actor.fail.remote())


@pytest.mark.ray
def test_a_dead_actor_and_lost_data_are_told_apart(actors):
    victim, other = actors
    lost = victim.die.remote()
    with pytest.raises(calls.DeadActorError) as dead:
        calls.get(lost)
    assert (dead.value.learner, dead.value.memory) == (True, False)
    with pytest.raises(LostError) as missing:
        calls.get(other.echo.remote(lost))
    assert missing.value.learner
    assert not isinstance(missing.value, calls.DeadActorError)


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_an_actor_that_cannot_be_constructed_is_dead_for_that_reason():
    actor = ray.remote(num_cpus=0)(Stillborn).remote()
    with pytest.raises(calls.DeadActorError, match=r"FloatingPointError: boom$"):
        calls.get(actor.__ray_ready__.remote())


def test_an_actor_killed_to_reclaim_memory_is_dead_for_that_reason(monkeypatch):
    def get(_):
        raise OutOfMemoryError("Task was killed due to the node running low on memory.\n...")

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(calls.DeadActorError, match="running low on memory") as dead:
        calls.get("reference")
    assert (dead.value.learner, dead.value.memory) == (True, True)
