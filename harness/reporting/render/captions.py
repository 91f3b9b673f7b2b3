"""Title and caption of a table: protocol, statistics, provenance and missing cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.reporting.render.tables import shot_label
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import CONFIDENCE, MIN_SEEDS, REPLICATES
from harness.reporting.store.manifest import Manifest
from harness.types import AGENT, REFERENCE

FEW_SEEDS = 6
"""With fewer seeds the bootstrap has too few distinct outcomes to reach its nominal coverage."""
MAX_REASON = 300
"""Characters of a failure's reason that a caption quotes; the manifest has all of it."""


def title(table: Comparison, manifest: Manifest) -> str:
    """Return the distributions compared, marked if cells are not in the table."""
    dists = ", ".join(dist.versioned_name for dist in manifest.distributions)
    marks = ["INCOMPLETE"] if table.missing else []
    marks += [f"{len(table.failed)} FAILED"] if table.failed else []
    marks += [f"{len(table.stopped)} STOPPED"] if table.stopped else []
    return f"{dists} ({', '.join(marks)})" if marks else dists


def caption(table: Comparison, manifest: Manifest) -> tuple[str, ...]:
    """Return the paragraphs of the caption, most urgent first."""
    paragraphs = [*_absent_cells(table, manifest)]
    paragraphs += [f"{dist.protocol.rstrip('.')}." for dist in manifest.distributions]
    paragraphs.append(_scoring(table, manifest))
    paragraphs += _success(table, manifest)
    paragraphs += _statistics(table)
    paragraphs.append(_provenance(manifest))
    return tuple(" ".join(paragraph.split()) for paragraph in paragraphs)


def _absent_cells(table: Comparison, manifest: Manifest) -> Iterator[str]:
    total = len(manifest.cells)
    if table.missing:
        remedy = "Continue with --resume" if manifest.resumable else "This run cannot be resumed"
        yield (
            f"INCOMPLETE: {len(table.missing)} of {total} cells have no result yet "
            f"({', '.join(table.missing)}). {remedy}."
        )
    if table.failed:
        reasons = "; ".join(
            f"{key}: {reason[:MAX_REASON] or 'no reason recorded'}"
            for key, reason in table.failed.items()
        )
        lines = len(manifest.failed_references)
        attempted = f"{total + lines} cells and reference lines" if lines else f"{total} cells"
        yield (
            f"FAILED: {len(table.failed)} of {attempted} failed and are not included in any "
            f"number ({reasons})."
        )
    if table.stopped:
        when = "; ".join(f"{key}: {reason[:MAX_REASON]}" for key, reason in table.stopped.items())
        yield (
            f"STOPPED: a scheduler stopped {len(table.stopped)} of {total} cells early because of "
            f"their returns on training tasks. They are not included in any number ({when})."
        )


def _scoring(table: Comparison, manifest: Manifest) -> str:
    seeds = ", ".join(str(seed) for seed in manifest.seeds)
    tasks = " and ".join(f"{part.num_tasks} {part.split} tasks" for part in table.splits)
    sentences = [
        f"Return: undiscounted return of query episodes on {tasks}; higher is better.",
        f"Seeds: {seeds}.",
    ]
    evaluation: Mapping[str, Any] = manifest.config.get("evaluation", {})
    agents = table.frame["learner"].eq(AGENT)
    if "query_episodes" in evaluation:
        actions = "mean" if evaluation.get("deterministic") else "sampled"
        trained = not (agents | table.frame["learner"].eq(REFERENCE)).all()
        how = f", with {actions} actions" if trained else ""
        sentences.append(
            f"Each task has {evaluation['query_episodes']} query episodes per shot count{how}."
        )
    if agents.any():
        sentences.append(
            "Agents come from outside: how they act is theirs, and their parameters and training "
            "steps are as they declare them."
        )
    if "episodes_per_shot" in evaluation and len(table.shots) > 1:
        sentences.append(
            f"A shot is one adaptation step on {evaluation['episodes_per_shot']} new support "
            "episodes."
        )
        if (table.frame["adapter"] == "memory").any():
            sentences.append("For the memory adapter a shot is one support episode.")
    return " ".join(sentences)


