"""The page in a real Chromium: every button, its results and its error messages."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")

from harness.app import forms
from harness.reporting.store.manifest import Manifest

MINUTE = 60_000
SHOTS = 3

playwright.expect.set_options(timeout=MINUTE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page in a process of its own, over an empty results folder."""
    storage = tmp_path_factory.mktemp("results")
    port, log = free_port(), storage.parent / "app.log"
    command = [sys.executable, "-m", "harness.app", "--port", str(port), "--storage", str(storage)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 240
        while "open http://" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", storage, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(120)
    assert exit_code == 0, log.read_text()


@pytest.fixture
def window(served, browser):
    """A fresh window on the page; fails if it sends a request to another host."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(MINUTE)
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(served[0])
    page.locator("#train").wait_for()
    yield page
    assert hosts <= {"127.0.0.1", None}, "the page must work without a network"
    page.close()


def wait_for_text(window, name, pattern, minutes=1.0):
    """Wait until the text field ``name`` matches ``pattern``; return its whole text."""
    field = window.locator(f"#{name} textarea, #{name} input").first
    playwright.expect(field).to_have_value(re.compile(pattern), timeout=minutes * MINUTE)
    return field.input_value()


def wait_for_message(window, tab, words):
    """Wait until the message below the buttons of ``tab`` contains ``words``; return it."""
    message = window.locator(f"#{tab}-message")
    playwright.expect(message).to_contain_text(words)
    return message.inner_text().strip()


def choose(window, name, text):
    """Type ``text`` into the dropdown ``name`` and confirm it."""
    field = window.locator(f"#{name} input").first
    field.fill(text)
    field.press("Enter")


def screenshot(window, name):
    """Save the page in two widths if ``APP_SCREENSHOTS`` names a folder."""
    if folder := os.environ.get("APP_SCREENSHOTS"):
        for width in (390, 1280):
            window.set_viewport_size({"width": width, "height": 1000})
            window.wait_for_timeout(500)
            window.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)


def report_in(window, name):
    """The body of the report in the part ``name``."""
    return window.locator(f"#{name}").frame_locator("iframe").locator("body")


def train_locally(window, **fields):
    """Fill in fields and press Train."""
    choose(window, "backend", "local")
    for name, text in fields.items():
        window.locator(
            f"#{name.replace('_', '-')} input, #{name.replace('_', '-')} textarea"
        ).first.fill(text)
    window.locator("#train").click()


def test_train_load_adapt_and_watch(window, served):
    _, storage, _ = served
    playwright.expect(window.locator("#card img")).to_be_visible()
    window.locator("#policies").get_by_role("button", name="Remove 0").click()
    choose(window, "policies", "gru")
    choose(window, "learners", "rl2")
    window.keyboard.press("Escape")
    window.get_by_text("Settings: learner rl2").wait_for()
    window.get_by_text("Settings: policy gru").click()
    train_locally(window, gru_hidden_dim="16", env_steps="12k")
    wait_for_text(window, "train-status", "^Running")
    playwright.expect(window.locator("#train-cells")).to_contain_text("running")
    window.locator("#train-figure img").wait_for(timeout=120_000)
    screenshot(window, "training")
    wait_for_text(window, "train-status", "^Complete", minutes=5)
    report = report_in(window, "train-report")
    for text in ("gru, maml", "gru, rl2", "zero-action", "10 shots"):
        playwright.expect(report).to_contain_text(text)
    assert not window.locator("#train-figure").is_visible()
    screenshot(window, "trained")
    (run,) = storage.glob("point_goal-*")
    cells = Manifest.load(run).cells.values()
    assert {cell.config["policy"]["gru"]["hidden_dim"] for cell in cells} == {16}

    window.get_by_role("tab", name="Adapt and watch").click()
    offered = window.locator("#checkpoint input").first
    playwright.expect(offered).to_have_value(re.compile(rf"point_goal.gru.\w+.s0 \({run.name}\)"))
    own = next(run.glob("cells/*.maml.*/checkpoints/*.safetensors"))
    choose(window, "checkpoint", str(own))
    loaded = window.locator("#loaded")
    playwright.expect(loaded).to_contain_text("gru trained with maml on point_goal, seed 0, ")
    window.locator("#adapt-shots input[type=number]").fill(str(SHOTS))
    window.locator("#adapt-shots input[type=number]").press("Enter")
    window.locator("#adapt").click()
    wait_for_text(window, "adapt-status", "^Complete", minutes=3)
    (adapted,) = storage.glob("adapt-*")
    films = window.locator("#films figure")
    for number, (shots, text) in enumerate(
        [(0, "Before adaptation"), (SHOTS, f"After {SHOTS} shots")]
    ):
        playwright.expect(films.nth(number)).to_contain_text(f"{text}: test/0")
        video = films.nth(number).locator("video")
        window.wait_for_function("v => v.currentTime > 0", arg=video.element_handle())
        file = adapted / "clips" / "task-0" / f"shots-{shots}.mp4"
        assert (
            window.request.get(served[0] + video.get_attribute("src")).body() == file.read_bytes()
        )
        assert video.evaluate("v => v.videoWidth") == 360
    report = report_in(window, "adapt-report")
    playwright.expect(report).to_contain_text("Gain over 0 shots")
    playwright.expect(report.locator("video")).to_have_count(2)
    screenshot(window, "adapted")

    window.get_by_role("tab", name="Results").click()
    choose(window, "runs", run.name)
    choose(window, "runs", adapted.name)
    playwright.expect(report_in(window, "results")).to_contain_text(f"maml ({adapted.name})")
    screenshot(window, "compared")

    window.reload()  # press a button before the first refresh
    window.locator("#train-stop").click()
    wait_for_message(window, "train", "Nothing is running.")
    wait_for_text(window, "train-status", "^Complete")
    wait_for_message(window, "train", "Nothing is running.")

    window.get_by_role("tab", name="Adapt and watch").click()
    choose(window, "checkpoint", str(own))
    playwright.expect(loaded).to_contain_text("gru trained with maml")
    window.locator("#adapt").click()
    wait_for_text(window, "adapt-status", "^Running")
    window.locator("#adapt-stop").click()
    wait_for_text(window, "adapt-status", "^Stopped after")


def test_errors_are_shown_as_sentences(window, served, tmp_path):
    _, storage, _ = served
    choose(window, "task-dist", "ant-jump")
    playwright.expect(window.locator("#train-settings")).to_contain_text("'ant-jump'")
    window.locator("#train").click()
    wait_for_message(window, "train", "'ant-jump'")
    choose(window, "task-dist", "point_goal")
    playwright.expect(window.locator("#train-settings")).to_contain_text("point_goal")
    train_locally(window, few_shot="one")
    wait_for_message(window, "train", "Error: --few-shot: got 'one'")
    window.locator("#policies").get_by_role("button", name="Remove 0").click()
    window.locator("#train").click()
    wait_for_message(window, "train", "Error: no policy")
    window.locator("#train-stop").click()
    wait_for_message(window, "train", "Nothing is running.")

    window.get_by_role("tab", name="Adapt and watch").click()
    cut = tmp_path / "iteration-000001.safetensors"
    cut.write_bytes(b"half a checkpoint")
    cut.with_suffix(".json").write_text("{}")
    for path in ("/nowhere/x.safetensors", "/etc/hostname", str(cut)):
        choose(window, "checkpoint", path)
        playwright.expect(window.locator("#loaded")).to_contain_text(path)
        window.locator("#adapt").click()
        wait_for_message(window, "adapt", path)
    screenshot(window, "refused")
    assert "Traceback" not in window.locator("body").inner_text()
    assert not list(storage.glob("ant-jump*"))


def test_a_stopped_run_can_be_resumed(window, served):
    _, storage, _ = served
    before = set(storage.glob("point_goal-*"))
    train_locally(window, env_steps="5M")
    playwright.expect(window.locator("#train-cells")).to_contain_text("running", timeout=2 * MINUTE)
    window.locator("#train-figure img").wait_for()
    window.locator("#train").click()
    wait_for_message(window, "train", "is still running")
    window.reload()  # a new window shows the run in progress
    playwright.expect(window.locator("#train-cells")).to_contain_text("running")
    window.locator("#train-stop").click()
    wait_for_text(window, "train-status", "^Stopped after .* Resume continues it", minutes=3)
    (run,) = set(storage.glob("point_goal-*")) - before
    newest = max(run.glob("cells/*/checkpoints/iteration-*.safetensors"))
    assert forms.load(str(newest)).summary.startswith("ssm trained with maml on point_goal")
    window.locator("#resume").click()
    wait_for_text(window, "train-status", f"^Running .*{run.name}")
    playwright.expect(window.locator("#resume")).to_be_hidden()
    window.locator("#train-stop").click()
    wait_for_text(window, "train-status", "^Stopped after", minutes=3)


def test_the_page_listens_on_this_machine_only(served):
    own = psutil.Process(served[2])
    listening = [c.laddr.ip for c in own.net_connections("inet") if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]
