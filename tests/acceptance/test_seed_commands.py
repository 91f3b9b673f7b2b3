"""The command lines of the seed documents, as written there except for the program's name.

Each line of ``seed_commands.txt`` is a promise (docs/parity.md) and a command, marked ``refused``
if the harness rejects it with a reason. The commands run for real, with small numbers.
"""

import re
from pathlib import Path

import pytest

from harness.cli import run
from harness.cli.parser import parse
from harness.errors import UsageError

LINES = (Path(__file__).parent / "seed_commands.txt").read_text().splitlines()
COMMANDS = [
    pytest.param(number, command, id=f"{promise}-{number}")
    for number, line in enumerate(LINES)
    for promise, command in [line.split(": ", 1)]
    if not command.startswith("refused: ")
]
REFUSED = [
    pytest.param(command, id=promise)
    for promise, command in (line.split(": refused: ") for line in LINES if ": refused: " in line)
]
PROGRAMS = {
    "python main.py": [],
    "python experiments/serious_benchmark.py": [],
    "python benchmarks/simple_improved_benchmark.py": ["--mode", "improved"],
}
"""Programs of the documents -> arguments that ``python -m harness.run`` needs for the same."""
SMALL = {
    "--num_epochs": "1",
    "--epochs": "1",
    "--outer-steps": "2",
    "--adapt-steps": "1",
    "--episodes": "2",
}
"""Numbers that replace those of the documents."""
ADDED = {
    "--horizon": ("6", set()),
    "--query-episodes": ("1", set()),
    "--checkpoint-every": ("1", set()),
    "--epochs": ("1", {"--epochs", "--num_epochs", "--outer-steps", "--episodes"}),
    "--policy": ("ssm", {"--method", "--mode"}),
    "--few-shot": ("1", {"--few-shot", "--zero-shot"}),
    "--episodes-per-shot": ("1", {"--zero-shot"}),
    "--test-tasks": ("0", {"--test-tasks"}),
}
"""Flag -> value, and the flags beside which it is not added."""


def arguments(command):
    """Return the command's arguments for ``python -m harness.run``."""
    program = next(name for name in PROGRAMS if command.startswith(name))
    return command.removeprefix(program).split() + PROGRAMS[program]


def shortened(command, name):
    """Return the same arguments with small numbers, and small values for all other budgets."""
    argv = arguments(command.replace("step_100", "step_2"))
    for flag, number in SMALL.items():
        if flag in argv:
            argv[argv.index(flag) + 1] = number
    flags = set(re.findall(r"--\S+", command)) | set(argv)
    argv += ["--backend", "local", "--name", name]
    if argv[0] in ("eval", "adapt"):
        return [*argv, "--test-tasks", "0", "1"]
    sizes = {flag: number for flag, (number, given) in ADDED.items() if not given & flags}
    if "--mode" in flags and "meta_rl" not in argv:  # trained by PPO
        sizes["--episodes-per-iteration"] = "8"
    else:
        sizes["--episodes-per-task"] = "2"
        if not flags & {"--tasks-per-batch", "--tasks_per_epoch"}:
            sizes["--meta-batch-size"] = "2"
    return argv + [part for pair in sizes.items() for part in pair]


@pytest.mark.parametrize(("number", "command"), COMMANDS)
def test_every_flag_is_accepted_as_written(number, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    for name in ("latest", "step_100"):
        Path(f"checkpoints/{name}.npz").touch()
    parse(arguments(command))


@pytest.mark.parametrize("command", REFUSED)
def test_an_unknown_environment_is_refused_with_the_known_ones(command):
    with pytest.raises(UsageError, match="halfcheetah"):
        parse(arguments(command))


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory, no_figures):
    """Run every command in one folder: ``eval`` and ``adapt`` read what ``train`` writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("seeds"))
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("number", "command"), COMMANDS)
def test_every_command_runs_to_the_end(number, command, shared_folder):
    name = f"run-{number}"
    assert run.main(shortened(command, name)) == 0
    output = "adaptation.json" if "--online" in command else "table.md"
    assert Path("results", name, output).exists()
