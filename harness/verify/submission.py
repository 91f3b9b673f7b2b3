"""Submissions and their divisions, after MLPerf's: closed by our rules, open with any declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, ConfigDict, Field
from pydantic.dataclasses import dataclass

from harness.config import strict_yaml, validation
from harness.config.components import settings_class
from harness.config.protocol import has_classes
from harness.config.schema import OFFICIAL_EPISODES, RunConfig
from harness.errors import UsageError
from harness.reporting.store.checksums import SUBMISSION_FILE
from harness.reporting.store.manifest import CellInfo, Manifest
from harness.types import AGENT
from harness.verify.contents import Expectation
from harness.verify.opening import OpenCell
from task_distributions import REGISTRY

SUBMISSIONS = "submissions"
"""Folder whose folders are submissions."""
SEEDS = 5
"""Fewest seeds of a row in the closed division."""
SHOTS = (0, 1, 10)
"""Numbers of shots that the closed division scores after, at least."""
EPISODES = {"episodes_per_shot": 10, "query_episodes": 5}
"""Episodes of the closed division; Meta-World has those of its official protocol."""
ENV_STEPS, META_WORLD_ENV_STEPS = 5_000_000, 10_000_000
"""Most environment steps of training in the closed division."""
OVERSHOOT = 1.1
"""How far the last iteration may go, as a multiple of them."""

Line = Annotated[str, Field(min_length=1, max_length=300)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Submission:
    """``submission.yaml``."""

    who: Line
    """Authors, as the leaderboard shows them."""
    link: AnyHttpUrl
    """Code or paper."""
    division: Literal["closed", "open"]
    declared: str = ""
    """What was done differently from the closed division's rules; required in the open one."""


def read_submission(folder: Path) -> Submission | None:
    """Return what ``submission.yaml`` says; None if the folder is no submission.

    Raises:
        UsageError: it is missing, or not valid; with file and line.
    """
    path = folder / SUBMISSION_FILE
    if not path.is_file():
        if folder.resolve().parent.name == SUBMISSIONS:
            raise UsageError(f"{path} is missing: say who, link and division")
        return None
    document = strict_yaml.read(path)
    found: Submission = validation.typed(Submission, document.values, document.lines)
    if found.division == "open" and not found.declared.strip():
        raise UsageError(f"{path}: the open division needs 'declared': what differs from the rules")
    return found


def obstacles_to_closed(manifest: Manifest, cells: Mapping[str, OpenCell]) -> Iterator[str]:
    """Yield why a run does not belong to the closed division.

    Args:
        manifest: of the run.
        cells: its cells by key, reference lines apart.
    """
    reasons: dict[str, list[str]] = {}
    for key, cell in cells.items():
        for reason in _cell_obstacles(cell):
            reasons.setdefault(reason, []).append(key)
    for reason, keys in reasons.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"{keys[0]}{more}: {reason}"
    yield from _seed_obstacles(manifest.cells.values())


def _cell_obstacles(cell: OpenCell) -> Iterator[str]:
    if cell.info.status != "ok":
        yield f"it is {cell.info.status}"
    if cell.info.learner == AGENT or cell.info.checkpoint:
        yield "it was not trained by this run"
    if cell.config is None:
        yield cell.wrong or cell.obstacle
        return
    if cell.obstacle:
        yield f"it cannot be played again: {cell.obstacle}"
    yield from _protocol_obstacles(cell, cell.config)


def _protocol_obstacles(cell: OpenCell, config: RunConfig) -> Iterator[str]:
    evaluation = config.evaluation
    if not REGISTRY.is_built_in(config.task_dist):
        yield f"{config.label} is not one of the listed task distributions"
        return
    if config.env != settings_class("env", config.task_dist)():
        yield f"{config.label} does not have its default settings"
    classes = has_classes(Expectation(cell, config).dist)
    wanted: dict[str, Any] = {
        **(OFFICIAL_EPISODES if classes else EPISODES),
        "protocol": "official" if classes else "all",
        "deterministic": True,
    }
    for name, value in wanted.items():
        if getattr(evaluation, name) != value:
            yield f"{name} is {getattr(evaluation, name)}, not {value}"
    if "test" not in evaluation.splits or config.test_tasks is not None:
        yield "not all test tasks were scored"
    if not set(SHOTS) <= set(evaluation.shots):
        yield f"it was not scored after {', '.join(map(str, SHOTS))} shots"
    limit = META_WORLD_ENV_STEPS if classes else ENV_STEPS
    curve = cell.folder.read_curve()
    before, end = (curve[-n].env_steps if len(curve) >= n else 0 for n in (2, 1))
    if before >= limit or end > OVERSHOOT * limit:  # the last iteration may pass the limit
        yield f"it was trained for {end} environment steps; at most {limit}"


def _seed_obstacles(cells: Iterable[CellInfo]) -> Iterator[str]:
    """Yield which rows have too few seeds, or a choice of them."""
    rows: dict[tuple[str, str, str], set[int]] = {}
    for info in cells:
        rows.setdefault((info.table, info.policy, info.row_learner), set()).add(info.seed)
    every = set().union(*rows.values())
    if every != set(range(min(every), max(every) + 1)):
        yield f"seeds {sorted(every)} are not consecutive"
    for (_, policy, learner), seeds in rows.items():
        if len(seeds) < SEEDS:
            yield f"{policy} {learner}: {len(seeds)} seeds; at least {SEEDS}"
        elif seeds != every:
            yield f"{policy} {learner}: without seeds {sorted(every - seeds)} of the other rows"
