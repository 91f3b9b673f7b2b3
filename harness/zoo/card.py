"""Model cards, as Hugging Face has them: YAML for machines, then Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from tabulate import tabulate

from harness.reporting.render.formats import escape_markdown
from harness.reporting.text import DASH, short_count
from harness.zoo.index import Entry, Score


def card(entries: Mapping[str, Entry], address: str | None = None) -> str:
    """Return the model card of one or several policies.

    Args:
        entries: by name.
        address: of the zoo that the card is for; the policies published with the package if not
            given.
    """
    head = yaml.safe_dump(_metadata(entries), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---\n", *(_text(name, entries[name], address) for name in entries)]
    return "\n".join(parts)


def _metadata(entries: Mapping[str, Entry]) -> dict[str, Any]:
    words = {word for e in entries.values() for word in (e.task_dist, e.policy, e.learner)}
    return {
        "library_name": "metarl-harness",
        "license": "mit",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "meta-reinforcement-learning", *sorted(words)],
        "model-index": [
            {"name": name, "results": list(_results(entry))} for name, entry in entries.items()
        ],
    }


def _results(entry: Entry) -> Iterator[dict[str, Any]]:
    task = {"type": "reinforcement-learning", "name": "meta-reinforcement-learning"}
    dataset = {
        "name": f"{entry.task_dist.partition('@')[0]}@{entry.version}",
        "type": entry.task_dist,
    }
    metrics = [
        {
            "type": kind,
            "name": f"{name}, {score.shots} shots ({entry.num_seeds} seeds)",
            "value": shown(score, digits),
        }
        for kind, name, digits, scores in _kinds(entry)
        for score in scores
    ]
    yield {"task": task, "dataset": dataset, "metrics": metrics}


def _kinds(entry: Entry) -> Iterator[tuple[str, str, int, Sequence[Score]]]:
    yield "mean_reward", "return", 1, entry.returns
    if entry.success:
        yield "success_rate", "success rate", 2, entry.success


def shown(score: Score, digits: int) -> str:
    """Return a score with its interval as text."""
    if score.mean is None:
        return DASH
    point = f"{score.mean:.{digits}f}"
    if score.low is None or score.high is None:
        return point
    return f"{point} [{score.low:.{digits}f}, {score.high:.{digits}f}]"


def _text(name: str, entry: Entry, address: str | None) -> str:
    """Return the part of the card that people read."""
    kinds = list(_kinds(entry))
    head = ["shots", *(name for _, name, _, _ in kinds)]
    grid = [
        [score.shots, *(shown(scores[place], digits) for _, _, digits, scores in kinds)]
        for place, score in enumerate(entry.returns)
    ]
    seeds = ", ".join(f"`s{weights.seed}`" for weights in entry.weights)
    zoo = "" if address is None else f', zoo="{address}"'
    variable = "" if address is None else f"METARL_ZOO={address} "
    sha = "\n".join(f"- `{w.file}`: sha256 `{w.sha256}`" for w in entry.weights)
    how = {
        "none": "It does not adapt.",
        "memory": "It adapts by memory: a shot is one more episode.",
    }.get(
        entry.adapter,
        f"A shot is one adaptation step (`{entry.adapter}`) on {entry.episodes_per_shot} episodes.",
    )
    observes = (
        " It observes the task: begin with `policy.reset(task)`."
        if entry.learner.partition(" ")[0] == "oracle"
        else ""
    )
    return f"""# {name}

A `{entry.policy}` policy with {short_count(entry.num_params)} parameters, meta-trained with
`{escape_markdown(entry.learner)}` for {short_count(entry.train_env_steps)} environment steps on
{escape_markdown(entry.protocol)}. {how}{observes}

{tabulate(grid, head, tablefmt="github", disable_numparse=True)}

Mean undiscounted return of {entry.query_episodes} episodes on each of {entry.num_tasks} held-out
{entry.split} tasks, over {entry.num_seeds} training seeds{
        ", with 95 % intervals (Student's t over seeds)" if entry.num_seeds > 1 else ""
    }. Weights: {seeds}; without a seed in the name the first is loaded.

```python
import harness

policy = harness.load_pretrained("{name}"{zoo})
print(harness.evaluate(policy, backend="local").table())  # this seed's row
```

The same from a shell: `{variable}python -m harness.run evaluate --checkpoint {name}`

Trained {entry.created[:10]} in the run `{entry.run}` by git revision {
        ", ".join(f"`{revision[:12]}`" for revision in entry.revisions)
    }.

{sha}
"""
