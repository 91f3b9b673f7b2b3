"""The description and picture of a task distribution."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import task_distributions
from harness.app.view import REFUSED
from metarl_plugins import label_of

DOCS = Path(__file__).parents[2] / "docs"
"""The documentation of a clone; an installed package has none."""
PICTURES = DOCS / "images" / "tasks"


def card(task_dist: str) -> str:
    """Return the card of a distribution as Markdown; '' if there is no such distribution.

    Without a card in the documentation, as for one from outside, it is the factory's docstring.
    """
    name = label_of(task_dist).partition("@")[0]
    path = DOCS / "tasks" / f"{name}.md"
    if name in task_distributions.names() and path.is_file():
        text = path.read_text(encoding="utf-8").rpartition("\n\n")[0]  # without how it was made
        text = text.replace("](../images/tasks/", f"](/gradio_api/file={PICTURES}/")
        return re.sub(r"(?<!!)\[([^]]*)\]\([^)]*\)", r"\1", text)  # links to other pages
    try:
        factory = task_distributions.REGISTRY.load(task_dist)
    except REFUSED:  # the form says what is wrong with the name
        return ""
    return f"# {name}\n\n{inspect.getdoc(factory) or ''}"
