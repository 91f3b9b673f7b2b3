"""The two displays, fed the same recorded run on a clock of their own."""

import io
import logging

import pytest
from rich.console import Console

from harness.console.display import LOGGER, PlainProgress, RichProgress, make_progress
from harness.console.live_table import count, duration, score
from harness.console.progress_state import RunProgress
from harness.types import Cell, Metrics

SSM, GRU = (Cell("halfcheetah-vel", policy, "maml", 0) for policy in ("ssm", "gru"))


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def metrics(iteration, seconds_each=2.0):
    return Metrics(iteration, iteration * 80_000, -308.14, -250.26, iteration * seconds_each)


def play_ssm(progress, clock, iterations=10):
    """Train ssm at 2 s an iteration, evaluate it in 3 s."""
    progress.cell_started(SSM, 0)
    for iteration in range(1, iterations + 1):
        clock.now += 2.0
        progress.iteration(SSM, metrics(iteration))
    if iterations == 10:
        for jobs_done in range(4):
            progress.evaluating(SSM, jobs_done, 3)
            clock.now += 1.0 if jobs_done < 3 else 0.0
        progress.cell_finished(SSM, "ok")


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None)


@pytest.fixture
def clock():
    return Clock()


def drawn(progress):
    console = Console(file=io.StringIO(), width=80, height=24, color_system=None)
    console.print(progress.render())
    return console.file.getvalue()


def row(text, policy):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(policy)]
    return line.split()


def test_time_left_follows_what_was_seen(clock):
    tally = RunProgress(clock)
    tally.started(dict.fromkeys([SSM, GRU], 10))
    assert tally.seconds_left() is None
    play_ssm(_Adapter(tally), clock, iterations=4)
    assert tally.cell_seconds_left(tally.cells[SSM]) == pytest.approx(6 * 2)
    assert tally.seconds_left() == pytest.approx(16 * 2)  # gru is expected to go at ssm's pace
    play_ssm(_Adapter(tally), clock)
    assert tally.seconds_left() == pytest.approx(10 * 2 + 3)  # and to be evaluated as long
    assert tally.cell_seconds_left(tally.cells[SSM]) == 0
    tally.cell_finished(GRU, "failed", "diverged")
    assert tally.seconds_left() == 0


def test_a_resumed_cell_is_judged_by_what_this_process_did(clock):
    tally = RunProgress(clock)
    tally.started({SSM: 10})
    tally.cell_started(SSM, 6)
    clock.now += 2.0
    tally.iteration(SSM, metrics(7))
    # Nothing is known of the first six: no speed yet, and 2 s an iteration, not 2 s for seven.
    assert tally.cells[SSM].steps_per_second is None
    assert tally.seconds_left() == pytest.approx(3 * 2)
    clock.now += 2.0
    tally.iteration(SSM, metrics(8))
    assert tally.cells[SSM].steps_per_second == pytest.approx(40_000)


def test_live_table_shows_every_cell_as_it_stands(terminal, clock):
    progress = RichProgress("my-run", terminal, clock)
    progress.started(dict.fromkeys([SSM, GRU], 10))
    try:
        play_ssm(progress, clock, iterations=4)
        progress.note("worker 1 restarted [why]")
        text = drawn(progress)
        assert row(text, "ssm")[-6:] == ["4/10", "320k", "40.0k", "-308.1", "-250.3", "0:12"]
        assert row(text, "gru")[-1] == "waiting"
        assert "my-run  0/2 cells done  0:08 elapsed  0:32 left" in text
        assert "worker 1 restarted [why]" in text
        progress.evaluating(SSM, 1, 3)
        assert "eval 1/3" in drawn(progress)
        progress.cell_finished(SSM, "failed", "diverged")
        text = drawn(progress)
        assert "failed" in row(text, "ssm")
        assert "1/2 cells done, 1 failed" in text
        assert f"{SSM.id}: failed: diverged" in text
        assert max(map(len, text.splitlines())) <= 80
    finally:
        progress.closed()


def test_live_table_gives_the_terminal_back(terminal, clock):
    progress = RichProgress("my-run", terminal, clock)
    progress.note("before")  # there is no table yet: shown at once
    assert "before" in terminal.file.getvalue()
    progress.started(dict.fromkeys([SSM, GRU], 10))
    play_ssm(progress, clock)
    progress.closed()
    progress.closed()
    written = terminal.file.getvalue()
    assert "10/10 ok" in written  # the last state stays on the screen
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # cursor hidden, shown


