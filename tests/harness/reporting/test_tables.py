import csv
import dataclasses
import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.cli import publish, tables
from harness.errors import ArtefactError
from harness.reporting.publishing import MAX_CHECKPOINT_BYTES
from harness.reporting.rebuild import load_comparison, rebuild
from harness.reporting.render.blocks import duration, short_count
from harness.reporting.render.panels import spread
from harness.reporting.render.writers import render, to_csv, to_latex, to_markdown
from harness.reporting.stats.aggregate import comparison_table, paired_difference
from harness.reporting.store.manifest import CellState, Manifest
from harness.reporting.store.records import RunFolder, read_records
from harness.types import EvalRecord
from tests.harness.reporting.synthetic_run import (
    DIST,
    REFERENCES,
    curve_of,
    expected_cells,
    make_run,
    manifest_of,
    record,
    records_of,
    score,
)

CELLS = expected_cells()
TABLES = ("table.csv", "table.md", "table.tex")
PNG = b"\x89PNG\r\n\x1a\n"


def frame_of(rows: list[EvalRecord]) -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def line_of(table, policy, learner="maml") -> dict:
    rows = table.frame[(table.frame["policy"] == policy) & (table.frame["learner"] == learner)]
    assert len(rows) == 1
    return rows.iloc[0].to_dict()


def printed(table, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(table))
    return console.file.getvalue()


@pytest.fixture
def no_figures(monkeypatch):
    """Leave out the slow part of rebuilding where a test does not look at it."""
    monkeypatch.setattr("harness.reporting.rebuild.write_figures", lambda *_: ())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("results") / "run").path


@pytest.fixture(scope="module")
def table(run):
    return load_comparison(run)[0]


@pytest.mark.parametrize("policy", ["ssm", "gru"])
@pytest.mark.parametrize("shots", [0, 1, 5])
def test_returns_are_the_means_the_formula_gives(table, policy, shots):
    by_hand = np.mean(
        [[score(policy, seed, task, shots) for task in range(4)] for seed in range(3)]
    )
    line = line_of(table, policy)
    assert line[f"return_{shots}"] == pytest.approx(by_hand)
    assert line[f"return_{shots}_low"] < by_hand < line[f"return_{shots}_high"]
    assert line["seeds"] == 3


def test_the_gain_is_paired_by_seed_and_task(table):
    # Seeds and tasks differ, their gains do not: paired, nothing is left to be unsure of.
    for policy, slope in (("ssm", 1), ("gru", 3)):
        for shots in (1, 5):
            line = line_of(table, policy)
            interval = [line[f"gain_{shots}{end}"] for end in ("", "_low", "_high")]
            assert interval == pytest.approx([slope * shots] * 3)


def test_improvement_compares_with_the_best_other_row(table):
    gru, ssm = line_of(table, "gru"), line_of(table, "ssm")
    assert (gru["improvement"], ssm["improvement"]) == (1.0, 0.0)
    assert gru["improvement_over"] == "ssm maml gradient"


def test_reference_lines_are_rows_with_one_value_at_every_number_of_shots(table):
    for policy, value in (("zero-action", -12.0), ("random-action", -15.0), ("non-adaptive", -7.5)):
        line = line_of(table, policy, "reference")
        assert [line[f"return_{count}"] for count in (0, 1, 5)] == [value] * 3
    assert np.isnan(line["return_0_low"])  # an analytic value has no interval


def test_with_few_seeds_the_interval_is_over_tasks_and_the_caption_says_which(tmp_path, table):
    few, _ = load_comparison(make_run(tmp_path / "run", seeds=(0, 1)).path)
    line = line_of(few, "ssm")
    assert line["return_0_high"] - line["return_0_low"] > 1.5  # tasks spread by 3, seeds by 0.5
    assert "replicates of the tasks" in " ".join(few.caption)
    assert "replicates of the seeds" not in " ".join(few.caption)
    assert "replicates of the seeds" in " ".join(table.caption)


