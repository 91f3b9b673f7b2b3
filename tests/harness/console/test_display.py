"""The two displays, fed the same recorded run on a clock of their own."""

import dataclasses
import io
import logging

import pytest
from rich.console import Console

from harness.console.display import LOGGER, LiveDisplay, PlainLog, ProgressListener, make_progress
from harness.console.live_table import clock_time, render, score
from harness.console.progress_state import CellProgress, RunProgress
from harness.types import Metrics

SSM, GRU = ("halfcheetah-vel.ssm.maml.s0", "halfcheetah-vel.gru.maml.s0")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def metrics(iteration, seconds_each=2.0):
    return Metrics(iteration, iteration * 80_000, -308.14, -250.26, iteration * seconds_each)


def run_of(*keys, iterations=10):
    return RunProgress("my-run", {key: CellProgress(iterations=iterations) for key in keys})


def following(*keys):
    """Return a listener that shows nothing, and the progress that it keeps up to date."""
    listener = ProgressListener()
    listener.started(run_of(*keys))
    return listener, listener.progress


def play_ssm(listener, clock, iterations=10):
    """Train ssm at 2 s an iteration, and evaluate it."""
    listener.cell_started(SSM, 0)
    for iteration in range(1, iterations + 1):
        clock.now += 2.0
        listener.iteration(SSM, metrics(iteration))
    if iterations == 10:
        for jobs_done in range(4):
            listener.evaluating(SSM, jobs_done, 3)
            clock.now += 1.0 if jobs_done < 3 else 0.0
        listener.cell_finished(SSM, "ok")


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=24, color_system=None)


@pytest.fixture
def clock():
    return Clock()


def drawn(what):
    console = Console(file=io.StringIO(), width=100, height=24, color_system=None)
    console.print(what)
    return console.file.getvalue()


def row(text, key):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(key)]
    return line.split()


def test_time_left_follows_what_was_seen(clock):
    listener, progress = following(SSM, GRU)
    assert progress.seconds_left is None
    play_ssm(listener, clock, iterations=4)
    assert progress.cells[SSM].seconds_left == pytest.approx(6 * 2)
    assert progress.seconds_left == pytest.approx(16 * 2)  # gru is expected to go at ssm's pace
    play_ssm(listener, clock)
    assert progress.seconds_left == pytest.approx(10 * 2)
    assert progress.cells[SSM].seconds_left == 0
    listener.cell_finished(GRU, "failed", "diverged")
    assert progress.seconds_left == 0


def test_cells_side_by_side_share_the_time_that_is_left():
    listener, progress = following("done", "busy", "other", *(f"left-{n}" for n in range(4)))
    progress.cells["done"] = CellProgress("ok", wall_seconds=20.0)
    for key in ("busy", "other"):
        listener.cell_started(key, 0)
    for iteration in range(1, 6):
        listener.iteration("busy", metrics(iteration))
    assert progress.cells["busy"].steps_per_second == 40_000
    # Usually 20 s a cell: 10 s of busy, all of other and of four more, two at a time.
    assert progress.seconds_left == (10 + 20 + 4 * 20) / 2
    assert progress.summary() == "1/7 cells done: 1 ok, 2 running, 4 waiting"


def test_the_speed_of_a_resumed_cell_is_not_that_of_the_iterations_before():
    listener, progress = following(SSM)
    listener.cell_started(SSM, 6)
    listener.iteration(SSM, metrics(7))
    assert progress.cells[SSM].steps_per_second is None
    listener.iteration(SSM, metrics(8))
    assert progress.cells[SSM].steps_per_second == pytest.approx(40_000)