def _success(table: Comparison, manifest: Manifest) -> Iterator[str]:
    name = manifest.config.get("evaluation", {}).get("protocol", "all")
    if name != "all":
        goals = " and ".join(
            f"{_goals(part.classes['goals'])} of every {part.split} class"
            for part in table.splits
            if not part.classes.empty
        )
        preview = " (a preview, not a benchmark result)" if name == "quick" else ""
        yield (
            f"Protocol {name}{preview}: the first {goals or 'goals of every class'}, with a fixed "
            "number of episodes each. Every episode counts."
        )
    if table.has_success:
        yield (
            "Success: a query episode succeeds if any of its steps does. Intervals of rates are "
            "the union of the bootstrap interval and Wilson's with one trial per task, because "
            "the bootstrap alone is too narrow near 0 and 1. A gain that is equal on all tasks "
            "has no interval. Numbers by class are means over few goals; classes.csv has Wilson's "
            "intervals with one trial per goal. Episodes of a task start in the same state, so "
            "with mean actions and no memory they are identical."
        )


def _goals(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low} goal{'s' * (low > 1)}" if low == high else f"{low} to {high} goals"


def _statistics(table: Comparison) -> Iterator[str]:
    rows = table.frame[table.frame["learner"] != REFERENCE]
    counts = [int(count) for count in rows["seeds"] if count > 0]
    rough = ""
    if min(counts, default=FEW_SEEDS) < FEW_SEEDS:
        rough = f" With fewer than {FEW_SEEDS} seeds they cover the mean less often than that."
    by_seeds = (
        "mean over episodes and tasks within each seed, then interquartile mean over seeds. "
        f"Intervals: {CONFIDENCE:.0%}, from {REPLICATES} bootstrap replicates of the seeds.{rough}"
    )
    by_tasks = (
        f"mean over episodes, tasks and seeds. Intervals: {CONFIDENCE:.0%}, from {REPLICATES} "
        "bootstrap replicates of the tasks; they do not cover the variation between seeds."
    )
    if all(count >= MIN_SEEDS for count in counts):
        yield f"Numbers: {by_seeds}"
    elif all(count < MIN_SEEDS for count in counts):
        yield f"Numbers (fewer than {MIN_SEEDS} seeds): {by_tasks}"
    else:
        yield f"Rows with {MIN_SEEDS} seeds or more: {by_seeds} Rows with fewer: {by_tasks}"
    last = table.shots[-1]
    if last:
        yield "Gain: return after K shots minus return after 0 shots, paired by seed and task."
    if (rows["improvement_over"] != "").any():
        yield (
            f"P: probability of improvement over the best other row at {shot_label(last)}; 0.5 is "
            "a tie (arXiv 2108.13264)."
        )
    yield (
        "Reference lines do not adapt and have the same value at every shot count; their intervals "
        "are over tasks. Parameters, training steps and wall time are means over seeds. Invalid: "
        "query episodes excluded because the simulation became unstable."
    )
    lost = rows.reindex(columns=["invalid_training_episodes", "skipped_updates"])
    if (lost > 0).any(axis=None):
        yield (
            "In training: such episodes, which nothing is learned from. Skipped: updates whose "
            "gradient was not finite."
        )


def _provenance(manifest: Manifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
    code = "an unknown git revision"
    if manifest.git is not None:
        dirty = " with uncommitted changes" if manifest.git.dirty else ""
        code = f"git revision {manifest.git.revision[:12]}{dirty}"
    config = f"configuration {manifest.config_hash[:12]}"
    return f"Created {manifest.created} by {code}, {config}; {versions}."
