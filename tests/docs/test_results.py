"""The page of results is the one that the published records make, as are the constants."""

import importlib
import re

import pytest

from harness.reporting.stats.across import CONSTANTS_FILE, constants
from tests.docs.pages import PAGES, ROOT


@pytest.fixture
def make_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("make_results")


def test_the_page_holds_the_published_numbers(make_results):
    assert PAGES["docs/results.md"] == make_results.page(), "run docs/make_results.py"


def test_cards_have_the_published_margins(make_results):
    for folder in make_results.PUBLISHED.iterdir():
        if folder.name not in make_results.REDEFINED:
            version = make_results.versioned_name(folder.name)
            card = PAGES[f"docs/tasks/{version.partition('@')[0]}.md"]
            shown = re.findall(r"^Margin .*\)\.$", card, re.MULTILINE)
            assert shown == list(make_results.margin_lines(version)), "run docs/make_task_cards.py"


def test_a_constant_that_a_published_table_changes_raises_the_version(make_results):
    text = CONSTANTS_FILE.read_text("utf-8")
    assert make_results.constants(text) == text, "run docs/make_results.py"
    value = constants().constants["halfcheetah-vel@1"].one.value
    raised = text.replace(
        f"version: {constants().version}\n", f"version: {constants().version + 1}\n"
    )
    assert make_results.constants(text.replace(f"{{value: {value},", "{value: 1.0,")) == raised
