"""Look of all figures: one color per policy, one marker per learner, and how they are saved."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Path2D
from matplotlib.transforms import Affine2D
from PIL import Image

from harness.reporting.store.files import write_atomically
from harness.reporting.text import printable

DPI = 200
SUFFIXES = (".png", ".pdf")
POLICY_COLORS = {
    "ssm": "#0072B2",
    "lstm": "#E69F00",
    "gru": "#009E73",
    "transformer": "#CC79A7",
    "mlp": "#56B4E9",
    "mingru": "#D55E00",
    "selective_ssm": "#332288",
}
"""Okabe and Ito's colors and one of Tol's, distinguishable with any kind of color vision."""
OTHER_COLORS = (
    "#999933", "#882255", "#44AA99", "#661100", "#AA4499", "#000000", "#777777", "#DDAA33",
)  # fmt: skip
"""For labels and plug-ins, most of them Paul Tol's; the name decides which."""
LEARNER_MARKERS = {
    "maml": "o", "rl2": "s", "multitask": "^", "oracle": "*", "finetune": "D", "scratch": "v",
    "rsac": "P",
}  # fmt: skip
OTHER_MARKERS = ("X", "h", "<", ">", "p", "d", "8")
MARKERS = (*LEARNER_MARKERS.values(), *OTHER_MARKERS)
CONTROLS = ("multitask", "finetune", "scratch")
SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.7,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "svg.hashsalt": "",
}

LineKey: TypeAlias = tuple[str, str]
"""Policy and learner."""


@dataclass(frozen=True, slots=True)
class Style:
    """Look of one policy and learner, the same in every figure."""

    label: str
    color: str
    marker: str

    @property
    def look(self) -> dict[str, Any]:
        """Color and marker, as matplotlib takes them."""
        return {"color": self.color, "marker": self.marker}

    def handle(self, **changes: Any) -> Line2D:
        """Return the legend entry."""
        return Line2D([], [], markersize=5, **(self.look | {"label": self.label} | changes))


def assign(names: Iterable[str], fixed: Mapping[str, str], others: Sequence[str]) -> dict[str, str]:
    """Return a look for each name: the fixed one, or the one of ``others`` its hash points at.

    Two names of one figure never share a look while there are enough; a name changes its own only
    where another name, earlier in the alphabet, has it.
    """
    known = list(dict.fromkeys(names))
    looks = {name: fixed[name] for name in known if name in fixed}
    for name in sorted(set(known) - set(fixed)):
        start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(others)
        order = [others[(start + step) % len(others)] for step in range(len(others))]
        free = [look for look in order if look not in looks.values()]
        looks[name] = (free or order)[0]
    return looks


def policy_colors(names: Iterable[str]) -> dict[str, str]:
    """Return the color of each policy of a figure."""
    return assign(names, POLICY_COLORS, OTHER_COLORS)


def styles_of(keys: Sequence[LineKey]) -> dict[LineKey, Style]:
    """Return the style of each policy and learner.

    Color is the policy, marker the learner. Controls are lighter and oracles darker, so that a
    figure of one policy is readable too.
    """
    colors = policy_colors(policy for policy, _ in keys)
    learners = list(dict.fromkeys(learner for _, learner in keys))
    # Variants of a learner have its name as their first word; the first one has its marker.
    first = {learner.partition(" ")[0]: learner for learner in reversed(learners)}
    fixed = {first[name]: marker for name, marker in LEARNER_MARKERS.items() if name in first}
    markers = assign(learners, fixed, OTHER_MARKERS)
    return {
        (policy, learner): Style(
            printable(f"{policy}, {learner}" if len(learners) > 1 else policy),
            tint(colors[policy], learner.partition(" ")[0]),
            markers[learner],
        )
        for policy, learner in keys
    }


def tint(color: str, learner: str) -> str:
    """Return ``color`` lighter for a control, darker for an oracle."""
    toward, amount = {
        **dict.fromkeys(CONTROLS, ("white", 0.45)),
        "oracle": ("black", 0.5),
    }.get(learner, ("white", 0.0))
    mixed = [
        (1 - amount) * a + amount * b for a, b in zip(to_rgb(color), to_rgb(toward), strict=True)
    ]
    return str(to_hex(mixed))


def marker_path(marker: str) -> str:
    """Return a marker around the origin as the ``d`` of an SVG path, 8 units wide."""
    style = MarkerStyle(marker)
    shape = style.get_path().transformed(style.get_transform() + Affine2D().scale(8, -8))
    letters = {Path2D.MOVETO: "M", Path2D.LINETO: "L", Path2D.CURVE3: "Q", Path2D.CURVE4: "C"}
    return "".join(
        letters[code] + " ".join(f"{value:.2f}" for value in numbers) if code in letters else "Z"
        for numbers, code in shape.iter_segments()
    )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Leave out the frame's upper and right side, and draw light grid lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis=axis, color="0.92", linewidth=0.7)


def headline(figure: Figure, text: str) -> None:
    """Write what is drawn above the figure."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=8.5, parse_math=False, wrap=True)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as ``path`` with each of ``SUFFIXES``; equal figures give equal bytes.

    They are drawn with ``SETTINGS`` around this call.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, for both formats
    for suffix in SUFFIXES:
        out, metadata = io.BytesIO(), {"Software": None} if suffix == ".png" else {}
        if suffix == ".pdf":
            metadata = {"CreationDate": None, "Creator": None, "Producer": None}
        figure.savefig(out, format=suffix[1:], dpi=DPI, metadata=metadata)
        content = _with_palette(out) if suffix == ".png" else out.getvalue()
        write_atomically(path.with_name(path.name + suffix), content)


def _with_palette(picture: io.BytesIO) -> bytes:
    """Return a PNG with 256 colours, which no eye tells from all: a third of the bytes."""
    out = io.BytesIO()
    colors = Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    colors.save(out, "PNG", optimize=True)
    return out.getvalue()
