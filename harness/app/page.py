"""The page: its layout, and the action of each button."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr

import policies
import task_distributions
from harness.app import forms, view
from harness.app.app_state import AppState
from harness.app.cards import card
from harness.app.run_process import RunProcess
from harness.cli import flags
from harness.cli.flags import Flag
from harness.config.components import NAMES
from harness.config.presets import PRESETS
from harness.meta import learners

REFRESH_SECONDS = 1.0
"""Time between updates from the run folders."""
THEME = gr.themes.Default(
    font=["system-ui", "sans-serif"],  # local fonts, so that nothing is fetched
    font_mono=["ui-monospace", "monospace"],
)
INTO_SIGHT = "() => {{ document.getElementById('{}')?.scrollIntoView({{block: 'nearest'}}) }}"
"""Script that scrolls to a result if the form is above it, as on a phone."""
KEEP = "(value, given) => JSON.stringify({{...JSON.parse(given), [{}]: value}})"
"""Script that notes what is typed into a field, because the field goes when another is chosen."""
Shown = dict[str, Any]
"""What a window displays: a value per part of the page that changes when the part does."""


def build(state: AppState) -> gr.Blocks:
    """Return the page over ``state``."""
    with gr.Blocks(title="metarl-harness", analytics_enabled=False) as page:
        gr.HTML("<h1>metarl-harness</h1>", elem_id="title")
        with gr.Tabs():
            with gr.Tab("Train", elem_id="train-tab"):
                train_outputs = _train_tab(page, state)
            with gr.Tab("Adapt and watch", elem_id="adapt-tab"):
                adapt_outputs, checkpoint = _adapt_tab(page, state)
            with gr.Tab("Results", elem_id="results-tab"):
                runs = _results_tab(page, state)
        shown = gr.State({})
        timer = gr.Timer(REFRESH_SECONDS)
        timer.tick(
            lambda before, chosen: _refresh(state, before, chosen),
            [shown, checkpoint],
            [shown, *train_outputs, *adapt_outputs, checkpoint, runs],
            show_progress="hidden",
            api_visibility="private",
        )
    return page


# --- Train ---------------------------------------------------------------------------------------


def _train_tab(page: gr.Blocks, state: AppState) -> list[Any]:
    """Lay out the first tab; return what is refreshed: status, Resume, cells, figure, report."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            choices = _choice_fields()
            with gr.Row(elem_classes="tight"):
                main = [_field(flag, "", forms.MAIN[flag.names[0]]) for flag in forms.main_flags()]
                adapter = gr.Dropdown(
                    [("auto: as trained", ""), *NAMES["adapter"]()[1:]],
                    value="",
                    label="Adapter",
                    min_width=130,
                    elem_id="adapter",
                )
            choices.append(adapter)
            with gr.Row(elem_classes="tight"):
                start = gr.Button("Train", variant="primary", min_width=80, elem_id="train")
                stop = gr.Button("Stop", min_width=80, elem_id="train-stop")
                resume = gr.Button("Resume", min_width=80, visible=False, elem_id="resume")
            message = _message("train-message")
            given = gr.Textbox("{}", visible="hidden", elem_id="given")
            settings = gr.Column(elem_id="train-settings")
        with gr.Column(scale=3, min_width=320):
            status = _status("train-status")
            cells = gr.HTML(elem_classes="cells", elem_id="train-cells", visible=False)
            figure = gr.Image(
                elem_id="train-figure",
                alt_text="Learning curves",
                show_label=False,
                interactive=False,
                buttons=[],
                format="png",
                visible=False,
            )
            report = gr.HTML(elem_id="train-report", visible=False)
            command = _command()
            about = gr.Markdown(elem_classes="card", elem_id="card", latex_delimiters=[])
    outputs = [message, status, command]

    def lay_out(typed: str, *chosen: Any) -> None:
        try:
            groups = forms.settings(dict(zip(forms.CHOICES, chosen, strict=True)))
        except view.REFUSED as error:
            gr.HTML(html.escape(view.error_sentence(error)), elem_classes="message")
            return
        values = json.loads(typed)
        for field, flag in _accordions(groups, values):
            script = KEEP.format(json.dumps(flag.names[0]))
            field.change(None, [field, given], [given], js=script, api_visibility="private")

    with settings:
        triggers = [page.load, *(field.change for field in choices)]
        gr.render([given, *choices], triggers, show_progress="hidden")(lay_out)

    names = [*forms.CHOICES, *forms.MAIN]
    train = partial(_train, state, names)
    _on(start.click, train, [given, *choices, *main], outputs, "train-status")
    _on(stop.click, lambda: _stop(state.training), [], [message, status])
    _on(resume.click, partial(_start, state.resume), [], outputs)
    for event in (page.load, choices[0].change):
        _on(event, card, [choices[0]], [about])
    return [status, resume, cells, figure, report]


