"""The comparison as CSV, Markdown, LaTeX and on the terminal.

Every name and reason is escaped for its format: a published run may come from someone else.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from harness.reporting.render.tables import Grid, TextCell, grids, is_warning
from harness.reporting.stats.comparison import Comparison
from harness.reporting.text import printable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters that make a spreadsheet evaluate a cell."""
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "−": "$-$",
        "·": r"$\cdot$",
        "×": r"$\times$",
        "‖": r"$\|$",
        "≤": r"$\le$",
        "≥": r"$\ge$",
        "²": "$^2$",
        "π": r"$\pi$",
        "θ": r"$\theta$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{char: f"\\{char}" for char in "&%$#_{}"},
    }
)


def to_csv(table: Comparison) -> str:
    """Return the numbers of the table, one line per row; empty where there is no number.

    With several splits, a first column ``split`` tells them apart.
    """
    if not table.others:
        return to_csv_text(table.frame)
    return to_csv_text(pd.concat([_with_split(part, part.frame) for part in table.splits]))


def classes_to_csv(table: Comparison) -> str | None:
    """Return the numbers by class, one line per split, class and row; None without classes."""
    frames = [_with_split(part, part.classes) for part in table.splits if not part.classes.empty]
    return to_csv_text(pd.concat(frames)) if frames else None


def _with_split(table: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame({"split": table.split}, index=frame.index), frame], axis=1)


def to_csv_text(frame: pd.DataFrame) -> str:
    """Return a frame as CSV; no cell can be a formula."""
    harmless = frame.map(_csv_cell).rename(columns=_csv_cell)
    return harmless.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(FORMULA_STARTS) else value)


def to_markdown(table: Comparison) -> str:
    """Return the table as GitHub Markdown, with the caption below."""
    return grids_to_markdown(table.title, grids(table), table.caption)


def grids_to_markdown(title: str, found: Iterable[Grid], caption: Iterable[str]) -> str:
    """Return titled grids and a caption as GitHub Markdown."""
    parts = [f"### {escape_markdown(title)}"]
    for grid in found:
        align = ["left", *["right"] * (len(grid.header) - 1)]
        lines = [[escape_markdown(cell) for cell in line] for line in _flat(grid)]
        parts += [
            f"**{escape_markdown(grid.title)}**",
            tabulate(lines[1:], lines[0], tablefmt="pipe", colalign=align, disable_numparse=True),
        ]
    for text in caption:
        mark, colon, rest = text.partition(":")
        parts.append(
            f"**{mark}{colon}**{escape_markdown(rest)}"
            if is_warning(text)
            else escape_markdown(text)
        )
    return "\n\n".join(parts) + "\n"


def escape_markdown(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is."""
    escaped = html.escape(printable(text), quote=False)
    for char in "\\`*|":
        escaped = escaped.replace(char, f"\\{char}")
    return escaped


def to_latex(table: Comparison) -> str:
    """Return the table as a LaTeX float for booktabs, with the caption below."""
    parts = [r"% requires \usepackage{booktabs}", r"\begin{table}", r"\centering", r"\small"]
    for grid in grids(table):
        header, *lines = [[_tex(cell) for cell in line] for line in _flat(grid)]
        frame = pd.DataFrame(lines, columns=[_tex(grid.title), *header[1:]])
        align = f"l{'r' * (len(header) - 1)}"
        tabular = frame.style.hide(axis="index").to_latex(hrules=True, column_format=align)
        parts += [tabular.rstrip(), r"\par\medskip"]
    text = " ".join(_tex(paragraph) for paragraph in (f"{table.title}.", *table.caption))
    return "\n".join([*parts, f"\\caption{{{text}}}", r"\end{table}"]) + "\n"


def _tex(text: str) -> str:
    return printable(text).translate(_TEX)


def _flat(grid: Grid) -> list[list[str]]:
    """Return the header and rows of a grid with one text per cell."""
    lines = [[" / ".join(filter(None, cell)) for cell in grid.header]]
    for row in grid.rows:
        pairs = zip(row, grid.header, strict=True)
        lines.append([(" / " if head[1] else " ").join(filter(None, cell)) for cell, head in pairs])
    return lines


def console() -> Console:
    """Return a console for tables: as wide as the terminal, 110 columns if there is none."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=110)


def to_rich(table: Comparison) -> RenderableType:
    """Return the table and its caption for a rich console of 100 columns or more."""
    tight = len(table.shots) <= 5
    return Group(
        Text(printable(table.title), style="bold"),
        *(_rich_grid(grid, tight=tight) for grid in grids(table) if not grid.files_only),
        Text(),
        *(
            Text(printable(text), style="bold red" if is_warning(text) else "dim")
            for text in table.caption
        ),
    )


def grids_to_rich(found: Iterable[Grid]) -> RenderableType:
    """Return grids for a rich console, each with its title above it."""
    parts: list[RenderableType] = []
    for grid in found:
        parts += [Text(), Text(printable(grid.title), style="bold")]
        parts.append(_rich_grid(replace(grid, title=""), tight=len(grid.header) <= 6))
    return Group(*parts)


def _rich_grid(grid: Grid, *, tight: bool) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, (name, detail) in enumerate(grid.header):
        head = Text(name if index else grid.title)
        head.append(f"\n{detail}" if index and detail else "")
        table.add_column(head, justify="right" if index else "left")
    for row in grid.rows:
        table.add_row(*(_rich_cell(cell, tight) for cell in row))
    return Padding(table, (1, 0, 0, 0))


def _rich_cell(cell: TextCell, tight: bool) -> Text:
    text = Text(printable(cell[0]))
    if cell[1]:
        detail = printable(cell[1])
        if tight and detail.startswith("["):
            detail = detail.replace(", ", ",")
        text.append(f"\n{detail}", style="dim")
    return text
