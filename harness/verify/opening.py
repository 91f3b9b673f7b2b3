"""The cells of a folder, opened with its own copies of plug-ins and models."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import metarl_plugins
from harness.config import plugins, validation
from harness.config.components import AUTO
from harness.config.distributions import open_distribution
from harness.config.schema import RunConfig
from harness.config.validation import config_from_dict
from harness.errors import ArtefactError, UsageError
from harness.experiments.publishing import model_copy, models_of
from harness.experiments.rescore import model_of
from harness.reporting.store.checksums import sha256_of
from harness.reporting.store.json_io import brief
from harness.reporting.store.manifest import CELLS_DIR, PLUGINS_DIR, RUN_FILE, CellInfo, Manifest
from harness.reporting.store.records import CellFolder
from harness.types import AGENT, REFERENCE
from harness.verify.findings import Findings
from metarl_plugins import PluginError

NOT_RUN = "it has plug-ins, and no code of the folder is run with --replay 0"


@dataclass(frozen=True, slots=True)
class OpenCell:
    """A cell with what it takes to check it and to play it again."""

    key: str
    info: CellInfo
    folder: CellFolder
    config: RunConfig | None
    """None if it could not be read here."""
    model: Path | None
    """The policy or the checkpoint that is scored."""
    obstacle: str
    """Why it cannot be played again; empty if it can."""
    wrong: str
    """What is wrong with its configuration; empty if nothing is."""
    reference: bool
    """Whether it is the reference lines of a table."""

    @property
    def kind(self) -> str:
        """``reference``, ``agent`` or ``policy``."""
        if self.reference:
            return REFERENCE
        return AGENT if self.info.learner == AGENT else "policy"


def check_plugins(folder: Path, manifest: Manifest, found: Findings) -> None:
    """Compare the copies of plug-ins with the files that ran; import nothing."""
    copies = {sha256_of(path): path.name for path in sorted((folder / PLUGINS_DIR).glob("*"))}
    try:
        files = [then for then in _origins(manifest) if _is_file(then.target)]
    except (TypeError, AttributeError, ValueError) as error:
        raise ArtefactError(f"{folder / RUN_FILE}: plugins: {error}") from error
    recorded = {then.sha256: then.target for then in files}
    problems = [
        f"{PLUGINS_DIR}/ has no file with the sha256 of {target}, which ran ({digest[:12]})"
        for digest, target in recorded.items()
        if digest not in copies
    ]
    problems += [
        f"{PLUGINS_DIR}/{name} is not a file that ran (sha256 {digest[:12]})"
        for digest, name in copies.items()
        if digest not in recorded
    ]
    if copies or recorded:
        found.compare("plug-ins have the sha256 of the files that ran", problems)


def _origins(manifest: Manifest) -> Iterator[metarl_plugins.Origin]:
    for info in manifest.entries.values():
        for _, _, then in plugins.entries(_part(info.config, "plugins")):
            yield then


def _part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of a recorded configuration; empty if it has none, or no valid one."""
    part = values.get(name)
    return dict(part) if isinstance(part, Mapping) else {}


def _is_file(target: str) -> bool:
    place = target.rpartition(":")[0]
    return place.endswith(".py") or "/" in place


def open_cells(folder: Path, manifest: Manifest, *, run_code: bool) -> Iterator[OpenCell]:
    """Yield the cells and the reference lines of a run, with what is wrong or missing in each.

    Args:
        folder: of the run.
        manifest: of the run.
        run_code: import plug-ins, from the folder's copies.
    """
    if run_code:
        _provide(folder, manifest)
    for key, info in manifest.entries.items():
        yield _open(folder, key, info, key in manifest.references, run_code=run_code)


