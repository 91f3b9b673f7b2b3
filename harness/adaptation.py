"""Test-time adaptation of any torch module.

The inner loops of a run, on parameters as values, are ``harness.meta.adaptation``.
"""

from harness.meta.adaptation.experience import ExperienceBuffer
from harness.meta.adaptation.features import MetaFeatures
from harness.meta.adaptation.hooks import MetaRLHook, SSMHook
from harness.meta.adaptation.hybrid import HybridAdapter, StandardAdapter
from harness.meta.adaptation.module_adapter import Adapter, create_adapter
from harness.meta.adaptation.online import OnlineLoss, TestTimeAdapter
from harness.meta.adaptation.settings import AdaptationConfig
from harness.meta.adaptation.strategies import (
    AdaptationStrategy,
    register_adaptation_strategy,
    strategy_names,
)

__all__ = [
    "AdaptationConfig",
    "AdaptationStrategy",
    "Adapter",
    "ExperienceBuffer",
    "HybridAdapter",
    "MetaFeatures",
    "MetaRLHook",
    "OnlineLoss",
    "SSMHook",
    "StandardAdapter",
    "TestTimeAdapter",
    "create_adapter",
    "register_adaptation_strategy",
    "strategy_names",
]
