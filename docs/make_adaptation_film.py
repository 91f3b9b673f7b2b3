"""Film published policies adapting to held-out tasks: docs/images/adaptation.{gif,mp4}.

    python docs/make_adaptation_film.py

First a policy that maml trained on point_goal, before and after shots; then one that rl2 trained on
halfcheetah-vel, which finds each target speed while it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.app.clips import write_film
from harness.app.drawing import frames
from harness.execution.loaded_policy import LoadedPolicy
from harness.experiments.rescore import ScoredEpisode
from harness.zoo.weights import load_pretrained
from task_distributions import Task

ROOT = Path(__file__).parents[1]
FILM = ROOT / "docs/images/adaptation.mp4"
POINT, CHEETAH = "point_goal/gru/maml", "halfcheetah-vel/gru/rl2"
TASK, SHOTS, EPISODES_PER_SHOT = 4, (0, 1, 10), 10
SPEEDS = (0.5, 1.5, 2.8)
"""Speeds in m/s to which the targets of the filmed tasks are closest."""
PANEL, TITLE, LABEL = 200, 24, 22
"""Size of a panel and heights of the lines of text, in pixels."""
FPS, HOLD = 10, 12
"""Frames per second, and how many hold the end of each part."""


def main() -> None:
    """Play the episodes and write the film twice."""
    film = [*_points(), *_cheetahs()]
    write_film(film, FILM, FPS)
    first, *rest = (image.quantize(32, dither=Image.Dither.NONE) for image in film)
    times = {"duration": 1000 // FPS, "loop": 0}
    first.save(FILM.with_suffix(".gif"), save_all=True, append_images=rest, optimize=True, **times)


def _points() -> Iterator[Image.Image]:
    """Yield one task after each number of shots."""
    policy = load_pretrained(POINT)
    task = policy.dist.tasks("test")[TASK]
    policy.reset(task)
    episodes = [_query(policy, task, 0)]
    for shot in range(1, max(SHOTS) + 1):
        seeds = range(shot * EPISODES_PER_SHOT, (shot + 1) * EPISODES_PER_SHOT)
        policy.adapt(policy.play(task, list(seeds), query=False))
        episodes.append(_query(policy, task, shot))
    labels = [f"{'before' if k == 0 else f'after {k} shot' + 's' * (k > 1)}" for k in SHOTS]
    title = "maml: every shot is a gradient step on ten episodes of the hidden goal"
    yield from _film(title, [episodes[k] for k in SHOTS], labels, 1)


def _cheetahs() -> Iterator[Image.Image]:
    """Yield an episode of each of several tasks."""
    policy = load_pretrained(CHEETAH)
    tasks = policy.dist.tasks("test")
    near = [min(tasks, key=lambda t: abs(t.param("velocity") - v)) for v in SPEEDS]
    episodes = []
    for task in near:
        policy.reset(task)
        episodes.append(_query(policy, task, 0))
    labels = [f"target {task.param('velocity'):.1f} m/s" for task in near]
    title = "rl2: one policy, three target speeds that it cannot see, the first episode of each"
    yield from _film(title, episodes, labels, 2)


def _query(policy: LoadedPolicy, task: Task, shots: int) -> ScoredEpisode:
    """Play the task's first query episode."""
    (seed,) = policy.query_seeds(task, 1)
    played = policy.play(task, [seed])
    obs = np.concatenate([played.obs[0], played.last_obs])  # neither distribution ends early
    return_ = float(played.returns[0])
    return ScoredEpisode(
        policy.dist, task, shots, seed, obs, played.actions[0], played.rewards[0], return_
    )


def _film(
    title: str, episodes: Sequence[ScoredEpisode], labels: Sequence[str], stride: int
) -> Iterator[Image.Image]:
    """Yield the episodes side by side, below a title and a label each."""
    size = (PANEL * len(episodes), PANEL + TITLE + LABEL)
    for together in zip(*(frames(episode, stride) for episode in episodes), strict=True):
        image = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(image)
        draw.text((8, 5), title, "black", ImageFont.load_default(13))
        for number, (step, panel) in enumerate(together):
            return_ = episodes[number].rewards[:step].sum()
            text = f"{labels[number]}: return {return_:.0f}"
            left = PANEL * number
            draw.text((left + 8, TITLE + 3), text, "black", ImageFont.load_default(12))
            image.paste(panel.resize((PANEL, PANEL)), (left, TITLE + LABEL))
        yield image
    yield from [image] * HOLD


if __name__ == "__main__":
    main()
