"""The page of results is the one that the published records make."""

import importlib

from tests.docs.pages import PAGES, ROOT


def test_the_page_holds_the_published_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    make_results = importlib.import_module("make_results")
    assert PAGES["docs/results.md"] == make_results.page(), "run docs/make_results.py"
