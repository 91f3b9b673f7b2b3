"""The page: its layout, and the action of each button."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr

import policies
import task_distributions
from harness.app import forms, view
from harness.app.app_state import AppState
from harness.app.run_process import RunProcess
from harness.config.presets import PRESETS
from harness.meta import learners

REFRESH_SECONDS = 1.0
"""Time between updates from the run folders."""
THEME = gr.themes.Default(
    font=["system-ui", "sans-serif"],  # local fonts, so that nothing is fetched
    font_mono=["ui-monospace", "monospace"],
)
BACKENDS = [("one process", "local"), ("Ray, all CPUs", "ray")]
CLIPS = {"before": "Before adaptation", "after": "After adaptation"}
Shown = dict[str, Any]
"""What a window displays: a value per part of the page that changes when the part does."""


def build(state: AppState) -> gr.Blocks:
    """Return the page over ``state``."""
    with gr.Blocks(title="metarl-harness", analytics_enabled=False) as page:
        gr.Markdown("# metarl-harness\nMeta-train policies, then watch one adapt to a task.")
        with gr.Tabs():
            with gr.Tab("Train", elem_id="train-tab"):
                train_outputs = _train_tab(state)
            with gr.Tab("Adapt and watch", elem_id="adapt-tab"):
                adapt_outputs, checkpoint = _adapt_tab(state)
        shown = gr.State({})
        timer = gr.Timer(REFRESH_SECONDS)
        timer.tick(
            lambda before, chosen: _refresh(state, before, chosen),
            [shown, checkpoint],
            [shown, *train_outputs, *adapt_outputs, checkpoint],
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _train_tab(state: AppState) -> list[Any]:
    """Lay out the first tab; return what is refreshed: status, cells, figure, table."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            fields = _train_fields()
            with gr.Row():
                start = gr.Button("Train", variant="primary", min_width=80, elem_id="train")
                stop = gr.Button("Stop", min_width=80, elem_id="train-stop")
            message = _message("train-message")
        with gr.Column(scale=2):
            status = _status("train-status")
            cells = gr.HTML(elem_classes="cells", elem_id="train-cells", padding=False)
            figure = _image("train-figure", "Learning curves")
    command = _command()
    table = _report("train-table")

    _on(start.click, partial(_start, state.train), fields, [message, status, command])
    _on(stop.click, lambda: _stop(state.training), [], [message, status])
    return [status, cells, figure, table]


def _train_fields() -> list[Any]:
    """Return the fields of ``TrainForm``, in its order."""
    return [
        gr.Dropdown(
            list(task_distributions.names()),
            value="point_goal",
            label="Task distribution",
            allow_custom_value=True,  # the command line's own error explains a bad value
            elem_id="task-dist",
        ),
        gr.CheckboxGroup(
            list(policies.names()), value=["ssm"], label="Policies", elem_id="policies"
        ),
        gr.Textbox(
            "",
            label="Further policies",
            placeholder="path/file.py:factory or module:factory",
            elem_id="further-policies",
        ),
        gr.Dropdown(
            list(learners.names()),
            value="maml",
            label="Learner",
            allow_custom_value=True,
            elem_id="learner",
        ),
        gr.Textbox("1 5 10", label="Shots to score after", elem_id="shots"),
        gr.Radio(list(PRESETS), value="smoke", label="Preset", elem_id="preset"),
        gr.Slider(
            0,
            10_000,
            0,
            step=10,
            label="Environment steps (thousands)",
            info="0 for the preset's budget",
            elem_id="env-steps",
        ),
        gr.Number(0, label="Seed", precision=0, elem_id="seed"),
        gr.Radio(BACKENDS, value="ray", label="Runs on", elem_id="backend"),
    ]


