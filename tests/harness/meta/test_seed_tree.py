"""Seeds, jobs and the tasks drawn: what must not depend on who does the work, or when."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import seeding
from harness.execution import jobs
from harness.types import Cell

CELL = Cell("point_goal", "gru", "maml", 0)


@pytest.mark.parametrize("path", [(0,), (3, 1), (0, 0, 0), (7, 2, 5)])
def test_every_component_of_a_path_matters(path):
    nodes = [(0, "train", *path), (1, "train", *path), (0, "trait", *path)]
    for index in range(len(path)):
        moved = list(path)
        moved[index] += 1
        nodes.append((0, "train", *moved))
    nodes.append((0, "train", *path[::-1])) if path != path[::-1] else None
    draws = {tuple(seeding.episode_seeds(*node, count=2)) for node in nodes}
    assert len(draws) == len(nodes)
    assert len({seeding.generator(*node).integers(2**62) for node in nodes}) == len(nodes)


def test_seeds_are_the_same_in_a_process_that_hashes_otherwise():
    code = "from harness import seeding; print(seeding.episode_seeds(5, 'train', 1, 2, count=3))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for salt in ("1", "2")
    ]
    here = str(seeding.episode_seeds(5, "train", 1, 2, count=3))
    assert printed == [here, here]


def test_seeds_do_not_depend_on_how_many_are_drawn_and_fit_an_environment():
    many = seeding.episode_seeds(0, "train", 1, count=40)
    assert seeding.episode_seeds(0, "train", 1, count=3) == many[:3]
    assert len(set(many)) == 40
    assert all(0 <= seed < 2**63 for seed in many)


@given(
    indices=st.lists(st.integers(0, 99), min_size=1, max_size=60),
    size=st.integers(1, 20),
    least=st.integers(1, 8),
    phase=st.sampled_from(["train", "evaluate"]),
)
def test_jobs_cover_every_task_exactly_once_in_order(indices, size, least, phase):
    pieces = jobs.cut(CELL, phase, 3, "test", indices, jobs.ChunkSize(size, least))
    assert [i for job in pieces for i in job.task_indices] == indices
    keys = [key for job in pieces for key in job.seed_keys]
    assert keys == (list(range(len(indices))) if phase == "train" else indices)
    sizes = [len(job.task_indices) for job in pieces]
    assert 1 <= min(sizes) <= max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert [job.part for job in pieces] == list(range(len(pieces)))
    assert len({job.key for job in pieces}) == len(pieces)
    assert len(pieces) >= min(len(indices), least)


@given(count=st.integers(1, 50), available=st.integers(1, 20), iteration=st.integers(0, 5))
def test_training_tasks_are_drawn_once_before_any_is_drawn_twice(count, available, iteration):
    pool = [10 * i for i in range(available)]
    drawn = jobs.training_tasks(0, iteration, [pool], count)
    assert len(drawn) == count
    _, times = np.unique(drawn, return_counts=True)
    assert times.max() - (times.min() if len(times) == available else 0) <= 1
    for start in range(0, count, available):
        part = drawn[start : start + available]
        assert len(set(part)) == len(part)
    assert set(drawn) <= set(pool)


def test_training_tasks_change_with_iteration_and_seed_and_with_nothing_else():
    pool = list(range(20))
    draws = {jobs.training_tasks(seed, i, [pool], 10) for seed in (0, 1) for i in range(3)}
    assert len(draws) == 6
    assert jobs.training_tasks(1, 2, [pool], 10) == jobs.training_tasks(1, 2, [pool], 10)


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=7), count=st.integers(1, 40))
def test_every_class_is_drawn_as_often_as_any_other(sizes, count):
    edges = np.cumsum([0, *sizes])
    classes = [list(range(low, high)) for low, high in itertools.pairwise(edges)]
    drawn = jobs.training_tasks(3, 5, classes, count)
    per_class = [[index for index in drawn if index in members] for members in map(set, classes)]
    counts = [len(part) for part in per_class]
    assert len(drawn) == count
    assert max(counts) - min(counts) <= 1
    for members, part in zip(classes, per_class, strict=True):
        assert len(set(part)) == min(len(part), len(members))  # no task twice before all once
