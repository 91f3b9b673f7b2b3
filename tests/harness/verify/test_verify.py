"""Honest folders verify; every way of tampering is found by the check that is meant to find it."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.cli import main
from harness.execution import checkpoint
from harness.reporting.store.checksums import changed_files
from harness.reporting.store.manifest import CellState
from harness.reporting.store.records import CellFolder
from harness.verify.contents import _unplaced
from harness.verify.findings import Verified
from harness.verify.replay import same_mean
from harness.verify.verification import verify
from tests.harness.verify.verify_cases import (
    ALL,
    MAML,
    RL2,
    cover_up,
    edit_manifest,
    edit_records,
    found_in,
)


def edit_state(folder, key, **made):
    cell = CellFolder(folder / "cells" / key)
    cell.write_state(cell.read_state().model_copy(update=made))


def later_episode(frame, value):
    """Change a return that no reward on record contradicts."""
    at = frame.index[(frame["query_episode"] == 1) & (frame["shots"] == 1)][0]
    frame.loc[at, "return_"] += value
    return frame


def test_an_honest_folder_verifies_bit_for_bit(trained):
    found = verify(trained, ALL, np.random.default_rng(0))
    assert not found.wrong
    assert found.exit_code == 0
    assert len(found.replays) == 5
    assert set(found.replays.values()) == {"bits"}
    assert changed_files(trained) == []


def test_the_first_iterations_are_trained_again(folder):
    honest = verify(folder, ALL, np.random.default_rng(0), iterations=3)
    assert not honest.wrong
    assert honest.retrained == {key: 1 for key in honest.cells if "reference" not in key}
    kept = Verified.of(honest)
    assert kept.retrained == honest.retrained
    kept.write(folder / "verified.json")
    again = verify(folder, ALL, np.random.default_rng(0))
    assert Verified.of(again).retrained == honest.retrained
    path = folder / "cells" / RL2 / "curve.parquet"
    frame = pd.read_parquet(path)
    schema = pq.read_schema(path)
    frame["post_return"] = np.nextafter(frame["post_return"], np.inf)
    pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), path)
    cover_up(folder)
    found = verify(folder, ALL, np.random.default_rng(0), iterations=3)
    (wrong,) = found.wrong
    assert RL2 not in found.retrained
    assert wrong.startswith(f"{RL2}: trained again, post_return of iteration 1")


def test_cells_that_can_be_trained_again_here_are_drawn_first(folder):
    for key in (path.name for path in (folder / "cells").iterdir() if path.name != RL2):
        edit_state(folder, key, cpu="another")
    cover_up(folder)
    for seed in range(5):
        found = verify(folder, 1, np.random.default_rng(seed), iterations=1)
        assert (set(found.replays), found.retrained) == ({RL2}, {RL2: 1})


def test_cells_that_are_still_to_be_played_are_missing_and_not_wrong(folder):
    CellFolder(folder / "cells" / RL2).write_state(CellState(status="pending"))
    (folder / "cells" / RL2 / "records.parquet").unlink()
    cover_up(folder)
    found = verify(folder, 0, np.random.default_rng(0))
    assert not found.wrong
    assert [text.split()[0] for text in found.missing] == [RL2]
    assert (found.exit_code, found.division) == (4, "open")


def test_an_agent_from_a_file_is_replayed_by_the_copy_of_the_file(scored):
    found = verify(scored, ALL, np.random.default_rng(0))
    assert not found.wrong
    assert found.replays == {"point_goal.Mine.agent.s0": "bits", "point_goal.reference.s0": "bits"}


def test_without_replays_no_code_of_the_folder_runs(scored):
    marker, key = scored.parent / "imported", "point_goal.Mine.agent.s0"
    marker.unlink(missing_ok=True)
    found = verify(scored, 0, np.random.default_rng(0))
    assert not found.wrong
    assert not marker.exists()
    assert any("plug-ins" in text for text in found.cells[key].unverified)


@pytest.mark.parametrize(
    "given",
    [
        {"task_dist": "EVIL"},
        {"agent": ["EVIL"]},
    ],
    ids=str,
)
def test_settings_as_given_run_no_code(folder, tmp_path, given):
    evil = tmp_path / "evil.py"
    evil.write_text("import pathlib; pathlib.Path(__file__).with_name('imported').touch()")
    values = json.loads(json.dumps(given).replace("EVIL", str(evil)))
    edit_manifest(folder, lambda run: run["given"].update(values))
    verify(folder, 0, np.random.default_rng(0))
    assert not (tmp_path / "imported").exists()


def test_settings_that_fit_no_task_are_found(folder):
    def change(run):
        for cell in (*run["cells"].values(), *run["references"].values()):
            cell["config"]["test_tasks"] = [9999]

    edit_manifest(folder, change)
    assert "not a run of this version" in found_in(folder)


@pytest.mark.parametrize(
    ("stored", "same"),
    [
        ("--config 'my runs/x/cells/a.s0/cell.yaml' --backend", True),
        ("--config /elsewhere/cells/a.s0/cell.yaml --backend", True),
        ("--config cells/b.s0/cell.yaml --backend", False),
    ],
)
def test_commands_to_play_again_may_name_another_place(stored, same):
    here = _unplaced("--config results/x/cells/a.s0/cell.yaml --backend")
    assert (_unplaced(stored) == here) is same


def test_code_that_is_not_on_record_does_not_run(scored, tmp_path):
    folder = shutil.copytree(scored, tmp_path / "published")
    evil = tmp_path / "evil.py"
    evil.write_text((folder / "plugins/mine.py").read_text())

    def change(run):
        run["given"]["agent"]["Mine"]["kind"] = f"{evil}:Mine"
        for cell in (*run["cells"].values(), *run["references"].values()):
            cell["config"]["agent"]["Mine"]["kind"] = f"{evil}:Mine"
            del cell["config"]["plugins"]

    edit_manifest(folder, change)
    assert "is not built in, and its origin is not on record" in found_in(folder)
    assert not (tmp_path / "imported").exists()


def test_a_changed_return_is_found_by_checksum(folder):
    edit_records(folder, RL2, lambda frame: later_episode(frame, 5))
    assert f"cells/{RL2}/records.parquet was changed" in found_in(folder)


def test_a_changed_return_is_found_by_its_rewards(folder):
    def change(frame):
        frame.loc[frame["query_episode"] == 0, "return_"] += 0.1
        return frame

    edit_records(folder, RL2, change)
    cover_up(folder)
    assert "returns are not the sum of rewards" in found_in(folder)


def test_records_without_rewards_are_found(folder):
    def change(frame):
        frame["rewards"] = [[] for _ in range(len(frame))]
        return frame

    edit_records(folder, RL2, change)
    cover_up(folder)
    assert "returns are not the sum of rewards" in found_in(folder)


@pytest.mark.parametrize(
    "cell",
    [
        MAML,
        *(pytest.param(key, marks=pytest.mark.slow) for key in (RL2, "point_goal.reference.s0")),
    ],
)
def test_the_last_bit_of_a_return_is_found_by_replay(folder, cell):
    def change(frame):
        at = frame.index[frame["query_episode"] == 1][0]
        frame.loc[at, "return_"] = np.nextafter(frame.loc[at, "return_"], 0)
        return frame

    edit_records(folder, cell, change)
    cover_up(folder)
    assert not found_in(folder)
    assert f"{cell}: replayed" in found_in(folder, ALL)


def test_a_failing_cell_that_was_dropped_is_found(folder):
    CellFolder(folder / "cells" / RL2).write_state(CellState(status="failed", reason="diverged: x"))
    cover_up(folder)
    assert not found_in(folder)
    shutil.rmtree(folder / "cells" / RL2)
    cover_up(folder)
    (missing,) = verify(folder, 0, np.random.default_rng(0)).missing
    assert missing.startswith(RL2)
    edit_manifest(folder, lambda run: run["cells"].pop(RL2))
    cover_up(folder)
    assert f"{RL2} was planned, and is not in the run" in found_in(folder)


def test_the_failure_of_a_dropped_cell_is_found_in_the_events(folder):
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "cell_failed", "cell": "point_goal.gru.maml.s2"}) + "\n")
    cover_up(folder)
    assert "cell_failed of 'point_goal.gru.maml.s2'" in found_in(folder)


@pytest.mark.slow
def test_swapped_weights_are_found(folder):
    target = folder / "cells" / MAML / "policy.safetensors"
    other = checkpoint.read(folder / "cells/point_goal.gru.maml.s1/policy.safetensors")
    checkpoint.write(target, other)
    cover_up(folder)
    assert "policy.safetensors is the policy of point_goal.gru.maml.s1" in found_in(folder)
    other.run["cell"]["seed"] = 0
    other.run["config"]["seed"] = [0]
    checkpoint.write(target, other)
    cover_up(folder)
    assert not found_in(folder)
    assert f"{MAML}: replayed" in found_in(folder, ALL)


def test_another_version_of_the_distribution_is_found(folder):
    edit_manifest(folder, lambda run: run["tables"]["point_goal"].update(version=2))
    for cell in (folder / "cells").iterdir():
        edit_records(folder, cell.name, lambda frame: frame.assign(dist_version=2))
    cover_up(folder)
    assert "version of point_goal is 2, and 1 in this code" in found_in(folder)
    assert "records are of version [2] of point_goal" in found_in(folder)


def test_other_tasks_are_found(folder):
    def easier(frame):
        moved = frame["task_index"] == 3
        return frame.assign(
            task_index=frame["task_index"].mask(moved, 7),
            task=frame["task"].mask(moved, "test/7"),
        )

    for cell in (folder / "cells").iterdir():
        edit_records(folder, cell.name, easier)
    cover_up(folder)
    assert "episodes are missing" in found_in(folder)
    assert "not part of the protocol" in found_in(folder)


@pytest.mark.slow
def test_a_cell_with_tasks_of_its_own_is_found(folder):
    def change(run):
        run["cells"][RL2]["config"]["test_tasks"] = [0, 1, 2]

    edit_manifest(folder, change)
    assert f"{RL2} and point_goal.reference.s0 share a table, but differ in test_tasks" in found_in(
        folder
    )


def test_repeated_or_left_out_episodes_are_found(folder):
    edit_records(folder, MAML, lambda frame: frame[frame["query_episode"] == 0])
    edit_records(folder, "point_goal.gru.maml.s1", lambda f: f[f["query_episode"] == 0])
    assert f"{MAML}: 8 episodes are missing" in found_in(folder)


@pytest.mark.parametrize("name", ["table.csv", "table.md", "table.tex", "report.html"])
def test_an_edited_table_is_found(folder, name):
    path = folder / name
    text = path.read_text()
    path.write_text(text.replace("maml", "mine", 1))
    assert path.read_text() != text
    assert found_in(folder) == f"{name} is not what its records give; harness.tables rebuilds it"


def test_a_changed_plug_in_is_found_and_not_imported(scored, tmp_path):
    folder = shutil.copytree(scored, tmp_path / "published")
    (file,) = (folder / "plugins").iterdir()
    file.write_text(file.read_text().replace("0.1", "0.2") + "raise SystemExit\n")
    cover_up(folder)
    wrong = found_in(folder, ALL)
    assert "plugins/ has no file with the sha256 of" in wrong
    assert "plugins/mine.py is not a file that ran" in wrong


@pytest.mark.slow
def test_steps_of_training_that_were_not_taken_are_found(folder):
    edit_records(folder, MAML, lambda frame: frame.assign(train_env_steps=1))
    cover_up(folder)
    assert "train_env_steps is" in found_in(folder)


@pytest.mark.slow
def test_on_another_processor_means_are_compared(folder):
    edit_state(folder, RL2, cpu="another")  # the other cells were played on this one
    edit_records(folder, RL2, lambda frame: later_episode(frame, 0.01))
    cover_up(folder)
    found = verify(folder, ALL, np.random.default_rng(0))
    assert not found.wrong
    assert (found.replays[RL2], found.replays[MAML]) == ("statistics", "bits")

    def better(frame):
        gain = 10 / frame["length_steps"]
        rewards = [
            np.asarray(r) + np.float32(g) for r, g in zip(frame["rewards"], gain, strict=True)
        ]
        return frame.assign(return_=frame["return_"] + 10, rewards=rewards)

    edit_records(folder, RL2, better)
    cover_up(folder)
    assert f"{RL2}: replayed" in found_in(folder, ALL)


def test_means_are_compared_within_tasks():
    rng = np.random.default_rng(0)
    tasks = np.repeat(np.arange(20), 5)
    index = pd.MultiIndex.from_arrays([["test"] * 100, tasks], names=["split", "task_index"])
    noise = rng.normal(size=(2, 100))
    first, second = (
        pd.DataFrame({"return_": 100.0 * tasks + part, "invalid": False}, index) for part in noise
    )
    assert same_mean(first, first) == 1.0
    # By hand: the mean of the differences over the standard error of two means of 100, about 0.14.
    z = (noise[1] - noise[0]).mean() / np.sqrt(2 / 100)
    within = abs(z) < 3
    assert (same_mean(first, second) > 1e-3) == within
    shifted = second.assign(return_=second["return_"] + 5.0)
    assert same_mean(first, shifted) < 1e-6


def test_the_command_ends_with_the_verdict(folder, tmp_path, capsys):
    assert main.main(["verify", str(folder), "--replay", "0"]) == 0
    assert "not verified: scores by a replay: it was not drawn" in capsys.readouterr().out
    assert main.main(["verify", str(tmp_path / "nothing")]) == 2
    (folder / "table.csv").write_text("")
    assert main.main(["verify", str(folder), "--replay", "0"]) == 5
    assert "WRONG: table.csv" in capsys.readouterr().out
