"""The demo notebook matches its source, is stored with outputs, and plays from top to bottom."""

import ast
import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

from examples.make_notebook import notebook, played

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples/demo.ipynb"
SOURCE = (ROOT / "examples/demo.py").read_text()
PUBLIC = {"datetime", "harness", "matplotlib", "pandas"}


def outputs(executed, kind):
    return [
        output["data"][kind]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def rows_of(html):
    """The cells of a data frame as text; nothing for other HTML."""
    found = re.search("<table.*</table>", html, re.DOTALL)
    rows = ElementTree.fromstring(found[0]).iter("tr") if found else ()
    return [[cell.text or "" for cell in row] for row in rows]


def check_outputs(executed):
    """Two figures and three tables, in the second of which standard and hybrid begin alike."""
    kinds = {o["output_type"] for cell in executed.cells for o in cell.get("outputs", [])}
    assert kinds == {"display_data", "execute_result"}
    assert [len(base64.b64decode(png)) > 5000 for png in outputs(executed, "image/png")] == [
        True
    ] * 2
    trained, beside, compared = filter(None, map(rows_of, outputs(executed, "text/html")))
    shots = [row for row in beside if row[0].isdecimal()]
    standard, hybrid = ([float(row[column]) for row in shots] for column in (1, 2))
    assert len(standard) == 6
    assert standard[:2] == hybrid[:2]  # same weights, goals and seeds; no older episodes yet
    assert standard[2:] != hybrid[2:]
    assert max(standard) > standard[0] + 1
    assert max(hybrid) > hybrid[0] + 1
    assert trained[1][1:] == [*compared[1][1:2], "maml", *compared[1][3:]]
    by_name = {row[1]: row[4:] for row in compared}
    assert by_name["still"] == by_name["zero-action"]


def test_the_notebook_matches_its_source_and_is_stored_with_outputs():
    stored, generated = nbformat.read(DEMO, as_version=4), notebook(SOURCE)
    nbformat.validate(stored)
    assert [cell.source for cell in stored.cells] == [cell.source for cell in generated.cells]
    check_outputs(stored)


def test_the_notebook_needs_nothing_but_the_public_library():
    whole = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Import)]
    partly = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in whole for alias in node.names}
    assert {name for name in names if name.startswith("harness")} == {"harness"}
    assert {name.split(".")[0] for name in names | {node.module for node in partly}} == PUBLIC
    assert not [node for node in partly if node.module.startswith("harness")]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_it_trains_adapts_in_both_ways_and_shows_tables_and_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    check_outputs(played(notebook(SOURCE), tmp_path))
    assert len(list(tmp_path.glob("results/demo-*/cells/*.ssm.maml.s0/records.parquet"))) == 2
