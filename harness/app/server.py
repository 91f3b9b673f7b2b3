"""What the page's server serves besides the page: reports of runs."""

from __future__ import annotations

import html
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse

from harness.app import view


def serve_reports(server: FastAPI) -> None:
    """Add ``/report?run=FOLDER``; several runs are compared."""
    server.add_api_route(view.REPORT, _report, response_class=HTMLResponse)


def _report(run: Annotated[list[str], Query()]) -> HTMLResponse:
    # A report's scripts run apart from the page, which can start processes.
    alone = {"Content-Security-Policy": "sandbox allow-scripts allow-popups"}
    try:
        return HTMLResponse(view.report_page(run), headers=alone)
    except view.REFUSED as error:
        return HTMLResponse(f"<p>{html.escape(view.error_sentence(error))}</p>", 422, alone)
