"""Names of components, and what they stand for: built in, or brought by anybody else.

A name is one of these, optionally with ``label=`` before it:

- a registered one: ``gru``
- that of an entry point in the group of its family, such as ``metarl_harness.policies``
- ``module:factory``
- ``path/to/file.py:factory``

This package imports nothing else of the project, so policies, task distributions and the harness
all resolve names here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "LABEL",
    "Origin",
    "PluginError",
    "Registry",
    "blamed",
    "check_settings",
    "check_spec",
    "choose_from",
    "files_of",
    "label_of",
    "nearest",
    "provide",
    "raised_by",
    "reread",
    "settings_of",
    "split",
]

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,49}")
"""What tables and folders may call a component."""
UNSPECIFIC = ("build", "create", "factory", "make")
"""Names of factories that say nothing; their file's or module's name is the label then."""

_contents: dict[str, bytes] = {}
"""Path as given -> content of a file, as this process uses it."""
_sent: set[str] = set()
"""The files among them that another process sent."""


class PluginError(Exception):
    """A component from outside cannot be found, imported or used; the message is one line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where a component that is not built in comes from."""

    target: str
    """``module:attribute`` or ``file.py:attribute``."""
    package: str = ""
    """Name and version of the installed package; '' for a file or a module of no package."""
    sha256: str = ""
    """Of the file, where there is no package."""

    def as_dict(self) -> dict[str, str]:
        """Return what is known as JSON values."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value}

    def __str__(self) -> str:
        return self.package or f"sha256 {self.sha256[:12]}"


# --- labels --------------------------------------------------------------------------------------


def split(name: str) -> tuple[str, str]:
    """Return the label and the rest of a name: ``wide=gru`` is ``('wide', 'gru')``.

    Without a label, it is made from the name.
    """
    label, equals, rest = name.partition("=")
    if equals and LABEL.fullmatch(label):
        return label, rest
    return _short(name), name


def label_of(name: str) -> str:
    """Return what tables and folders call the component ``name``."""
    return split(name)[0]


def _short(name: str) -> str:
    place, colon, attribute = name.rpartition(":")
    if not colon:
        return name
    stem = Path(place).stem if _is_file(place) else place.rpartition(".")[2]
    word = stem if attribute in UNSPECIFIC else attribute.rpartition(".")[2]
    word = word.lower() if word.isupper() else word
    return re.sub(r"[^A-Za-z0-9_+-]+", "-", word).strip("-_+")[:50]


def nearest(value: str, allowed: Iterable[str], cutoff: float = 0.55) -> str | None:
    """Return the allowed value that ``value`` is most likely a misspelling of; None if none is."""
    by_lower = {choice.lower(): choice for choice in allowed}
    near = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None


def choose_from(value: object, allowed: Iterable[str], *more: str) -> str:
    """Return the end of a message about an unknown ``value``: the nearest one, and the choices.

    Args:
        value: what was given.
        allowed: the choices.
        more: what else may be given.
    """
    choices = tuple(allowed)
    near = nearest(str(value), choices)
    listed = "; ".join([", ".join(choices) or "none", *more])
    return f"; did you mean {near!r}? Choose from: {listed}" if near else f"; choose from: {listed}"


# --- registries ----------------------------------------------------------------------------------


