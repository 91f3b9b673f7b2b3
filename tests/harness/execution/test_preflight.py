"""Runs that could never start are refused before anything is loaded."""

import pytest

from harness.config.schema import ExecutionConfig
from harness.errors import UsageError
from harness.execution import preflight


@pytest.fixture(autouse=True)
def _two_cpus(monkeypatch):
    monkeypatch.setattr(preflight, "available_cpus", lambda: 2)


def test_more_workers_than_cpus_are_refused_on_this_machine_only():
    preflight.preflight(ExecutionConfig(num_workers=2))
    preflight.preflight(ExecutionConfig(num_workers=3, backend="local"))
    preflight.preflight(ExecutionConfig(num_workers=3, address="auto"))
    with pytest.raises(UsageError, match="--num-workers 3"):
        preflight.preflight(ExecutionConfig(num_workers=3))


@pytest.mark.parametrize(
    ("settings", "package"),
    [({}, "tensorboardX"), ({"tensorboard": False, "wandb": True}, "wandb")],
)
def test_tracking_without_its_package_is_refused(monkeypatch, settings, package):
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=package):
        preflight.preflight(ExecutionConfig(**settings))