def test_invalid_episodes_are_counted_and_never_averaged_in():
    cell = CELLS[0]
    rows = records_of(cell)
    at = next(i for i, row in enumerate(rows) if (row.task_index, row.shots) == (1, 1))
    clean = comparison_table(frame_of(rows), manifest_of([cell]))
    for poison in (float("nan"), -1e9):
        rows[at] = dataclasses.replace(rows[at], return_=poison, invalid=True)
        dirty = line_of(comparison_table(frame_of(rows), manifest_of([cell])), "ssm")
        assert dirty["return_1"] == pytest.approx(line_of(clean, "ssm")["return_1"])
        assert dirty["invalid_episodes"] == 1


def test_tasks_weigh_the_same_whatever_number_of_their_episodes_is_valid():
    cell = CELLS[0]
    rows = [record(cell, task, 0, e, return_=float(10 * task)) for task in (0, 1) for e in (0, 1)]
    rows[0] = dataclasses.replace(rows[0], return_=float("nan"), invalid=True)
    table = comparison_table(frame_of(rows), manifest_of([cell]))
    assert line_of(table, "ssm")["return_0"] == 5.0


@pytest.mark.usefixtures("no_figures")
def test_failed_cells_are_listed_and_never_averaged_in(tmp_path):
    failed = CELLS[2].id
    folder = make_run(tmp_path / "run", failed=[failed])
    (table,) = rebuild(folder.path)
    line = line_of(table, "ssm")
    by_hand = np.mean([[score("ssm", seed, task, 0) for task in range(4)] for seed in (0, 1)])
    assert line["return_0"] == pytest.approx(by_hand)
    assert (line["seeds"], line["seeds_failed"], line["seeds_missing"]) == (2, 1, 0)
    for name in ("table.md", "table.tex"):
        text = (folder.path / name).read_text()
        assert failed in text.replace("\\_", "_")
        assert "diverged" in text
        assert "FAILED" in text
    assert "FAILED" in printed(table)
    assert tables.main([str(folder.path)]) == 3


@pytest.mark.usefixtures("no_figures")
def test_a_run_with_missing_cells_is_marked_incomplete_everywhere(tmp_path):
    pending = [cell.id for cell in CELLS if cell.policy == "gru"]
    folder = make_run(tmp_path / "run", pending=pending)
    (table,) = rebuild(folder.path)
    assert table.missing == tuple(pending)
    assert line_of(table, "gru")["seeds"] == 0  # still a row: nothing disappears silently
    for text in (printed(table), *((folder.path / n).read_text() for n in TABLES[1:])):
        assert "INCOMPLETE" in text
        assert "3 missing" in text
    assert tables.main([str(folder.path)]) == 4


def test_an_ok_cell_whose_records_are_gone_is_missing(tmp_path):
    folder = make_run(tmp_path / "run")
    folder.cell(CELLS[0].id).records.unlink()
    assert load_comparison(folder.path)[0].missing == (CELLS[0].id,)


