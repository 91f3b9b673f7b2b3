"""Write the card of every task distribution, and draw its picture.

    python docs/make_task_cards.py                      # all of them, in minutes
    python docs/make_task_cards.py ant-dir point_goal

A card is docs/tasks/NAME.md. Its words are the docstring of the distribution's factory, the rest
comes from the registry, is measured here, or is read from the normalisation constants and
results/published.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np
from make_results import margin_lines, number
from task_identifiability import STEPS, explained, explained_in_classes
from task_pictures import caption, drawing

import task_distributions
from harness.config.protocol import PROTOCOLS, first_goals, has_classes
from harness.config.schema import EvalConfig
from harness.execution.jobs import Job
from harness.execution.scoring import reference
from harness.meta.rollouts.episode_loop import Clock
from harness.reporting.stats.across import Constant, constants
from harness.reporting.text import span
from harness.types import Cell
from task_distributions import SPLITS, Split, TaskDistribution

DOCS = Path(__file__).parent
MEASURED = "not measured"
VISIBLE = 0.99
"""R² of a parameter from which it counts as visible."""


def main(names: Sequence[str]) -> None:
    """Write the cards of ``names``, or of all built-in distributions."""
    card = Template((DOCS / "task_card.md.in").read_text(encoding="utf-8"))
    for name in names or filter(
        task_distributions.REGISTRY.is_built_in, task_distributions.names()
    ):
        dist = task_distributions.load(name)
        drawing(dist).save(DOCS / "images" / "tasks" / f"{name}.png", optimize=True)
        text = card.substitute(_values(dist))
        (DOCS / "tasks" / f"{name}.md").write_text(text, encoding="utf-8")
        print(name, flush=True)  # noqa: T201


def _values(dist: TaskDistribution) -> Mapping[str, str]:
    spec, env = dist.spec, dist.make_env(dist.tasks("test")[0])
    rate = env.metadata.get("render_fps")
    summary, *notes = _paragraphs(dist.name)
    return {
        "name": dist.name,
        "summary": summary,
        "caption": caption(dist),
        "protocol": f"`{dist.protocol}`",
        "observation": f"{spec.obs_dim} numbers",
        "action": f"{spec.action_dim} " + ("choices" if spec.discrete else "numbers in [−1, 1]"),
        "horizon": f"{spec.horizon} steps" + (f" ({spec.horizon / rate:g} s)" if rate else ""),
        "control_step": f"{1000 / rate:g} ms" if rate else "–",
        "success": "at any step" if spec.has_success else "–",
        "notes": "\n\n".join(notes),
        "tasks": "\n".join(_task_table(dist)),
        "references": "\n".join(_reference_table(dist)),
        "normalisation": "\n".join(_normalisation(f"{dist.name}@{dist.version}")),
        "identifiability": "\n".join(_identifiability(dist)),
        "versions": "\n".join(_versions(dist.name)),
    }


def _paragraphs(name: str) -> list[str]:
    """Return the docstring of a distribution's factory, without its last section."""
    doc = inspect.getdoc(task_distributions.REGISTRY.load(name)) or ""
    text = doc.partition("\n\nRaises:")[0].replace("``", "`")
    return text.replace("`docs/imujoco.md`", "[imujoco.md](../imujoco.md)").split("\n\n")


def _versions(name: str) -> Iterator[str]:
    """Yield a line per definition, newest first."""
    newest = task_distributions.load(name)
    yield f"- `{name}@{newest.version}`, the newest: as above."
    for key in task_distributions.versions(name)[-2::-1]:
        yield f"- `{key}`: {task_distributions.load(key).protocol.partition(': ')[2]}."
        yield f"  {' '.join(' '.join(_paragraphs(key)).split())}"
    if "reward_version" in task_distributions.options(name):  # it decides the version
        older = task_distributions.load(name, reward_version="v1")
        yield f"- `{name}@{older.version}`: the same with `--reward-version v1`."


def _task_table(dist: TaskDistribution) -> Iterator[str]:
    rows = {split: _ranges(dist, split) for split in SPLITS if dist.tasks(split)}
    yield f"| split | tasks | {' | '.join(rows['train'])} |"
    yield "|---|---:|" + "---|" * len(rows["train"])
    for split in SPLITS:
        cells = rows.get(split, dict.fromkeys(rows["train"], "–"))
        yield f"| {split} | {len(dist.tasks(split))} | {' | '.join(cells.values())} |"


