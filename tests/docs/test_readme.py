"""The README: its table is the published one, and its Python runs."""

import pandas
import pytest

import policies
from tests.docs.pages import PAGES, ROOT, blocks

PUBLISHED = ROOT / "results/published/halfcheetah-vel"


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
    assert len(shown) == 7
    for name, cells in shown.items():
        assert cells == {column: published[name][column] for column in cells}


def test_the_text_quotes_the_published_gain_and_what_could_have_been_seen():
    published = (PUBLISHED / "table.md").read_text(encoding="utf-8")
    gains = rows(published[published.index("**Gain") :], "policy / learner")
    shown = " ".join(PAGES["README.md"].replace("−", "-").split())
    assert f"({gains['gru / rl2, memory']['10 shots']} after ten)" in shown
    seen = published.partition("so a difference of ")[2].partition(" ")[0]
    assert f"a difference of {float(seen):.0f} points" in shown


def test_it_is_short_and_shows_the_commands_early():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 120
    beginning = "\n".join(lines[:40])
    for command in ("make run", "make test", "pip install", "python -m harness.run"):
        assert command in beginning


@pytest.mark.parametrize(
    ("page", "run"), [("README.md", "published/halfcheetah-vel"), ("docs/quickstart.md", "cheetah")]
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


@pytest.mark.parametrize(("policy", "learner"), [("gru", "rl2"), ("mlp", "oracle")])
def test_the_page_on_learners_quotes_the_published_scores_of_each_seed(policy, learner):
    files = [path for path in PUBLISHED.glob("cells/**/*.parquet") if "records" in str(path)]
    records = pandas.concat([pandas.read_parquet(file) for file in files])
    scored = records[records.policy.eq(policy) & records.learner.eq(learner) & records.shots.eq(0)]
    first, second, third = scored.groupby("seed").return_.mean().map("{:.1f}".format)
    quoted = f"{first}, {second} and {third}".replace("-", "−")
    assert quoted in " ".join(PAGES["docs/learners.md"].split())


def test_the_page_on_learners_quotes_the_published_scores_on_point_goal():
    text = (ROOT / "results/published/point_goal/table.md").read_text(encoding="utf-8")
    table = rows(text, "policy / learner")

    def score(policy: str, learner: str, shots: str) -> float:
        name = next(name for name in table if name.startswith(f"{policy} / {learner},"))
        return float(table[name][shots].partition(" ")[0])

    page = " ".join(PAGES["docs/learners.md"].replace("−", "-").split())
    one, ten = (
        sorted(score(policy, "maml", shots) for policy in policies.COMPARED)
        for shots in ("1 shot", "10 shots")
    )
    assert (
        f"to between {one[0]} and {one[-1]}, and ten shots to between {ten[0]} and {ten[-1]}"
        in page
    )
