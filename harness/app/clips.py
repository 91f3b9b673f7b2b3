"""``python -m harness.app.clips RUN --task N``: film a scored task before and after adaptation.

RUN is the folder of an ``evaluate`` run. Writes ``clips/`` in it: two GIFs and what they show.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError, report
from harness.reporting.store.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image

    from harness.experiments.rescore import ScoredEpisode

FASTEST, LONGEST_MS, MOST_FRAMES, LAST_MS = 25.0, 250, 250, 1500
"""Frames a second; milliseconds of a frame, frames of a clip, milliseconds of the last frame."""
STRIP = 26
"""Pixels of the line of text over every frame."""
RENDERERS = {"egl": "EGL", "osmesa": "OSMesa"}
"""What MuJoCo can draw with where there is no screen -> library it needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """What one film shows."""

    file: str
    """Name in the folder of the films."""
    shots: int
    return_: float
    steps: int
    speed: float
    """How much faster than the episode's own time."""


def folder_of(run: Path, task_index: int) -> Path:
    """Return where the films of one test task of ``run`` lie."""
    return run / "clips" / f"task-{task_index}"


def main(argv: Sequence[str] | None = None) -> int:
    """Film; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.app.clips",
        description="Film a test task of an evaluate run, before and after adaptation.",
        epilog="exit codes: 0 filmed, 2 bad input, 5 a file was refused",
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--task", type=int, required=True, help="index of the test task")
    asked = parser.parse_args(argv)
    try:
        choose_renderer()
        film(asked.run, asked.task)
    except HarnessError as error:
        return report(error)
    except (ValueError, OSError, ImportError) as error:
        return report(UsageError(str(error)))
    return 0


def choose_renderer() -> None:
    """Set ``MUJOCO_GL`` where there is no screen, before mujoco is imported; keep one that is set.

    Without any of the libraries only distributions that are drawn without MuJoCo can be filmed.
    """
    if "MUJOCO_GL" in os.environ or os.environ.get("DISPLAY"):
        return
    for name, library in RENDERERS.items():
        if find_library(library):
            os.environ["MUJOCO_GL"] = name
            return


def film(run: Path, task_index: int) -> None:
    """Write both films and ``clips.json``.

    Raises:
        ValueError: the run did not score the task, or it cannot be drawn.
        ArtefactError: a file of the run is refused.
    """
    from harness.experiments.rescore import rescore

    episodes = rescore(run, task_index)
    folder = folder_of(run, task_index)
    folder.mkdir(parents=True, exist_ok=True)
    clips = [_film(episode, folder) for episode in (episodes[0], episodes[-1])]
    task = episodes[0].task
    told = {"task": task.name, "clips": [dataclasses.asdict(clip) for clip in clips]}
    write_atomically(folder / "clips.json", json.dumps(told, indent=1).encode())


def _film(episode: ScoredEpisode, folder: Path) -> Clip:
    from harness.app.drawing import frames, steps_per_second

    rate, steps = steps_per_second(episode), len(episode.actions)
    stride = max(1, math.ceil(rate / FASTEST), math.ceil(steps / MOST_FRAMES))
    pause = min(LONGEST_MS, max(1000 / FASTEST, 1000 * stride / rate))
    if stride > math.ceil(rate / FASTEST):  # too long for its own time
        pause = 1000 / FASTEST
    name = f"shots-{episode.shots}.gif"
    pictures = [_titled(picture, episode, step) for step, picture in frames(episode, stride)]
    pauses = [round(pause)] * (len(pictures) - 1) + [LAST_MS]
    first, *rest = (picture.quantize(128) for picture in pictures)
    with (folder / name).open("wb") as file:
        first.save(file, "GIF", save_all=True, append_images=rest, duration=pauses, loop=0)
    return Clip(name, episode.shots, episode.return_, steps, 1000 * stride / rate / pause)


def _titled(picture: Image.Image, episode: ScoredEpisode, step: int) -> Image.Image:
    """Return the picture below a line that says where the episode is."""
    from PIL import Image, ImageDraw, ImageFont

    whole = Image.new("RGB", (picture.width, picture.height + STRIP), "white")
    whole.paste(picture, (0, STRIP))
    shots = f"{episode.shots} shot{'' if episode.shots == 1 else 's'}"
    sofar = float(episode.rewards[:step].sum())
    text = f"after {shots}    step {step}    return so far {sofar:.1f}"
    ImageDraw.Draw(whole).text((6, 5), text, "black", ImageFont.load_default(14))
    return whole


if __name__ == "__main__":
    sys.exit(main())