def test_a_run_in_which_nothing_finished_still_has_a_table(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    manifest_of(CELLS).save(folder.path)
    for cell in CELLS:
        folder.cell(cell.id).write_state(CellState(status="failed"))
    (table,) = rebuild(folder.path)
    assert len(table.failed) == len(CELLS)
    assert "FAILED" in printed(table)


def test_cells_scored_on_different_episodes_are_not_compared():
    rows = [row for cell in CELLS for row in records_of(cell)]
    with pytest.raises(ArtefactError, match=r"cannot be compared"):
        comparison_table(frame_of(rows[:-1]), manifest_of(CELLS))


def test_reference_lines_of_other_tasks_are_not_compared(tmp_path):
    folder = make_run(tmp_path / "run")
    part = folder.cell(REFERENCES).records
    old = pq.read_table(part)
    pq.write_table(old.slice(0, 2), part)
    with pytest.raises(ArtefactError, match=REFERENCES):
        load_comparison(folder.path)


def test_records_the_manifest_does_not_expect_are_refused():
    rows = [row for cell in CELLS for row in records_of(cell)]
    with pytest.raises(ArtefactError, match="does not expect"):
        comparison_table(frame_of(rows), manifest_of(CELLS[1:]))


def test_train_split_records_do_not_enter_the_test_table():
    cell = CELLS[0]
    train = [
        dataclasses.replace(row, split="train", task=f"train/{row.task_index}", return_=1e6)
        for row in records_of(cell)
    ]
    table = comparison_table(frame_of([*records_of(cell), *train]), manifest_of([cell]))
    assert line_of(table, "ssm")["return_0"] < 0
    only = comparison_table(frame_of(train), manifest_of([cell]))
    assert (only.split, line_of(only, "ssm")["return_0"]) == ("train", 1e6)


def test_zero_shot_runs_have_no_gain_and_no_adaptation_curve(tmp_path):
    folder = make_run(tmp_path / "run", shots=(0,))
    (table,) = rebuild(folder.path)
    assert not [name for name in table.frame.columns if name.startswith("gain")]
    assert not (folder.path / "figures" / "adaptation_curve.png").exists()
    assert "Gain" not in printed(table)


def test_success_rates_appear_where_success_is_possible_even_at_zero():
    cell = CELLS[0]
    rows = frame_of(records_of(cell))
    assert not comparison_table(rows, manifest_of([cell])).has_success
    never = comparison_table(rows, manifest_of([cell], has_success=True))
    assert line_of(never, "ssm")["success_5"] == 0.0
    half = rows.assign(success=rows["query_episode"] == 0)
    assert line_of(comparison_table(half, manifest_of([cell])), "ssm")["success_5"] == 0.5


def test_paired_difference_of_two_rows(run):
    records = read_records(run)
    ssm, gru = ((DIST, policy, "maml", "gradient") for policy in ("ssm", "gru"))
    result = paired_difference(records, gru, ssm, shots=(5, 5))
    assert (result.point, result.low, result.high) == pytest.approx((8, 8, 8))
    assert paired_difference(records, ssm, ssm, shots=(1, 0)).point == pytest.approx(1)
    with pytest.raises(ValueError, match="after 3 shots"):
        paired_difference(records, gru, ssm, shots=(3, 0))
    uneven = records[(records["policy"] == "ssm") | (records["seed"] < 2)]
    with pytest.raises(ValueError, match="differ in seeds or tasks"):
        paired_difference(uneven, gru, ssm, shots=(1, 1))


def test_rebuilding_gives_the_same_bytes_whatever_the_order_of_rows(tmp_path):
    folder = make_run(tmp_path / "run")
    rebuild(folder.path)
    names = [*TABLES, "figures/learning_curves.png", "figures/adaptation_curve.png"]
    before = {name: (folder.path / name).read_bytes() for name in names}
    rng = np.random.default_rng(0)
    for part in folder.path.glob("cells/*/records.parquet"):
        rows = pq.read_table(part)
        pq.write_table(rows.take(rng.permutation(len(rows))), part)
    for name in names:
        (folder.path / name).unlink()
    rebuild(folder.path)
    assert {name: (folder.path / name).read_bytes() for name in names} == before


def test_figures_are_pngs_and_stale_ones_do_not_survive(tmp_path):
    folder = make_run(tmp_path / "run")
    rebuild(folder.path)
    for name in ("learning_curves", "adaptation_curve"):
        data = (folder.path / "figures" / f"{name}.png").read_bytes()
        assert data.startswith(PNG)
        assert len(data) > 10_000
    for curve in folder.path.glob("cells/*/curve.parquet"):
        curve.unlink()
    rebuild(folder.path)
    assert not (folder.path / "figures" / "learning_curves.png").exists()


def test_seeds_of_different_length_and_nan_returns_can_be_drawn(tmp_path):
    folder = make_run(tmp_path / "run")
    curve = curve_of(CELLS[0])
    curve[1] = dataclasses.replace(curve[1], post_return=float("nan"))
    folder.cell(CELLS[0].id).write_curve(curve[:2])
    rebuild(folder.path)
    assert (folder.path / "figures" / "learning_curves.png").read_bytes().startswith(PNG)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(-1e3, 1e3), max_size=6))