def test_live_table_shows_every_cell_as_it_stands(terminal, clock):
    display = LiveDisplay(terminal, clock)
    display.started(run_of(SSM, GRU))
    try:
        play_ssm(display, clock, iterations=4)
        display.note("worker 1 restarted [why]")
        text = drawn(display.render())
        shown = ["4/10", "320k", "40.0k", "-308.1", "-250.3", "–", "0:12"]
        assert row(text, SSM)[-7:] == shown
        scored = dataclasses.replace(metrics(4), validation={"return_0": -9.0, "return_10": -7.25})
        display.iteration(SSM, scored)
        display.iteration(SSM, metrics(5))  # the last score stays
        assert "-7.2" in row(drawn(display.render()), SSM)
        assert row(text, GRU)[-1] == "waiting"
        assert "my-run  0/2 cells done: 1 running, 1 waiting; 40.0k steps/s, 0:32 left" in text
        assert "0:08 elapsed" in " ".join(text.split())
        assert "worker 1 restarted [why]" in text
        display.evaluating(SSM, 1, 3)
        assert "eval 1/3" in drawn(display.render())
        display.cell_finished(SSM, "failed", "diverged")
        text = drawn(display.render())
        assert "failed" in row(text, SSM)
        assert "1/2 cells done: 1 failed, 1 waiting" in text
        assert f"{SSM}: failed: diverged" in text
        assert max(map(len, text.splitlines())) <= 100
    finally:
        display.closed()


def test_live_table_gives_the_terminal_back(terminal, clock):
    display = LiveDisplay(terminal, clock)
    display.note("before")  # there is no table yet: shown at once
    assert "before" in terminal.file.getvalue()
    display.started(run_of(SSM, GRU))
    play_ssm(display, clock)
    display.closed()
    display.closed()
    written = terminal.file.getvalue()
    assert "10/10" in written  # the last state stays on the screen
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # cursor hidden, shown


def test_more_cells_than_lines_show_the_ones_at_work(terminal, clock):
    display = LiveDisplay(terminal, clock)
    cells = [f"ant-vel.ssm.maml.s{seed}" for seed in range(50)]
    display.progress = run_of(*cells)
    for key in cells[:30]:
        display.cell_finished(key, "ok")
    display.cell_started(cells[30], 0)
    display._notes.extend(["a note", "a note of two lines" * 8])
    text = drawn(display.render())
    assert len(text.splitlines()) < 24
    assert any(line.split()[:1] == [cells[30]] for line in text.splitlines())
    assert "… 49 more cells" in text
    for key in cells:
        display.cell_started(key, 0)
    assert len(drawn(display.render()).splitlines()) < 24


def test_nothing_shown_commands_the_terminal():
    progress = run_of("be\x1b[31mware")
    assert "\x1b" not in drawn(render(progress, "", ["no\x1b[31mte"]))


@pytest.fixture
def plain(caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, logger=LOGGER.name)
    return caplog


def test_plain_log_is_quiet_but_has_first_and_last(plain, clock):
    log = PlainLog(clock)
    log.started(run_of(SSM, iterations=500))
    log.cell_started(SSM, 0)
    for iteration in range(1, 501):
        clock.now += 0.01
        log.iteration(SSM, metrics(iteration, seconds_each=0.01))
    lines = [record.getMessage() for record in plain.records if "iteration " in record.getMessage()]
    assert "iteration 1/500" in lines[0]
    assert "iteration 500/500" in lines[-1]
    assert 5 <= len(lines) <= 8  # five seconds of work: one line a second
    assert "40.0M env steps at 8.00M/s, return -308.1 -> -250.3" in lines[-1]


def test_plain_log_tells_the_whole_story(plain, clock):
    log = PlainLog(clock)
    log.started(run_of(SSM, GRU))
    play_ssm(log, clock)
    log.cell_started(GRU, 4)
    log.cell_finished(GRU, "failed", "diverged")
    log.note("100 % of it")
    log.closed()
    text = "\n".join(record.getMessage() for record in plain.records)
    jobs = ("1 of 3 jobs", "3 of 3 jobs")
    for part in ("0/2 cells", f"{SSM}: ok", *jobs, "after iteration 4", "100 % of it"):
        assert part in text
    (failure,) = [record for record in plain.records if record.levelno == logging.ERROR]
    assert failure.getMessage() == f"{GRU}: failed: diverged"


def test_the_terminal_decides(terminal, capsys):
    assert isinstance(make_progress(terminal), LiveDisplay)
    log = make_progress(Console(file=io.StringIO(), force_terminal=False))
    assert isinstance(log, PlainLog)
    log.note("to the log")
    assert "to the log" in capsys.readouterr().err


def test_units():
    assert [clock_time(s) for s in (None, 0.4, 61, 3600, 359_999)] == [
        "–",
        "0:00",
        "1:01",
        "1:00:00",
        "99:59:59",
    ]
    assert [score(s) for s in (None, -308.14, float("nan"))] == ["–", "-308.1", "nan"]
