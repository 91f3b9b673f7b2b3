"""What the README claims is in the published records."""

import json
from pathlib import Path

import pytest
from harness.reporting.sweeps import sweep_tables

from harness.cli import parser
from harness.config.schema import config_as_dict
from harness.reporting.rebuild import load_comparison
from harness.reporting.render.formats import to_markdown

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(path.parent for path in (ROOT / "results/published").glob("*/manifest.json"))
SWEEPS = sorted(path.parent for path in (ROOT / "results/published").glob("*/sweep.json"))


def table_rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_published_tables_are_what_their_records_say(run):
    table, _ = load_comparison(run)
    assert table.exit_code == 0
    assert (run / "table.md").read_text() == to_markdown(table)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_published_sweeps_are_what_their_records_say(sweep):
    tables = sweep_tables(sweep)
    assert tables.exit_code == 0
    text = "\n".join(to_markdown(table) for table in tables.tables.values())
    assert (sweep / "table.md").read_text() == text


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_published_cells_are_played_again_with_the_settings_they_had(sweep):
    for cell in sorted((sweep / "cells").iterdir()):
        manifest = json.loads((cell / "manifest.json").read_text())
        settings = cell.relative_to(ROOT) / "cell.yaml"
        assert manifest["command"][3:5] == ["--config", str(settings)]
        then = manifest["config"]
        now = config_as_dict(parser.load_config(["--config", str(cell / "cell.yaml")]))
        for section in ("env", "train", "ppo", "adapt", "evaluation"):
            common = then[section].keys() & now[section].keys()
            assert {k: then[section][k] for k in common} == {k: now[section][k] for k in common}


def test_the_table_of_the_readme_is_the_published_one():
    text = (ROOT / "README.md").read_text()
    shown = [
        row
        for row in table_rows(text)
        if row.count("|") == 7 and row.endswith((" 1 |", " 3 |", " – |"))
    ]
    published = table_rows((ROOT / "results/published/halfcheetah-vel/table.md").read_text())
    assert len(shown) == 4 * 5 + 3
    assert set(shown) <= set(published)
