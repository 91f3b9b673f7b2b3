"""Measure what knowing the task is worth on each distribution: oracle minus multitask.

Both are trained by PPO on the same environment steps and scored without adaptation on the test
tasks; the interval of the difference is Welch's over seeds. A distribution whose margin is within
noise, or under a tenth of the way from the zero action to the oracle, leaves little to adapt to.

    python benchmarks/margins.py                           # all, mlp, 2M steps, three seeds: hours
    python benchmarks/margins.py --task-dists point_goal cartpole --env-steps 20k --seeds 0 1
    python benchmarks/margins.py --name margins --resume   # goes on, or writes the table again

The table is written to results/NAME/margins.md; its share is the margin's part of that way.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml

import task_distributions
from harness.cli import sweep
from harness.reporting.rebuild import load_tables
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import Estimate, estimate_difference

ENOUGH = 0.1
"""Least part of the way from the zero action to the oracle that a margin should be."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, score and print the table; return the exit code of the runs."""
    chosen = _arguments(argv)
    run = Path("results") / chosen.name
    if chosen.resume:
        code = sweep.main([str(run), "--resume"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{chosen.name}.yaml"
            file.write_text(yaml.safe_dump(_sweep(chosen)))
            code = sweep.main([str(file), "--name", chosen.name])
    text = "\n".join(_table(load_tables(run)))
    (run / "margins.md").write_text(f"{text}\n", encoding="utf-8")
    print(text)
    return int(code)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task-dists", nargs="+", default=_several())
    parser.add_argument("--policy", default="mlp")
    parser.add_argument("--env-steps", default="2M")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--name", default="margins")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args(argv)


def _several() -> list[str]:
    """Return the distributions with more than one task."""
    every = task_distributions.names()
    return [name for name in every if len(task_distributions.load(name).tasks("train")) > 1]


def _sweep(chosen: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Return the sweep file: every distribution and seed with both learners."""
    return {
        "base": {
            "policy": [chosen.policy],
            # Fed no more than multitask but the task: the margin is the worth of nothing else.
            "learner": {"multitask": {}, "oracle": {"history": False}},
            "train": {"env_steps": chosen.env_steps},
            "evaluation": {"zero_shot": True, "splits": ["test"]},
            "execution": {"eval_every": "auto"},
        },
        "sweep": {
            "task_dist": chosen.task_dists,
            "seed": chosen.seeds,
        },
    }


def _table(tables: Sequence[Comparison]) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield "| distribution | zero action | multitask | oracle | margin | share | seeds | steps |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for table in tables:
        yield _line(table)


def _line(table: Comparison) -> str:
    frame = table.frame.set_index("learner")
    zero = table.frame.set_index("policy")["return_0"].get("zero-action", np.nan)
    multitask, oracle = (_by_seed(table, name) for name in ("multitask", "oracle"))
    margin = estimate_difference(oracle, multitask, paired=False)
    way = margin.point / (oracle.mean() - zero) if oracle.size else np.nan
    clear = margin.low > 0 and way >= ENOUGH
    cells = (
        f"`{frame['task_dist'].iloc[0]}`",
        f"{zero:.1f}",
        f"{multitask.mean():.1f}" if multitask.size else "–",
        f"{oracle.mean():.1f}" if oracle.size else "–",
        _shown(margin) + ("" if clear else " (none shown)"),
        f"{100 * way:.0f} %",
        f"{len(oracle)}",
        f"{frame.loc['oracle', 'train_env_steps']:.3g}",
    )
    return f"| {' | '.join(cells)} |"


def _by_seed(table: Comparison, learner: str) -> np.ndarray:
    """Return the mean over tasks of each seed [S, 1]."""
    scores = table.seed_scores
    own = scores[(scores["learner"] == learner) & (scores["shots"] == 0)]
    return own["return"].to_numpy(np.float64)[:, np.newaxis]


def _shown(value: Estimate) -> str:
    if np.isnan(value.low):
        return f"{value.point:+.1f}"
    return f"{value.point:+.1f} [{value.low:.1f}, {value.high:.1f}]"


if __name__ == "__main__":
    raise SystemExit(main())
