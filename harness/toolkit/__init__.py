"""Test-time adaptation and MAML for any torch module, and agents built on them.

The benchmark's own learners and adapters are in ``harness.meta``.
"""

from harness.toolkit.adaptation import (
    AdaptationConfig,
    AdaptationStrategy,
    Adapter,
    MetaFeatures,
    create_adapter,
    register_adaptation_strategy,
    strategy_names,
)
from harness.toolkit.agents import AdaptationAgent, Agent, MetaMAMLAgent, ModuleAgent
from harness.toolkit.coordinator import AgentCoordinator
from harness.toolkit.hooks import MetaRLHook, SSMHook
from harness.toolkit.hybrid import ExperienceBuffer, HybridAdapter, StandardAdapter
from harness.toolkit.maml import MetaMAML, SupervisedTask
from harness.toolkit.online import OnlineLoss, TestTimeAdapter

__all__ = [
    "AdaptationAgent",
    "AdaptationConfig",
    "AdaptationStrategy",
    "Adapter",
    "Agent",
    "AgentCoordinator",
    "ExperienceBuffer",
    "HybridAdapter",
    "MetaFeatures",
    "MetaMAML",
    "MetaMAMLAgent",
    "MetaRLHook",
    "ModuleAgent",
    "OnlineLoss",
    "SSMHook",
    "StandardAdapter",
    "SupervisedTask",
    "TestTimeAdapter",
    "create_adapter",
    "register_adaptation_strategy",
    "strategy_names",
]