def _choice_fields() -> list[Any]:
    """Return the fields of ``forms.CHOICES`` but the adapter; names that are not listed pass."""
    typed: dict[str, Any] = {"allow_custom_value": True}  # the command line explains a bad value
    return [
        gr.Dropdown(
            list(task_distributions.names()),
            value="point_goal",
            label="Task distribution",
            elem_id="task-dist",
            **typed,
        ),
        gr.Dropdown(
            list(policies.names()),
            value=["ssm"],
            label="Policies",
            multiselect=True,
            elem_id="policies",
            **typed,
        ),
        gr.Dropdown(
            list(learners.names()),
            value=["maml"],
            label="Learners",
            multiselect=True,
            elem_id="learners",
            **typed,
        ),
        gr.Radio(
            list(PRESETS),
            value="smoke",
            label="Preset (budget)",
            info="smoke only shows that everything runs; quick is the least to compare by",
            elem_id="preset",
        ),
    ]


def _train(state: AppState, names: list[str], typed: str, *values: Any) -> tuple[Any, ...]:
    return _start(state.train, json.loads(typed) | dict(zip(names, values, strict=True)))


# --- Adapt and watch -----------------------------------------------------------------------------


def _adapt_tab(page: gr.Blocks, state: AppState) -> tuple[list[Any], Any]:
    """Lay out the second tab; return what is refreshed, and the list of policies."""
    groups = forms.scoring_settings()
    (backend,) = (flag for flag in forms.main_flags() if flag.names[0] == "backend")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            checkpoint = gr.Dropdown(
                _policies(state),
                value=next(iter(forms.zoo()), None),
                label="Policy",
                info="Your checkpoints and the published policies of the zoo, or a file's path",
                allow_custom_value=True,
                elem_id="checkpoint",
            )
            summary = gr.HTML(elem_id="loaded", elem_classes="note")
            task = gr.Dropdown([], label="Test task to watch", elem_id="task")
            with gr.Row(elem_classes="tight"):
                shots = gr.Slider(1, 10, 5, step=1, label="Shots", elem_id="adapt-shots")
                where = _field(backend, "local", forms.MAIN["backend"], prefix="adapt-")
            with gr.Row(elem_classes="tight"):
                start = gr.Button("Adapt", variant="primary", min_width=80, elem_id="adapt")
                stop = gr.Button("Stop", min_width=80, elem_id="adapt-stop")
            message = _message("adapt-message")
            own = _accordions(groups, {}, prefix="adapt-")
        with gr.Column(scale=3, min_width=320):
            status = _status("adapt-status")
            films = gr.HTML(elem_id="films", visible=False)
            report = gr.HTML(elem_id="adapt-report", visible=False)
            command = _command()
            about = gr.Markdown(elem_classes="card", latex_delimiters=[])

    known = [backend, *(flag for _, flag in own)]

    def adapt(path: str, index: int | None, count: int, *values: Any) -> tuple[Any, ...]:
        given = {flag.names[0]: value for flag, value in zip(known, values, strict=True)}
        given["few-shot"] = " ".join(map(str, range(1, count + 1)))
        return _start(state.adapt, path, index, given)

    for event in (page.load, checkpoint.change):
        _on(event, _load, [checkpoint], [summary, task, about])
    values = [checkpoint, task, shots, where, *(field for field, _ in own)]
    _on(start.click, adapt, values, [message, status, command], "adapt-status")
    _on(stop.click, lambda: _stop(state.adapting), [], [message, status])
    return [status, films, report], checkpoint