def test_labels_of_reference_lines_keep_their_order_and_distance(values):
    places = spread(values, 5.0)
    ordered = sorted(values, key=lambda name: (values[name], name))
    heights = [places[name] for name in ordered]
    assert all(b - a >= 5.0 - 1e-9 for a, b in itertools.pairwise(heights))
    assert all(places[name] >= values[name] for name in values)


HOSTILE = "<script>alert(1)</script>|`x`\x1b[31m\n=1+1"


@pytest.mark.usefixtures("no_figures")
def test_hostile_reasons_and_names_are_harmless_in_every_format(tmp_path):
    folder = make_run(tmp_path / "run", failed=[CELLS[0].id], reason=HOSTILE)
    (table,) = rebuild(folder.path)
    markdown = (folder.path / "table.md").read_text()
    assert "<script>" not in markdown
    assert "&lt;script&gt;" in markdown
    assert "\\|\\`x\\`" in markdown
    latex = (folder.path / "table.tex").read_text()
    assert "\\textless{}script" in latex
    assert "<script>" not in latex
    for text in (markdown, latex, printed(table)):
        assert "\x1b" not in text
    evil = [
        dataclasses.replace(row, adapter=adapter)
        for row, adapter in zip(
            records_of(CELLS[0]), ["=cmd|'/c calc'!A1"] * 24, strict=True
        )
    ]  # fmt: skip
    row = next(csv.DictReader(io.StringIO(to_csv(table_of_one(evil)))))
    assert row["adapter"] == "'=cmd|'/c calc'!A1"
    assert float(row["return_0"]) == -8.5  # numbers stay numbers, negative ones too


def table_of_one(rows):
    return comparison_table(frame_of(rows), manifest_of([CELLS[0]]))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_cells_never_start_a_formula(start):
    rows = [dataclasses.replace(r, adapter=f"{start}x") for r in records_of(CELLS[0])]
    row = next(csv.DictReader(io.StringIO(to_csv(table_of_one(rows)))))
    assert row["adapter"].startswith("'")


def test_csv_holds_the_numbers_of_the_frame(table):
    back = pd.read_csv(io.StringIO(to_csv(table)))
    assert list(back.columns) == list(table.frame.columns)
    for name in ("return_0", "return_5_low", "gain_1", "num_params", "wall_seconds"):
        np.testing.assert_allclose(back[name], table.frame[name].astype(float), rtol=1e-9)


def test_markdown_grids_are_rectangular_and_the_caption_has_the_protocol(table):
    text = to_markdown(table)
    grids = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in grids[:7]}) == 1
    for part in (f"{DIST}@1", "horizon 100", "Seeds: 0, 1, 2", "mujoco", "numpy", "4 support"):
        assert part in text


def test_latex_has_a_closed_environment_and_no_bare_specials(table):
    text = to_latex(table)
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert "point\\_goal" in text
    assert "point_goal" not in text


def test_the_terminal_table_fits_100_columns_and_shows_every_number(table):
    text = printed(table)
    assert max(map(len, text.splitlines())) <= 100
    for cell in ("-8.0", "[-8.5,-7.5]", "+15.0", "1234", "30.0k", "60 s", "zero-action", "-12.0"):
        assert cell in text


def test_short_forms():
    assert [short_count(n) for n in (950, 12_500, 999_960, 3_200_000)] == [
        "950",
        "12.5k",
        "1.00M",
        "3.20M",
    ]
    assert [duration(s) for s in (42.2, 750, 11_520)] == ["42 s", "12.5 min", "3.2 h"]


@pytest.mark.usefixtures("no_figures")
def test_tables_prints_the_table_and_answers_0(run, capsys):
    assert tables.main([str(run)]) == 0
    assert "zero-action" in capsys.readouterr().out


def test_tables_answers_2_for_a_folder_that_is_no_run(tmp_path, capsys):
    assert tables.main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Check the path" in error


