"""Agents from anywhere, scored as our own policies are: the protocol, and ready adapters."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.agents.guard import TimeLimits, limited, watching
from harness.agents.protocol import Agent, AgentError, TaskEpisodes, has
from harness.types import NoSettings
from metarl_plugins import PluginError, Registry, blamed, settings_of

__all__ = [
    "REGISTRY",
    "Agent",
    "AgentError",
    "AgentSource",
    "TaskEpisodes",
    "TimeLimits",
    "as_agent",
    "check",
    "load",
    "names",
    "settings_class",
]

REGISTRY = Registry(
    "agent",
    "metarl_harness.agents",
    {
        "random": "harness.agents.simple:RandomAgent",
        "constant": "harness.agents.simple:ConstantAgent",
        "expert": "harness.agents.metaworld:ScriptedExpert",
        "sb3": "harness.agents.sb3:sb3_agent",
        "torch": "harness.agents.torch_module:torch_agent",
        "checkpoint": "harness.execution.loaded_policy:checkpoint_agent",
        "object": "harness.agents.simple:ObjectAgent",
    },
)
"""Name -> ``module:factory``. A factory takes nothing, or ``settings``, annotated with a frozen
dataclass whose fields all have defaults; it returns an agent that has played nothing yet."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order, then those of installed packages."""
    return REGISTRY.names()


def load(name: str) -> Callable[..., Any]:
    """Return the factory that ``name`` stands for.

    Raises:
        ValueError: the name is not registered.
        PluginError: it stands for something that is no factory of agents.
    """
    factory: Callable[..., Any] = REGISTRY.load(name)
    if not callable(factory):
        raise PluginError(f"{name}: is a {type(factory).__name__}, but must be a factory of agents")
    return factory


def settings_class(name: str) -> type:
    """Return the settings dataclass that the factory of the agent ``name`` takes.

    Raises:
        ValueError: the name is not registered.
        PluginError: it stands for something that is no factory of agents.
    """
    factory = load(name)
    with blamed(name):
        parameters = inspect.signature(factory).parameters
    if "settings" not in parameters:
        required = [p.name for p in parameters.values() if p.default is p.empty]
        if required:
            raise PluginError(f"{name}: takes {', '.join(required)}, but may take settings alone")
        return NoSettings
    if inspect.isclass(factory):
        return settings_of(name, factory.__init__, ("self", "settings"))
    return settings_of(name, factory, ("settings",))


@dataclass(frozen=True, slots=True)
class AgentSource:
    """How an agent is made, in any process."""

    kind: str
    """Its name."""
    settings: Any = field(default_factory=NoSettings)
    limits: TimeLimits = field(default_factory=TimeLimits)
    factory: Callable[[], Any] | None = None
    """Makes the agent in place of what the name stands for."""

    def make(self) -> Any:
        """Return an agent that has played nothing yet."""
        return as_agent(self.call_factory())

    def call_factory(self) -> Any:
        """Return what the factory makes, as it is."""
        if self.factory is not None:
            return self.factory()
        factory = load(self.kind)
        return (
            factory() if isinstance(self.settings, NoSettings) else factory(settings=self.settings)
        )


def check(source: AgentSource) -> None:
    """Refuse a factory that makes no agents, before anything is played.

    Unless it is a class of agents, or built in, one is made. A factory that fails passes: that is
    the failure of its own row.

    Raises:
        AgentError: it makes something else.
    """
    built_in = source.factory is None and REGISTRY.is_built_in(source.kind)
    factory = source.factory or load(source.kind)
    if built_in or (inspect.isclass(factory) and protocol_of(factory)):
        return
    try:
        with watching():
            made = limited("the factory", source.limits.adapt, source.call_factory)
    except AgentError:
        return
    as_agent(made)


def protocol_of(made: Any) -> Literal["agent", "metaworld", "sb3", "torch"] | None:
    """Return by which of the known protocols an object, or the objects of a class, can act."""
    if has(made, "act"):
        return "agent"
    if has(made, "eval_action"):
        return "metaworld"
    if has(made, "predict") and hasattr(made, "num_timesteps"):
        return "sb3"
    return "torch" if has(made, "forward") and has(made, "parameters") else None


def as_agent(made: Any) -> Any:
    """Return what a factory made as an agent.

    Objects of Meta-World's agent protocols, torch modules and models of Stable-Baselines3 are
    agents as they stand.

    Raises:
        AgentError: it is none of these and has no method ``act``.
    """
    match protocol_of(made):
        case "agent":
            return made
        case "metaworld":
            from harness.agents.metaworld import MetaWorldAgent

            return MetaWorldAgent(made)
        case "sb3":
            from harness.agents.sb3 import SB3Agent

            return SB3Agent(made)
        case "torch":
            from harness.agents.torch_module import TorchAgent

            # A copy: to score a module must not end its training mode.
            module = copy.deepcopy(made).eval()
            return TorchAgent(module, recurrent=has(made, "init_hidden"))
    raise AgentError(f"{type(made).__name__} is no agent: it has no method act(obs)")
