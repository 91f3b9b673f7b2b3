"""What stands under a table: protocol, statistics, versions, and what is missing from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.reporting.stats.aggregate import REFERENCE, Comparison
from harness.reporting.stats.statistics import CONFIDENCE, MIN_SEEDS, REPLICATES
from harness.reporting.store.manifest import Manifest

FEW_SEEDS = 6
"""Below as many seeds, resampling them has too few distinct outcomes for exact intervals."""
MAX_REASON = 300
"""Characters of a failure's reason that a caption quotes; the manifest has all of it."""


def caption(table: Comparison, manifest: Manifest) -> tuple[str, ...]:
    """Return the paragraphs of the caption, most urgent first."""
    paragraphs = [*_gaps(table, manifest)]
    paragraphs += [f"{dist.protocol.rstrip('.')}." for dist in manifest.distributions]
    paragraphs.append(_scoring(table, manifest))
    paragraphs += _success(table, manifest)
    paragraphs += _statistics(table)
    paragraphs.append(_provenance(manifest))
    return tuple(" ".join(paragraph.split()) for paragraph in paragraphs)


def title(table: Comparison, manifest: Manifest) -> str:
    """Return what the table compares, with a marker if it is not the whole run."""
    dists = ", ".join(f"{dist.name}@{dist.version}" for dist in manifest.distributions)
    marks = ["INCOMPLETE"] if table.missing else []
    marks += [f"{len(table.failed)} FAILED"] if table.failed else []
    marks += [f"{len(table.stopped)} STOPPED"] if table.stopped else []
    return f"{dists} ({', '.join(marks)})" if marks else dists


def _gaps(table: Comparison, manifest: Manifest) -> Iterator[str]:
    total = len(manifest.cells)
    if table.missing:
        again = "continues with --resume" if manifest.resumable else "cannot be taken up again"
        yield (
            f"INCOMPLETE: {len(table.missing)} of {total} cells have no result yet "
            f"({', '.join(table.missing)}). The run {again}."
        )
    if table.failed:
        reasons = "; ".join(
            f"{key}: {reason[:MAX_REASON] or 'no reason recorded'}"
            for key, reason in table.failed.items()
        )
        lines = len(manifest.failed_references)
        what = f"{total + lines} cells and reference lines" if lines else f"{total} cells"
        yield f"FAILED: {len(table.failed)} of {what}, in none of the numbers ({reasons})."
    if table.stopped:
        whens = "; ".join(f"{key}: {when[:MAX_REASON]}" for key, when in table.stopped.items())
        yield (
            f"STOPPED: {len(table.stopped)} of {total} cells, early and by what they scored on "
            f"training tasks, in none of the numbers ({whens})."
        )


def _scoring(table: Comparison, manifest: Manifest) -> str:
    seeds = ", ".join(str(seed) for seed in manifest.seeds)
    tasks = " and ".join(f"{part.num_tasks} {part.split} tasks" for part in table.splits)
    text = f"Return: undiscounted, of a query episode on {tasks}, higher is better. Seeds: {seeds}."
    evaluation: Mapping[str, Any] = manifest.config.get("evaluation", {})
    if "query_episodes" in evaluation:
        text += f" Query episodes per task and number of shots: {evaluation['query_episodes']}"
        mean = evaluation.get("deterministic")
        text += ", mean actions." if mean else ", sampled actions."
    if "episodes_per_shot" in evaluation and len(table.shots) > 1:
        text += (
            f" A shot is one adaptation step on {evaluation['episodes_per_shot']} support "
            "episodes of its own."
        )
        if (table.frame["adapter"] == "memory").any():
            text += " With adapter memory it is one episode, whatever the protocol says."
    return text


def _success(table: Comparison, manifest: Manifest) -> Iterator[str]:
    name = manifest.config.get("evaluation", {}).get("protocol", "all")
    if name != "all":
        goals = " and ".join(
            f"{_goals(part.classes['goals'])} of every {part.split} class"
            for part in table.splits
            if not part.classes.empty
        )
        look = ", a first look and no benchmark result" if name == "quick" else ""
        yield (
            f"Protocol {name}{look}: the first {goals or 'goals of every class'}, a fixed number "
            "of episodes on each, every one counted."
        )
    if table.has_success:
        yield (
            "Success: at any step of a query episode. A rate's interval covers the bootstrap's and "
            "Wilson's (a trial per task): near 0 and 1 the bootstrap alone promises too much. A "
            "gain that is the same on all tasks has none. Rates and returns of single classes are "
            "means over few goals; classes.csv has Wilson's intervals (a trial per goal). Episodes "
            "of a task start alike: under mean actions and without memory they are one, repeated."
        )


def _goals(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low} goal{'s' * (low > 1)}" if low == high else f"{low} to {high} goals"


def _statistics(table: Comparison) -> Iterator[str]:
    rows = table.frame[table.frame["learner"] != REFERENCE]
    counts = [int(count) for count in rows["seeds"] if count > 0]
    rough = ", rough with so few" if min(counts, default=FEW_SEEDS) < FEW_SEEDS else ""
    by_seeds = (
        "mean over episodes and tasks within a seed, then interquartile mean over seeds; "
        f"{CONFIDENCE:.0%} intervals from {REPLICATES} bootstrap replicates of the seeds{rough}"
    )
    by_tasks = (
        f"mean over episodes, tasks and seeds; {CONFIDENCE:.0%} intervals from {REPLICATES} "
        "bootstrap replicates of the tasks, which say nothing about other seeds"
    )
    if all(count >= MIN_SEEDS for count in counts):
        yield f"Numbers: {by_seeds}."
    elif all(count < MIN_SEEDS for count in counts):
        yield f"Numbers (fewer than {MIN_SEEDS} seeds): {by_tasks}."
    else:
        yield f"Rows with {MIN_SEEDS} or more seeds: {by_seeds}. Rows with fewer: {by_tasks}."
    last = table.shots[-1]
    if last:
        yield "Gain: return after K shots minus return after 0 shots, paired by seed and task."
    if (rows["improvement_over"] != "").any():
        shots = "1 shot" if last == 1 else f"{last} shots"
        yield (
            f"P: probability of improvement over the best other row at {shots}, 0.5 is a tie "
            "(arXiv 2108.13264)."
        )
    yield (
        "Reference lines do not adapt: one value for every number of shots. Parameters, training "
        "steps and wall time are per seed. Invalid: query episodes whose physics went unstable, "
        "counted and left out."
    )


def _provenance(manifest: Manifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
    code = "no git revision"
    if manifest.git is not None:
        dirty = " with uncommitted changes" if manifest.git.dirty else ""
        code = f"git {manifest.git.revision[:12]}{dirty}"
    made = f"Made {manifest.created} by {code}, configuration {manifest.config_hash[:12]}"
    return f"{made}; {versions}."
