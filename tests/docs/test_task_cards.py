"""The committed task cards say what the registry says."""

import re

import pytest

import task_distributions
from harness.config.protocol import has_classes
from harness.reporting.stats.across import constants
from tests.docs.pages import PAGES, ROOT

NAMES = tuple(filter(task_distributions.REGISTRY.is_built_in, task_distributions.names()))
by_name = pytest.mark.parametrize("name", NAMES)
MAX_BYTES = 60_000
ROUNDING = 6e-3
"""Largest relative error of three digits."""


@pytest.fixture
def dist(name):
    if name.startswith("metaworld"):
        pytest.importorskip("metaworld")
    return task_distributions.load(name)


@pytest.fixture
def card(name):
    return PAGES[f"docs/tasks/{name}.md"]


def section(card: str, heading: str) -> str:
    return card.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, without the line below its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return found[:1] + found[2:]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", cell.replace("−", "-"))]


def test_there_is_a_card_for_every_distribution_and_no_other():
    pages = {page.removeprefix("docs/tasks/") for page in PAGES if page.startswith("docs/tasks/")}
    assert pages == {f"{name}.md" for name in NAMES}
    pictures = {path.name: path.stat().st_size for path in ROOT.glob("docs/images/tasks/*")}
    assert pictures.keys() == {f"{name}.png" for name in NAMES}
    assert max(pictures.values()) < MAX_BYTES
    assert all(f"](tasks/{name}.md)" in PAGES["docs/benchmarks.md"] for name in NAMES)


@by_name
def test_the_definition_and_the_sizes_are_those_of_the_registry(dist, card):
    assert f"`{dist.protocol}`" in section(card, "Definition")
    _, (observation, action, horizon, *_) = rows(section(card, "Definition"))
    assert numbers(observation)[0] == dist.spec.obs_dim
    assert numbers(action)[0] == dist.spec.action_dim
    assert numbers(horizon)[0] == dist.spec.horizon
    assert ("choices" in action) == dist.spec.discrete


@by_name
def test_the_versions_are_those_of_the_registry(name, dist, card):
    listed = re.findall(r"^- `(.+?)`", section(card, "Versions"), re.MULTILINE)
    known = list(task_distributions.versions(name)) or [f"{name}@{dist.version}"]
    if has_classes(dist):
        known.insert(0, f"{name}@{task_distributions.load(name, reward_version='v1').version}")
    assert listed == known[::-1]


@by_name
def test_the_splits_have_the_numbers_and_ranges_of_the_registry(name, dist, card):
    (_, _, *keys), *lines = rows(section(card, "Tasks"))
    assert [line[0] for line in lines] == list(task_distributions.SPLITS)
    for split, count, *cells in lines:
        tasks = dist.tasks(split)
        assert int(count) == len(tasks)
        for key, cell in zip(keys, cells, strict=True) if tasks else ():
            if key == "classes":
                assert numbers(cell)[0] == len({task.class_name for task in tasks})
                continue
            values = {
                "goals": lambda task: [int(task.name.rpartition("/")[2])],
                "changed parts": lambda task: [len(task.description)],
                "factor": lambda task: [2.0**value for _, value in task.description],
            }.get(key, lambda task, key=key: [task.param(key.strip("`"))])
            found = [value for task in tasks for value in values(task)]
            shown = numbers(cell)
            assert (shown[0], shown[-1]) == pytest.approx((min(found), max(found)), rel=ROUNDING)
            if len(shown) > 2:  # a range of two parts has nothing in the middle
                low, high = shown[1:3]
                assert not [
                    v for v in found if low + ROUNDING * abs(low) < v < high - ROUNDING * abs(high)
                ]


@by_name
def test_the_constants_are_those_of_normalised_scores(dist, card):
    text = section(card, "Normalisation and margin")
    known = constants().constants.get(f"{dist.name}@{dist.version}")
    assert ("Normalised score: not measured." in text) == (known is None)
    if known:
        shown = [numbers(part)[0] for part in re.findall(r"is\s+(−?[\d.]+)", text)]
        assert shown == pytest.approx([known.zero.value, known.one.value], abs=0.5)
        assert ("provisional" in text) == known.provisional
