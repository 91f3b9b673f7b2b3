"""How a policy and a learner look, the same in every figure."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.lines import Line2D

import policies
from harness.reporting.render.blocks import clean
from harness.reporting.store.manifest import Manifest

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's colours, told apart with any kind of colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""One per learner."""


@dataclass(frozen=True, slots=True)
class Style:
    """How one (policy, learner) looks in every figure."""

    label: str
    color: str
    marker: str


def styles_of(manifest: Manifest) -> dict[tuple[str, str], Style]:
    """Return the look of each pair; a registered policy has the same colour in every run.

    Where there is one policy alone, the colours tell its learners apart.
    """
    pairs = list(dict.fromkeys((s.policy, s.learner) for s in manifest.cells.values()))
    order = list(dict.fromkeys([*policies.names(), *(policy for policy, _ in pairs)]))
    learners = list(dict.fromkeys(learner for _, learner in pairs))
    alone = len({policy for policy, _ in pairs}) == 1 and len(learners) > 1
    return {
        (policy, learner): Style(
            clean(f"{policy}, {learner}" if len(learners) > 1 else policy),
            PALETTE[(learners.index(learner) if alone else order.index(policy)) % len(PALETTE)],
            MARKERS[learners.index(learner) % len(MARKERS)],
        )
        for policy, learner in pairs
    }


def handle(style: Style) -> Line2D:
    """Return the legend's entry of a style."""
    return Line2D([], [], color=style.color, marker=style.marker, markersize=5, label=style.label)
