"""Settings for scoring a checkpoint, on top of the configuration that the checkpoint carries."""

from __future__ import annotations

from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from harness.config.components import Component, fields, settings_class
from harness.config.schema import (
    OFFICIAL_EPISODES,
    STRICT,
    ExecutionConfig,
    Folder,
    Indices,
    Positive,
    PositiveFloat,
    RunConfig,
    Shots,
    Splits,
)
from harness.errors import UsageError
from harness.meta import adapters, learners

MEMORY_AND_GRADIENT = "memory+gradient"
"""The one adapter whose policy is fed its history although its learner's is not."""


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """Scoring one checkpoint; anything not given comes from the checkpoint."""

    checkpoint: Path
    """Checkpoint to score, .safetensors or .npz, or the name of a policy in the zoo; it carries its
    own configuration."""
    task_dist: str | None = None
    """Distribution the checkpoint must have been trained on; any other is refused."""
    test_tasks: Indices | None = None
    """Indices into the fixed list of test tasks."""
    imujoco_xml: Folder | None = None
    """Folder of the official iMuJoCo files, if it has moved since training."""
    few_shot: Shots | None = None
    """Numbers of shots to score after; 0 is always scored too."""
    zero_shot: bool | None = None
    """Score without adaptation only."""
    episodes_per_shot: Positive | None = None
    """Support episodes per shot."""
    query_episodes: Positive | None = None
    """Scored episodes per task at every number of shots."""
    protocol: Literal["all", "official", "quick"] | None = None
    """Tasks to score: every task, or a number of goals of each class, as in a run."""
    splits: Splits | None = None
    """Task lists to score, each in its own table."""
    deterministic: bool | None = None
    """Query episodes take the mean action; support episodes always sample."""
    adapter: str | None = None
    """How the policy adapts, if not as in its run: gradient, memory, memory+gradient, hybrid, ppo,
    or an adapter from outside."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def applied_to(self, stored: RunConfig) -> RunConfig:
        """Return the checkpoint's configuration with everything given here in its place.

        Raises:
            UsageError: the distribution has no such setting, or the policy cannot adapt like that.
        """
        env, tasks = stored.env, stored.test_tasks
        if self.imujoco_xml is not None:
            if "xml" not in fields(settings_class("env", stored.task_dist)):
                raise UsageError(f"--imujoco-xml: {stored.task_dist} has no such setting")
            env = replace(env, xml=self.imujoco_xml)
        given = self._given(
            *("few_shot", "zero_shot", "episodes_per_shot", "query_episodes", "deterministic"),
            *("protocol", "splits"),
        )
        if "few_shot" in given and given.setdefault("zero_shot", False):
            raise UsageError("few_shot and zero_shot contradict each other: give one")
        if self.test_tasks is not None:
            tasks = self.test_tasks
            given = {"protocol": "all", "splits": ("test",)} | given
        elif self.protocol is not None:
            tasks = None
            if self.protocol == "official":
                given = OFFICIAL_EPISODES | given
        evaluation = replace(stored.evaluation, **given)
        chosen = replace(
            stored, env=env, test_tasks=tasks, evaluation=evaluation, execution=self.execution
        )
        return chosen if self.adapter is None else with_adapter(chosen, self.adapter)

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, config=STRICT)
class AdaptConfig(EvaluateConfig):
    """Scoring one checkpoint before and after adaptation."""

    adapt_steps: Positive = 5
    """Adaptation steps: shots, each a gradient step on its own support episodes (for a policy that
    adapts by memory, further support episodes). With --online: gradient steps per adaptation."""
    online: bool = False
    """Adapt while acting: after every adapt_every steps, on the last buffer_size steps."""
    adapt_every: Positive | None = None
    """With --online: environment steps between adaptations; an episode's length if not given."""
    adapt_lr: PositiveFloat | None = None
    """With --online: step size; 1e-3 if not given. Otherwise the checkpoint's own is used."""
    buffer_size: Positive | None = None
    """With --online: number of recent environment steps to learn from; 1000 if not given."""

    def applied_to(self, stored: RunConfig) -> RunConfig:
        """Return the checkpoint's configuration with everything given here in its place.

        A policy whose run does not adapt it adapts as its learner does, or by gradient.

        Raises:
            UsageError: the distribution has no such setting, or the policy cannot adapt like that.
        """
        chosen = super().applied_to(stored)
        evaluation = replace(chosen.evaluation, few_shot=(self.adapt_steps,), zero_shot=False)
        chosen = replace(chosen, evaluation=evaluation)
        if chosen.adapter.kind not in ("auto", "none"):
            return chosen
        (part,) = stored.learner.values()
        spec = learners.spec(part.kind)
        adapts = adapters.spec(spec.adapter).adapts
        return with_adapter(chosen, spec.adapter if adapts else "gradient")

    def check(self) -> None:
        """Refuse settings that would have no effect.

        Raises:
            UsageError: one belongs to the other kind of adaptation.
        """
        online = ("adapt_every", "adapt_lr", "buffer_size")
        offline = ("adapter", "episodes_per_shot", "protocol", "splits", "deterministic")
        for name in offline if self.online else online:
            if getattr(self, name) is not None:
                flag, word = f"--{name.replace('_', '-')}", "without" if self.online else "with"
                raise UsageError(f"{flag} only has an effect {word} --online: leave one out")


def with_adapter(stored: RunConfig, kind: str) -> RunConfig:
    """Return the configuration of a checkpoint with another adapter.

    Raises:
        UsageError: the policy was trained on other inputs than the adapter feeds it, or without
            the value head that the adapter needs.
    """
    (part,) = stored.learner.values()
    spec, trained = learners.spec(part.kind), stored.adapter.kind
    if kind == trained:
        return stored
    if not spec.feeds_history and MEMORY_AND_GRADIENT in (kind, trained):
        word = "with" if trained == MEMORY_AND_GRADIENT else "without"
        raise UsageError(
            f"--adapter {kind}: the checkpoint was trained {word} --adapter {MEMORY_AND_GRADIENT}, "
            "which also feeds the policy its history. Leave --adapter out"
        )
    if adapters.spec(kind).uses_value_head and not spec.uses_value_head:
        raise UsageError(
            f"--adapter {kind}: trains the value head too, which {part.kind} leaves untrained. "
            "Choose another adapter, or leave --adapter out"
        )
    own = kind == spec.adapter
    settings = spec.adapter_settings(part.settings) if own else settings_class("adapter", kind)()
    return replace(stored, adapter=Component(kind, settings))
