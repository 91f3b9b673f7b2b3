"""``python -m harness.app.clips RUN --task N``: show a task before and after adaptation.

RUN is the folder of an ``evaluate`` run. Two MP4s and ``clips.json`` go to ``RUN/clips/task-N/``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError, report
from harness.reporting.render.tables import shot_label
from harness.reporting.store.files import find_run, write_atomically
from metarl_plugins import PluginError

if TYPE_CHECKING:
    from PIL import Image

    from harness.experiments.rescore import ScoredEpisode

MIN_FPS, MAX_FPS, MAX_FRAMES = 4.0, 25.0, 250
"""Frames per second, and most frames of a film; a longer episode is shown faster."""
LAST_FRAME_SECONDS = 1.5
"""How long the last frame is held."""
TITLE_HEIGHT = 26
"""Height in pixels of the line of text above each frame."""
RENDERERS = {"egl": "EGL", "osmesa": "OSMesa"}
"""Value of ``MUJOCO_GL`` for rendering without a screen -> the library it needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """The film of one episode."""

    file: str
    """Name in the folder of the clips."""
    shots: int
    return_: float
    steps: int
    speed: float
    """Playback speed relative to the time in the environment."""


def clips_folder(run: Path, task_index: int) -> Path:
    """Return the folder with the clips of one test task of ``run``."""
    return run / "clips" / f"task-{task_index}"


def main(argv: Sequence[str] | None = None) -> int:
    """Render the clips; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.app.clips",
        description="Film a test task of an evaluate run, before and after adaptation.",
        epilog="exit codes: 0 complete, 2 bad input, 5 a file was refused",
    )
    parser.add_argument("run", type=find_run, help="name or folder of the run")
    parser.add_argument("--task", type=int, required=True, help="index of the test task")
    args = parser.parse_args(argv)
    try:
        choose_renderer()
        render_clips(args.run, args.task)
    except HarnessError as error:
        return report(error)
    except (ValueError, OSError, ImportError, PluginError) as error:
        return report(UsageError(str(error)))
    return 0


def choose_renderer() -> None:
    """Set ``MUJOCO_GL`` before mujoco is imported, unless it is set or there is a screen.

    Where none of the libraries is installed, only distributions without MuJoCo can be rendered.
    """
    if "MUJOCO_GL" in os.environ or os.environ.get("DISPLAY"):
        return
    for name, library in RENDERERS.items():
        if find_library(library):
            os.environ["MUJOCO_GL"] = name
            return


def render_clips(run: Path, task_index: int) -> None:
    """Write the films before adaptation and after the last shot, and ``clips.json``.

    Raises:
        UsageError: the run did not score the task, or the environment cannot be rendered.
        ArtefactError: a file of the run is malformed.
    """
    from harness.experiments.rescore import rescore

    episodes = rescore(run, task_index)
    folder = clips_folder(run, task_index)
    folder.mkdir(parents=True, exist_ok=True)
    clips = [_render(episode, folder) for episode in (episodes[0], episodes[-1])]
    task = episodes[0].task.name
    content = {"task": task, "clips": [dataclasses.asdict(clip) for clip in clips]}
    write_atomically(folder / "clips.json", json.dumps(content, indent=1).encode())


def _render(episode: ScoredEpisode, folder: Path) -> Clip:
    """Write the film of one episode."""
    from harness.app.drawing import frames, steps_per_second

    rate, steps = steps_per_second(episode), len(episode.actions)
    real_time_stride = math.ceil(rate / MAX_FPS)
    stride = max(1, real_time_stride, math.ceil(steps / MAX_FRAMES))
    fps = max(MIN_FPS, min(MAX_FPS, rate / stride))
    if stride > real_time_stride:  # too many frames to show in real time
        fps = MAX_FPS
    name = f"shots-{episode.shots}.mp4"
    titled = (_add_title(image, episode, step) for step, image in frames(episode, stride))
    write_film(titled, folder / name, fps)
    return Clip(name, episode.shots, episode.return_, steps, stride / rate * fps)


def write_film(images: Iterable[Image.Image], path: Path, fps: float) -> None:
    """Write images of one even size as an MP4 that every browser plays; the last one is held."""
    from imageio_ffmpeg import write_frames

    writer: Any = None
    for image in images:
        pixels = image.convert("RGB").tobytes()
        if writer is None:
            writer = write_frames(str(path), image.size, fps=fps, macro_block_size=2, quality=8)
            writer.send(None)
        writer.send(pixels)
    for _ in range(round(LAST_FRAME_SECONDS * fps)):
        writer.send(pixels)
    writer.close()


def _add_title(image: Image.Image, episode: ScoredEpisode, step: int) -> Image.Image:
    """Return the image below a line with shots, step and return so far."""
    from PIL import Image, ImageDraw, ImageFont

    whole = Image.new("RGB", (image.width, image.height + TITLE_HEIGHT), "white")
    whole.paste(image, (0, TITLE_HEIGHT))
    return_ = float(episode.rewards[:step].sum())
    text = f"after {shot_label(episode.shots)}    step {step}    return so far {return_:.1f}"
    ImageDraw.Draw(whole).text((6, 5), text, "black", ImageFont.load_default(14))
    return whole


if __name__ == "__main__":
    sys.exit(main())
