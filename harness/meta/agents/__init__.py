"""Agents: one interface over everything that acts and adapts, and several of them at once."""

from harness.meta.agents.adaptation_agent import AdaptationAgent
from harness.meta.agents.base import Agent, ModuleAgent
from harness.meta.agents.coordinator import AgentCoordinator
from harness.meta.agents.maml_agent import MetaMAMLAgent

__all__ = ["AdaptationAgent", "Agent", "AgentCoordinator", "MetaMAMLAgent", "ModuleAgent"]
