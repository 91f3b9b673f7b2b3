"""Which tasks a protocol scores, what it fixes and what it refuses."""

import random

import pytest

import task_distributions
from harness.cli import parser
from harness.cli.parser import load_config, parse
from harness.config import validation
from harness.config.presets import PRESETS
from harness.config.protocol import first_goals, has_classes, scored
from harness.errors import UsageError
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.scoring import query_episodes, support_episodes
from harness.meta import learners
from harness.meta.learners.base import Request, RequestKind
from tests.harness.meta.lucky_classes import LuckyClasses

ML10, ML45 = ["--task-dist", "metaworld-ml10"], ["--task-dist", "metaworld-ml45"]


@pytest.fixture
def lucky(monkeypatch):
    monkeypatch.setitem(
        task_distributions.REGISTRY, "lucky", "tests.harness.meta.lucky_classes:lucky"
    )
    return ["--task-dist", "lucky"]


@pytest.mark.parametrize("name", ["f'{split}/goal-{t.index}'", "t.name"])
def test_tasks_that_report_success_need_no_classes(tmp_path, name):
    source = tmp_path / "reaching.py"
    source.write_text(
        "from dataclasses import replace\n"
        "import task_distributions\n"
        "from task_distributions.point_goal import PointGoalSettings\n"
        "def reaching(settings: PointGoalSettings):\n"
        "    dist = task_distributions.load('point_goal', settings)\n"
        "    lists = {\n"
        f"        split: tuple(replace(t, name={name}) for t in tasks)\n"
        "        for split, tasks in dist.task_lists.items()\n"
        "    }\n"
        "    spec = replace(dist.spec, has_success=True)\n"
        "    return replace(dist, name='reaching', spec=spec, task_lists=lists)\n"
    )
    config = load_config(["--task-dist", f"{source}:reaching"])
    dist = task_distributions.load(f"{source}:reaching")
    assert not has_classes(dist)
    assert len(scored(config)["test"]) == len(dist.tasks("test"))


def test_the_first_goals_of_every_class_are_taken_by_number_not_by_place():
    tasks = LuckyClasses(None).tasks("test")
    shuffled = random.Random(3).sample(range(len(tasks)), len(tasks))
    assert first_goals(tasks, sorted(shuffled), 2) == (0, 1, 50, 51)
    assert sorted(first_goals(tasks, shuffled, 40)) == [*range(40), *range(50, 90)]
    assert first_goals(tasks, (60, 7, 55, 9), 1) == (55, 7)  # of those the run is restricted to


def test_official_is_forty_goals_ten_episodes_a_shot_and_three_scored(lucky):
    config = load_config([*lucky, "--protocol", "official"])
    assert (config.evaluation.episodes_per_shot, config.evaluation.query_episodes) == (10, 3)
    assert [len(tasks) for tasks in scored(config).values()] == [80]
    with pytest.raises(UsageError, match=r"--query-episodes: got 5.*official.*3"):
        load_config([*lucky, "--protocol", "official", "--query-episodes", "5"])
    # Only the goals are quick's: the rest stays as asked.
    quick = load_config([*lucky, "--protocol", "quick", "--query-episodes", "5"])
    assert quick.evaluation.query_episodes == 5
    assert len(scored(quick)["test"]) == 8


def test_training_tasks_are_scored_among_those_trained_on(lucky):
    argv = [*lucky, "--protocol", "quick", "--splits", "train", "test", "--train-tasks"]
    chosen = scored(load_config([*argv, "60", "61", "3", "2"]))
    assert list(chosen) == ["test", "train"]
    assert [task.name for task in chosen["train"]] == ["mostly/10", "never/2"]


def test_protocols_are_refused_without_classes_and_beside_a_list_of_tasks(lucky, tmp_path):
    with pytest.raises(UsageError, match=r"--protocol: 'quick'.*ant-vel.*metaworld-ml10 and"):
        load_config(["--task-dist", "ant-vel", "--protocol", "quick"])
    with pytest.raises(UsageError, match=r"--test-tasks and --protocol.*contradict"):
        load_config([*lucky, "--protocol", "official", "--test-tasks", "1"])
    file = tmp_path / "a.yaml"
    file.write_text("task_dist: lucky\nevaluation: {protocol: quick}\n")
    with pytest.raises(UsageError, match=rf"--test-tasks and {file}:2.*contradict"):
        load_config(["--config", str(file), "--test-tasks", "1"])
    every = load_config(["--config", str(file), "--test-tasks", "1", "--protocol", "all"])
    assert [task.index for task in scored(every)["test"]] == [1]


def test_a_list_of_test_tasks_undoes_the_protocol_of_a_preset():
    assert load_config(ML10).evaluation.protocol == "quick"
    config = load_config([*ML10, "--test-tasks", "3", "60"])
    assert {split: [t.index for t in tasks] for split, tasks in scored(config).items()} == {
        "test": [3, 60]
    }


