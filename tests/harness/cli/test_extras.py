"""Without its extra a command is refused, and the message says how to install it."""

import sys
from importlib import metadata

import pytest

from harness.cli import main
from harness.config.distributions import open_distribution


@pytest.fixture
def without(monkeypatch, tmp_path):
    """Return a function after which a package is not installed."""
    monkeypatch.chdir(tmp_path)

    def remove(package):
        version = metadata.version

        def version_of(name):
            if name == package:
                raise metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(metadata, "version", version_of)
        monkeypatch.setitem(sys.modules, package, None)
        open_distribution.cache_clear()

    yield remove
    open_distribution.cache_clear()


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("metaworld", ["run", "--task-dist", "metaworld-ml10"], "metaworld"),
        ("metaworld", ["run", "--env", "metaworld-ml45", "--match-params", "9k"], "metaworld"),
        ("ray.rllib", ["rllib", "--task-dist", "point_goal"], "rllib"),
    ],
)
def test_a_missing_extra_is_bad_input(without, package, words, extra, tmp_path, capsys):
    without(package)
    assert main.main(words) == 2
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_distributions_do_not_need_metaworld(without, tmp_path, capsys):
    without("metaworld")
    assert main.main(["run", "--task-dist", "point_goal", "--protocol", "official"]) == 2
    assert "official" in capsys.readouterr().err