def _load(path: str) -> tuple[str, Any, str]:
    """Return the summary of a checkpoint, its test tasks, and the card of its distribution."""
    try:
        loaded = forms.load(path)
    except view.REFUSED as error:
        message = f'<span class="message">{html.escape(view.error_sentence(error))}</span>'
        return message, gr.Dropdown(choices=[], value=None), ""
    tasks = list(loaded.tasks)
    return (
        html.escape(loaded.summary),
        gr.Dropdown(choices=tasks, value=tasks[0][1]),
        card(loaded.task_dist),
    )


def _policies(state: AppState) -> list[tuple[str, str]]:
    """Return label and path of every checkpoint, then the names of the zoo."""
    own = forms.checkpoints(state.storage)  # <storage>/<run>/cells/<cell>/checkpoints/<file>
    listed = [(f"{path.parents[1].name} ({path.parents[3].name})", str(path)) for path in own]
    return [*listed, *((f"zoo: {name}", name) for name in forms.zoo())]


# --- Results -------------------------------------------------------------------------------------


def _results_tab(page: gr.Blocks, state: AppState) -> Any:
    """Lay out the third tab; return the list of runs."""
    offered = view.runs(state.storage)
    runs = gr.Dropdown(
        offered,
        value=[path for _, path in offered[:1]],
        label="Runs",
        info="One: its report. Several: one report that compares them",
        multiselect=True,
        elem_id="runs",
    )
    frame = gr.HTML(elem_id="results")
    for event in (page.load, runs.change):
        _on(event, view.report_frame, [runs], [frame])
    return runs


# --- parts ---------------------------------------------------------------------------------------


def _accordions(
    groups: Mapping[str, list[Flag]], values: Mapping[str, str], prefix: str = ""
) -> list[tuple[Any, Flag]]:
    """Return a field for every flag, each group in an accordion of its own."""
    made = []
    for title, group in groups.items():
        with gr.Accordion(f"Settings: {title}", open=any(values.get(f.names[0]) for f in group)):
            for flag in group:
                value = values.get(flag.names[0], "")
                made.append((_field(flag, value, prefix=prefix), flag))
    return made


def _field(flag: Flag, value: str, label: str = "", prefix: str = "") -> Any:
    """Return the field of a flag; while it is empty, the default shown in it holds."""
    name, default = flag.names[0], flags.default_text(flag)
    parts: dict[str, Any] = {
        "label": label or name.rpartition(".")[2],
        "info": None if label else flag.help,
        "elem_id": f"{prefix}{name}".replace(".", "-"),
        "min_width": 130,
    }
    if values := flags.choices(flag.hint):
        words = ["on", "off"] if values == (True, False) else [str(one) for one in values]
        empty = f"default: {default}" if default else "default"
        return gr.Dropdown([(empty, ""), *words], value=value, **parts)
    hint = "from the preset" if label else default or "not given"
    return gr.Textbox(value, placeholder=hint, max_lines=1, **parts)


def _command() -> Any:
    return gr.Code(
        label="The same on the command line",
        language="shell",
        interactive=False,
        wrap_lines=True,
        lines=1,
        visible=False,
    )


def _status(name: str) -> Any:
    return gr.Textbox(label="Status", interactive=False, elem_id=name, visible=False)


def _message(name: str) -> Any:
    """Return the place for error messages of the buttons; refreshing leaves it unchanged."""
    return gr.HTML(elem_id=name, elem_classes="message")


