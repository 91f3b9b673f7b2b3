"""The comparison as CSV, Markdown, LaTeX and on the terminal; every text escaped for its format."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.reporting.render.blocks import Block, blocks, clean
from harness.reporting.render.class_blocks import class_blocks
from harness.reporting.stats.aggregate import Comparison

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters that make a spreadsheet run a cell instead of showing it."""
GAPS = ("INCOMPLETE", "FAILED", "STOPPED")
"""First words of the paragraphs that say what is not in a table."""
_TEX = {
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


def to_csv(table: Comparison) -> str:
    """Return the numbers of the table, one line per row; empty where there is no number.

    A column ``split`` tells the lines apart where there are several.
    """
    if not table.others:
        return _csv(table.frame)
    return _csv(pd.concat([_with_split(part, part.frame) for part in table.splits]))


def classes_to_csv(table: Comparison) -> str | None:
    """Return the numbers per class, one line per split, class and row; None without classes."""
    frames = [_with_split(part, part.classes) for part in table.splits if not part.classes.empty]
    return _csv(pd.concat(frames)) if frames else None


def _with_split(table: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    known = pd.DataFrame({"split": table.split}, index=frame.index)
    return pd.concat([known, frame], axis=1)


def _csv(frame: pd.DataFrame) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_csv_text(str(name)) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow([_csv_cell(value) for value in row])
    return out.getvalue()


def _all_blocks(table: Comparison) -> list[Block]:
    return [*blocks(table), *class_blocks(table)]


def _csv_cell(value: Any) -> str:
    if isinstance(value, str):
        return _csv_text(value)
    if value is None or math.isnan(value):
        return ""
    return f"{value:.10g}"


def _csv_text(text: str) -> str:
    return clean(f"'{text}" if text.startswith(FORMULA_STARTS) else text)


def to_markdown(table: Comparison) -> str:
    """Return the table as GitHub Markdown, its caption below."""
    parts = [f"### {_md(table.title)}"]
    parts += [f"**{block.title}**\n\n{_md_grid(block)}" for block in _all_blocks(table)]
    parts += [_md_paragraph(text) for text in table.caption]
    return "\n\n".join(parts) + "\n"


def _md_grid(block: Block) -> str:
    header = [" / ".join(filter(None, cell)) for cell in block.header]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for row in block.rows:
        pairs = zip(row, block.header, strict=True)
        lines.append([_md(_one_line(cell, head)) for cell, head in pairs])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _one_line(cell: tuple[str, str], head: tuple[str, str]) -> str:
    separator = " / " if head[1] else " "
    return separator.join(filter(None, cell))


def _md_paragraph(text: str) -> str:
    word, colon, rest = text.partition(":")
    return f"**{word}{colon}**{_md(rest)}" if word in GAPS else _md(text)


def _md(text: str) -> str:
    escaped = html.escape(clean(text), quote=False)
    for char in "\\`*|":
        escaped = escaped.replace(char, f"\\{char}")
    return escaped


def to_latex(table: Comparison) -> str:
    """Return the table as a LaTeX float for booktabs, its caption below."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", r"\small"]
    for block in _all_blocks(table):
        lines += _tex_grid(block)
    text = " ".join(_tex(paragraph) for paragraph in (f"{table.title}.", *table.caption))
    return "\n".join([*lines, f"\\caption{{{text}}}", r"\end{table}"]) + "\n"


def _tex_grid(block: Block) -> list[str]:
    header = [_tex(" / ".join(filter(None, cell))) for cell in block.header]
    header[0] = _tex(block.title)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    lines += [f"{' & '.join(header)} \\\\", r"\midrule"]
    for row in block.rows:
        cells = [_tex(_one_line(cell, head)) for cell, head in zip(row, block.header, strict=True)]
        lines.append(f"{' & '.join(cells)} \\\\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\par\medskip"]


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in clean(text))


def console() -> Console:
    """Return a console for tables: as wide as the terminal, 110 columns where there is none."""
    found = Console()
    return found if found.is_terminal else Console(width=110)


def render(table: Comparison) -> RenderableType:
    """Return the table and its caption for a rich console of 100 columns or more."""
    shown = [block for block in _all_blocks(table) if not block.detail]
    parts: list[RenderableType] = [Text(clean(table.title), style="bold")]
    parts += [_rich_grid(block, tight=len(table.shots) <= 5) for block in shown]
    parts.append(Text())
    for text in table.caption:
        urgent = text.partition(":")[0] in GAPS
        parts.append(Text(clean(text), style="bold red" if urgent else "dim"))
    return Group(*parts)


def render_blocks(found: Iterable[Block]) -> RenderableType:
    """Return grids alone for a rich console, the title of each above it."""
    parts: list[RenderableType] = []
    for block in found:
        parts += [Text(), Text(clean(block.title), style="bold")]
        parts.append(_rich_grid(replace(block, title=""), tight=len(block.header) <= 6))
    return Group(*parts)


def _rich_grid(block: Block, *, tight: bool) -> RenderableType:
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, (name, detail) in enumerate(block.header):
        head = Text(name if index else block.title)
        head.append(f"\n{detail}" if index and detail else "")
        grid.add_column(head, justify="right" if index else "left")
    for row in block.rows:
        grid.add_row(*(_rich_cell(cell, tight) for cell in row))
    return Padding(grid, (1, 0, 0, 0))


def _rich_cell(cell: tuple[str, str], tight: bool) -> Text:
    text = Text(clean(cell[0]))
    if cell[1]:
        detail = clean(cell[1])
        if tight and detail.startswith("["):
            detail = detail.replace(", ", ",")
        text.append(f"\n{detail}", style="dim")
    return text
