"""The pages of the documentation, and what they contain."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return [text for found, text in _FENCE.findall(PAGES[page]) if found == language]


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", PAGES[page])


def commands(page: str) -> list[list[str]]:
    """Return the words after ``python -m harness.`` of every command shown, in blocks or text."""
    inline = re.findall(r"`([^`]+)`", prose(page).replace("\n", " "))
    lines = [*inline, *(line for block in blocks(page) for line in block.splitlines())]
    shown = [line.partition("python -m harness.")[2] for line in lines]
    return [shlex.split(line, comments=True) for line in shown if line]
