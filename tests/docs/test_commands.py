"""Commands, flags, files and settings that the documentation shows are accepted."""

import argparse
import importlib
import re
from pathlib import Path

import pytest

from harness.cli import main, parser, score
from harness.config import precedence, strict_yaml, sweep_file
from harness.meta import adapters, learners
from tests.docs.pages import PAGES, ROOT, blocks, commands

SHOWN = [
    (page, words)
    for page in PAGES
    if page != "docs/extending.md"  # test_extending.py registers what it names
    for words in commands(page)
]
MODULES = {**main.COMMANDS, "app.clips": "harness.app.clips", "reporting": main.COMMANDS["report"]}


class ParsedError(BaseException):
    """The command line was accepted."""


@pytest.fixture
def only_parse(monkeypatch):
    """Stop every command after its arguments were parsed."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse(self, *args, **kwargs):
        raise ParsedError(parse_args(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)


def test_there_are_commands_to_check():
    assert len(SHOWN) > 30


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, words in SHOWN]
)
def test_commands_are_accepted(page, words, only_parse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune_configs").symlink_to(ROOT / "tune_configs")
    command, *argv = words
    assert command in MODULES
    if not argv or argv[-1] == "--help" or argv in ([word] for word in parser.COMMANDS):
        return  # the command is only named
    for word in argv:
        if word.endswith(
            (".safetensors", "cell.yaml", ".zip", ".pt")
        ):  # stands for a file of the reader's own
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    if command in ("run", "rllib"):
        parse = parser.parse if command == "run" else parser.parse_run
        assert parse(argv)
        return
    if command == "score":
        for block in blocks(page, "python"):
            if block.startswith("# my_agent.py"):
                Path("my_agent.py").write_text(block)
        assert score.parse(argv).config.agent
        return
    if command == "sweep" and argv[0].endswith(".yaml"):
        assert sweep_file.load(Path(argv[0])).cells
    with pytest.raises(ParsedError):
        importlib.import_module(MODULES[command]).main(argv)


def test_flags_in_the_table_exist():
    table = PAGES["docs/command_line.md"].partition("## Flags by group")[2].partition("##")[0]
    rows = "\n".join(line for line in table.splitlines() if line.startswith("|"))
    shown = set(re.findall(r"`(--[a-z-]+)`", rows))
    configs = [
        parser.load_config(["--task-dist", dist])
        for dist in ("halfcheetah-vel", "metaworld-ml10", "imujoco-halfcheetah")
    ]
    known = {
        option
        for config in configs
        for f in parser.run_flags(config)
        for option in f.option_strings
    }
    assert len(shown) > 25
    assert shown <= known | {"--help"}


def test_yaml_files_are_accepted():
    (run,) = blocks("docs/command_line.md", "yaml")
    config = precedence.resolve(strict_yaml.parse(run, "run.yaml").values)
    assert (list(config.policy), config.train.env_steps) == (["gru", "wide"], 5_000_000)
    (sweep,) = blocks("docs/sweeps.md", "yaml")
    assert len(sweep_file.expand(strict_yaml.parse(sweep, "sweep.yaml"), "sweep.yaml").cells) == 108


@pytest.mark.parametrize(
    ("heading", "settings"),
    [
        ("## maml", lambda: learners.spec("maml").settings()),
        ("## rl2", lambda: learners.spec("rl2").settings()),
        ("## Adapters", lambda: adapters.settings_class("hybrid")()),
    ],
)
def test_settings_and_defaults_in_tables_are_those_of_the_code(heading, settings):
    section = PAGES["docs/learners.md"].partition(heading)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \|", section, re.MULTILINE)
    assert rows
    for names, defaults in rows:
        listed = defaults.partition("; ants")[0].split(", ")  # behind it, what recipes set
        for name, shown in zip(re.findall(r"`(\w+)`", names), listed, strict=False):
            actual = getattr(settings(), name)
            if not shown.startswith(("from", "50;")):
                plain = shown.partition(";")[0].strip("`").replace(" ", "")
                if plain == "off":
                    assert actual in (False, None)
                else:
                    assert plain == str(actual) or float(plain) == actual
