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
