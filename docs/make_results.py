"""Write docs/results.md from results.md.in and results/published: ``python docs/make_results.py``.

The words are the template's. Numbers come from the published tables alone, so that a row that was
not trained is missing here too. The constants of normalised scores that rest on these tables are
written as well.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from tabulate import tabulate

from harness.config import sweep_file
from harness.config.sweep_file import PlannedCell
from harness.reporting.compare import compare
from harness.reporting.rebuild import load_tables
from harness.reporting.render.across import write_across_figures
from harness.reporting.stats.across import CONSTANTS_FILE, Across, across
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import Estimate, estimate, student
from harness.reporting.stats.scores import ScoreMatrix, difference, of_row, seed_matrix
from harness.reporting.store.manifest import Manifest
from harness.reporting.text import short_count, span
from harness.verify.findings import Verified

ROOT = Path(__file__).parents[1]
PUBLISHED, SWEEPS = ROOT / "results/published", ROOT / "tune_configs/published"
STUDIES = ROOT / "results/studies"
"""Runs that answer one question, and would be in the way of a comparison of published folders."""
FAMILIES = (
    *("halfcheetah-vel", "halfcheetah-gravity", "walker2d-vel", "imujoco-halfcheetah"),
    *("ant-vel", "ant-dir", "ant-mass", "imujoco-ant"),
    *("metaworld-ml10", "metaworld-ml45"),
)
REDEFINED = ("halfcheetah-gravity-1", "ant-mass-1")
"""Earlier versions of distributions, which stand in the margins alone."""
SPARSE = "point_goal-sparse"
EXTRA = ("point_goal", SPARSE)
"""Published folders beside the ten distributions."""
SHOTS = (0, 1, 10)
LEAST_SHARE = 0.1
"""Least part of the way from the zero action to the oracle that a margin should be."""


@dataclass(frozen=True, slots=True)
class Margin:
    """What knowing the task is worth: the oracle's return minus multitask's, of one policy."""

    policy: str
    zero: float
    multitask: float
    oracle: float
    difference: Estimate
    seeds: int
    steps: float
    seconds: float
    """Wall time of training and scoring, of a cell of the two rows."""

    @property
    def share(self) -> float:
        """Its part of the way from the zero action to the oracle."""
        return self.difference.point / (self.oracle - self.zero)

    @property
    def clear(self) -> bool:
        """Whether it is large enough and more than noise, which one seed cannot say."""
        return self.share >= LEAST_SHARE and self.difference.low > 0

    @property
    def text(self) -> str:
        """The difference with its interval, or alone for one seed."""
        return _shown(self.difference)


def main() -> None:
    """Write the constants, and the page and its figures, which use them."""
    CONSTANTS_FILE.write_text(constants(CONSTANTS_FILE.read_text("utf-8")), encoding="utf-8")
    (ROOT / "docs/results.md").write_text(page(), encoding="utf-8")
    for part in _across(_published(FAMILIES)):
        if part.suite == "all":
            write_across_figures(part, ROOT / "docs/images/across")


def constants(text: str) -> str:
    """Return the file of constants with those that published tables give.

    Its version is raised if one of them changes.
    """
    changed = text
    for name in _published((*FAMILIES, *REDEFINED)):
        table = table_of(name)
        if table.oracle is None or table.has_success:
            continue
        frame = table.frame
        (_, best), *_ = of_row(frame, table.oracle).iterrows()
        zero = frame.set_index("policy").loc["zero-action"]
        measured = {
            "zero": (zero["return_0"], "zero-action", 1, 0.0),
            "one": (best["return_0"], f"{best.policy} oracle", best.seeds, best.train_env_steps),
        }
        for key, (value, row, seeds, steps) in measured.items():
            line = (
                f"{key}: {{value: {value:.1f}, row: {row}, seeds: {int(seeds)}, "
                f"env_steps: {steps:.4g}, source: results/published/{name}}}"
            )
            block = f"{versioned_name(name)}:\n"
            changed = re.sub(rf"(  {block}(?:    .*\n)*?    ){key}: .*", rf"\1{line}", changed)
    if changed == text:
        return text
    return re.sub(r"(?m)^version: (\d+)$", lambda found: f"version: {int(found[1]) + 1}", changed)


def page() -> str:
    """Return the page as the published records make it."""
    template = Template((ROOT / "docs/results.md.in").read_text(encoding="utf-8"))
    names, more = _published(FAMILIES), _published(EXTRA)
    suites = _across(names)
    values = {
        "margins": _margin_table([*names, *_published(REDEFINED), *_published([SPARSE])]),
        "gains": _gains_table(names),
        "across": _across_table(suites),
        "pairs": _pairs_table(suites),
        "policies": _policies_table(names),
        "memory": _memory_table(names),
        "hidden_goals": _hidden_goals_table(name for name in names if "metaworld" in name),
        "control": _above_multitask(study("control")[0], "gru", "mlp", max(SHOTS)),
        "repeated": _repeated(names),
        "tables": "\n".join(line for name in [*names, *more] for line in _sections(name)),
        "coverage": _coverage(),
        "hours": _hours(names),
        "plan": _plan(names),
        "outside": _outside(),
        "outside_elsewhere": _outside_elsewhere(),
        "adapters": _adapters(),
        "hybrid_lead": _hybrid_lead(study("adaptation")[-1]),
        "ml10_gru": _over_classes("gru"),
        "ml10_ssm": _over_classes("ssm"),
        "vel_gru": _gain("halfcheetah-vel", "gru"),
        "vel_ssm": _gain("halfcheetah-vel", "ssm"),
        "imujoco_gru": _gain("imujoco-halfcheetah", "gru"),
        "imujoco_ssm": _gain("imujoco-halfcheetah", "ssm"),
        "walker_gru": _gain("walker2d-vel", "gru"),
        "walker_ssm": _gain("walker2d-vel", "ssm"),
        "sparse_gain": _gain(SPARSE, "gru"),
        "sparse_share": _share(SPARSE, "gru"),
        "gravity_gru": _gain("halfcheetah-gravity", "gru"),
        "gravity_ssm": _gain("halfcheetah-gravity", "ssm"),
        "vel_less": _rl2_difference("halfcheetah-vel", ("gru", 0), ("ssm", 0)),
        "gravity_less": _rl2_difference("halfcheetah-gravity", ("gru", 0), ("ssm", 0)),
        "walker_more": _rl2_difference("walker2d-vel", ("ssm", 0), ("gru", 0)),
        "imujoco_more": _rl2_difference("imujoco-halfcheetah", ("ssm", 0), ("gru", 0)),
        "later_shots": _rl2_difference("halfcheetah-vel", ("gru", 10), ("gru", 0)),
        "sparse_shots": _sparse_gains(),
        "walker_oracle": _score("walker2d-vel", "gru", "oracle", 0),
        "vel_finetune": _score("halfcheetah-vel", "gru", "finetune", 10),
        "above_multitask": _above_multitask(
            study("out_of_distribution")[0].others[0], "pretrained-gru", "pretrained-mlp"
        ),
    }
    return template.substitute(values | _off_policy())


@functools.cache
def table_of(name: str) -> Comparison:
    """Return the one table of a published folder."""
    (table,) = load_tables(PUBLISHED / name)
    return table


def versioned_name(name: str) -> str:
    """Return ``name@version`` of the one distribution of a published folder."""
    (dist,) = Manifest.load(PUBLISHED / name).distributions
    return dist.versioned_name


@functools.cache
def study(name: str) -> tuple[Comparison, ...]:
    """Return the tables of a run that answers one question."""
    return tuple(load_tables(STUDIES / name))


@functools.cache
def planned_cells(name: str) -> tuple[PlannedCell, ...]:
    """Return the cells of the sweep that trains a published folder."""
    return sweep_file.load(SWEEPS / f"{name}.yaml").cells


def of_known_classes(table: Comparison) -> Comparison:
    """Return the part of a table whose tasks are of classes that were trained on.

    The goal of a test class of Meta-World means nothing to an oracle: it never trained on one.
    """
    return next((part for part in table.splits if part.split == "train"), table)


def margins(table: Comparison) -> Iterator[Margin]:
    """Yield the margin of every policy that has an oracle and a multitask row."""
    table = of_known_classes(table)
    frame = table.frame
    zero = frame.set_index("policy")["return_0"].get("zero-action", math.nan)
    for policy in dict.fromkeys(table.seed_scores["policy"]):
        oracle, multitask = (_by_seed(table, policy, name) for name in ("oracle", "multitask"))
        if oracle.seeds and multitask.seeds:
            pair = frame["learner"].str.partition(" ")[0].isin(["oracle", "multitask"])
            own = frame[(frame["policy"] == policy) & pair]
            yield Margin(
                policy=policy,
                zero=zero,
                multitask=estimate(multitask.values).point,
                oracle=estimate(oracle.values).point,
                difference=difference(oracle, multitask),
                seeds=min(len(oracle.seeds), len(multitask.seeds)),
                steps=own["train_env_steps"].max(),
                seconds=own["wall_seconds"].mean(),
            )


def margin_lines(version: str) -> Iterator[str]:
    """Yield a line for each margin in results/published."""
    for name in sorted(folder.name for folder in PUBLISHED.iterdir()):
        if versioned_name(name) == version:
            for margin in margins(table_of(name)):
                yield (
                    f"Margin (oracle − multitask): {margin.text}, {margin.policy}, "
                    f"{span([margin.seeds], 'seed')} "
                    f"([{name}](../../results/published/{name}/table.md))."
                )


def _by_seed(table: Comparison, policy: str, learner: str, shots: int = 0) -> ScoreMatrix:
    """Return the returns by seed and task after some shots; of two such rows is an error."""
    scores = table.task_scores
    named = scores["learner"].str.partition(" ")[0] == learner  # settings may follow its name
    return seed_matrix(scores[named & (scores["policy"] == policy) & (scores["shots"] == shots)])


def _margin_table(names: Iterable[str]) -> str:
    rows = []
    for name in names:
        for margin in margins(table_of(name)):
            shown = percent(margin.share)
            rows.append(
                (
                    f"`{versioned_name(name)}`",
                    margin.policy,
                    *map(number, (margin.zero, margin.multitask, margin.oracle)),
                    margin.text,
                    shown if margin.clear else f"**{shown}**",
                    margin.seeds,
                    short_count(margin.steps),
                    f"{margin.seconds / 60:.0f}",
                )
            )
    heads = "distribution|policy|zero action|multitask|oracle|margin|share|seeds|steps"
    return _markdown(f"{heads}|minutes a cell", rows, left=2)


def _gains_table(names: Iterable[str]) -> str:
    """Return how far each row that adapts is above the multitask row of the mlp."""
    rows = []
    for name in names:
        table = of_known_classes(table_of(name))
        last = table.shots[-1]
        multitask = _by_seed(table, "mlp", "multitask")
        margin = next((m for m in margins(table) if m.policy == "mlp"), None)
        if margin is None:
            continue
        for policy, learner in dict.fromkeys(
            zip(table.seed_scores["policy"], table.seed_scores["learner"], strict=True)
        ):
            if learner not in ("rl2", "maml", "finetune"):
                continue
            scores = _by_seed(table, policy, learner, last)
            gain = difference(scores, multitask)
            share = percent(gain.point / margin.difference.point) if margin.clear else "–"
            row = (f"{policy} / {learner}", _shown(gain), share, len(scores.seeds))
            rows.append((f"`{name}`", *row))
    return _markdown("distribution|row|above multitask|of the margin|seeds", rows, left=2)


def _published(names: Iterable[str]) -> list[str]:
    """Return those of which there is a published folder."""
    return [name for name in names if (PUBLISHED / name).exists()]


def _across(names: Iterable[str]) -> list[Across]:
    """Return the aggregates over each suite of distributions."""
    return across({versioned_name(name): table_of(name) for name in names})


def _across_table(parts: Iterable[Across]) -> str:
    """Return the normalised scores over each suite of distributions."""
    rows = []
    for part in parts:
        for row in part.frame.to_dict("records"):
            columns = ["iqm_0", f"iqm_{part.shots[-1]}", "optimality_gap"]
            label = f"{row['policy']} / {row['learner']}"
            rows.append((part.suite, label, *(f"{row[c]:.2f}" for c in columns), int(row["runs"])))
    heads = "suite|row|IQM, 0 shots|IQM, 10 shots|optimality gap|runs"
    return _markdown(heads, rows, left=2)


def _pairs_table(parts: Iterable[Across]) -> str:
    """Return on what share of all distributions one row is ahead of another."""
    part = next(part for part in parts if part.suite == "all")
    rows = [
        (
            f"{pair['policy']} / {pair['learner']}",
            f"{pair['over_policy']} / {pair['over_learner']}",
            f"{pair['probability']:.2f}",
        )
        for pair in part.improvement.to_dict("records")
        if pair["probability"] >= 0.5
    ]
    return _markdown("row|ahead of|probability", rows, left=2)


def _hidden_goals_table(names: Iterable[str]) -> str:
    """Return success on the training classes of Meta-World with and without a hidden goal."""
    rows = []
    for name in names:
        classes = of_known_classes(table_of(name)).classes
        card = (ROOT / f"docs/tasks/{name}.md").read_text(encoding="utf-8")
        (listed,) = re.findall(r"training classes: (.*)\.\n", card)
        visible = classes["class"].isin(listed.split(", "))
        for (policy, learner), own in classes.groupby(["policy", "learner"], sort=False):
            if learner != "reference":
                columns = ("success_0", "success_10")
                rates = [
                    own.loc[visible == seen, c].mean() for seen in (True, False) for c in columns
                ]
                rows.append((f"`{name}`", f"{policy} / {learner}", *map(percent, rates)))
    heads = "distribution|row|goal visible, K = 0|K = 10|goal hidden, K = 0|K = 10"
    return _markdown(heads, rows, left=2)


def _policies_table(names: Iterable[str]) -> str:
    """Return by how much rl2 of each policy is above that of the gru, after 0 shots."""
    others, rows = ("ssm", "lstm", "transformer", "mingru", "selective_ssm"), []
    for name in names:
        table = of_known_classes(table_of(name))
        scores = [_by_seed(table, policy, "rl2") for policy in ("gru", *others)]
        cells = [
            f"{_shown(difference(own, scores[0]))} ({len(own.seeds)})" if own.seeds else "–"
            for own in scores[1:]
        ]
        rows.append((f"`{name}`", *cells, len(scores[0].seeds)))
    heads = ["distribution", *(f"{policy} (seeds)" for policy in others), "seeds of gru"]
    return _markdown("|".join(heads), rows)


def _memory_table(names: Iterable[str]) -> str:
    """Return what rl2 and maml of the same policy score, and after how many test-time steps."""
    rows = []
    for name in names:
        frame = of_known_classes(table_of(name)).frame
        own = frame[frame["learner"].isin(["rl2", "maml"]) & (frame["seeds"] > 0)]
        for policy, pair in own.groupby("policy", sort=False):
            if len(pair) == 2:
                for row in pair.to_dict("records"):
                    cells = [
                        f"{_shown(_estimate(row, f'return_{count}'))} "
                        f"({short_count(row[f'test_steps_{count}'])})"
                        for count in SHOTS
                    ]
                    rows.append((f"`{name}`", f"{policy} / {row['learner']}", *cells))
    return _markdown("distribution|row|K = 0 (steps)|K = 1|K = 10", rows, left=2)


def _rl2_difference(name: str, row: tuple[str, int], other: tuple[str, int]) -> str:
    """Return by how much rl2 scores more than another, each a policy after some shots."""
    table = table_of(name)
    own, others = (_by_seed(table, policy, "rl2", shots) for policy, shots in (row, other))
    return _shown(difference(own, others))


def _score(name: str, policy: str, learner: str, shots: int) -> str:
    """Return the return of a row after some shots."""
    return _shown(estimate(_by_seed(table_of(name), policy, learner, shots).values))


def _gain(name: str, policy: str) -> str:
    """Return how far rl2 after the most shots is above multitask of the mlp."""
    return _above_multitask(table_of(name), policy, "mlp", max(SHOTS))


def _share(name: str, policy: str) -> str:
    """Return which part of the margin of the mlp rl2 gains over multitask after the most shots."""
    table = table_of(name)
    (margin,) = (each for each in margins(table) if each.policy == "mlp")
    gain = _lead(table, policy, "mlp", max(SHOTS))
    return percent(gain.point / margin.difference.point).replace("%", " %")


def _over_classes(policy: str) -> str:
    """Return the success of rl2 on ML10's test classes after the most shots, in per cent."""
    classes = table_of("metaworld-ml10").classes
    own = classes[(classes["policy"] == policy) & (classes["learner"] == "rl2")]
    found = student(100.0 * own[f"success_{max(SHOTS)}"].to_numpy(np.float64))
    return _shown(replace(found, low=max(found.low, 0.0)))