def test_learner_and_seed_are_columns_only_where_they_differ(terminal, clock):
    progress = RichProgress("r", terminal, clock)
    progress._tally.started(dict.fromkeys([SSM, GRU], 10))
    assert "learner" not in drawn(progress)
    assert "seed" not in drawn(progress)
    progress._tally.started(
        dict.fromkeys([SSM, Cell("halfcheetah-vel", "ssm", "multitask", 1)], 10)
    )
    text = drawn(progress)
    assert "learner" in text
    assert "seed" in text
    assert "multitask" in text
    assert max(map(len, text.splitlines())) <= 80


def test_more_cells_than_lines_show_the_ones_at_work(terminal, clock):
    cells = [Cell("ant-vel", "ssm", "maml", seed) for seed in range(50)]
    progress = RichProgress("r", terminal, clock)
    progress._tally.started(dict.fromkeys(cells, 10))
    for cell in cells[:30]:
        progress.cell_finished(cell, "ok")
    progress.cell_started(cells[30], 0)
    progress._notes.extend(["a note", "a note of two lines" * 8])
    text = drawn(progress)
    assert len(text.splitlines()) < 24
    assert any(line.split()[:2] == ["ssm", "30"] for line in text.splitlines())
    assert "more cells" in text


@pytest.fixture
def plain(caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, logger=LOGGER.name)
    return caplog


def test_plain_log_is_quiet_but_has_first_and_last(plain, clock):
    progress = PlainProgress("my-run", clock)
    progress.started({SSM: 500})
    progress.cell_started(SSM, 0)
    for iteration in range(1, 501):
        clock.now += 0.01
        progress.iteration(SSM, metrics(iteration, seconds_each=0.01))
    lines = [record.getMessage() for record in plain.records if "iteration " in record.getMessage()]
    assert "iteration 1/500" in lines[0]
    assert "iteration 500/500" in lines[-1]
    assert 5 <= len(lines) <= 8  # five seconds of work: one line a second
    assert "40.0M env steps at 8.00M/s, return -308.1 -> -250.3" in lines[-1]


def test_plain_log_tells_the_whole_story(plain, clock):
    progress = PlainProgress("my-run", clock)
    progress.started(dict.fromkeys([SSM, GRU], 10))
    play_ssm(progress, clock)
    progress.cell_started(GRU, 4)
    progress.cell_finished(GRU, "failed", "diverged")
    progress.note("100 % of it")
    progress.closed()
    text = "\n".join(record.getMessage() for record in plain.records)
    for part in ("2 cells", "10 iterations", f"{SSM.id}: ok", "3 of 3 jobs", "after iteration 4"):
        assert part in text
    assert "100 % of it" in text
    (failure,) = [record for record in plain.records if record.levelno == logging.ERROR]
    assert failure.getMessage() == f"{GRU.id}: failed: diverged"


def test_the_terminal_decides(terminal, capsys):
    assert isinstance(make_progress("r", terminal), RichProgress)
    progress = make_progress("r", Console(file=io.StringIO(), force_terminal=False))
    assert isinstance(progress, PlainProgress)
    progress.note("to the log")
    assert "to the log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (999, "999"),
        (999.7, "1.00k"),
        (12_345, "12.3k"),
        (999_600, "1.00M"),
        (211_000_000, "211M"),
        (1.5e9, "1.50G"),
        (float("inf"), "–"),
    ],
)
def test_count(value, text):
    assert count(value) == text


def test_units():
    assert [duration(s) for s in (None, 0.4, 61, 3600, 359_999)] == [
        "–",
        "0:00",
        "1:01",
        "1:00:00",
        "99:59:59",
    ]
    assert [score(s) for s in (None, -308.14, float("nan"))] == ["–", "-308.1", "nan"]


class _Adapter:
    """A tally spoken to as a display is."""

    def __init__(self, tally):
        self._tally = tally

    def __getattr__(self, name):
        return getattr(self._tally, name)

    def cell_finished(self, cell, status, reason=""):
        self._tally.cell_finished(cell, status, reason)