def test_what_evaluate_is_given_replaces_protocol_or_tasks_of_the_run(tmp_path):
    stored = load_config([*ML10, "--preset", "quick"])
    argv = ["evaluate", "--checkpoint", str(tmp_path)]
    listed = parse([*argv, "--test-tasks", "4"]).applied_to(stored)
    assert (listed.evaluation.protocol, listed.evaluation.splits) == ("all", ("test",))
    again = parse([*argv, "--protocol", "quick"]).applied_to(listed)
    assert (again.test_tasks, again.evaluation.protocol) == (None, "quick")
    official = parse([*argv, "--protocol", "official"]).applied_to(stored)
    assert (official.evaluation.episodes_per_shot, official.evaluation.query_episodes) == (10, 3)
    validation.check(official, {})


META_WORLD = [(dist, preset) for dist in ("metaworld-ml10", "metaworld-ml45") for preset in PRESETS]


def planned_env_steps(setup, config):
    """Return the environment steps that a cell takes if no episode ends early."""
    evaluation, horizon = config.evaluation, setup.dist.spec.horizon
    per_iteration = learners.build(setup).episodes_per_iteration * horizon
    adapter = setup.scoring_adapter()
    support = evaluation.shots[-1] * support_episodes(evaluation, adapter)
    query = len(evaluation.shots) * query_episodes(setup.dist.spec, evaluation, adapter)
    tasks = sum(len(chosen) for chosen in scored(config).values())
    training = setup.budget.iterations(per_iteration) * per_iteration
    return training + tasks * (support + query) * horizon


@pytest.mark.parametrize("key", META_WORLD, ids=" ".join)
def test_budgets_of_meta_world_keep_their_promise(key):
    dist, preset = key
    config = load_config(["--task-dist", dist, "--preset", preset, "--few-shot", "1", "5", "10"])
    first = [cell for cell in config.cells if cell.seed == 0]
    assert len(first) == 4
    tasks = sum(len(chosen) for chosen in scored(config).values())
    reference = 2 * tasks * config.evaluation.query_episodes * 500
    steps = sum(planned_env_steps(build_setup(cell, config), config) for cell in first) + reference
    assert steps < {"smoke": 2e6, "quick": 12e6}.get(preset, 1e9)
    assert config.evaluation.protocol == ("quick" if preset in ("smoke", "quick") else "official")
    assert config.learner["maml"].settings.action_scale == 1.0


@pytest.mark.parametrize(
    ("preset", "steps"), [("smoke", 64e3), ("quick", 2e6), ("standard", 5e6), ("paper", 10e6)]
)
def test_budgets_of_plain_halfcheetah_are_those_of_its_comments(preset, steps):
    argv = ["--task-dist", "halfcheetah", "--policy", "ssm", "--learner", "multitask"]
    config = load_config([*argv, "--preset", preset])
    setup = build_setup(config.cells[0], config)
    scoring = config.evaluation.query_episodes * 1000
    assert config.evaluation.shots == (0,)
    assert planned_env_steps(setup, config) - scoring == pytest.approx(steps, rel=0.02)


class _Recorder:
    """A backend that notes what it is asked and answers with nothing."""

    num_workers = 1

    def run(self, work, on_done):
        self.jobs = work.jobs
        return [], []

    def fetch(self, results):
        return results


def test_both_splits_are_scored_in_jobs_of_their_own(lucky):
    argv = [*lucky, "--splits", "train", "test", "--protocol", "quick", "--policy", "mlp"]
    config, backend = load_config(argv), _Recorder()
    runner = CellRunner(build_setup(config.cells[0], config), config, backend)
    runner.scorer.score(Request(RequestKind.EVALUATE, None), 1, None)
    assert len({job.key for job in backend.jobs}) == len(backend.jobs)
    asked = [(job.split, index) for job in backend.jobs for index in job.task_indices]
    assert asked == [("test", n) for n in (*range(4), *range(50, 54))] + [
        ("train", n) for n in (0, 50)
    ]
    assert all(job.seed_keys == job.task_indices for job in backend.jobs)


def test_the_settings_of_a_protocol_come_from_yaml_too(lucky, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("task_dist: lucky\nevaluation: {protocol: official}\n")
    assert parser.load_config(["--config", str(file)]).evaluation.query_episodes == 3


def test_tasks_outside_the_training_range_are_scored_where_there_are_any():
    config = load_config(["--task-dist", "ant-vel", "--splits", "ood", "test"])
    assert {split: len(tasks) for split, tasks in scored(config).items()} == {"test": 30, "ood": 30}
    with pytest.raises(UsageError, match=r"--splits: ant-dir has no ood tasks.*train, valid"):
        load_config(["--task-dist", "ant-dir", "--splits", "test", "ood"])
