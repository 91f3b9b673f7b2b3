"""Components from outside the repository: what a configuration says of them, and how it travels.

Other processes, run.json and checkpoints get the names as given. Beside them goes where they come
from, by which a changed file is noticed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import metarl_plugins
import policies
import task_distributions
from harness import agents
from harness.errors import HarnessError, UsageError
from harness.meta import adapters, learners
from harness.reporting.store.checksums import sha256_of
from harness.reporting.store.manifest import PLUGINS_DIR
from metarl_plugins import Origin, PluginError, Registry

if TYPE_CHECKING:
    from harness.config.schema import RunConfig

REGISTRIES: dict[str, Registry] = {
    "task_dist": task_distributions.REGISTRY,
    "policy": policies.REGISTRY,
    "learner": learners.REGISTRY,
    "agent": agents.REGISTRY,
    "adapter": adapters.REGISTRY,
}
"""Key of a configuration -> where its names are looked up."""

Recorded = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Key of a configuration -> name -> where the component came from, as ``Origin.as_dict``; and under
``FILES``, path -> sha256 of a file that a setting names."""
FILES = "files"


def names_in(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield (key, name) of every component that is not built in."""
    chosen = [("task_dist", config.task_dist), ("adapter", config.adapter.kind)]
    for key in ("policy", "learner", "agent"):
        chosen += [(key, part.kind) for part in getattr(config, key).values()]
    for part in config.learner.values():
        if not learners.REGISTRY.is_built_in(part.kind):
            chosen.append(("adapter", learners.spec(part.kind).adapter))
    for key, name in dict.fromkeys(chosen):
        if name != "auto" and not REGISTRIES[key].is_built_in(name):
            yield key, name


def origins_in(config: RunConfig) -> dict[str, dict[str, dict[str, str]]]:
    """Return where the components come from that are not built in, and the sha256 of saved agents.

    JSON values.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for key, name in names_in(config):
        origin = REGISTRIES[key].origin(name)
        assert origin is not None
        found.setdefault(key, {})[metarl_plugins.split(name)[1]] = origin.as_dict()
    for part in config.agent.values():
        for path in _files_of(part.settings):
            found.setdefault(FILES, {})[str(path)] = {"sha256": _sha256(path)}
    return found


def _files_of(settings: Any) -> Iterator[Path]:
    """Yield the files that the settings of a component name."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Path) and value.is_file():
            yield value


def _sha256(path: Path) -> str:
    now = path.stat()  # two files written within a tick of the clock have the same st_mtime_ns
    return _digest(path, now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, *_version: int) -> str:
    return sha256_of(path)


@contextlib.contextmanager
def blame(config: RunConfig, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what the components of ``config`` raise into a ``PluginError``, if any is from outside.

    It names the component whose code raised the error, or all of them if that is none.

    Args:
        config: of one cell.
        passing: errors that are raised as they are.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        targets = {name: REGISTRIES[key].target(name) for key, name in names_in(config)}
        if not targets or isinstance(error, (HarnessError, PluginError, *passing)):
            raise
        names = metarl_plugins.raised_by(error, targets) or list(targets)
        with metarl_plugins.blamed(" or ".join(names)):
            raise


def adopt(values: Recorded) -> None:
    """Make the names of a recorded configuration known in this process.

    Raises:
        ValueError: the record has another form.
        UsageError: a component is not here.
    """
    for key, name, then in entries(values):
        if key == FILES:
            continue
        registry = REGISTRIES[key]
        registry.adopt(name, then)
        try:
            registry.load(name)
        except (PluginError, ValueError) as error:
            source = f" It came from {then}." if then.package else ""
            end = "" if str(error).endswith("?") else "."
            raise UsageError(f"{error}{end}{source}") from error


def changes(values: Recorded) -> list[str]:
    """Return a sentence for each recorded component that has another origin now.

    Raises:
        ValueError: the record has another form.
        UsageError: a component is not here.
    """
    metarl_plugins.reread()
    adopt(values)
    pairs = [(name, then, _origin(key, name)) for key, name, then in entries(values)]
    return [
        f"{name} has changed since ({then} then, {now or 'built in'} now)"
        for name, then, now in pairs
        if now != then
    ]


def copies(values: Recorded, folder: Path) -> dict[str, Path]:
    """Return the files that are not here -> their copies in a run's ``folder``, where these match.

    Raises:
        ValueError: the record has another form.
    """
    targets = {then.target.rpartition(":")[0]: then.sha256 for _, _, then in entries(values)}
    return {
        place: copy
        for copy in sorted(folder.glob(f"{PLUGINS_DIR}/*.py"))
        for place, digest in targets.items()
        if digest == _sha256(copy) and not Path(place).expanduser().is_file()
    }


def _origin(key: str, name: str) -> Origin | None:
    if key != FILES:
        return REGISTRIES[key].origin(name)
    try:
        return Origin("", sha256=_sha256(Path(name)))
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}.") from error


def only_files(values: Recorded) -> dict[str, Origin]:
    """Return the path of every saved agent on record -> its origin; raises like ``entries``."""
    return {name: origin for key, name, origin in entries(values) if key == FILES}


def entries(values: Recorded) -> Iterator[tuple[str, str, Origin]]:
    """Yield (key, name, origin) of everything on record.

    Raises:
        ValueError: the record has another form.
    """
    for key, by_name in values.items():
        if key not in (*REGISTRIES, FILES) or not isinstance(by_name, Mapping):
            raise ValueError(f"plugins.{key}: not a family of components")
        for name, origin in by_name.items():
            try:
                yield key, name, Origin(**({"target": ""} if key == FILES else {}), **origin)
            except TypeError as error:
                raise ValueError(f"plugins.{key}.{name}: {error}") from error


def sources(config: RunConfig) -> dict[str, bytes]:
    """Return the content of every file that components of ``config`` are defined in, by path."""
    return metarl_plugins.files_of(REGISTRIES[key].target(name) for key, name in names_in(config))


def search_path(config: RunConfig) -> list[str]:
    """Return the folders in which this process found the modules of components."""
    folders: list[str] = []
    for key, name in names_in(config):
        module = REGISTRIES[key].target(name).rpartition(":")[0]
        folders += _folder(module)
    return list(dict.fromkeys(folders))


def _folder(module: str) -> Iterable[str]:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ()
    path = Path(file).absolute()
    depth = module.count(".") + (path.name == "__init__.py")
    return (str(path.parents[depth]),)


def pack(config: RunConfig, values: dict[str, Any]) -> tuple[Any, ...]:
    """Return ``config``, whose JSON values are ``values``, as another process can read it.

    Its settings are instances of classes that the other process does not know yet.
    """
    return values, sources(config), search_path(config)


def unpack(values: dict[str, Any], files: Mapping[str, bytes], path: Iterable[str]) -> RunConfig:
    """Return the configuration that ``pack`` packed, with its components made known here."""
    from harness.config.validation import config_from_dict  # it imports the schema, which packs

    metarl_plugins.provide(files, path)
    return config_from_dict(values)