def _adapt_tab(state: AppState) -> tuple[list[Any], Any]:
    """Lay out the second tab; return what is refreshed, and the list of checkpoints."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            checkpoint = gr.Dropdown(
                _choices(state),
                value=None,  # nothing selected, so that a run that ends can select its own
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
                start = gr.Button("Adapt", variant="primary", min_width=80, elem_id="adapt")
                stop = gr.Button("Stop", min_width=80, elem_id="adapt-stop")
            message = _message("adapt-message")
        with gr.Column(scale=2):
            status = _status("adapt-status")
            with gr.Row():
                clips = [part for name in CLIPS for part in _clip(name)]
            curve = _image("adapt-figure", "Adaptation curve")
    command = _command()
    table = _report("adapt-table")

    values = [checkpoint, task, shots, backend]
    _on(load.click, _load, [checkpoint], [summary, task])
    _on(start.click, partial(_start, state.adapt), values, [message, status, command])
    _on(stop.click, lambda: _stop(state.adapting), [], [message, status])
    return [status, *clips, curve, table], checkpoint


def _clip(name: str) -> tuple[Any, Any]:
    """Return a caption and, below it, a clip."""
    with gr.Column(min_width=240):
        caption = CLIPS[name]
        above = gr.HTML(caption, elem_id=f"{name}-caption", elem_classes="caption", padding=False)
        return above, _image(name, caption)


def _image(name: str, alt: str) -> Any:
    return gr.Image(
        elem_id=name, alt_text=alt, show_label=False, interactive=False, buttons=[], format="png"
    )


def _command() -> Any:
    with gr.Accordion("The same on the command line", open=False):
        return gr.Code(language="shell", interactive=False, show_label=False, wrap_lines=True)


def _status(name: str) -> Any:
    return gr.Textbox(
        "Nothing started yet.", label="Status", interactive=False, lines=2, elem_id=name
    )


def _message(name: str) -> Any:
    """Return the place for error messages of the buttons; refreshing leaves it unchanged."""
    return gr.HTML(elem_id=name, elem_classes="message", padding=False)


def _report(name: str) -> Any:
    return gr.Markdown(elem_classes="report", elem_id=name, latex_delimiters=[])


def _on(event: Callable[..., Any], action: Callable[..., Any], inputs: Any, outputs: Any) -> None:
    event(action, inputs, outputs, show_progress="hidden", api_visibility="private")


def _start(start: Callable[..., list[str]], *values: Any) -> tuple[Any, ...]:
    """Call ``start``; return the error message, the status and the command line."""
    try:
        return "", "Starting.", forms.shell(start(*values))
    except (ValueError, OSError) as error:
        return html.escape(view.error_sentence(error)), gr.skip(), ""


def _stop(process: RunProcess | None) -> tuple[Any, ...]:
    """Stop the process; return the error message and the status."""
    if process is None or not process.running:
        return "Nothing is running.", gr.skip()
    process.stop()
    return "", view.status(process)


def _load(path: str) -> tuple[str, Any]:
    try:
        loaded = forms.load(path)
    except (ValueError, OSError) as error:
        return view.error_sentence(error), gr.Dropdown(choices=[], value=None)
    tasks = list(loaded.tasks)
    return loaded.summary, gr.Dropdown(choices=tasks, value=tasks[0][1])


def _choices(state: AppState) -> list[tuple[str, str]]:
    """Return label and path of every checkpoint; labels are ``run / cell``."""
    paths = forms.checkpoints(state.storage)  # <storage>/<run>/cells/<cell>/checkpoints/<file>
    return [(f"{path.parents[3].name} / {path.parents[1].name}", str(path)) for path in paths]


def _refresh(state: AppState, before: Shown, chosen: str | None) -> list[Any]:
    """Return updates of both tabs for a window that displays ``before``."""
    now: Shown = {}
    outputs = [*_refresh_training(state, before, now), *_refresh_adapting(state, before, now)]
    return [now, *outputs, _refresh_checkpoints(state, before, now, chosen)]


def _refresh_checkpoints(state: AppState, before: Shown, now: Shown, chosen: str | None) -> Any:
    """Return the list of checkpoints if it has changed.

    When a run has just ended and no checkpoint is chosen, its first one is selected.
    """
    now["checkpoints"] = choices = _choices(state)
    ended = before.get("training", (None, False))[1] and not now["training"][1]
    if ended and not chosen:
        own = [path for _, path in choices if Path(path).is_relative_to(now["training"][0])]
        return gr.Dropdown(choices=choices, value=own[0] if own else None)
    return gr.skip() if choices == before.get("checkpoints") else gr.Dropdown(choices=choices)


def _refresh_training(state: AppState, before: Shown, now: Shown) -> list[Any]:
    process = state.training
    if process is None:
        return [gr.skip()] * 4
    run = process.folder
    now["training"] = (run, process.running, view.fingerprint(run))
    status = _refresh_status(process, before, now, "train")
    if now["training"] == before.get("training"):
        return [status, *[gr.skip()] * 3]
    try:
        outputs = [view.cells_table(run), view.learning_figure(run), view.comparison_table(run)]
    except (ValueError, OSError) as error:
        outputs = [html.escape(view.error_sentence(error)), gr.skip(), gr.skip()]
    return [status, *outputs]


def _refresh_adapting(state: AppState, before: Shown, now: Shown) -> list[Any]:
    process = state.adapting
    if process is None:
        return [gr.skip()] * 7
    run = process.folder
    now["adapting"] = (run, process.running, view.fingerprint(run))
    status = _refresh_status(process, before, now, "adapt")
    if now["adapting"] == before.get("adapting"):
        return [status, *[gr.skip()] * 6]
    clips = view.clips(run, state.watched_task) or [("", caption) for caption in CLIPS.values()]
    parts = [part for path, caption in clips for part in (html.escape(caption), path or None)]
    return [status, *parts, view.adaptation_figure(run), view.comparison_table(run)]


def _refresh_status(process: RunProcess, before: Shown, now: Shown, key: str) -> Any:
    """Return the status if it differs from the one displayed."""
    now[key] = view.status(process)
    return gr.skip() if now[key] == before.get(key) else now[key]
