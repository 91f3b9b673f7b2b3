"""The command lines of the seed documents, with nothing but the program's name mapped.

``seed_commands.txt`` has each once, on one line; ``refused:`` marks those that are answered with
the reason instead. They are played for real with the numbers made small.
"""

import re
from pathlib import Path

import pytest

from harness.cli import run
from harness.cli.parser import parse
from harness.errors import UsageError

LINES = (Path(__file__).parent / "seed_commands.txt").read_text().splitlines()
RUNS = [line for line in LINES if not line.startswith("refused: ")]
PROGRAMS = {
    "python main.py": [],
    "python experiments/serious_benchmark.py": [],
    "python benchmarks/simple_improved_benchmark.py": ["--mode", "improved"],
}
TINY = {"--num_epochs": "1", "--epochs": "1", "--outer-steps": "2", "--adapt-steps": "1"}
CHECKPOINTS = ["eval", "adapt"]


def mapped(line):
    program = next(name for name in PROGRAMS if line.startswith(name))
    argv = line.removeprefix(program).split()
    return argv[:1] * (argv[0] in (*CHECKPOINTS, "train")) + [
        *PROGRAMS[program],
        *argv[argv[0] in (*CHECKPOINTS, "train") :],
    ]


def small(argv, name):
    """The same flags with small numbers, and a small budget for what is not said."""
    kept = list(argv)
    for at, token in enumerate(argv):
        if token in TINY:
            kept[at + 1] = TINY[token]
        if token == "--episodes":
            kept[at + 1] = "2"
    kept = re.sub("step_100", "step_2", " ".join(kept)).split()
    kept += ["--backend", "local", "--name", name]
    if argv[0] in CHECKPOINTS:
        return [*kept, "--test-tasks", "0", "1"]
    sizes = {"--horizon": "6", "--episodes-per-shot": "2", "--query-episodes": "1"}
    sizes |= {"--episodes-per-task": "2", "--checkpoint-every": "1"}
    if not {"--tasks-per-batch", "--tasks_per_epoch"} & set(argv):
        sizes["--meta-batch-size"] = "2"
    if not {"--method", "--mode"} & set(kept):
        sizes["--policy"] = "ssm"
    if not {"--few-shot", "--zero-shot"} & set(argv):
        sizes["--few-shot"] = "1"
    if "--test-tasks" not in argv:
        sizes["--test-tasks"] = "0"
    if "metaworld" in " ".join(argv):
        sizes["--episodes-per-shot"] = "1"
    return [*kept, *(part for pair in sizes.items() for part in pair)]


@pytest.mark.parametrize("line", LINES)
def test_every_flag_is_understood_or_refused_with_the_reason(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    for name in ("latest", "step_100"):
        Path(f"checkpoints/{name}.npz").touch()
    refused, argv = line.startswith("refused: "), mapped(line.removeprefix("refused: "))
    if refused:
        with pytest.raises(UsageError, match=r"have: .*halfcheetah"):
            parse(argv)
    else:
        parse(argv)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("seeds"))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("line", RUNS, ids=[str(number) for number in range(len(RUNS))])
def test_every_command_plays_to_the_end(line, place, request):
    # In the order of the file: what train leaves, eval and adapt read.
    name = f"run-{request.node.callspec.id}"
    assert run.main(small(mapped(line), name)) == 0
    assert (
        Path("results") / name / ("table.md" if "--online" not in line else "adaptation.json")
    ).exists()
