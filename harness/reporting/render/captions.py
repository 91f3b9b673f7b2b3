"""Title and caption of a table: protocol, statistics, provenance and missing cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.reporting.render.tables import decimals, oracle_name, shot_label
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import CONFIDENCE, MANY, POWER
from harness.reporting.store.manifest import Manifest
from harness.reporting.text import is_number, span
from harness.types import AGENT, REFERENCE

MAX_REASON = 300
"""Characters of a failure's reason that a caption quotes; the manifest has all of it."""


def title(table: Comparison, manifest: Manifest) -> str:
    """Return the distributions compared, marked if cells are not in the table."""
    dists = ", ".join(dist.versioned_name for dist in manifest.distributions)
    marks = ["INCOMPLETE"] if table.missing else []
    marks += [f"{len(table.failed)} FAILED"] if table.failed else []
    marks += [f"{len(table.stopped)} STOPPED"] if table.stopped else []
    return f"{dists} ({', '.join(marks)})" if marks else dists


def caption(
    table: Comparison, manifest: Manifest, runs: Mapping[str, Manifest] | None = None
) -> tuple[str, ...]:
    """Return the paragraphs of the caption, most urgent first.

    Args:
        table: the table, with those of other splits.
        manifest: of its cells.
        runs: the runs it was made from by name, if it compares several.
    """
    paragraphs = [*_absent_cells(table, manifest)]
    paragraphs += [f"{dist.protocol.rstrip('.')}." for dist in manifest.distributions]
    paragraphs.append(_scoring(table, manifest))
    paragraphs += _success(table, manifest)
    paragraphs += _statistics(table)
    if runs is None:
        paragraphs.append(_provenance(manifest))
    else:
        paragraphs += [f"{name}: {_provenance(run)}" for name, run in runs.items()]
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
        metric = manifest.scheduling.get("metric")
        tasks = "validation" if metric == "validation_return" else "training"
        yield (
            f"STOPPED: a scheduler stopped {len(table.stopped)} of {total} cells early because of "
            f"their returns on {tasks} tasks. They are not included in any number ({when})."
        )


def _scoring(table: Comparison, manifest: Manifest) -> str:
    seeds = ", ".join(str(seed) for seed in manifest.seeds)
    tasks = " and ".join(span([part.num_tasks], f"{part.split} task") for part in table.splits)
    sentences = [
        f"Return: undiscounted return of query episodes on {tasks}; higher is better.",
        f"Seeds: {seeds}.",
    ]
    evaluation: Mapping[str, Any] = manifest.config.get("evaluation", {})
    agents = table.frame["learner"].str.partition(" ")[0].eq(AGENT)
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
            f"{span(part.classes['goals'], 'goal')} of every {part.split} class"
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
            "Success: a query episode succeeds if any of its steps does. Rates are means over the "
            "tasks of a class, then over classes, then over seeds. Where all seeds have the same "
            "rate, the interval is Wilson's with one trial per class. Numbers by class are means "
            "over few goals; classes.csv has Wilson's intervals with one trial per goal. Episodes "
            "of a task start in the same state, so with mean actions and no memory they are "
            "identical."
        )


def _statistics(table: Comparison) -> Iterator[str]:
    rows = table.frame[table.frame["learner"] != REFERENCE]
    counts = [int(count) for count in rows["seeds"] if count > 0]
    numbers = "Numbers: mean over episodes and tasks within each seed, then over seeds."
    yield f"{numbers} {_seeds(counts)}"
    yield from _power(table)
    last = table.shots[-1]
    if last:
        yield (
            "Gain: return after K shots minus return after 0 shots, seed by seed. Test steps: "
            f"environment steps of one task's support episodes before it is scored at "
            f"{shot_label(last)}."
        )
    if table.oracle is not None:
        yield (
            f"Regret: return of {oracle_name(table)} minus return of the row, after as many shots, "
            "seed by seed where both have the same seeds (else Welch's interval)."
        )
    if not table.improvement.empty:
        yield (
            f"P: probability that the row beats the column on a test task at {shot_label(last)} "
            "with a seed of each drawn at random; 0.5 is a tie (arXiv 2108.13264). Rows that "
            f"observe the task are left out. Intervals need {MANY} seeds a row."
        )
    yield (
        "Reference lines do not adapt and have the same value at every shot count. They are not "
        "trained, so they have no interval over seeds. Parameters, training steps and wall time "
        "are means over seeds. Invalid: query episodes excluded because the simulation became "
        "unstable."
    )
    lost = rows.reindex(columns=["invalid_training_episodes", "skipped_updates"])
    if (lost > 0).any(axis=None):
        yield (
            "In training: such episodes, which nothing is learned from. Skipped: updates whose "
            "gradient was not finite."
        )


def _seeds(counts: list[int]) -> str:
    if not counts:
        return ""
    if max(counts) < 2:
        return (
            "One seed: no interval, since another seed may differ by more than the rows of this "
            "table do."
        )
    one = " Rows of one seed have none." if min(counts) < 2 else ""
    n = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    return f"Intervals: {CONFIDENCE:.0%}, Student's t over the seeds of the row (n = {n}).{one}"


def _power(table: Comparison) -> Iterator[str]:
    if not is_number(table.detectable) or not table.detectable:
        return
    digits = decimals([table.detectable])
    yield (
        f"What could have been seen: the standard deviation between seeds is "
        f"{table.seed_sd:.{digits}f} (pooled over rows), so a difference of "
        f"{table.detectable:.{digits}f} between two rows is found with a probability of "
        f"{POWER:.0%} (two-sided t test at 5%, paired by seed)."
    )


def _provenance(manifest: Manifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
    code = "an unknown git revision"
    if manifest.git is not None:
        code = f"git revision {manifest.git.short}"
    config = f"configuration {manifest.config_hash[:12]}"
    return f"Created {manifest.created} by {code}, {config}; {versions}."
