"""What every policy, learner, adapter, agent and distribution has to keep, as suites of tests.

``python -m harness.check NAME`` runs the suite of one component. In the tests of its own package
one import is enough, with any name that ``harness.run`` takes::

    from harness.conformance import policy_suite

    TestRNN = policy_suite("my_pkg.rnn:build")

Each suite is a class whose methods pytest collects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # each suite imports what its family needs, torch or MuJoCo
    from harness.conformance.suite import Suite

__all__ = ["adapter_suite", "agent_suite", "learner_suite", "policy_suite", "task_dist_suite"]


def policy_suite(name: str, **settings: Any) -> type[Suite]:
    """Return the suite of the policy ``name`` with ``settings`` in place of its defaults."""
    from harness.conformance.policies import PolicySuite

    return PolicySuite.of(name, settings)


def learner_suite(name: str, **settings: Any) -> type[Suite]:
    """Return the suite of the learner ``name`` with ``settings`` in place of its defaults.

    ``task_dist`` and ``policy`` among them choose what it is tried on.
    """
    from harness.conformance.learners import LearnerSuite

    return LearnerSuite.of(name, settings)


def agent_suite(name: str, **settings: Any) -> type[Suite]:
    """Return the suite of the agent ``name`` with ``settings`` in place of its defaults.

    ``task_dist`` among them chooses what it is tried on; point_goal if not given.
    """
    from harness.conformance.agents import AgentSuite

    return AgentSuite.of(name, settings)


def adapter_suite(name: str, **settings: Any) -> type[Suite]:
    """Return the suite of the adapter ``name`` with ``settings`` in place of its defaults."""
    from harness.conformance.adapters import AdapterSuite

    return AdapterSuite.of(name, settings)


def task_dist_suite(name: str, **settings: Any) -> type[Suite]:
    """Return the suite of the task distribution ``name`` with ``settings``, such as ``horizon``."""
    from harness.conformance.task_dists import TaskDistSuite

    return TaskDistSuite.of(name, settings)