class Registry(dict[str, str]):
    """The components of one family: name -> ``module:factory``. Names can be added."""

    def __init__(self, family: str, group: str, entries: Mapping[str, str]) -> None:
        super().__init__(entries)
        self.family, self.group = family, group
        self._built_in = dict(entries)

    def names(self) -> tuple[str, ...]:
        """Return the registered names, and then those of installed packages."""
        return tuple(dict.fromkeys([*self, *_entry_points(self.group)]))

    def is_built_in(self, name: str) -> bool:
        """Return whether ``name`` stands for a component of this project."""
        _, kind = split(name)
        return kind in self._built_in and self.get(kind) == self._built_in[kind]

    def target(self, name: str) -> str:
        """Return the ``module:attribute`` or ``file.py:attribute`` that ``name`` stands for.

        Raises:
            ValueError: it stands for nothing.
            PluginError: it names a file without a factory, or two packages provide it.
        """
        _, kind = split(name)
        if kind in self:
            return self[kind]
        if ":" in kind:
            return kind
        provided = _entry_points(self.group).get(kind, [])
        if len(provided) > 1:
            packages = " and ".join(str(entry.dist and entry.dist.name) for entry in provided)
            raise PluginError(f"{kind}: provided by {packages}; give it as module:factory")
        if provided:
            return provided[0].value
        if _is_file(kind):
            found = ", ".join(_public(_module(kind)))
            raise PluginError(f"{kind}: name the factory in it, as {kind}:NAME; it has {found}")
        choices = choose_from(kind, self.names(), "or module:factory, or path/file.py:factory")
        raise ValueError(f"unknown {self.family} {kind!r}{choices}")

    def load(self, name: str) -> Any:
        """Import and return the factory or spec that ``name`` stands for.

        Raises:
            ValueError: it stands for nothing.
            PluginError: it cannot be imported; not for built-in ones, whose own error is raised.
        """
        target = self.target(name)
        place, _, attribute = target.rpartition(":")
        if self.is_built_in(name):
            return getattr(importlib.import_module(place), attribute)
        module, found = _module(place), None
        try:
            found = functools.reduce(getattr, attribute.split("."), module)
        except AttributeError as error:
            near = nearest(attribute, _public(module))
            hint = f"; did you mean {near!r}?" if near else ""
            raise PluginError(f"{target}: {place} has no {attribute!r}{hint}") from error
        return found

    def origin(self, name: str) -> Origin | None:
        """Return where ``name`` comes from; None if it is built in.

        Raises:
            ValueError: it stands for nothing.
            PluginError: it cannot be imported.
        """
        if self.is_built_in(name):
            return None
        target = self.target(name)
        place = target.rpartition(":")[0]
        if _is_file(place):
            return Origin(target, sha256=hashlib.sha256(_content(place)).hexdigest())
        return _origin_of_module(target, _module(place))

    def adopt(self, name: str, origin: Origin) -> None:
        """Register ``name`` as another process had it registered, unless it is known here."""
        _, kind = split(name)
        if ":" not in kind and kind not in self.names():
            self[kind] = origin.target

    def check_name(self, name: str, own: object) -> None:
        """Refuse a component that is registered under another name than its own, ``own``.

        Raises:
            PluginError: the two differ.
        """
        _, kind = split(name)
        if ":" not in kind and own != kind and not self.is_built_in(name):
            raise PluginError(
                f"{self.family} {kind!r} calls itself {own!r}: give it the name it is registered as"
            )


@functools.lru_cache(maxsize=32)
def _found(group: str, path: tuple[str, ...]) -> dict[str, list[importlib.metadata.EntryPoint]]:
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return found


def _entry_points(group: str) -> dict[str, list[importlib.metadata.EntryPoint]]:
    return _found(group, tuple(sys.path))


# --- importing -----------------------------------------------------------------------------------


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place


def _module(place: str) -> ModuleType:
    """Import a module, or the file at a path."""
    if not _is_file(place):
        with blamed(place, missing="install its package, or give it as path/file.py:factory"):
            return importlib.import_module(place)
    content = _content(place)
    stem = re.sub(r"\W", "_", Path(place).stem)
    # Named after its content: the same in every process, and another one once it is changed.
    name = f"metarl_file_{stem}_{hashlib.sha256(content).hexdigest()[:12]}"
    if name not in sys.modules:
        loader = _FileLoader(name, str(Path(place).expanduser().absolute()), content)
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with blamed(place, missing="install it; files beside a plug-in are not on the path"):
                loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


class _FileLoader(importlib.abc.SourceLoader):
    """Imports a file from its content, so that it need not exist where it is imported."""

    def __init__(self, name: str, path: str, content: bytes) -> None:
        self.name, self.path, self.content = name, path, content

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: str | bytes) -> bytes:
        if str(path) != self.path:
            raise FileNotFoundError(path)
        return self.content


def _content(place: str) -> bytes:
    if place not in _contents:
        try:
            _contents[place] = Path(place).expanduser().read_bytes()
        except OSError as error:
            raise PluginError(
                f"{place}: {error.strerror}; give the path from {Path.cwd()}, or from /"
            ) from error
    return _contents[place]


@contextlib.contextmanager
def blamed(name: str, missing: str = "") -> Iterator[None]:
    """Turn whatever the code of a plug-in raises into a ``PluginError`` of one line.

    Args:
        name: what the message calls the plug-in.
        missing: remedy where a module is missing.
    """
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        remedy = f"; {missing}" if missing and isinstance(error, ModuleNotFoundError) else ""
        where = _where(error, name.rpartition(":")[0] or name)
        raise PluginError(f"{name}: {type(error).__name__}{where}: {text}{remedy}") from error


def raised_by(error: BaseException, targets: Mapping[str, str]) -> list[str]:
    """Return the names whose code raised ``error``: of the innermost call into any of them.

    Args:
        error: as caught, with its traceback.
        targets: name -> ``module:attribute`` or ``file.py:attribute``.
    """
    modules = {name: _module(target.rpartition(":")[0]) for name, target in targets.items()}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        where = str(frame.f_globals.get("__name__"))
        own = [name for name, module in modules.items() if module.__name__ == where]
        package = where.partition(".")[0]
        beside = [n for n, module in modules.items() if module.__name__.split(".")[0] == package]
        if own or beside:
            return own or beside
    return []


