"""The container image, compose file and workflows refer only to what exists; no daemon needed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from ctypes.util import find_library
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.cli import parser

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# COPY lines that take files from the repository, not from the build stage.
COPIED = [
    source
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    for source in line.split()[:-1]
]
HEALTHCHECK = ROOT / "deploy/healthcheck.py"


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [file for file in listed.stdout.splitlines() if (ROOT / file).exists()]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the contents of the wheel, built from the files that the build stage copies."""
    src, site = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("site")
    for source in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / source, src)
    for package in ("metarl_plugins", "policies", "task_distributions", "harness"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, src / package, ignore=ignored)
    build = "from hatchling import build; print(build.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=src, check=True, capture_output=True)
    (wheel,) = src.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run_installed(site, folder, *arguments):
    """Run python in ``folder`` with the packages of ``site`` instead of those of the repository."""
    gl = {"MUJOCO_GL": "egl"} if find_library("EGL") else {}
    env = {**os.environ, **gl, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_copied_files_are_tracked_and_only_they_reach_the_daemon():
    files = tracked()
    for source in COPIED:
        assert any(file == source or file.startswith(f"{source}/") for file in files), source
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if not line.startswith("#")]
    assert patterns[0] == "*"
    assert patterns[-1] == "**/__pycache__"
    assert sorted(patterns[1:-1]) == sorted(f"!{source}" for source in COPIED)


def test_both_stages_have_a_python_that_the_project_supports():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    (version,) = {re.fullmatch(r"python:([\d.]+)-.*", base)[1] for base in bases}
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)


def test_pip_installs_pinned_versions_and_extras_that_exist():
    lines = re.findall(r"pip install (.+)", DOCKERFILE)
    torch, project = map(shlex.split, lines)
    assert torch[-1] == "torch"
    assert "--no-deps" in torch  # else torch's dependencies would come from its own index too
    assert torch[torch.index("--index-url") + 1] == "https://download.pytorch.org/whl/cpu"
    for words in (torch, project):
        assert words[words.index("-c") + 1] == "constraints.txt"
    extras = Requirement(project[-1].replace(".", "metarl-harness", 1)).extras
    assert extras <= PROJECT["optional-dependencies"].keys()


def test_the_pins_satisfy_the_dependencies():
    unpinned = {PROJECT["name"]}
    optional = PROJECT["optional-dependencies"].values()
    for line in [*PROJECT["dependencies"], *(line for extra in optional for line in extra)]:
        needed = Requirement(line)
        if needed.name not in unpinned:
            assert needed.specifier.contains(pins()[canonicalize_name(needed.name)]), line


def test_the_container_does_not_run_as_root():
    user = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1]
    assert user not in ("root", "0")
    assert re.search(rf"useradd .*\b{user}\b", DOCKERFILE)


def test_the_wheel_holds_every_module_and_its_data(site):
    packages = ("harness/", "metarl_plugins/", "policies/", "task_distributions/")
    missing = [f for f in tracked() if f.startswith(packages) and not (site / f).is_file()]
    assert not missing


@pytest.mark.slow  # everything is compiled for it
def test_the_health_check_passes(site, tmp_path):
    done = run_installed(site, tmp_path, HEALTHCHECK)
    assert done.returncode == 0, done.stderr


def test_the_health_check_fails_if_results_cannot_be_written(site, tmp_path):
    (tmp_path / "results").write_text("not a folder")
    assert run_installed(site, tmp_path, HEALTHCHECK).returncode != 0


def test_the_default_command_shows_the_help(site, tmp_path):
    words = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[-1])
    assert words[0] == "python"
    done = run_installed(site, tmp_path, *words[1:])
    assert done.returncode == 0, done.stderr
    assert "--task-dist" in done.stdout


def test_the_compose_file_builds_this_image_and_its_command_is_valid():
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    service = compose["services"]["harness"]
    assert service["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
    assert service["command"][:3] == ["python", "-m", "harness.run"]
    assert parser.load_config(service["command"][3:]).task_dist == "halfcheetah-vel"
    workdir = re.findall(r"^WORKDIR (\S+)", DOCKERFILE, re.MULTILINE)[-1]
    assert service["volumes"] == [f"../results:{workdir}/results"]


@pytest.mark.parametrize("name", ["ci.yml", "image.yml"])
def test_the_workflows_call_what_exists(name):
    jobs = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "docker":
            assert "metarl-harness" in words
            assert all((ROOT / word).is_file() for word in words if word.startswith("deploy/"))
        else:
            assert os.access(ROOT / words[0], os.X_OK), command
    assert commands
