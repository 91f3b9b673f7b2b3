"""The image's build steps and commands, played here without a daemon."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from ctypes.util import find_library
from pathlib import Path

import pytest

from harness.config import strict_yaml
from tests.deploy.dockerfile import environment, parse, reaches_daemon

ROOT = Path(__file__).parents[2]
BUILD, FINAL = parse((ROOT / "deploy/Dockerfile").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FETCHED = "/opt/metarl/"


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return listed.stdout.splitlines() if listed.returncode == 0 else None


def ignore_patterns():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def below(sources, files):
    return [f for f in files if any(f == s or f.startswith(f"{s}/") for s in sources)]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The files that the build stage copies, built to the wheel it installs, and unpacked."""
    src, site = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("site")
    for sources, _ in BUILD.copies():
        for source in sources:
            where = ROOT / source
            if where.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(where, src / source, ignore=ignored)
            else:
                shutil.copy(where, src / source)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=src, check=True, capture_output=True)
    (wheel,) = src.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run_in(image, tmp_path, command, **changed):
    """Run a command of the image with its packages, its environment and an empty folder to work."""
    words = [str(ROOT / "deploy" / w.removeprefix(FETCHED)) if FETCHED in w else w for w in command]
    assert words[0] == "python"
    own = environment(FINAL)
    del own["PATH"]
    if find_library("EGL") is None:  # then it is not drawn here, but all else is done
        del own["MUJOCO_GL"]
    cache = {"NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(image.parent / "numba"))}
    env = {**os.environ, **own, **cache, "PYTHONPATH": str(image), "PYTHONSAFEPATH": "1", **changed}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True
    )


def test_two_stages_of_the_same_python_and_only_the_environment_crosses():
    assert BUILD.base == FINAL.base
    assert BUILD.name == "build"
    crossing = [rest for rest in FINAL.all("COPY") if rest.startswith("--from=")]
    assert crossing == ["--from=build /opt/venv /opt/venv"]
    assert "pip" not in {words[0] for words in FINAL.commands()}
    minor = BUILD.base.partition(":")[2].partition("-")[0]
    assert minor >= PYPROJECT["project"]["requires-python"].removeprefix(">=")


def test_runs_as_somebody_who_is_not_root():
    words = [word for word, _ in FINAL.steps]
    user = FINAL.all("USER")[-1]
    assert user not in ("root", "0")
    assert any(words[0] == "useradd" and user in words for words in FINAL.commands())
    assert "RUN" not in words[words.index("USER") :]


def test_what_is_copied_is_in_the_repository_and_reaches_the_daemon():
    files = tracked()
    if files is None:
        pytest.skip("no git here")
    patterns = ignore_patterns()
    for sources, _ in BUILD.copies() + FINAL.copies():
        for source in sources:
            found = below([source], files)
            assert found, f"COPY {source}: not tracked by git"
            assert all(reaches_daemon(f, patterns) for f in found), source


def test_nothing_else_reaches_the_daemon():
    patterns = ignore_patterns()
    strangers = [".git/config", ".venv/bin/python", "results/a/b", "tests/conftest.py", "secret"]
    strangers += ["harness/__pycache__/run.pyc", "deploy/Dockerfile", "policies/a/__pycache__/x"]
    assert not [path for path in strangers if reaches_daemon(path, patterns)]


def test_pip_lines_install_this_project_and_its_torch_from_the_cpu_index():
    installs = [words for words in BUILD.commands() if words[:2] == ["pip", "install"]]
    torch, project = installs
    assert torch[-1] == "torch"
    assert "--no-deps" in torch  # else everything torch needs would come from that index too
    assert torch[torch.index("--index-url") + 1] == "https://download.pytorch.org/whl/cpu"
    assert project[-1] == "."
    assert not [w for w in project if "index-url" in w]
    for words in installs:
        assert words[words.index("-c") + 1] == "constraints.txt"
    named = {re.split(r"[\[<>=!~]", d)[0] for d in PYPROJECT["project"]["dependencies"]}
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert "torch" in named
    assert {name.lower() for name in named} <= pinned


def test_the_renderer_that_the_environment_asks_for_is_installed():
    apt = next(words for words in FINAL.commands() if words[:2] == ["apt-get", "install"])
    assert environment(FINAL)["MUJOCO_GL"] == "egl"
    assert {"libegl1", "libopengl0", "libgl1-mesa-dri", "--no-install-recommends"} <= set(apt)
    assert ["rm", "-rf", "/var/lib/apt/lists/*"] in FINAL.commands()


def test_the_wheel_it_builds_holds_every_module_and_its_data(image):
    files = tracked()
    if files is None:
        pytest.skip("no git here")
    wanted = below(["harness", "policies", "task_distributions"], files)
    missing = [f for f in wanted if not (image / f).is_file() and (ROOT / f).exists()]
    assert not missing
    assert (image / "task_distributions/data/metaworld_goals.npz").stat().st_size > 0


def test_the_health_check_passes_in_what_was_built(image, tmp_path):
    done = run_in(image, tmp_path, FINAL.exec_form("HEALTHCHECK"))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_library("EGL") is None, reason="no libEGL here to draw with")
def test_the_health_check_fails_where_nothing_can_be_drawn(image, tmp_path):
    done = run_in(image, tmp_path, FINAL.exec_form("HEALTHCHECK"), MUJOCO_GL="glfw", DISPLAY="")
    assert done.returncode != 0


def test_the_health_check_fails_where_results_cannot_be_kept(image, tmp_path):
    (tmp_path / "results").write_text("in the way")
    assert run_in(image, tmp_path, FINAL.exec_form("HEALTHCHECK")).returncode != 0


def test_the_default_command_shows_the_help(image, tmp_path):
    done = run_in(image, tmp_path, FINAL.exec_form("CMD"))
    assert done.returncode == 0, done.stderr
    assert "--task-dist" in done.stdout


def test_the_compose_file_builds_this_image_and_its_command_is_read(monkeypatch):
    from harness.cli.parser import load_config

    service = strict_yaml.read(ROOT / "deploy/compose.yaml").values["services"]["harness"]
    assert service["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
    assert service["command"][:3] == ["python", "-m", "harness.run"]
    assert load_config(service["command"][3:]).task_dist == "halfcheetah-vel"
    assert service["volumes"] == [f"../results:{FINAL.all('WORKDIR')[-1]}/results"]


@pytest.mark.parametrize("name", ["ci.yml", "image.yml"])
def test_workflows_call_what_exists(name):
    text = (ROOT / ".github/workflows" / name).read_text()
    jobs = strict_yaml.parse(text.replace("\non:", '\n"on":'), name).values["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for command in commands:
        if command.startswith("docker build"):
            assert command == "docker build -f deploy/Dockerfile -t metarl-harness ."
        elif command.startswith("docker run"):
            assert " metarl-harness python " in " ".join(command.split())
        else:
            assert os.access(ROOT / command, os.X_OK), command
    assert commands
