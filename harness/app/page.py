"""The page itself: what stands where, and which button does what."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
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

EVERY = 1.0
"""Seconds between looks at the run folders."""
THEME = gr.themes.Default(
    font=["system-ui", "sans-serif"],  # of this machine: nothing is fetched
    font_mono=["ui-monospace", "monospace"],
)
BACKENDS = [("one process", "local"), ("Ray, all CPUs", "ray")]
FILMS = {"before": "Before adaptation", "after": "After adaptation"}
Seen = dict[str, Any]


def build(desk: AppState) -> gr.Blocks:
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
            lambda known, chosen: _tick(desk, known, chosen),
            [seen, checkpoint],
            [seen, *trained, *adapted, checkpoint],
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _train_tab(desk: AppState) -> list[Any]:
    """Lay out the first tab; return what is kept up to date: status, cells, figure, table."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            fields = _train_fields()
            with gr.Row():
                start = gr.Button("Train", variant="primary", min_width=80, elem_id="train")
                stop = gr.Button("Stop", min_width=80, elem_id="train-stop")
            said = _said("train-said")
        with gr.Column(scale=2):
            status = _status("train-status")
            cells = gr.HTML(elem_classes="cells", elem_id="train-cells", padding=False)
            figure = _picture("train-figure", "Learning curves")
    command = _terminal()
    table = _report("train-table")

    def begin(*values: Any) -> tuple[Any, ...]:
        return _begun(lambda: desk.train(forms.TrainForm(*values)))

    _on(start.click, begin, fields, [said, status, command])
    _on(stop.click, lambda: _stopped(desk.training), [], [said, status])
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
        gr.Slider(0, 200, 0, step=1, label="Epochs (0: as budgeted)", elem_id="epochs"),
        gr.Number(0, label="Seed", precision=0, elem_id="seed"),
        gr.Radio(BACKENDS, value="ray", label="Runs on", elem_id="backend"),
    ]


