"""Success rates, classes and splits, from the records to every file of a run."""

import csv
import dataclasses
import io
import math

import pytest
from rich.console import Console

from harness.reporting.rebuild import load_comparison, rebuild
from harness.reporting.render.formats import to_rich
from harness.reporting.render.success import class_success
from harness.reporting.stats.intervals import wilson
from harness.reporting.store.manifest import CellState
from harness.reporting.store.records import RunFolder, read_records
from harness.types import Cell
from tests.harness.reporting.synthetic_run import (
    CONFIG,
    DIST,
    REFERENCES,
    curve_of,
    manifest_of,
    record,
)

CLASSES = {"test": ("door", "reach"), "train": ("push", "pull", "turn")}
GOALS, SHOTS, EPISODES = 4, (0, 1, 5), 2
CELLS = [Cell(DIST, policy, "maml", 0) for policy in ("ssm", "gru")]


def succeeds(policy, kind, goal, shots, episode):
    """Turn and door at zero shots fail always, the others depend on everything."""
    if shots == 0 and kind in ("door", "turn"):
        return False
    return (len(kind) + goal + shots + episode + (policy == "gru")) % 3 == 0


def rows_of(cell, splits, shots=SHOTS):
    """Records whose return is 10 higher on training tasks and 1 higher with success."""
    return [
        dataclasses.replace(
            record(cell, goal, count, episode),
            split=split,
            task=f"{kind}/{goal}",
            task_index=place * GOALS + goal,
            success=(won := succeeds(cell.policy, kind, goal, count, episode)),
            return_=10.0 * (split == "train") + won + place,
        )
        for split in splits
        for place, kind in enumerate(CLASSES[split])
        for goal in range(GOALS)
        for count in shots
        for episode in range(EPISODES)
    ]


def make_run(path, splits=("test", "train"), protocol="quick"):
    folder = RunFolder.create(path)
    config = CONFIG | {"evaluation": CONFIG["evaluation"] | {"protocol": protocol}}
    manifest_of(CELLS, config=config, has_success=True).save(path)
    for cell in CELLS:
        own = folder.cell(cell.id)
        own.write_state(CellState(status="ok"))
        own.write_records(rows_of(cell, splits))
        own.write_curve(curve_of(cell))
    line = Cell(DIST, "zero-action", "reference", 0)
    rows = [dataclasses.replace(row, cell=REFERENCES) for row in rows_of(line, splits, (0,))]
    folder.cell(REFERENCES).create()
    folder.cell(REFERENCES).write_records(rows)
    return folder.path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = make_run(tmp_path_factory.mktemp("results") / "run")
    rebuild(path)
    return path


@pytest.fixture(scope="module")
def table(run):
    return load_comparison(run)[0]


def lines_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_every_number_is_of_one_split(run, table):
    records = read_records(run)
    assert [part.split for part in table.splits] == ["test", "train"]
    lines = lines_of(run / "table.csv")
    assert len(lines) == 2 * 3
    for line in lines:
        mine = (records["split"] == line["split"]) & (records["policy"] == line["policy"])
        for count in SHOTS:
            shots = 0 if line["learner"] == "reference" else count
            part = records[mine & (records["shots"] == shots)]
            assert float(line[f"return_{count}"]) == pytest.approx(part["return_"].mean())
            assert float(line[f"success_{count}"]) == pytest.approx(part["success"].mean())
    assert table.num_tasks == 2 * GOALS
    text = (run / "table.md").read_text()
    places = [text.index(f"**Return, {split} tasks**") for split in ("test", "train")]
    assert places == sorted(places)
    assert "8 test tasks and 12 train tasks" in text


def test_the_gain_in_success_is_paired_by_seed(run, table):
    records = read_records(run)
    for part in table.splits:
        mine = (records["split"] == part.split) & (records["policy"] == "gru")
        rates = records[mine].groupby(["shots", "seed"])["success"].mean().unstack("seed")
        by_hand = (rates.loc[5] - rates.loc[0]).mean()
        line = part.frame[part.frame["policy"] == "gru"].iloc[0]
        assert line["success_gain_5"] == pytest.approx(by_hand)
        assert math.isnan(line["success_gain_5_low"])  # one seed


def test_classes_have_wilson_intervals_with_goals_as_trials(run):
    records = read_records(run)
    records["class"] = records["task"].str.partition("/")[0]
    lines = lines_of(run / "classes.csv")
    assert len(lines) == (2 + 3) * 3
    for line in lines:
        shots = 0 if line["learner"] == "reference" else 5
        chosen = records[
            (records["class"] == line["class"])
            & (records["policy"] == line["policy"])
            & (records["shots"] == shots)
        ]
        assert set(chosen["split"]) == {line["split"]}
        assert float(line["success_5"]) == pytest.approx(chosen["success"].mean())
        assert float(line["return_5"]) == pytest.approx(chosen["return_"].mean())
        assert int(line["goals"]) == GOALS
        low, high = wilson(chosen["success"].mean(), GOALS)
        assert (float(line["success_5_low"]), float(line["success_5_high"])) == pytest.approx(
            (low, high)
        )


def test_full_class_grids_are_in_the_files_only(run, table):
    console = Console(file=io.StringIO(), width=100)
    console.print(to_rich(table))
    shown, text = console.file.getvalue(), (run / "table.md").read_text()
    assert "Success rate (%) by test class, 5 shots" in shown
    assert "success rate (%) / return by train class" not in shown
    assert "**gru, maml, gradient: success rate (%) / return by train class**" in text
    assert "Protocol quick (a preview, not a benchmark result): the first 4 goals" in text


def test_the_official_protocol_is_not_called_a_preview(tmp_path):
    table, _ = load_comparison(make_run(tmp_path / "run", ("test",), "official"))
    (text,) = (part for part in table.caption if part.startswith("Protocol official"))
    assert "4 goals of every test class" in text
    assert "preview" not in text
    assert not table.others


def test_the_map_of_classes_says_how_little_a_square_rests_on(table):
    figure = class_success(table)
    assert f"each square: {GOALS} goals, 1 seed" in figure.get_suptitle()


def test_every_split_has_figures(run):
    names = {path.name for path in (run / "figures").iterdir()}
    both = {"adaptation_curve", "success_curve", "class_success", "test_steps", "differences"}
    expected = {"learning_curves", *both, *(f"{name}.train" for name in both)}
    assert names == {name + kind for name in expected for kind in (".png", ".pdf")}
