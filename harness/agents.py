"""Agents that act, observe, adapt and update, and a coordinator of several."""

from harness.meta.agents import (
    AdaptationAgent,
    Agent,
    AgentCoordinator,
    MetaMAMLAgent,
    ModuleAgent,
)

__all__ = ["AdaptationAgent", "Agent", "AgentCoordinator", "MetaMAMLAgent", "ModuleAgent"]