def _sparse_gains() -> str:
    """Return what each number of shots adds to the return of rl2 on point_goal-sparse."""
    shots = [count for count in table_of(SPARSE).shots if count]
    gains = [_rl2_difference(SPARSE, ("gru", count), ("gru", 0)) for count in shots]
    return ", ".join(f"{gain} ({count})" for count, gain in zip(shots, gains, strict=True))


def _above_multitask(
    table: Comparison, policy: str, memoryless: str, shots: int = 0, learner: str = "rl2"
) -> str:
    """Return by how much a row is above multitask of another policy, as text."""
    return _shown(_lead(table, policy, memoryless, shots, learner))


def _lead(
    table: Comparison, policy: str, memoryless: str, shots: int, learner: str = "rl2"
) -> Estimate:
    own = _by_seed(table, policy, learner, shots)
    return difference(own, _by_seed(table, memoryless, "multitask", shots))


def _outside() -> str:
    """Return a table of scores on the test tasks, on those out of distribution, and the gap."""
    (table,) = study("out_of_distribution")
    test, ood = (part.frame.to_dict("records") for part in table.splits)
    rows = []
    for inside, outside in zip(test, ood, strict=True):
        columns = ((inside, "return_0"), (outside, "return_0"), (outside, "gap_0"))
        scores = [Estimate(*(r[f"{c}{end}"] for end in ("", "_low", "_high"))) for r, c in columns]
        label = " / ".join(filter(None, (inside["policy"], inside["learner"])))
        rows.append((label.removeprefix("pretrained-"), *map(_shown, scores)))
    return _markdown("row|test tasks|out of distribution|difference", rows)


