"""The README: its table is the published one, and its Python runs."""

import pytest

from tests.docs.pages import PAGES, ROOT, blocks

PUBLISHED = ROOT / "results/published/halfcheetah-vel-5m-seeds"


def rows(text: str, first: str) -> dict[str, dict[str, str]]:
    """Return the first table whose heading begins with ``first``: row -> column -> cell."""
    lines = text[text.index(f"| {first}") :].splitlines()
    heading, *body = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line)
    found = {}
    for cells in body[1:]:
        if len(cells) != len(heading):
            break
        found[cells[0]] = dict(zip(heading[1:], cells[1:], strict=True))
    return found


def test_the_table_holds_the_published_numbers():
    published = rows((PUBLISHED / "table.md").read_text(encoding="utf-8"), "policy / learner")
    shown = rows(PAGES["README.md"], "policy / learner")
    assert len(shown) == 5
    for name, cells in shown.items():
        assert cells == {column: published[name][column] for column in cells}


def test_it_is_short_and_shows_the_commands_early():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 120
    beginning = "\n".join(lines[:40])
    for command in ("make run", "make test", "pip install", "python -m harness.run"):
        assert command in beginning


@pytest.mark.parametrize(
    ("page", "run"), [("README.md", "my-run"), ("docs/quickstart.md", "cheetah")]
)
def test_its_python_runs_on_a_runs_records(page, run, tmp_path, monkeypatch, capsys):
    files = [path for path in PUBLISHED.glob("cells/**/*.parquet") if "records" in str(path)]
    for number, source in enumerate(files):
        target = tmp_path / "results" / run / "cells" / str(number) / "records.parquet"
        target.parent.mkdir(parents=True)
        target.write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page, "python")
    exec(compile(code, page, "exec"), {})
    assert "rl2" in capsys.readouterr().out
