"""Lost nodes are reported once, however late Ray notices."""

import pytest

from harness.execution.ray.pool import POLL_SECONDS, SUSPECT_SECONDS, NodeMonitor


class World:
    """A clock, the nodes that Ray believes alive, and what was reported."""

    def __init__(self):
        self.now, self.alive, self.reports = 0.0, {"here", "there"}, []
        self.monitor = NodeMonitor(
            lambda kind, **fields: self.reports.append({"kind": kind, **fields}),
            lambda: self.alive,
            lambda: self.now,
        )

    def poll(self, *nodes):
        self.now += POLL_SECONDS
        self.monitor.poll(nodes)


@pytest.mark.parametrize("late", [False, True])
def test_a_lost_node_is_reported_once_with_all_its_workers(late):
    world = World()
    world.monitor.actor_lost("there")
    world.monitor.actor_lost("there")
    if late:
        world.poll("here", "there")
        assert not world.reports
    world.alive.discard("there")
    for _ in range(3):
        world.poll("here", "there")
        world.monitor.actor_lost("there")
    assert world.reports == [{"kind": "node_lost", "node": "there", "workers": 3}]


def test_a_node_that_only_lost_an_actor_is_forgotten_after_a_while():
    world = World()
    world.monitor.actor_lost("here")
    world.now += SUSPECT_SECONDS
    world.poll("here")
    world.alive.clear()
    world.poll("here")
    assert not world.reports