def _outside_elsewhere() -> str:
    """Return by how much rows are above multitask on test tasks, and on those outside the range."""
    rows = []
    for folder in sorted(STUDIES.glob("out_of_distribution-*")):
        (table,) = study(folder.name)
        name = folder.name.partition("-")[2]
        for policy, learner in (("gru", "rl2"), ("ssm", "rl2"), ("mlp", "oracle")):
            above = [
                _above_multitask(part, f"pretrained-{policy}", "pretrained-mlp", learner=learner)
                for part in table.splits
            ]
            rows.append((f"`{name}`", f"{policy} / {learner}", *above))
    return _markdown("distribution|row|test tasks|out of distribution", rows, left=2)


def _adapters() -> str:
    """Return a table of both adapters' scores and gains, and of hybrid's lead at the end."""
    rows = []
    for table in study("adaptation"):
        above = {"hybrid": _hybrid_lead(table)}
        for row in table.frame.to_dict("records"):
            if row["adapter"] in ("gradient", "hybrid"):
                columns = [*(f"return_{count}" for count in SHOTS), f"gain_{max(SHOTS)}"]
                scores = [_shown(_estimate(row, column)) for column in columns]
                name = f"`{row['task_dist']}`"
                rows.append((name, row["adapter"], *scores, above.get(row["adapter"], "")))
    heads = [f"K = {count}" for count in SHOTS]
    heads = ["distribution", "adapter", *heads, "gain", "above gradient"]
    return _markdown("|".join(heads), rows, left=2)


