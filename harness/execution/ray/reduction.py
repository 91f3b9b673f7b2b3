"""RAY: gradients are added on the node that made them, so that few of them cross the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.execution.backend import Handle
from harness.execution.ray import serialization
from harness.execution.ray.scheduler import CompletedJob
from harness.meta.learners.sums import FAN_IN, PartialGradient, add, groups


class GradientReducer:
    """Adds up what it is sent."""

    def __init__(self) -> None:
        """Send tensors as arrays; said here, for Ray may start it again by itself."""
        serialization.tensors_as_arrays()

    def add(self, *answers: PartialGradient[Any]) -> PartialGradient[Any]:
        """Return the sum of the jobs' answers, from the first to the last."""
        return add(*answers)


class NodeSums:
    """One adder on every node that has something to add."""

    def __init__(self) -> None:
        self._adders: dict[str, Any] = {}

    def reduced(self, landed: Sequence[CompletedJob]) -> list[Handle]:
        """Add whole levels of the tree of ``sums`` until no more than ``FAN_IN`` sums are left.

        A group is added where most of it lies. Only references pass through here.
        """
        values: list[tuple[Handle, str | None]] = [(one.result, one.node) for one in landed]
        while len(values) > FAN_IN:
            values = [self._added(group) for group in groups(values)]
        return [handle for handle, _ in values]

    def _added(self, group: Sequence[tuple[Handle, str | None]]) -> tuple[Handle, str | None]:
        (node, _), *_ = Counter(place for _, place in group).most_common(1)
        handles = [handle for handle, _ in group]
        return self._adder(node).add.remote(*handles), node

    def _adder(self, node: str | None) -> Any:
        key = node or ""
        if key not in self._adders:
            # Adding twice does no harm, so Ray may do that by itself; soft: it outlives its node.
            where = NodeAffinitySchedulingStrategy(key, soft=True) if node else "DEFAULT"
            made = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(GradientReducer)
            self._adders[key] = made.options(scheduling_strategy=where).remote()
        return self._adders[key]

    def dismiss(self) -> None:
        """End every adder."""
        for adder in self._adders.values():
            ray.kill(adder)