def test_tables_answers_5_for_a_malformed_part(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    folder.cell(CELLS[0].id).records.write_bytes(b"x")
    assert tables.main([str(folder.path)]) == 5
    error = capsys.readouterr().err
    assert CELLS[0].id in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("main", [tables.main, publish.main])
def test_help_tells_the_exit_codes(main, capsys):
    assert main(["--help"]) == 0
    assert "exit codes" in capsys.readouterr().out


def test_tables_is_a_program_that_needs_neither_torch_nor_ray(tmp_path):
    code = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[1]]\n"
        "try: runpy.run_module('harness.tables', run_name='__main__')\n"
        "finally: print({'torch', 'ray', 'harness.publish'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.strip() == "set()"


def test_publish_copies_a_complete_run_and_never_overwrites(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    folder.event("done")
    first, second = (folder.cell(cell.id) for cell in CELLS[:2])
    for cell in (first, second):
        cell.checkpoints.mkdir()
    (first.checkpoints / "x.safetensors").write_bytes(b"small")
    (first.checkpoints / "secret.safetensors").symlink_to("x.safetensors")
    (second.checkpoints / "x.json").write_bytes(b"{}")
    (second.checkpoints / "x.safetensors").write_bytes(b"0" * MAX_CHECKPOINT_BYTES)
    (first.path / "notes.pkl").write_bytes(b"pickle")
    target = tmp_path / "published"
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 0
    output = capsys.readouterr().out
    names = {str(p.relative_to(target / "v1")) for p in (target / "v1").rglob("*") if p.is_file()}
    assert {"run.json", "events.jsonl", *TABLES} <= names
    own = ("state.json", "records.parquet", "curve.parquet")
    assert {f"cells/{cell.id}/{name}" for cell in CELLS for name in own} <= names
    assert "figures/adaptation_curve.png" in names
    checkpoints = {name for name in names if "checkpoints" in name}
    assert checkpoints == {f"cells/{CELLS[0].id}/checkpoints/x.safetensors"}
    assert f"left out: checkpoint of {CELLS[1].id}" in output
    assert not any("notes" in name for name in names)
    assert "table.csv" in output
    text = to_markdown(load_comparison(folder.path)[0])
    assert (target / "v1" / "table.md").read_text() == text
    assert load_comparison(target / "v1")[0].exit_code == 0
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 2
    assert "never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["failed", "pending"])
def test_publish_refuses_what_is_not_complete(tmp_path, capsys, kind):
    folder = make_run(tmp_path / "run", **{kind: [CELLS[0].id]})
    target = tmp_path / "published"
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 2
    error = capsys.readouterr().err
    assert CELLS[0].id in error
    assert "--resume" in error
    assert not list(target.iterdir())


@pytest.mark.parametrize(
    "what",
    [
        {"command": ("python", "-m", "harness.rllib", "--name", "x")},
        {"given": {"checkpoint": "x.safetensors"}},
    ],
)
def test_what_cannot_be_resumed_is_not_said_to_be(tmp_path, capsys, what):
    folder = make_run(tmp_path / "run", pending=[CELLS[0].id])
    Manifest.load(folder.path).model_copy(update=what).save(folder.path)
    assert publish.main([str(folder.path), "v1", "--to", str(tmp_path / "published")]) == 2
    error = capsys.readouterr().err
    table, manifest = load_comparison(folder.path)
    assert not manifest.resumable
    assert "--resume" not in error + " ".join(table.caption)


def test_publish_refuses_names_that_leave_the_folder(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    assert publish.main([str(folder.path), "../evil", "--to", str(tmp_path / "published")]) == 2
    assert "bad run name" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists()


def test_publish_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run")
    target = tmp_path / "published"

    def full(path):
        raise OSError("disk full")

    monkeypatch.setattr("harness.reporting.publishing.rebuild", full)
    assert publish.main([str(folder.path), "v1", "--to", str(target)]) == 2
    assert not list(target.iterdir())
