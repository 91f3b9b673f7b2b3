"""Photograph the page and the report: docs/images/{app_train,app_adapt,app_results,report}.png.

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
POLICY = "point_goal/gru/maml/s0"
REPORT = PUBLISHED / "halfcheetah-vel/report.html"
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
        results(window)
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
    """Photograph a training near its end."""
    window.locator("#policies input").fill("gru")
    window.locator("#policies input").press("Enter")
    window.keyboard.press("Escape")
    choose(window, "backend", "local")
    window.locator("#env-steps textarea, #env-steps input").first.fill("40k")
    window.locator("#train").click()
    finished = window.locator("#train-cells tr", has_text="ok")
    expect(finished).to_have_count(1, timeout=30 * MINUTE)
    window.wait_for_timeout(3000)
    photograph(window, "app_train")
    wait_until_complete(window, "train-status")


def adapt(window: Page) -> None:
    """Photograph a policy before and after adaptation."""
    window.get_by_role("tab", name="Adapt and watch").click()
    choose(window, "checkpoint", POLICY)
    expect(window.locator("#loaded")).to_contain_text("gru trained", timeout=MINUTE)
    window.locator("#adapt").click()
    wait_until_complete(window, "adapt-status")
    window.locator("#films video").nth(1).wait_for()
    window.wait_for_timeout(3000)
    photograph(window, "app_adapt")


def results(window: Page) -> None:
    """Photograph the report of a published run."""
    window.get_by_role("tab", name="Results").click()
    window.locator("#runs input").first.press("Backspace")  # the run that is shown first
    choose(window, "runs", "published: point_goal")
    window.locator("#title").click()  # which closes the list
    report = window.locator("#results").frame_locator("iframe").locator("body")
    expect(report).to_contain_text("point_goal@1", timeout=MINUTE)
    window.wait_for_timeout(3000)
    photograph(window, "app_results")


def choose(window: Page, name: str, text: str) -> None:
    """Type into a dropdown and confirm."""
    window.locator(f"#{name} input").first.fill(text)
    window.locator(f"#{name} input").first.press("Enter")


def wait_until_complete(window: Page, name: str) -> None:
    """Wait until a status says that the run is complete."""
    status = window.locator(f"#{name} textarea, #{name} input").first
    expect(status).to_have_value(re.compile("^Complete"), timeout=30 * MINUTE)


def photograph(window: Page, name: str) -> None:
    """Save what is in sight at the top of the page."""
    window.evaluate("scrollTo(0, 0)")
    window.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
