"""``python -m harness.app``: the page on http://127.0.0.1:7860, for this machine alone."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from harness.app.run_process import LOGS
from harness.app.style import CSS
from harness.config.schema import folder
from harness.experiments.run import RESULTS

HOST = "127.0.0.1"
"""Nothing of the page listens anywhere else: who reaches it starts processes here."""
MISSING = 'error: the page needs its extra: pip install -c constraints.txt -e ".[app]"\n'


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until interrupted; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.app",
        description="Train, load a checkpoint, adapt and watch: a page in the browser.",
        epilog="exit codes: 0 ended by Ctrl-C or SIGTERM, 2 it could not start",
    )
    parser.add_argument("--port", type=int, default=7860, help="port on 127.0.0.1 (default 7860)")
    parser.add_argument(
        "--storage",
        default=str(RESULTS),
        help="folder of the runs' folders (default results)",
    )
    asked = parser.parse_args(argv)
    try:
        storage = _storage(asked.storage)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: --storage: {error}\n")
        return 2
    try:
        from harness.app.page import THEME, build
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "PIL"):
            raise
        sys.stderr.write(MISSING)
        return 2
    from harness.app.app_state import AppState

    desk, over = AppState(storage), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        page = build(desk)
        page.launch(
            server_name=HOST,
            server_port=asked.port,
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            allowed_paths=[str(storage)],
            footer_links=[],
            theme=THEME,
            css=CSS,
        )
    except OSError as error:
        sys.stderr.write(f"error: {error}. Take another --port\n")
        return 2
    sys.stdout.write(f"open http://{HOST}:{asked.port} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    over.wait()
    sys.stdout.write("ending; what is running writes its checkpoint first\n")
    desk.close()
    page.close(verbose=False)
    return 0


def _storage(address: str) -> Path:
    """Return the folder at ``address``, made and found to take what the page writes itself."""
    storage = folder(address)
    (storage / LOGS).mkdir(parents=True, exist_ok=True)
    return storage


if __name__ == "__main__":
    sys.exit(main())