def _hybrid_lead(table: Comparison) -> str:
    """Return by how much hybrid is above gradient after the most shots, paired by seed."""
    ends = table.task_scores[table.task_scores["shots"] == max(SHOTS)]
    hybrid, gradient = (
        seed_matrix(ends[ends["adapter"] == name]) for name in ("hybrid", "gradient")
    )
    return _shown(difference(hybrid, gradient))


def _off_policy() -> dict[str, str]:
    """Return a table of rsac, rl2 and RLlib's rows, and by how much our rl2 is above RLlib's."""
    (table,) = compare([STUDIES / name for name in ("off_policy", "rllib")]).tables.values()
    ours, theirs = (_by_seed(table, policy, "rl2") for policy in ("lstm", "rllib-lstm"))
    return {"off_policy": _scores(table), "over_rllib": _shown(difference(ours, theirs))}


def _sections(name: str) -> Iterator[str]:
    table = table_of(name)
    yield f"### {table.task_dist}\n"
    for part in table.splits:
        yield from _section(name, part, f" on {part.split} tasks" * bool(table.others))


def _section(name: str, table: Comparison, where: str) -> Iterator[str]:
    measure = "Success rate in per cent" if table.has_success else "Return"
    trained = table.frame["train_env_steps"]
    ends = trained[trained > 0].min(), trained.max()
    steps = " to ".join(dict.fromkeys(map(short_count, ends)))
    yield f"{measure}{where} after K shots, {steps} environment steps of training a seed"
    yield f"([full table](../results/published/{name}/table.md)).\n"
    yield _scores(table) + "\n"