def _on(
    event: Callable[..., Any], action: Callable[..., Any], inputs: Any, outputs: Any, to: str = ""
) -> None:
    """Call ``action`` on an event, then scroll to the element ``to``."""
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    called = event(action, inputs, outputs, **hidden)
    if to:
        called.then(None, js=INTO_SIGHT.format(to), **hidden)


def _start(start: Callable[..., list[str]], *values: Any) -> tuple[Any, ...]:
    """Call ``start``; return the error message, the status and the command line."""
    try:
        command = forms.shell(start(*values))
    except view.REFUSED as error:
        return html.escape(view.error_sentence(error)), gr.skip(), gr.skip()
    return "", gr.Textbox("Starting.", visible=True), gr.Code(command, visible=True)


def _stop(process: RunProcess | None) -> tuple[Any, ...]:
    """Stop the process; return the error message and the status."""
    if process is None or not process.running:
        return "Nothing is running.", gr.skip()
    process.stop()
    return "", view.status(process)


# --- refreshing ----------------------------------------------------------------------------------


def _refresh(state: AppState, before: Shown, chosen: str | None) -> list[Any]:
    """Return updates of all tabs for a window that displays ``before``."""
    now: Shown = {}
    outputs = [*_refresh_training(state, before, now), *_refresh_adapting(state, before, now)]
    outputs.append(_refresh_policies(state, before, now, chosen))
    now["runs"] = runs = view.runs(state.storage)
    outputs.append(gr.skip() if runs == before.get("runs") else gr.Dropdown(choices=runs))
    return [now, *outputs]


def _refresh_policies(state: AppState, before: Shown, now: Shown, chosen: str | None) -> Any:
    """Return the list of policies if it has changed.

    When a run has just ended and none of the user's own checkpoints is chosen, its first one is.
    """
    now["policies"] = offered = _policies(state)
    ended = before.get("training", (None, False))[1] and not now["training"][1]
    if ended and chosen in ("", None, *forms.zoo()[:1]):
        own = [path for _, path in offered if Path(path).is_relative_to(now["training"][0])]
        return gr.Dropdown(choices=offered, value=own[0]) if own else gr.Dropdown(choices=offered)
    return gr.skip() if offered == before.get("policies") else gr.Dropdown(choices=offered)


def _refresh_training(state: AppState, before: Shown, now: Shown) -> list[Any]:
    process = state.training
    if process is None:
        return [gr.skip()] * 5
    run = process.folder
    now["training"] = (run, process.running, view.fingerprint(run))
    status = _refresh_status(process, before, now, "train")
    if now["training"] == before.get("training"):
        return [status, *[gr.skip()] * 4]
    resume = gr.Button(visible=view.resumable(process))
    try:
        cells, figure = view.cells_table(run), view.learning_figure(run)
    except view.REFUSED as error:
        message = html.escape(view.error_sentence(error))
        return [status, resume, gr.HTML(message, visible=True), gr.skip(), gr.skip()]
    over = bool(cells) and not process.running
    return [
        status,
        resume,
        gr.HTML(cells, visible=bool(cells)),
        gr.Image(figure, visible=figure is not None and not over),
        gr.HTML(view.report_frame([str(run)]) if over else "", visible=over),
    ]


def _refresh_adapting(state: AppState, before: Shown, now: Shown) -> list[Any]:
    process = state.adapting
    if process is None:
        return [gr.skip()] * 3
    run = process.folder
    now["adapting"] = (run, process.running, view.fingerprint(run))
    status = _refresh_status(process, before, now, "adapt")
    if now["adapting"] == before.get("adapting"):
        return [status, *[gr.skip()] * 2]
    films, over = view.films(run, state.watched_task), (run / "report.html").exists()
    return [
        status,
        gr.HTML(films, visible=bool(films)),
        gr.HTML(view.report_frame([str(run)]) if over else "", visible=over),
    ]


def _refresh_status(process: RunProcess, before: Shown, now: Shown, key: str) -> Any:
    """Return the status if it differs from the one displayed."""
    now[key] = view.status(process)
    return gr.skip() if now[key] == before.get(key) else gr.Textbox(now[key], visible=True)