def _adapt_tab(desk: AppState) -> tuple[list[Any], Any]:
    """Lay out the second tab; return what is kept up to date, and the list of checkpoints."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            checkpoint = gr.Dropdown(
                _choices(desk),
                value=None,  # else the first: then none that is trained here is put forward
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
            said = _said("adapt-said")
        with gr.Column(scale=2):
            status = _status("adapt-status")
            with gr.Row():
                films = [part for name in ("before", "after") for part in _film(name)]
            curve = _picture("adapt-figure", "Adaptation curve")
    command = _terminal()
    table = _report("adapt-table")

    def begin(*values: Any) -> tuple[Any, ...]:
        return _begun(lambda: desk.adapt(*values))

    _on(load.click, _load, [checkpoint], [summary, task])
    _on(start.click, begin, [checkpoint, task, shots, backend], [said, status, command])
    _on(stop.click, lambda: _stopped(desk.adapting), [], [said, status])
    return [status, *films, curve, table], checkpoint


def _film(name: str) -> tuple[Any, Any]:
    """Return a caption and, below it, a film."""
    with gr.Column(min_width=240):
        caption = gr.HTML(
            FILMS[name], elem_id=f"{name}-caption", elem_classes="film", padding=False
        )
        return caption, _picture(name, FILMS[name])


def _picture(name: str, told: str) -> Any:
    return gr.Image(
        elem_id=name, alt_text=told, show_label=False, interactive=False, buttons=[], format="png"
    )


def _terminal() -> Any:
    with gr.Accordion("The same in a terminal", open=False):
        return gr.Code(language="shell", interactive=False, show_label=False, wrap_lines=True)


def _status(name: str) -> Any:
    return gr.Textbox("Nothing started yet.", label="Status", interactive=False, elem_id=name)


def _said(name: str) -> Any:
    """Return where a button says why it did nothing: no tick writes there, so it stays."""
    return gr.HTML(elem_id=name, elem_classes="said", padding=False)


def _report(name: str) -> Any:
    return gr.Markdown(elem_classes="report", elem_id=name, latex_delimiters=[])


def _on(event: Callable[..., Any], act: Callable[..., Any], given: Any, shown: Any) -> None:
    event(act, given, shown, show_progress="hidden", api_visibility="private")


def _begun(start: Callable[[], list[str]]) -> tuple[Any, ...]:
    """Return what ``start`` refuses, the status, and the command that a terminal would take."""
    try:
        return "", "Starting.", forms.spelt(start())
    except (ValueError, OSError) as error:
        return html.escape(view.sentence(error)), gr.skip(), ""


def _stopped(child: RunProcess | None) -> tuple[Any, ...]:
    """Return why nothing is stopped, and the status."""
    if child is None or not child.running:
        return "Nothing is running.", gr.skip()
    child.stop()
    return "", view.standing(child)


def _load(path: str) -> tuple[str, Any]:
    try:
        loaded = forms.load(path)
    except (ValueError, OSError) as error:
        return view.sentence(error), gr.Dropdown(choices=[], value=None)
    tasks = list(loaded.tasks)
    return loaded.summary, gr.Dropdown(choices=tasks, value=tasks[0][1])


def _choices(desk: AppState) -> list[tuple[str, str]]:
    found = forms.checkpoints(desk.storage)
    return [(_offer(path.relative_to(desk.storage)), str(path)) for path in found]


def _offer(path: Path) -> str:
    """Return run and cell of a checkpoint."""
    return f"{path.parts[0]} / {path.parents[1].name}"


def _tick(desk: AppState, seen: Seen, chosen: str | None) -> list[Any]:
    """Return what is new for a window that has been shown ``seen``: of both tabs."""
    now: Seen = {}
    shown = [*_training(desk, seen, now), *_adapting(desk, seen, now)]
    return [now, *shown, _offered(desk, seen, now, chosen)]


def _offered(desk: AppState, seen: Seen, now: Seen, chosen: str | None) -> Any:
    """Return the list of checkpoints if it has changed.

    A run that ends puts its own forward where none is chosen.
    """
    now["checkpoints"] = choices = _choices(desk)
    ended = seen.get("training", (None, False))[1] and not now["training"][1]
    if ended and not chosen:
        own = [path for _, path in choices if Path(path).is_relative_to(now["training"][0])]
        return gr.Dropdown(choices=choices, value=own[0] if own else None)
    return gr.skip() if choices == seen.get("checkpoints") else gr.Dropdown(choices=choices)


def _training(desk: AppState, seen: Seen, now: Seen) -> list[Any]:
    child = desk.training
    if child is None:
        return [gr.skip()] * 4
    now["training"] = (child.run, child.running, view.stamp(child.run))
    if now["training"] == seen.get("training"):
        return [_line(child, seen, now, "train"), *[gr.skip()] * 3]
    try:
        shown = [view.cells(child.run), view.learning(child.run), view.table(child.run)]
    except (ValueError, OSError) as error:
        shown = [html.escape(view.sentence(error)), gr.skip(), gr.skip()]
    return [_line(child, seen, now, "train"), *shown]


def _adapting(desk: AppState, seen: Seen, now: Seen) -> list[Any]:
    child = desk.adapting
    if child is None:
        return [gr.skip()] * 7
    now["adapting"] = (child.run, child.running, view.stamp(child.run))
    if now["adapting"] == seen.get("adapting"):
        return [_line(child, seen, now, "adapt"), *[gr.skip()] * 6]
    films = view.films(child.run, desk.watched) or [("", told) for told in FILMS.values()]
    clips = [part for path, told in films for part in (html.escape(told), path or None)]
    rest = [view.adaptation_figure(child.run), view.table(child.run)]
    return [_line(child, seen, now, "adapt"), *clips, *rest]


def _line(child: RunProcess, seen: Seen, now: Seen, key: str) -> Any:
    """Return the status if it has changed since the window was shown it."""
    now[key] = view.standing(child)
    return gr.skip() if now[key] == seen.get(key) else now[key]
