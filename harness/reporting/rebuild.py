"""Tables and figures of a run, made again from its records, curves and manifest alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.reporting.render.captions import caption, title
from harness.reporting.render.figures import write_figures
from harness.reporting.render.formats import classes_to_csv, to_csv, to_latex, to_markdown
from harness.reporting.stats.comparison import Comparison, comparison_table
from harness.reporting.store.files import write_atomically
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_curves, read_records


def load_comparison(run_dir: Path) -> tuple[Comparison, Manifest]:
    """Return the captioned table of the run in ``run_dir`` and its manifest; write nothing.

    Raises:
        ValueError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    manifest = Manifest.load(run_dir / "manifest.json")
    table = comparison_table(read_records(run_dir), manifest)
    captioned = dataclasses.replace(
        table, title=title(table, manifest), caption=caption(table, manifest)
    )
    return captioned, manifest


def rebuild(run_dir: Path) -> Comparison:
    """Write ``table.csv``, ``table.md``, ``table.tex`` and the figures; return the table.

    Where tasks have classes, ``classes.csv`` too.

    Raises:
        ValueError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    table, manifest = load_comparison(run_dir)
    curves = read_curves(run_dir)
    for suffix, text in (
        ("csv", to_csv(table)),
        ("md", to_markdown(table)),
        ("tex", to_latex(table)),
    ):
        write_atomically(run_dir / f"table.{suffix}", text.encode())
    classes = classes_to_csv(table)
    if classes is not None:
        write_atomically(run_dir / "classes.csv", classes.encode())
    write_figures(table, manifest, curves, run_dir / "figures")
    return table