def _provide(folder: Path, manifest: Manifest) -> None:
    """Let this process import the folder's copies of plug-ins by the paths they were given by."""
    open_distribution.cache_clear()  # another folder may have another file of the same path
    copies = {sha256_of(path): path for path in (folder / PLUGINS_DIR).glob("*")}
    metarl_plugins.provide(
        {
            then.target.rpartition(":")[0]: copies[then.sha256].read_bytes()
            for then in _origins(manifest)
            if _is_file(then.target) and then.sha256 in copies
        }
    )


def _open(folder: Path, key: str, info: CellInfo, reference: bool, *, run_code: bool) -> OpenCell:
    cell = CellFolder(folder / CELLS_DIR / key)
    saved = models_of(info).items()
    models = {path: _model(folder, path, digest) for path, digest in saved}
    values = copy.deepcopy(info.config)
    for part in _part(values, "agent").values():
        for name, path in [(n, models[v]) for n, v in part.items() if v in models]:
            part[name] = str(path) if path else None
    config, obstacle, wrong = _configuration(values, run_code=run_code)
    model = model_of(cell, info)
    if not obstacle and not reference:
        obstacle = _obstacle(info, models, model)
    return OpenCell(key, info, cell, config, model, obstacle, wrong, reference)


def _configuration(
    values: Mapping[str, Any], *, run_code: bool
) -> tuple[RunConfig | None, str, str]:
    """Return a configuration, and else what is in the way, or what is wrong with it."""
    recorded = _part(values, "plugins")
    recorded.pop(plugins.FILES, None)
    if unknown := _outside(values) - {(key, name) for key in recorded for name in recorded[key]}:
        return None, "", f"{min(unknown)[1]} is not built in, and its origin is not on record"
    if recorded and not run_code:
        return None, NOT_RUN, ""
    try:
        if changed := plugins.changes(recorded):
            return None, changed[0], ""
    except (PluginError, UsageError) as error:
        return None, str(error), ""
    try:
        config = config_from_dict(values)
        validation.check(config, {})
        return config, "", ""
    except UsageError as error:
        return None, "", f"not a run of this version: {error}"
    except (PluginError, ImportError) as error:
        return None, str(error), ""
    except ValueError as error:
        return None, "", f"not a configuration of this version: {brief(error)}"


def _outside(values: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return (key, name) of the components that are not built in; import nothing."""
    chosen = {
        ("task_dist", values.get("task_dist")),
        ("adapter", _part(values, "adapter").get("kind")),
    }
    for family in ("policy", "learner", "agent"):
        parts = _part(values, family)
        chosen |= {(family, _part(parts, label).get("kind")) for label in parts}
    return {
        (key, metarl_plugins.split(str(name))[1])
        for key, name in chosen
        if name not in (None, AUTO) and not plugins.REGISTRIES[key].is_built_in(str(name))
    }


def _obstacle(info: CellInfo, models: Mapping[str, Path | None], model: Path | None) -> str:
    """Return what it lacks to be played again; an empty text if nothing."""
    absent = [Path(path).name for path, local in models.items() if local is None]
    if absent:
        return f"its model {absent[0]} is not in the folder, or is another one"
    if info.learner == AGENT:
        kinds = {part.get("kind") for part in _part(info.config, "agent").values()}
        return "the agent was an object in Python, which has no name" if "object" in kinds else ""
    if (info.iterations or info.checkpoint) and model is None:
        return "its trained policy is not in the folder"
    return ""


def _model(folder: Path, path: str, digest: str) -> Path | None:
    """Return the folder's copy of a model, or the model itself; None if neither is what it was."""
    for candidate in (model_copy(folder, path, digest), Path(path)):
        if candidate.is_file() and sha256_of(candidate) == digest:
            return candidate
    return None


def changed_models(folder: Path, info: CellInfo) -> list[str]:
    """Return which copies of a cell's models are not what was scored."""
    copies = {model_copy(folder, path, sha): sha for path, sha in models_of(info).items()}
    return [
        f"{copied.relative_to(folder)} is not the model that was scored"
        for copied, digest in copies.items()
        if copied.is_file() and sha256_of(copied) != digest
    ]
