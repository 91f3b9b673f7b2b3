"""A run as data frames, figures and policies; everything is read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.errors import UsageError
from harness.reporting.rebuild import load_tables
from harness.reporting.stats.comparison import Comparison
from harness.reporting.store.files import find_run
from harness.reporting.store.manifest import CELLS_DIR, Manifest
from harness.reporting.store.records import CellFolder, read_curves, read_records
from harness.reporting.store.schema import encode_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.execution.loaded_policy import LoadedPolicy


class Run:
    """The run, sweep or published result in a folder.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed; also from every method.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        """Its folder."""
        Manifest.load(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return str(self.table().to_html())

    @property
    def manifest(self) -> Manifest:
        """What was asked for, with which code and settings, and what became of each cell."""
        return Manifest.load(self.path)

    @property
    def cells(self) -> pd.DataFrame:
        """A row per cell, by its key: names, seed, status, reason and wall seconds."""
        rows = {
            key: {
                "task_dist": cell.task_dist,
                "policy": cell.policy,
                "learner": cell.row_learner,
                "seed": cell.seed,
                "status": cell.status,
                "reason": cell.reason,
                "wall_seconds": cell.wall_seconds,
            }
            for key, cell in self.manifest.cells.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("cell")

    @property
    def failures(self) -> dict[str, str]:
        """Key of each failed cell, and of each failed reference line -> why."""
        return self.manifest.failures()

    @property
    def records(self) -> pd.DataFrame:
        """A row per query episode; the columns are those of ``harness.types.EvalRecord``."""
        return read_records(self.path)

    @property
    def curves(self) -> pd.DataFrame:
        """A row per cell and training iteration; columns as in ``harness.types.Metrics``."""
        cells = self.manifest.cells
        parts = [
            encode_metrics(curve)
            .to_pandas()
            .assign(
                cell=key,
                policy=cells[key].policy,
                learner=cells[key].row_learner,
                seed=cells[key].seed,
            )
            for key, curve in read_curves(self.path).items()
            if key in cells
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def table(self, split: str | None = None, *, name: str | None = None) -> pd.DataFrame:
        """Return the comparison: a row per policy, learner and adapter, reference lines last.

        Args:
            split: the first that was scored (``test``, if it was) if not given.
            name: which table, where the run has several: a task distribution, with the settings
                of the scoring that vary; the first if not given.

        Raises:
            UsageError: there is no such table or split.
        """
        parts = {part.split: part for part in self._comparison(name).splits}
        chosen = split if split is not None else next(iter(parts))
        if chosen not in parts:
            raise UsageError(f"no {chosen!r} tasks were scored; choose from: {', '.join(parts)}")
        return parts[chosen].frame.copy()

    def _comparison(self, name: str | None) -> Comparison:
        tables = dict(zip(self.manifest.tables, load_tables(self.path), strict=True))
        chosen = name if name is not None else next(iter(tables))
        if chosen not in tables:
            raise UsageError(f"there is no table {chosen!r}; choose from: {'; '.join(tables)}")
        return tables[chosen]

    def figure(self, figure: str = "adaptation_curve", *, name: str | None = None) -> Figure:
        """Return a figure, drawn from records and curves.

        Args:
            figure: ``adaptation_curve``, ``learning_curves``, … as in the run's folder ``figures``.
            name: of the table, as for ``table``.

        Raises:
            UsageError: there is no such figure.
        """
        from harness.reporting.rebuild import draw

        return draw(self.path, figure, name)

    def policy(self, cell: str | None = None, *, deterministic: bool = True) -> LoadedPolicy:
        """Return a trained policy, ready to act and adapt.

        Args:
            cell: key of the cell; needed where several were trained.
            deterministic: query episodes take the likeliest action rather than sample.

        Raises:
            UsageError: there is no such cell, or it has no checkpoint.
            CheckpointError: the checkpoint is damaged.
        """
        from harness.execution.loaded_policy import load_policy

        paths = self.checkpoints
        if cell is None and len(paths) == 1:
            (cell,) = paths
        if cell is None or cell not in paths:
            asked = "name one" if cell is None else f"there is none for {cell!r}"
            have = ", ".join(paths) or "none: nothing was trained, or the files are not here"
            raise UsageError(f"cells with a trained policy: {have}; {asked}")
        return load_policy(paths[cell], deterministic=deterministic)

    @property
    def checkpoints(self) -> Mapping[str, Path]:
        """The newest checkpoint of every cell that has one, by the cell's key."""
        paths = {key: CellFolder(self.path / CELLS_DIR / key).policy for key in self.manifest.cells}
        return {key: path for key, path in paths.items() if path is not None}


def load_run(path: str | Path) -> Run:
    """Return the run in the folder ``path``, or of that name below ``results/``.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    return Run(find_run(path))
