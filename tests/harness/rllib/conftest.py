"""The fixtures of the execution tests."""

from tests.harness.execution.conftest import _no_figures, _ray, faults, workplace

__all__ = ["_no_figures", "_ray", "faults", "workplace"]