def _ranges(dist: TaskDistribution, split: Split) -> dict[str, str]:
    """Return column -> what the tasks of a split have there."""
    tasks = dist.tasks(split)
    if has_classes(dist):
        classes = sorted({task.class_name for task in tasks})
        goals = [int(task.name.rpartition("/")[2]) for task in tasks]
        listed = f": {', '.join(classes)}" * (len(classes) < 20)
        return {"goals": f"{min(goals)} to {max(goals)}", "classes": f"{len(classes)}{listed}"}
    if tasks[0].description:
        factors = [2.0**value for task in tasks for _, value in task.description]
        parts = {len(task.description) for task in tasks}
        return {"changed parts": " or ".join(map(str, parts)), "factor": _span(factors)}
    return {f"`{key}`": _span([task.param(key) for task in tasks]) for key, _ in tasks[0].params}


def _span(values: Sequence[float]) -> str:
    """Return the range of ``values``, as two where a fifth of it is empty in the middle."""
    ordered = np.sort(values)
    gaps = np.diff(ordered)
    parts = [ordered]
    if len(ordered) >= 20 and np.ptp(ordered) and gaps.max() > 0.2 * np.ptp(ordered):
        parts = np.split(ordered, [int(gaps.argmax()) + 1])
    return " and ".join(
        f"{p[0]:.3g}" if p[0] == p[-1] else f"{p[0]:.3g} to {p[-1]:.3g}" for p in parts
    ).replace("-", "−")


def _reference_table(dist: TaskDistribution) -> Iterator[str]:
    tasks = dist.tasks("test")
    indices, episodes = tuple(range(len(tasks))), EvalConfig().query_episodes
    if has_classes(dist):
        indices = first_goals(tasks, indices, PROTOCOLS["quick"].goals["test"])
    job = Job(Cell(dist.name, "", "", 0), "reference", 0, 0, "test", indices, indices)
    records = reference(dist, EvalConfig(), job, Clock())
    lines: dict[str, float | None] = {
        row.policy: float(np.mean([r.return_ for r in records if r.policy == row.policy]))
        for row in records
    }
    lines["non-adaptive"] = dist.non_adaptive_return([tasks[index] for index in indices])
    yield f"Mean over {len(indices)} test tasks, {episodes} episodes each, seed 0."
    yield from ("", f"| {' | '.join(lines)} |", "|" + "---:|" * len(lines))
    yield f"| {' | '.join('–' if v is None else number(v) for v in lines.values())} |"
    if dist.spec.has_success:
        rates = {
            row: np.mean([r.success for r in records if r.policy == row])
            for row in dict.fromkeys(r.policy for r in records)
        }
        yield f"\nSuccess rate: {', '.join(f'{row} {rate:.1%}' for row, rate in rates.items())}."


def _normalisation(version: str) -> Iterator[str]:
    known = constants().constants.get(version)
    if known is None:
        yield f"Normalised score: {MEASURED}."
    else:
        provisional = " It is provisional." if known.provisional else ""
        yield f"Normalised {known.measure}: 0 is {_constant(known.zero)}, 1 is"
        yield f"{_constant(known.one)}.{provisional}"
    yield ""
    found = "\n\n".join(margin_lines(version))
    yield found or f"Margin (oracle − multitask): {MEASURED}."


def _constant(value: Constant) -> str:
    steps = f", {value.env_steps / 1e6:g} M steps" if value.env_steps else ""
    seeds = f", {span([value.seeds], 'seed')}{steps}" if value.seeds else ""
    return f"{number(value.value)} ({value.row}{seeds})"


def _identifiability(dist: TaskDistribution) -> Iterator[str]:
    if len(dist.tasks("train")) == 1:
        yield "There is one task, so nothing has to be identified."
        return
    if has_classes(dist):
        found, least = explained_in_classes(dist)
        hidden = {name: scores for name, scores in least.items() if scores.max() < VISIBLE}
        yield "The class and the goal are hidden: no observation names the class, and the three"
        yield "numbers of the goal are 0. Yet all that differs between the tasks of a class can be"
        yield f"seen, as the place of an object, in {len(least) - len(hidden)} of {len(least)}"
        yield f"training classes: {', '.join(name for name in least if name not in hidden)}."
        yield ""
        yield "R² on other goals of the training classes, from what random steps show."
        rows = {"class, one-hot": found}
        rows["least visible parameter, mean of the other classes"] = np.mean(
            [scores.clip(0.0) for scores in hidden.values()], axis=0
        )
    else:
        yield "R² on the test tasks, from what random steps show."
        names, scores = explained(dist)
        rows = dict(zip(names, scores.T, strict=True))
    heads = [span([h], "step") for h in STEPS]
    yield from ("", f"| parameter | {' | '.join(heads)} |")
    yield "|---|" + "---:|" * len(STEPS)
    for name, row in rows.items():
        yield f"| {name} | {' | '.join(f'{max(value, 0.0):.2f}' for value in row)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
