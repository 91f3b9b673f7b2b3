"""Signals and files that ask a run to stop."""

import os
import signal
import threading

import pytest

from harness.execution.interrupt import InterruptedRunError, StopFile, StopRequest


def test_the_first_signal_asks_and_the_second_stops():
    notes = []
    with StopRequest(notes.append) as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(notes) == 1
        assert "SIGTERM" in notes[0]
        with pytest.raises(InterruptedRunError):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), StopRequest(lambda _: None):
        raise ZeroDivisionError
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_another_thread_leaves_signals_to_the_main_one():
    before = signal.getsignal(signal.SIGINT)
    entered = []

    def enter():
        with StopRequest(lambda _: None) as stop:
            stop.check()
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [before]


def test_a_file_asks_to_stop_too(tmp_path):
    stop = StopFile(tmp_path / "stop")
    stop.check()
    stop.path.touch()
    with pytest.raises(InterruptedRunError):
        stop.check()
