"""The live view of a sweep: counts, time left, a row per running cell, nothing that commands."""

import io
import logging

from rich.console import Console

from harness.console.sweep_display import PlainWatch, RichWatch, render
from harness.console.sweep_view import CellView, SweepView


def report(iteration, wall, **more):
    values = {"iteration": iteration, "epochs": 10, "env_steps": 100 * iteration}
    return values | {"wall_seconds": wall, "pre_return": -2.0, "post_return": -1.0} | more


def view():
    cells = {
        "done": CellView(status="ok", wall_seconds=20.0),
        "busy": CellView(),
        "other": CellView(),
        "bad": CellView(status="failed", reason="diverged"),
        "early": CellView(status="stopped"),
        **{f"left-{n}": CellView() for n in range(4)},
    }
    for iteration in (1, 2, 3, 4, 5):
        cells["busy"].update(report(iteration, 2.0 * iteration))
    cells["other"].update(report(0, 0.0))
    return SweepView("x", cells)


def drawn(what, width=100):
    console = Console(file=io.StringIO(), width=width, height=30, force_terminal=False)
    console.print(what)
    return console.file.getvalue()


def test_counts_speed_and_time_left():
    found = view()
    assert found.summary() == "3/9 cells done: 1 ok, 2 running, 1 failed, 1 stopped, 4 left"
    assert found.cells["busy"].steps_per_second == 50.0
    assert found.cells["busy"].seconds_left == 10.0
    # Usually 20 s a cell: 10 s of busy, all of other and four more, two at a time.
    assert found.seconds_left == (10 + 20 + 4 * 20) / 2
    assert SweepView("x", {"a": CellView()}).seconds_left is None


def test_a_row_per_running_cell_and_what_was_noted():
    text = drawn(render(view(), "0:10 elapsed", ["be\x1b[31mware"], rows=1))
    assert "busy" in text
    assert "5/10" in text
    assert "… 1 more running" in text
    assert "done:" in text
    assert "left-0" not in text
    assert "\x1b" not in text


def test_evaluation_is_told_apart_from_training():
    found = view()
    found.cells["busy"].update(report(10, 20.0, jobs_done=1, jobs=4))
    assert "eval 1/4" in drawn(render(found, ""))


def test_the_terminal_is_given_back():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    watch = RichWatch(console, clock=iter(range(1000)).__next__)
    found = view()
    watch.started(found)
    watch.note("a note")
    watch.over("bad")
    watch.closed()
    text = console.file.getvalue()
    assert "a note" in text
    assert "bad: failed: diverged" in text
    assert text.endswith("\x1b[?25h") or "\x1b[?25h" in text


def test_the_log_is_quiet_but_for_what_begins_and_ends(monkeypatch):
    now, lines = [0.0], []

    class Listener(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger = logging.getLogger("harness")
    monkeypatch.setattr(logger, "handlers", [Listener()])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "_cache", {})  # of what was asked at another level
    watch, found = PlainWatch(clock=lambda: now[0]), view()
    watch.started(found)
    watch.begun("busy")
    for now[0] in range(1, 25):
        watch.reported("busy")
    watch.over("bad")
    assert sum("iteration 5/10" in text for text in lines) == 2
    assert any(text == "bad: failed: diverged" for text in lines)
