"""What the README claims is in the published records."""

import json
from pathlib import Path

import pytest

from harness.cli import parser
from harness.config.schema import config_as_dict
from harness.reporting.rebuild import exit_code, load_tables
from harness.reporting.render.writers import to_markdown

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(path.parent for path in (ROOT / "results/published").glob("*/run.json"))


def table_rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_published_tables_are_what_their_records_say(run):
    tables = load_tables(run)
    assert exit_code(tables) == 0
    text = "\n".join(to_markdown(table) for table in tables)
    assert (run / "table.md").read_text() == text


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_published_cells_are_played_again_with_the_settings_they_had(run):
    cells = json.loads((run / "run.json").read_text())["cells"]
    for key, cell in cells.items():
        then = cell["config"]
        path = run / "cells" / key / "cell.yaml"
        now = config_as_dict(parser.load_config(["--config", str(path)]))
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
