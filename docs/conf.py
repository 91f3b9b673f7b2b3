"""Settings of ``make docs``: this folder, the commands' flags and the docstrings as a site."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective

import policies
from harness.cli.main import COMMANDS
from harness.meta import adapters, learners
from harness.verify.leaderboard import leaderboard

ROOT = Path(__file__).parents[1]

project = "metarl-harness"
author = copyright = "metarl-harness contributors"
REPOSITORY = "https://github.com/metarl-harness/metarl-harness"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["*.in"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
smartquotes = False  # flags begin with two dashes
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "metarl-harness"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
linkcheck_ignore = [rf"{REPOSITORY}.*"]

suppress_warnings = ["ref.python"]  # several packages have an Adapter and a Policy

# An attribute's docstring may have a colon; napoleon takes what is before it for the type.
GoogleDocstring._consume_inline_attribute = lambda self: (
    "",
    self._dedent(self._consume_to_end()),
)

EVERYTHING: dict[str, list[list[str]]] = {
    "run": [
        [],
        ["--policy", *policies.names(), "--learner", *learners.names()],
        *(["--adapter", name] for name in adapters.names()),
    ],
    "zoo": [[], ["fetch"], ["list"], ["card"], ["push"], ["index"]],
}
"""Command -> command lines whose help together shows every flag."""


class Commands(SphinxDirective):
    """Lists every command with its flags, from the parsers that read them."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        lines = [line for name, module in COMMANDS.items() for line in command(name, module)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def command(name: str, module: str) -> Iterator[str]:
    """Yield one command as Markdown."""
    yield from (f"## {name}", "", f"```{{program}} metarl {name}", "```")
    seen: set[str] = set()
    for number, argv in enumerate(EVERYTHING.get(name, [[]])):
        parser = parser_of(module, argv)
        if not number:
            yield from ("", *description(parser))
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
            actions = [a for a in actions if a.dest != "help" and a.dest not in seen]
            actions = [a for a in actions if spelling(a) not in seen]
            seen |= {spelling(action) for action in actions}
            if actions and len(parser._action_groups) > 2:
                yield from ("", f"**{group.title}**", "")
            for action in actions:
                yield from ("", f"```{{option}} {spelling(action)}", help_of(action), "```")


def description(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what a command does; examples that come first in it follow as a block."""
    examples, _, text = f"\n\n{parser.description}".rpartition("examples:\n")[2].partition("\n\n")
    yield from (f"`{parser.prog}`", "", text)
    if examples:
        yield from ("", "```", textwrap.dedent(examples), "```")


def parser_of(module: str, argv: list[str]) -> argparse.ArgumentParser:
    """Return the parser that reads the flags of a command, without running it."""
    found: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: Any) -> None:
        found.append(parser)

    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", keep),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(module).main([*argv, "--help"])
    (parser,) = found
    return parser


def spelling(action: argparse.Action) -> str:
    """Return the flag or argument with what it takes, e.g. ``--seed N``."""
    names = ", ".join(action.option_strings) or action.metavar or action.dest
    takes = action.metavar or action.dest.upper()
    return f"{names} {takes}" if action.option_strings and action.nargs != 0 else str(names)


def help_of(action: argparse.Action) -> str:
    """Return the help with its placeholders filled in."""
    return str(action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")


def link_to_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill in the leaderboard and the pages no table names; link other folders' files on GitHub."""
    if page == "leaderboard":
        source[0] = source[0].replace("LEADERBOARD", leaderboard(ROOT))
    depth = page.count("/") + 1
    source[0] = source[0].replace("](" + "../" * depth, f"]({REPOSITORY}/blob/main/")
    if page == "index":
        others = sorted(app.project.docnames - {*source[0].split(), "index"})
        tasks = [name for name in others if name.startswith("tasks/")]
        source[0] = source[0].replace("TASK_PAGES", "\n".join(tasks))
        more = [name for name in others if name not in tasks]
        source[0] = source[0].replace("OTHER_PAGES", "\n".join(more))


def write_llms_txt(app: Sphinx, error: Exception | None) -> None:
    """Write ``llms.txt``: the pages with their addresses as Markdown (llmstxt.org)."""
    if error or app.builder.format != "html":
        return
    summary = (ROOT / "README.md").read_text("utf-8").split("\n\n")[2].replace("\n", " ")
    lines = [f"# {project}", "", f"> {summary}", "", "## Pages", ""]
    for page in sorted(app.project.docnames):
        title = app.env.titles[page].astext()
        lines.append(f"- [{title}](_sources/{page}.md.txt)")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n")


def setup(app: Sphinx) -> None:
    """Add the directive and the two hooks."""
    app.add_directive("commands", Commands)
    app.connect("source-read", link_to_repository)
    app.connect("build-finished", write_llms_txt)
