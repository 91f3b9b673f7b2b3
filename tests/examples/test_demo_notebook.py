"""The demo notebook matches its source and runs from top to bottom."""

import base64
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from examples.make_notebook import notebook

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples/demo.ipynb"


def outputs(executed, kind):
    return [
        output["data"][kind]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_the_notebook_matches_its_source_and_has_no_outputs():
    generated = notebook((ROOT / "examples/demo.py").read_text())
    assert nbformat.writes(generated) + "\n" == DEMO.read_text()
    nbformat.validate(generated)
    assert not [cell for cell in generated.cells if cell.get("outputs")]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_it_trains_adapts_in_both_ways_and_shows_a_table_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    executed = nbformat.read(DEMO, as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(executed, timeout=1200, resources=folder).execute()

    assert list(tmp_path.glob("results/demo-*/cells/*/records.parquet"))
    (table,) = [text for text in outputs(executed, "text/plain") if "standard" in text]
    rows = [re.findall(r"[+-]?\d+\.\d+", line) for line in table.splitlines()]
    rows = [row for row in rows if row]
    standard, hybrid = ([float(row[column]) for row in rows[:6]] for column in (0, 1))
    assert standard[:2] == hybrid[:2]  # same weights, goals and seeds; no older episodes yet
    assert standard[2:] != hybrid[2:]
    assert max(standard) > standard[0] + 1
    assert max(hybrid) > hybrid[0] + 1
    (figure,) = outputs(executed, "image/png")
    assert len(base64.b64decode(figure)) > 5000
