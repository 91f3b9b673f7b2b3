"""The cluster files parse, and what they start exists: commands, flags, files, paths, versions."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

from harness.cli import parser, sweep
from harness.errors import UsageError
from harness.execution.ray.backend import connect

ROOT = Path(__file__).parents[2]
LAUNCHER, RAYJOB = "ray-cluster.yaml", "kuberay-rayjob.yaml"


def text(name):
    return (ROOT / "deploy" / name).read_text()


def harness_commands(name):
    """Every ``python -m harness.…`` of a file, comments too, as words."""
    found = re.findall(r"python -m (harness\.[^'\n]*)", text(name))
    return [shlex.split(command) for command in found]


@pytest.fixture
def rayjob():
    documents = {document["kind"]: document for document in yaml.safe_load_all(text(RAYJOB))}
    return documents["PersistentVolumeClaim"], documents["RayJob"]["spec"]


def pods(spec):
    cluster = spec["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_a_driver_outside_the_cluster_is_refused():
    with pytest.raises(UsageError, match="--address auto"):
        connect("ray://head:10001")


@pytest.mark.parametrize("name", [LAUNCHER, RAYJOB])
def test_the_harness_understands_the_commands(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    (command,) = harness_commands(name)
    assert "--address" in command
    if command[0] == "harness.run":
        config = parser.load_config(command[1:])
        assert config.execution.address == "auto"
        assert str(config.execution.storage) == "/shared/results"
    else:
        assert command[0] == "harness.sweep"
        options = sweep._parser().parse_args(command[1:])
        assert options.address == "auto"
        assert options.file.exists()


def test_ray_accepts_the_launcher_file_and_its_commands():
    config = yaml.safe_load(text(LAUNCHER))
    validate_config(prepare_config(config))
    for line in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        words = [word for word in shlex.split(line) if "=" not in word or word.startswith("--")]
        assert words[0] == "/shared/metarl-harness/.venv/bin/ray"
        command = ray_cli.commands[words[1]]
        command.make_context(words[1], words[2:])  # raises where a flag does not exist
    for line in re.findall(r"#\s+ray (up|exec|down) ", text(LAUNCHER)):
        assert line in ray_cli.commands
    assert "get-auth-token" in ray_cli.commands


def test_the_rayjob_runs_one_image_of_the_pinned_ray_with_a_token(rayjob):
    _, spec = rayjob
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    version = spec["rayClusterSpec"]["rayVersion"]
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().splitlines()
    images = {
        container["image"]
        for group in pods(spec)
        for container in group["template"]["spec"]["containers"]
    }
    assert images == {"REGISTRY/metarl-harness:TAG"}
    assert "REGISTRY/metarl-harness:TAG" in text("kuberay.Dockerfile")


def test_every_pod_writes_results_to_the_shared_volume(rayjob):
    claim, spec = rayjob
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in pods(spec):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert mounts["results"] == f"{container['workingDir']}/results"
        shared = volumes["results"]["persistentVolumeClaim"]["claimName"]
        assert shared == claim["metadata"]["name"]
        assert mounts.keys() == volumes.keys()


def test_the_size_of_the_cluster_is_fixed(rayjob):
    """A run counts the CPUs once: nodes that came later would not be used."""
    for group in rayjob[1]["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    config = yaml.safe_load(text(LAUNCHER))
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
