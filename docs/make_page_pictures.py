"""Photograph the page and the report: docs/images/{app_train,app_adapt,report}.png.

    python docs/make_page_pictures.py

Trains on point_goal and adapts its published GRU policy, as a visitor of the page would, in a
headless Chromium. Takes a few minutes.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PUBLISHED = ROOT / "results/published"
POLICY = PUBLISHED / "point-goal/cells/point_goal.gru.maml.s0/policy.safetensors"
REPORT = PUBLISHED / "halfcheetah-vel-5m-seeds/report.html"
MINUTE = 60_000


def main() -> None:
    """Take all pictures."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    with sync_playwright() as driver, served() as address:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1200, "height": 1000})
        window.set_default_timeout(30 * MINUTE)
        window.goto(REPORT.as_uri())
        window.screenshot(path=IMAGES / "report.png")
        window.goto(address)
        train(window)
        adapt(window)
        browser.close()


@contextmanager
def served() -> Iterator[str]:
    """Serve the page over an empty results folder; yield its address."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, "-m", "harness.app", "--port", str(port), "--storage", storage]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int) -> None:
    """Wait until something listens on ``port``."""
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)


def train(window: Page) -> None:
    """Photograph a finished training."""
    window.locator("#env-steps input[type=number]").fill("40")
    window.locator("#env-steps input[type=number]").press("Enter")
    window.locator("#backend").get_by_label("one process").check()
    window.locator("#train").click()
    status = window.locator("#train-status textarea, #train-status input").first
    expect(status).to_have_value(re.compile("^Complete"), timeout=30 * MINUTE)
    window.wait_for_timeout(3000)
    window.evaluate("scrollTo(0, 0)")
    window.screenshot(path=IMAGES / "app_train.png")


def adapt(window: Page) -> None:
    """Photograph a policy before and after adaptation."""
    window.get_by_role("tab", name="Adapt and watch").click()
    checkpoint = window.locator("#checkpoint input").first
    checkpoint.fill(str(POLICY.relative_to(ROOT)))
    checkpoint.press("Enter")
    window.locator("#load").click()
    loaded = window.locator("#loaded textarea").first
    expect(loaded).to_have_value(re.compile("^gru trained"), timeout=MINUTE)
    window.locator("#adapt").click()
    status = window.locator("#adapt-status textarea, #adapt-status input").first
    expect(status).to_have_value(re.compile("^Complete"), timeout=30 * MINUTE)
    window.locator("#after img").wait_for()
    window.wait_for_timeout(3000)
    window.evaluate("scrollTo(0, 0)")
    window.screenshot(path=IMAGES / "app_adapt.png")


if __name__ == "__main__":
    main()