def _where(error: BaseException, place: str) -> str:
    """Return the line of the plug-in at ``place`` that ``error`` came from, for a message."""
    if isinstance(error, SyntaxError):
        return ""  # its text tells file and line
    path = str(Path(place).expanduser().absolute())
    if not _is_file(place):
        path = str(getattr(sys.modules.get(place), "__file__", ""))
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f" on line {lines[-1]}" if lines else ""


def _public(module: ModuleType) -> list[str]:
    """Return the names that a module itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _origin_of_module(target: str, module: ModuleType) -> Origin:
    """Return the installed package that a module belongs to, or the sha256 of its file."""
    path = Path(module.__file__) if module.__file__ else None
    for package in _packages().get(module.__name__.partition(".")[0], ()):
        home = Path(str(importlib.metadata.distribution(package).locate_file("")))
        # An editable installation keeps its version while its files change.
        if path is not None and path.is_relative_to(home) and not _is_editable(package):
            return Origin(target, package=f"{package} {importlib.metadata.version(package)}")
    if path is None:
        raise PluginError(f"{target}: {module.__name__} is no file, so its version is unknown")
    return Origin(target, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _is_editable(package: str) -> bool:
    text = importlib.metadata.distribution(package).read_text("direct_url.json") or ""
    return re.search(r'"editable":\s*true', text) is not None


@functools.lru_cache(maxsize=8)
def _packages_on(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _packages() -> Mapping[str, list[str]]:
    return _packages_on(tuple(sys.path))


# --- other processes -----------------------------------------------------------------------------


def files_of(targets: Iterable[str]) -> dict[str, bytes]:
    """Return the content of the files among ``targets``, for ``provide`` in another process."""
    places = (target.rpartition(":")[0] for target in targets)
    return {place: _content(place) for place in places if _is_file(place)}


def reread() -> None:
    """Read files again when they are next used, except those that another process sent."""
    for place in _contents.keys() - _sent:
        del _contents[place]


def provide(files: Mapping[str, bytes], path: Iterable[str] = ()) -> None:
    """Make the files of another process importable here, and extend the search path by its own.

    Args:
        files: content by path, as ``files_of`` returned it.
        path: folders to search for modules, behind those that are searched already.
    """
    _contents.update(files)
    _sent.update(files)
    sys.path.extend(folder for folder in path if folder not in sys.path and Path(folder).is_dir())


# --- factories -----------------------------------------------------------------------------------


def settings_of(name: str, factory: Callable[..., Any], keywords: Iterable[str] = ()) -> type[Any]:
    """Return the dataclass that annotates the parameter ``settings`` of a factory.

    Args:
        name: of the component.
        factory: called with ``settings`` alone, or with ``keywords``.
        keywords: what it must accept by name.

    Raises:
        PluginError: there is no such annotation, a field of it has no default, or the factory
            cannot be called like that.
    """
    with blamed(name):
        hints = typing.get_type_hints(factory) if callable(factory) else {}
    cls = hints.get("settings")
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise PluginError(
            f"{name}: must be a function with a parameter 'settings' that is annotated with a "
            "dataclass; docs/extending.md has examples"
        )
    check_settings(name, cls)
    given = dict.fromkeys(keywords)
    try:
        inspect.signature(factory).bind(*(() if given else (None,)), **given)
    except TypeError as error:
        called = ", ".join(given) or "settings"
        raise PluginError(f"{name}: cannot be called with ({called}): {error}") from error
    return cls


def check_spec(name: str, found: Any, cls: type[Any]) -> None:
    """Refuse what a name stands for unless it is a ``cls``, whose ``settings`` are usable.

    Raises:
        PluginError: it is not.
    """
    if not isinstance(found, cls):
        kind = type(found).__name__
        raise PluginError(f"{name}: is a {kind}, but must be a {cls.__module__}.{cls.__name__}")
    check_settings(name, found.settings)


def check_settings(name: str, cls: type[Any]) -> None:
    """Refuse a settings class that is not a frozen dataclass with a valid default for every field.

    Raises:
        PluginError: it is not.
    """
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise PluginError(f"{name}: {cls.__name__} must be a frozen dataclass")
    for field in dataclasses.fields(cls):
        if field.default is field.default_factory is dataclasses.MISSING:
            raise PluginError(f"{name}: {cls.__name__}.{field.name} needs a default")
        if field.name == "kind":
            raise PluginError(f"{name}: {cls.__name__}.kind: a reserved name: rename it")
    with blamed(f"{name}: {cls.__name__}"):
        reason = _invalid_default(cls)
    if reason:
        raise PluginError(f"{name}: {cls.__name__} does not accept its own defaults: {reason}")


@functools.cache
def _invalid_default(cls: type[Any]) -> str:
    """Return what is wrong with a default of a settings class; an empty text if nothing is."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(cls)
    try:
        adapter.validate_json(adapter.dump_json(cls(), warnings=False), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))} is {first['input']!r}, {first['msg']}"
    except ValueError as error:
        return str(error)
    return ""
