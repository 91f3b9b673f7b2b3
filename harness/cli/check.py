"""``python -m harness.check NAME``: run the conformance suite of one component."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from harness import conformance
from harness.agents.protocol import has
from harness.config.plugins import REGISTRIES
from harness.conformance.suite import Suite, Verdict
from harness.errors import EXIT_CODES, ExitCode, UsageError, run_command
from metarl_plugins import PluginError, choose_from, split

SUITES: dict[str, Callable[[str], type[Suite]]] = {
    "policy": conformance.policy_suite,
    "learner": conformance.learner_suite,
    "adapter": conformance.adapter_suite,
    "task_dist": conformance.task_dist_suite,
    "agent": conformance.agent_suite,
}
"""Family -> its suite."""
MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite and print a line for each test; return the exit code."""
    return run_command(lambda: _main(argv), hint="See python -m harness.check --help.")


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.check",
        description="Check that a policy, learner, adapter, agent or task distribution keeps what "
        "the harness relies on. Prints a line for each test; exit code 3 if one fails.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "name", help="a registered name, an entry point, module:factory or path/file.py:factory"
    )
    parser.add_argument("--family", choices=list(SUITES), help="what it is, if that is ambiguous")
    given = parser.parse_args(argv)
    if not __debug__:
        raise UsageError("python -O skips assertions: run it without -O")
    family = given.family or family_of(given.name)
    try:
        REGISTRIES[family].load(split(given.name)[1])
    except ValueError as error:
        raise UsageError(str(error)) from error
    verdicts = list(_printed(SUITES[family](given.name)))
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    sys.stdout.write(
        f"{family} {given.name}: {len(verdicts) - len(failed)} of {len(verdicts)} tests passed"
        f"{'' if given.family else ' (is it something else? give --family)'}\n"
        if failed
        else f"{family} {given.name} conforms\n"
    )
    return ExitCode.CELLS_FAILED if failed else ExitCode.COMPLETE


def _printed(suite: type[Suite]) -> Iterator[Verdict]:
    for verdict in suite.verdicts():
        detail = f": {verdict.detail}" if verdict.detail else ""
        sys.stdout.write(f"{MARKS[verdict.outcome]:8}{verdict.test}{detail}\n")
        sys.stdout.flush()
        yield verdict


def family_of(name: str) -> str:
    """Return the family that ``name`` belongs to.

    Raises:
        UsageError: it belongs to none, or to several.
    """
    known = [family for family in SUITES if split(name)[1] in REGISTRIES[family].names()]
    if not known and ":" in split(name)[1]:
        known = [family for family in SUITES if _fits(family, name)]
    if len(known) == 1:
        return known[0]
    if known:
        raise UsageError(f"{name} is a {' and a '.join(known)}: choose one by --family")
    if ":" in name:
        raise UsageError(
            f"{name} is no factory of policies or task distributions, no LearnerSpec, no "
            f"AdapterSpec and no class of agents; give --family {'|'.join(SUITES)} to be told "
            "what it lacks"
        )
    names = [known for family in SUITES for known in REGISTRIES[family].names()]
    choices = choose_from(name, names, "or module:factory, or path/file.py:factory")
    raise UsageError(f"unknown component {name!r}{choices}")


def _fits(family: str, name: str) -> bool:
    """Return whether what ``name`` stands for looks like a member of ``family``."""
    from harness.config.components import Family, settings_class

    found = REGISTRIES[family].load(name)  # raises if it cannot be imported
    if family == "agent":  # a function that makes agents looks like many others
        return has(found, "act") or has(found, "eval_action")
    key: Family = "env" if family == "task_dist" else family  # type: ignore[assignment]
    try:
        settings_class(key, name)
    except PluginError:
        return False
    return True
