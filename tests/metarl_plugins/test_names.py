"""Names of components from outside: labels, resolution, origins, and what is refused."""

import hashlib
import pickle
import subprocess
import sys

import pytest

import metarl_plugins
import policies
import task_distributions
from harness.config import plugins
from harness.config.precedence import resolve
from harness.config.schema import config_as_dict
from harness.config.validation import config_from_dict
from harness.errors import UsageError
from metarl_plugins import Origin, PluginError, label_of, split

POLICY = """
from dataclasses import dataclass
from policies.gru import GRUSettings, build as build_gru

@dataclass(frozen=True)
class MySettings(GRUSettings):
    slope: float = 0.5

def build(*, obs_dim, action_dim, discrete, init_std, settings: MySettings):
    return build_gru(obs_dim=obs_dim, action_dim=action_dim, settings=settings)

def without_settings(obs_dim, action_dim, discrete, init_std, settings):
    return None

def without_size(*, action_dim, discrete, init_std, settings: MySettings):
    return None

@dataclass(frozen=True)
class WrongDefault(GRUSettings):
    slope: int = 0.5

def wrong_default(*, obs_dim, action_dim, discrete, init_std, settings: WrongDefault):
    return None

def returns_none(*, obs_dim, action_dim, discrete, init_std, settings: MySettings):
    return None
"""
DISTRIBUTION = """
from dataclasses import dataclass
from task_distributions.point_goal import PointGoalSettings, point_goal

@dataclass(frozen=True)
class MySettings(PointGoalSettings):
    wind: float = 0.0

def windy(settings: MySettings = MySettings()):
    return point_goal(PointGoalSettings(horizon=settings.horizon))
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working directory with plug-ins in files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_policy.py").write_text(POLICY)
    (tmp_path / "my_dist.py").write_text(DISTRIBUTION)
    return tmp_path


@pytest.fixture
def package(files, monkeypatch):
    """An installed package with an entry point for each file; it is on the search path."""
    site = files / "site"
    info = site / "my_pkg-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "my_pkg").mkdir()
    (site / "my_pkg/__init__.py").write_text("")
    for name in ("my_policy", "my_dist"):
        (files / f"{name}.py").rename(site / f"my_pkg/{name}.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-pkg\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("my_pkg\n")
    (info / "entry_points.txt").write_text(
        "[metarl_harness.policies]\nwide = my_pkg.my_policy:build\n"
        "[metarl_harness.task_distributions]\nwindy = my_pkg.my_dist:windy\n"
    )
    monkeypatch.syspath_prepend(site)
    yield site
    for module in [name for name in sys.modules if name.startswith("my_pkg")]:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("gru", "gru"),
        ("wide=gru", "wide"),
        ("dir/min_gru.py:build", "min_gru"),
        ("dir/reptile.py:REPTILE", "reptile"),
        ("my_pkg.tasks:cheetah_dir", "cheetah_dir"),
        ("my_pkg.tasks:make", "tasks"),
        ("x=a=b/c.py:build", "x"),
        ("a/b=c.py:build", "b-c"),
    ],
)
def test_a_name_has_a_short_label(name, label):
    assert label_of(name) == label
    assert split(f"short={name}")[0] == "short"


def test_a_file_is_imported_as_a_component_with_its_own_settings(files):
    config = resolve(
        {
            "task_dist": "my_dist.py:windy",
            "policy": ["my_policy.py:build", "wide=my_policy.py:build"],
            "env": {"wind": 2.0},
        },
        overrides={("policy", "wide", "slope"): 0.25},
    )
    assert list(config.policy) == ["my_policy", "wide"]
    assert [part.settings.slope for part in config.policy.values()] == [0.5, 0.25]
    assert (config.label, config.env.wind) == ("windy", 2.0)
    assert config.cells[0].id == "windy.my_policy.maml.s0"
    again = config_from_dict(config_as_dict(config))
    assert again == config


def test_the_origin_of_a_file_is_its_sha256(files):
    digest = hashlib.sha256(POLICY.encode()).hexdigest()
    name = "my_policy.py:build"
    assert policies.REGISTRY.origin(f"wide={name}") == Origin(name, sha256=digest)
    assert policies.REGISTRY.origin("gru") is None


def test_the_origin_of_an_entry_point_is_its_package(package):
    assert policies.REGISTRY.origin("wide") == Origin("my_pkg.my_policy:build", "my-pkg 1.2")
    assert "wide" in policies.names()
    config = resolve({"policy": ["wide"], "task_dist": "my_pkg.my_dist:windy"})
    assert plugins.origins_in(config)["policy"]["wide"]["package"] == "my-pkg 1.2"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such.py:build", "No such file"),
        ("my_policy.py", "name the factory"),
        ("my_policy.py:biuld", "did you mean 'build'"),
        ("no_such_module:build", "ModuleNotFoundError"),
        ("broken.py:build", "ZeroDivisionError on line 2"),
        ("exits.py:build", "SystemExit"),
        ("syntax.py:build", "SyntaxError"),
        ("my_policy.py:without_settings", "annotated"),
        ("my_policy.py:without_size", "obs_dim"),
        ("my_policy.py:MySettings", "settings"),
        ("my_policy.py:wrong_default", "slope is 0.5"),
        ("my_policy.py:POLICY", "has no 'POLICY'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(files, name, problem):
    (files / "broken.py").write_text("\n1 / 0\n")
    (files / "exits.py").write_text("raise SystemExit(0)\n")
    (files / "syntax.py").write_text("def build(:\n")
    with pytest.raises(UsageError) as caught:
        resolve({"policy": [name]}, {("policy",): "--policy"})
    message = str(caught.value)
    assert message.startswith("--policy: ")
    assert problem in message
    assert "\n" not in message


def test_a_factory_that_returns_no_policy_is_refused(files):
    with pytest.raises(PluginError, match="NoneType"):
        policies.build("my_policy.py:returns_none", obs_dim=2, action_dim=2)


def test_a_distribution_that_is_not_its_key_is_refused(package, monkeypatch):
    monkeypatch.setitem(task_distributions.REGISTRY, "storm", "my_pkg.my_dist:windy")
    with pytest.raises(PluginError, match=r"'storm'.*'point_goal'"):
        task_distributions.load("storm")


def test_the_same_label_twice_is_refused(files):
    with pytest.raises(UsageError, match="LABEL=NAME"):
        resolve({"policy": ["my_policy.py:build", "./my_policy.py:build"]})


def test_another_process_reads_a_configuration_without_the_files(files):
    config = resolve({"policy": ["my_policy.py:build"], "task_dist": "my_dist.py:windy"})
    data = pickle.dumps(config)
    for name in ("my_policy.py", "my_dist.py"):
        (files / name).unlink()
    code = (
        "import pickle, sys; c = pickle.loads(sys.stdin.buffer.read()); "
        "print(c.policy['my_policy'].settings.slope, c.env.wind)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.split() == [b"0.5", b"0.0"]


def test_a_changed_file_is_noticed(files):
    config = resolve({"policy": ["my_policy.py:build"]})
    then = plugins.origins_in(config)
    assert plugins.changes(then) == []
    then["policy"]["my_policy.py:build"]["sha256"] = "0" * 64
    (message,) = plugins.changes(then)
    assert "my_policy.py:build has changed" in message


def test_a_file_that_is_gone_is_taken_from_its_copy_in_the_run(files):
    (files / "my_policy.py").rename(files / "gone.py")
    then = plugins.origins_in(resolve({"policy": ["gone.py:build"]}))
    (files / "plugins").mkdir()
    copy = (files / "gone.py").rename(files / "plugins/copy.py")
    content = copy.read_text()
    metarl_plugins.reread()
    with pytest.raises(UsageError, match="No such file"):
        plugins.changes(then)
    copy.write_text("# changed")
    assert plugins.copies(then, files) == {}
    copy.write_text(content)
    assert plugins.copies(then, files) == {"gone.py": copy}
    metarl_plugins.provide({"gone.py": copy.read_bytes()})
    assert plugins.changes(then) == []


def test_the_component_that_raised_an_error_is_named(files):
    config = resolve({"policy": ["my_policy.py:build"], "task_dist": "my_dist.py:windy"})
    dist = task_distributions.REGISTRY.load("my_dist.py:windy")
    with (
        pytest.raises(PluginError, match=r"^my_dist.py:windy: AttributeError"),
        plugins.blame(config),
    ):
        dist(None)
    both = r"^my_dist.py:windy or my_policy.py:build: ZeroDivisionError"
    with pytest.raises(PluginError, match=both), plugins.blame(config):
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), plugins.blame(resolve({})):
        1 / 0  # noqa: B018


def test_built_in_components_leave_no_trace_in_a_configuration():
    assert "plugins" not in config_as_dict(resolve({}))
