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
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")

from harness.app import forms

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
    """Save the whole page in two widths if ``APP_SCREENSHOTS`` names a folder."""
    if folder := os.environ.get("APP_SCREENSHOTS"):
        for width in (390, 1280):
            window.set_viewport_size({"width": width, "height": 1000})
            window.wait_for_timeout(500)
            window.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)


def image_of(window, name):
    """Return width, height and source of the image ``name`` once it is loaded."""
    image = window.locator(f"#{name} img").first
    image.wait_for()
    window.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=image.element_handle())
    width, height = (image.evaluate(f"i => i.natural{side}") for side in ("Width", "Height"))
    return width, height, image.get_attribute("src")


def test_train_load_adapt_and_watch(window, served):
    _, storage, _ = served
    choose(window, "task-dist", "point_goal")
    window.locator("#policies").get_by_label("ssm", exact=True).uncheck()
    window.locator("#policies").get_by_label("gru", exact=True).check()
    window.locator("#backend").get_by_label("one process").check()
    window.locator("#train").click()
    wait_for_text(window, "train-status", "^Running")
    playwright.expect(window.locator("#train-cells")).to_contain_text("running")
    image_of(window, "train-figure")
    screenshot(window, "training")
    wait_for_text(window, "train-status", "^Complete", minutes=3)
    table = window.locator("#train-table")
    for text in ("gru", "maml, gradient", "zero-action", "10 shots"):
        playwright.expect(table).to_contain_text(text)
    screenshot(window, "trained")
    (run,) = storage.glob("point_goal-*")

    window.get_by_role("tab", name="Adapt and watch").click()
    offered = window.locator("#checkpoint input").first
    playwright.expect(offered).to_have_value(f"{run.name} / point_goal.gru.maml.s0")
    window.locator("#load").click()
    wait_for_text(window, "loaded", r"gru trained with maml on point_goal, seed 0, \d+ iterations")
    window.locator("#adapt-shots input[type=number]").fill(str(SHOTS))
    window.locator("#adapt-shots input[type=number]").press("Enter")
    window.locator("#adapt").click()
    wait_for_text(window, "adapt-status", "^Complete", minutes=3)
    (adapted,) = storage.glob("adapt-*")
    shown = {name: image_of(window, name) for name in ("before", "after", "adapt-figure")}
    assert shown["before"][2] != shown["after"][2]
    for name, shots in (("before", 0), ("after", SHOTS)):
        clip = adapted / "clips" / "task-0" / f"shots-{shots}.gif"
        served_bytes = window.request.get(shown[name][2]).body()
        assert served_bytes == clip.read_bytes()
        with Image.open(clip) as opened:
            assert opened.n_frames > 20
            assert opened.size == shown[name][:2]
    playwright.expect(window.locator("#before-caption")).to_contain_text(
        "Before adaptation: test/0"
    )
    playwright.expect(window.locator("#after-caption")).to_contain_text(
        f"After {SHOTS} shots: test/0"
    )
    playwright.expect(window.locator("#adapt-table")).to_contain_text("Gain over 0 shots")
    screenshot(window, "adapted")

    window.reload()  # press a button before the first refresh
    window.locator("#train-stop").click()
    wait_for_message(window, "train", "Nothing is running.")
    wait_for_text(window, "train-status", "^Complete")
    wait_for_message(window, "train", "Nothing is running.")

    window.get_by_role("tab", name="Adapt and watch").click()
    choose(window, "checkpoint", str(next(run.glob("cells/*/checkpoints/*.safetensors"))))
    window.locator("#load").click()
    wait_for_text(window, "loaded", "gru trained with maml")
    window.locator("#adapt").click()
    wait_for_text(window, "adapt-status", "^Running")
    window.locator("#adapt-stop").click()
    status = wait_for_text(window, "adapt-status", "^Stopped after")
    assert "--resume" not in status, "the scoring of a checkpoint is not resumed"


def test_errors_are_shown_as_sentences(window, served, tmp_path):
    _, storage, _ = served
    choose(window, "task-dist", "ant-jump")
    window.locator("#train").click()
    wait_for_message(window, "train", "'ant-jump'")
    choose(window, "task-dist", "point_goal")
    window.locator("#shots textarea, #shots input").first.fill("one")
    window.locator("#train").click()
    assert "whole numbers above 0" in wait_for_message(window, "train", "Error: shots: 'one'")
    window.locator("#policies").get_by_label("ssm", exact=True).uncheck()
    window.locator("#train").click()
    message = wait_for_message(window, "train", "Error: no policy")
    assert message == "Error: no policy is selected: tick at least one."
    window.locator("#train-stop").click()
    wait_for_message(window, "train", "Nothing is running.")

    window.get_by_role("tab", name="Adapt and watch").click()
    cut = tmp_path / "iteration-000001.safetensors"
    cut.write_bytes(b"half a checkpoint")
    cut.with_suffix(".json").write_text("{}")
    for path in ("/nowhere/x.safetensors", "/etc/hostname", str(cut)):
        choose(window, "checkpoint", path)
        window.locator("#load").click()
        wait_for_text(window, "loaded", f"^Error: .*{re.escape(path)}.*[.]$")
        window.locator("#adapt").click()
        wait_for_message(window, "adapt", path)
    screenshot(window, "refused")
    assert "Traceback" not in window.locator("body").inner_text()
    assert not list(storage.glob("ant-jump*"))


def test_a_stopped_run_can_be_resumed(window, served):
    _, storage, _ = served
    before = set(storage.glob("point_goal-*"))
    window.locator("#backend").get_by_label("one process").check()
    window.locator("#env-steps input[type=number]").fill("5000")
    window.locator("#env-steps input[type=number]").press("Enter")
    window.locator("#train").click()
    playwright.expect(window.locator("#train-cells")).to_contain_text("running", timeout=2 * MINUTE)
    image_of(window, "train-figure")
    window.locator("#train").click()
    wait_for_message(window, "train", "is still running")
    window.reload()  # a new window shows the run in progress
    playwright.expect(window.locator("#train-cells")).to_contain_text("running")
    window.locator("#train-stop").click()
    wait_for_text(window, "train-status", "^Stopped after .* Continue it with --resume", minutes=3)
    (run,) = set(storage.glob("point_goal-*")) - before
    newest = max(run.glob("cells/*/checkpoints/iteration-*.safetensors"))
    assert forms.load(str(newest)).summary.startswith("ssm trained with maml on point_goal")
    command = [sys.executable, "-m", "harness.status", str(run)]
    assert subprocess.run(command, capture_output=True, check=True).stdout


def test_the_page_listens_on_this_machine_only(served):
    own = psutil.Process(served[2])
    listening = [c.laddr.ip for c in own.net_connections("inet") if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]