def _scores(table: Comparison) -> str:
    """Return the scores of every row that has any seed."""
    unit, column = (100.0, "success") if table.has_success else (1.0, "return")
    shots = [count for count in SHOTS if count in table.shots]
    rows = []
    for row in table.frame.to_dict("records"):
        if row["seeds"] == 0:
            continue
        label = " / ".join(filter(None, (row["policy"], row["learner"])))
        scores = [_estimate(row, f"{column}_{count}", unit) for count in shots]
        seeds = row["seeds"]
        rows.append((label, *map(_shown, scores), "–" if math.isnan(seeds) else int(seeds)))
    return _markdown("|".join(["row", *(f"K = {k}" for k in shots), "seeds"]), rows)


def _estimate(row: Mapping[str, Any], column: str, unit: float = 1.0) -> Estimate:
    return Estimate(*(unit * row[f"{column}{end}"] for end in ("", "_low", "_high")))


def _shown(value: Estimate) -> str:
    if math.isnan(value.point):
        return "–"
    interval = f" [{number(value.low)}, {number(value.high)}]"
    return number(value.point) + interval * (not math.isnan(value.low))


def _coverage() -> str:
    """Return a table of the trained seeds of every row, out of those that its sweep plans."""
    rows: dict[str, dict[str, str]] = {}
    for name in FAMILIES:
        folder = PUBLISHED / name
        done = Manifest.load(folder).ids("ok") if folder.exists() else ()
        planned: dict[str, list[bool]] = {}
        for one in planned_cells(name):
            row = f"{one.cell.policy} {one.cell.learner}"
            planned.setdefault(row, []).append(one.key in done)
        rows[name] = {row: f"{sum(cells)}/{len(cells)}" for row, cells in planned.items()}
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    lines = [(name, *(row.get(head, "–") for head in heads)) for name, row in rows.items()]
    return _markdown("|".join(["distribution", *heads]), lines)


