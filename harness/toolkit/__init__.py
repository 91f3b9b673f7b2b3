"""Test-time adaptation and MAML for any torch module, and agents built on them.

The learners and adapters of the benchmark itself are in ``harness.meta``.
"""

from harness.toolkit.agents import (
    AdaptationAgent,
    Agent,
    AgentCoordinator,
    MetaMAMLAgent,
    ModuleAgent,
)
from harness.toolkit.experience import ExperienceBuffer
from harness.toolkit.features import MetaFeatures
from harness.toolkit.hooks import MetaRLHook, SSMHook
from harness.toolkit.hybrid import HybridAdapter, StandardAdapter
from harness.toolkit.module_adapter import Adapter, create_adapter
from harness.toolkit.online import OnlineLoss, TestTimeAdapter
from harness.toolkit.settings import AdaptationConfig
from harness.toolkit.strategies import (
    AdaptationStrategy,
    register_adaptation_strategy,
    strategy_names,
)
from harness.toolkit.supervised import MetaMAML, SupervisedTask

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
