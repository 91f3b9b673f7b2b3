"""Every format shows the same numbers, and names and reasons are harmless in all of them."""

import csv
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest

from harness.reporting.rebuild import load_comparison
from harness.reporting.render.formats import to_csv, to_latex, to_markdown
from harness.reporting.stats.comparison import comparison_table
from tests.harness.reporting.synthetic_run import (
    expected_cells,
    frame_of,
    make_run,
    manifest_of,
    printed,
    records_of,
)

CELLS = expected_cells()
HOSTILE = "<script>alert(1)</script>|`x`\x1b[31m\n=1+1"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "run"
    return load_comparison(make_run(path, failed=[CELLS[0].id], reason=HOSTILE).path)[0]


def table_of_one(adapter):
    rows = [dataclasses.replace(row, adapter=adapter) for row in records_of(CELLS[0])]
    return comparison_table(frame_of(rows), manifest_of([CELLS[0]]))


def test_hostile_reasons_are_harmless_in_markdown(hostile):
    text = to_markdown(hostile)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "\\|\\`x\\`" in text


def test_hostile_reasons_are_harmless_in_latex(hostile):
    text = to_latex(hostile)
    assert "\\textless{}script" in text
    assert "<script>" not in text


@pytest.mark.parametrize("writer", [to_markdown, to_latex, printed])
def test_no_format_passes_on_terminal_commands(hostile, writer):
    assert "\x1b" not in writer(hostile)
    assert "\x1b" not in writer(table_of_one("a\x1b[2J"))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_cells_of_the_csv_never_start_a_formula(start):
    row = next(csv.DictReader(io.StringIO(to_csv(table_of_one(f"{start}cmd|'/c calc'!A1")))))
    assert row["adapter"].startswith("'")
    assert row["adapter"].endswith("cmd|'/c calc'!A1")
    assert float(row["return_0"]) == -8.5  # negative numbers stay numbers


def test_csv_holds_the_numbers_of_the_frame(table):
    back = pd.read_csv(io.StringIO(to_csv(table)))
    assert list(back.columns) == list(table.frame.columns)
    for name in ("return_0", "return_5_low", "gain_1", "num_params", "wall_seconds"):
        np.testing.assert_allclose(back[name], table.frame[name].astype(float), rtol=1e-9)


def test_markdown_tables_are_rectangular(table):
    text = to_markdown(table)
    for grid in text.split("**")[2::2]:
        lines = [line for line in grid.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1


def test_markdown_escapes_pipes_inside_cells():
    text = to_markdown(table_of_one("a|b"))
    assert "a\\|b" in text
    assert "a|b" not in text


def test_latex_has_a_closed_environment_and_no_bare_specials(table):
    text = to_latex(table)
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert "point\\_goal" in text
    assert "point_goal" not in text


def test_the_terminal_table_fits_100_columns_and_shows_every_number(table):
    text = printed(table)
    assert max(map(len, text.splitlines())) <= 100
    for cell in ("-8.0", "[-9.2,-6.8]", "+15.0", "1234", "30.0k", "60 s", "zero-action", "-12.0"):
        assert cell in text
