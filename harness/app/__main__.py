"""``python -m harness.app``: serve the page on http://127.0.0.1:7860, to this machine only."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from harness.app.cards import PICTURES
from harness.app.run_process import LOGS
from harness.app.style import CSS
from harness.config.schema import folder
from harness.errors import UsageError, run_command
from harness.reporting.store.files import RESULTS

HOST = "127.0.0.1"
"""The page starts processes and has no login, so it never listens on another address."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until interrupted; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.app",
        description="Train, load a checkpoint, adapt it and watch: a page in the browser.",
        epilog="exit codes: 0 ended by Ctrl-C or SIGTERM, 2 could not start",
    )
    parser.add_argument("--port", type=int, default=7860, help="port on 127.0.0.1 (default 7860)")
    parser.add_argument(
        "--storage", default=str(RESULTS), help="folder of the run folders (default results)"
    )
    args = parser.parse_args(argv)
    storage = _storage(args.storage)
    try:
        from harness.app.page import THEME, build
        from harness.app.server import serve_reports
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "PIL"):
            raise
        install = 'pip install -c constraints.txt -e ".[app]"'
        raise UsageError(f"the page needs its extra: {install}") from error
    from harness.app.app_state import AppState

    state, interrupted = AppState(storage), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    page = build(state)
    try:
        server, _, _ = page.launch(
            server_name=HOST,
            server_port=args.port,
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            allowed_paths=[str(storage), str(PICTURES)],
            footer_links=[],
            theme=THEME,
            css=CSS,
        )
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port {args.port}: {error}. Choose another port") from error
    serve_reports(server)
    sys.stdout.write(f"open http://{HOST}:{args.port} (Ctrl-C to quit)\n")
    sys.stdout.flush()
    interrupted.wait()
    sys.stdout.write("quitting; a run in progress writes its checkpoint first\n")
    state.close()
    page.close(verbose=False)
    return 0


def _storage(address: str) -> Path:
    """Return the folder at ``address``, created if necessary.

    Raises:
        UsageError: it is not a folder that this process can write to.
    """
    try:
        storage = folder(address)
        (storage / LOGS).mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        raise UsageError(f"--storage: {error}") from error
    return storage


if __name__ == "__main__":
    sys.exit(main())