def _repeated(names: Iterable[str]) -> str:
    """Return a table of the cells that were trained again, and of how much of them."""
    rows = []
    for name in names:
        kept, manifest = Verified.load(PUBLISHED / name), Manifest.load(PUBLISHED / name)
        again = kept.retrained if kept else {}
        for key, count in again.items():
            rows.append((name, f"`{key}`", f"{count} of {manifest.cells[key].iterations}"))
        if not again:
            rows.append((name, "–", "–"))
    return _markdown("distribution|cell|iterations", rows, left=2)


def _hours(names: Iterable[str]) -> str:
    """Return a table of the time that cells took, on one core each."""
    rows = []
    for name in names:
        for row in table_of(name).frame.to_dict("records"):
            steps, seconds = row["train_env_steps"], row["wall_seconds"]
            if steps and not math.isnan(seconds):
                label = f"{row['policy']} / {row['learner']}"
                rows.append((name, label, f"{seconds / 60:.0f}", f"{steps / seconds:.0f}"))
    return _markdown("distribution|row|minutes a cell|steps per second", rows, left=2)


def _plan(names: Iterable[str]) -> str:
    """Return a table of the core-hours that the sweeps took, and that all their cells would take.

    A row that was not trained yet is counted like the mean of those of the same distribution.
    """
    rows = []
    for name in names:
        planned = planned_cells(name)
        cells = Manifest.load(PUBLISHED / name).cells
        spent: dict[tuple[str, str], list[float]] = {}
        for one in planned:
            if one.key in cells and (seconds := cells[one.key].wall_seconds):
                spent.setdefault((one.cell.policy, one.cell.learner), []).append(seconds / 3600)
        hours = {row: float(np.mean(each)) for row, each in spent.items()}
        typical = float(np.mean(list(hours.values())))
        wanted = [hours.get((one.cell.policy, one.cell.learner), typical) for one in planned]
        one_each = {(one.cell.policy, one.cell.learner) for one in planned}
        once = [hours.get(row, typical) for row in one_each]
        together = max(5 * sum(once) / 64, *once)  # a cell has one core
        rows.append((name, sum(map(sum, spent.values())), sum(wanted), 5 * sum(once), together))
    sums = [sum(row[column] for row in rows) for column in (1, 2, 3)]
    rows.append(("all of these", *sums, max(sums[-1] / 64, *(row[-1] for row in rows))))
    heads = "distribution|played|as planned|five seeds of every row|hours on 64 cores"
    return _markdown(heads, [(row[0], *(f"{value:.1f}" for value in row[1:])) for row in rows])


def _markdown(heads: str, rows: Iterable[Iterable[object]], *, left: int = 1) -> str:
    header = heads.split("|")
    align = ["left"] * left + ["right"] * (len(header) - left)
    return tabulate(list(rows), header, tablefmt="github", colalign=align, disable_numparse=True)


def percent(share: float) -> str:
    """Return a share in per cent, with a true minus sign."""
    return f"{share:.0%}".replace("-", "−")


def number(value: float) -> str:
    """Return a number with one digit below 100 and none above, with a true minus sign."""
    return f"{value + 0.0:.{1 if abs(value) < 100 else 0}f}".replace("-", "−")


if __name__ == "__main__":
    main()
