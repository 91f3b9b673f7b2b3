"""Agents: one interface over everything that acts and adapts, and several of them at once."""

from harness.toolkit.agents.adaptation_agent import AdaptationAgent
from harness.toolkit.agents.base import Agent, ModuleAgent
from harness.toolkit.agents.coordinator import AgentCoordinator
from harness.toolkit.agents.maml_agent import MetaMAMLAgent

__all__ = ["AdaptationAgent", "Agent", "AgentCoordinator", "MetaMAMLAgent", "ModuleAgent"]
