"""The page itself: what stands where, and which button does what."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr

import policies
import task_distributions
from harness.app import forms, view
from harness.app.children import Child
from harness.app.desk import Desk
from harness.meta import learners
from harness.presets import PRESETS

EVERY = 1.0
"""Seconds between looks at the run folders."""
THEME = gr.themes.Default(
    font=["system-ui", "sans-serif"],  # of this machine: nothing is fetched
    font_mono=["ui-monospace", "monospace"],
)
CSS = """
.gradio-container {max-width: 1180px !important; margin: auto}
.cells table, .report table {width: 100%; font-size: 0.85rem; border-collapse: collapse}
.cells th, .cells td {text-align: left; padding: 4px 10px; border-bottom: 1px solid #ddd}
.report td, .report th {padding: 4px 8px !important}
"""
BACKENDS = [("one process", "local"), ("Ray, all CPUs", "ray")]
Seen = dict[str, Any]


def build(desk: Desk) -> gr.Blocks:
    """Return the page over ``desk``."""
    with gr.Blocks(title="metarl-harness", analytics_enabled=False) as page:
        gr.Markdown("# metarl-harness\nMeta-train policies, then watch one adapt to a task.")
        with gr.Tabs():
            with gr.Tab("Train", elem_id="train-tab"):
                trained = _train_tab(desk)
            with gr.Tab("Adapt and watch", elem_id="adapt-tab"):
                adapted, checkpoint = _adapt_tab(desk)
        seen = gr.State({})
        timer = gr.Timer(EVERY)
        timer.tick(
            lambda known: _tick(desk, known),
            [seen],
            [seen, *trained, *adapted, checkpoint],
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _train_tab(desk: Desk) -> list[Any]:
    """Lay out the first tab; return what is kept up to date: status, cells, figure, table."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            fields = _train_fields()
            with gr.Row():
                start = gr.Button("Train", variant="primary", elem_id="train")
                stop = gr.Button("Stop", elem_id="train-stop")
        with gr.Column(scale=2):
            status = _status("train-status")
            command = gr.Textbox(label="The same in a terminal", interactive=False, lines=2)
            cells = gr.HTML(elem_classes="cells", elem_id="train-cells")
            figure = gr.Image(label="Learning curves", type="pil", elem_id="train-figure", **_SHOWN)
    table = _report("train-table")

    def begin(*values: Any) -> tuple[str, str]:
        return _begun(lambda: desk.train(forms.TrainForm(*values)))

    _on(start.click, begin, fields, [status, command])
    _on(stop.click, lambda: _stopped(desk.training), [], [status])
    return [status, cells, figure, table]


def _train_fields() -> list[Any]:
    return [
        gr.Dropdown(
            list(task_distributions.names()),
            value="point_goal",
            label="Task distribution",
            allow_custom_value=True,  # the harness says what is wrong with it
            elem_id="task-dist",
        ),
        gr.CheckboxGroup(
            list(policies.names()), value=["ssm"], label="Policies", elem_id="policies"
        ),
        gr.Dropdown(list(learners.names()), value="maml", label="Learner", elem_id="learner"),
        gr.Textbox("1 5 10", label="Shots to score after", elem_id="shots"),
        gr.Radio(list(PRESETS), value="smoke", label="Budget", elem_id="preset"),
        gr.Slider(0, 200, 0, step=1, label="Epochs (0: the budget's own)", elem_id="epochs"),
        gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed"),
        gr.Radio(BACKENDS, value="ray", label="Runs on", elem_id="backend"),
    ]


def _adapt_tab(desk: Desk) -> tuple[list[Any], Any]:
    """Lay out the second tab; return what is kept up to date, and the list of checkpoints."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            checkpoint = gr.Dropdown(
                _choices(desk),
                label="Checkpoint (choose, or type a path)",
                allow_custom_value=True,
                elem_id="checkpoint",
            )
            load = gr.Button("Load", elem_id="load")
            summary = gr.Textbox(label="Loaded", interactive=False, lines=3, elem_id="loaded")
            task = gr.Dropdown([], label="Test task to watch", elem_id="task")
            shots = gr.Slider(1, 10, 5, step=1, label="Shots", elem_id="adapt-shots")
            backend = gr.Radio(BACKENDS, value="local", label="Runs on")
            with gr.Row():
                start = gr.Button("Adapt", variant="primary", elem_id="adapt")
                stop = gr.Button("Stop", elem_id="adapt-stop")
        with gr.Column(scale=2):
            status = _status("adapt-status")
            command = gr.Textbox(label="The same in a terminal", interactive=False, lines=2)
            with gr.Row():
                before = gr.Image(label="Before adaptation", elem_id="before", **_SHOWN)
                after = gr.Image(label="After adaptation", elem_id="after", **_SHOWN)
            curve = gr.Image(label="Adaptation curve", elem_id="adapt-figure", **_SHOWN)
    table = _report("adapt-table")

    def begin(*values: Any) -> tuple[str, str]:
        return _begun(lambda: desk.adapt(*values))

    _on(load.click, _load, [checkpoint], [summary, task])
    _on(start.click, begin, [checkpoint, task, shots, backend], [status, command])
    _on(stop.click, lambda: _stopped(desk.adapting), [], [status])
    return [status, before, after, curve, table], checkpoint


_SHOWN: dict[str, Any] = {"interactive": False, "buttons": ["fullscreen"], "format": "png"}


def _status(name: str) -> Any:
    return gr.Textbox("Nothing started yet.", label="Status", interactive=False, elem_id=name)


def _report(name: str) -> Any:
    return gr.Markdown(elem_classes="report", elem_id=name, latex_delimiters=[])


def _on(event: Callable[..., Any], act: Callable[..., Any], given: Any, shown: Any) -> None:
    event(act, given, shown, show_progress="hidden", api_visibility="private")


def _begun(start: Callable[[], list[str]]) -> tuple[str, str]:
    """Return the status after ``start``, and the command that a terminal would take."""
    try:
        return "Starting.", forms.spelt(start())
    except (ValueError, OSError) as error:
        return view.sentence(error), ""


def _stopped(child: Child | None) -> str:
    if child is None or not child.running:
        return "Nothing is running."
    child.stop()
    return view.standing(child)


def _load(path: str) -> tuple[str, Any]:
    try:
        loaded = forms.load(path)
    except (ValueError, OSError) as error:
        return view.sentence(error), gr.Dropdown(choices=[], value=None)
    tasks = list(loaded.tasks)
    return loaded.summary, gr.Dropdown(choices=tasks, value=tasks[0][1])


def _choices(desk: Desk) -> list[tuple[str, str]]:
    found = forms.checkpoints(desk.storage)
    return [(path.removeprefix(f"{desk.storage}/"), path) for path in found]


def _tick(desk: Desk, seen: Seen) -> list[Any]:
    """Return what is new for a window that has been shown ``seen``: of both tabs."""
    now: Seen = {}
    shown = [*_training(desk, seen, now), *_adapting(desk, seen, now)]
    now["checkpoints"] = _choices(desk)
    if now["checkpoints"] == seen.get("checkpoints"):
        shown.append(gr.skip())
    else:
        shown.append(gr.Dropdown(choices=now["checkpoints"]))
    return [now, *shown]


def _training(desk: Desk, seen: Seen, now: Seen) -> list[Any]:
    child = desk.training
    if child is None:
        return [gr.skip()] * 4
    now["training"] = (child.run, child.running, view.stamp(child.run))
    if now["training"] == seen.get("training"):
        return [_line(child, seen, now, "train"), *[gr.skip()] * 3]
    try:
        shown = [view.cells(child.run), view.learning(child.run), view.table(child.run)]
    except (ValueError, OSError) as error:
        return [view.sentence(error), *[gr.skip()] * 3]
    return [_line(child, seen, now, "train"), *shown]


def _adapting(desk: Desk, seen: Seen, now: Seen) -> list[Any]:
    child = desk.adapting
    if child is None:
        return [gr.skip()] * 5
    now["adapting"] = (child.run, child.running, view.stamp(child.run))
    if now["adapting"] == seen.get("adapting"):
        return [_line(child, seen, now, "adapt"), *[gr.skip()] * 4]
    empty = [("", "Before adaptation"), ("", "After adaptation")]
    films = view.films(child.run, desk.watched) or empty
    clips = [gr.Image(value=path or None, label=caption) for path, caption in films]
    rest = [view.adaptation_figure(child.run), view.table(child.run)]
    return [_line(child, seen, now, "adapt"), *clips, *rest]


def _line(child: Child, seen: Seen, now: Seen, key: str) -> Any:
    """Return the status if it has changed: what a button said after the end stays."""
    now[key] = view.standing(child)
    return gr.skip() if now[key] == seen.get(key) else now[key]
