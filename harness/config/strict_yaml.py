"""YAML read the way a person means it: YAML 1.2 scalars, no duplicate keys, a line for every error.

PyYAML alone keeps the last of two equal keys, reads ``1e-3`` as a string, ``010`` as 8 and ``no``
as ``False``; any of these silently runs another experiment than the one that was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError

KeyPath = tuple[str, ...]
MAX_BYTES = 1_000_000

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
}
MAX_DIGITS = 1000
"""Of an integer; Python refuses to read some thousands."""
_STANDARD_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """What a YAML file says, and on which line it says it."""

    values: dict[str, Any]
    lines: dict[KeyPath, str]
    """Path of keys -> ``file:line`` of the key."""


def read(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping (or nothing).

    Raises:
        UsageError: not readable, not YAML, or ambiguous; names file, line and remedy.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES} bytes: not a configuration")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}. Check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason})") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """Parse YAML text; ``source`` is what errors call it."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise UsageError(f"{source}: anchors and aliases are not accepted: write values out")
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UsageError(f"{where}: not valid YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise UsageError(f"{source}: nested too deeply") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: not valid YAML: {error}") from error
    lines: dict[KeyPath, str] = {}
    value = None if root is None else _value(root, (), source, lines)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise UsageError(f"{source}:1: expected settings as 'key: value', got {value!r}")
    return Document(value, lines)


def _value(node: yaml.Node, path: KeyPath, source: str, lines: dict[KeyPath, str]) -> Any:
    """Return a node as plain Python, recording the line of every key."""
    where = f"{source}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, where)
    _refuse_custom_tag(node, where)
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(
                item,
                (*path, str(index)) if isinstance(item, yaml.MappingNode) else path,
                source,
                lines,
            )
            for index, item in enumerate(node.value)
        ]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key_where = f"{source}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UsageError(f"{key_where}: a key must be a plain word")
        key = key_node.value
        if key in values:
            first = lines[(*path, key)]
            raise UsageError(f"{key_where}: {key!r} is given twice (first at {first}): keep one")
        lines[(*path, key)] = key_where
        values[key] = _value(value_node, (*path, key), source, lines)
    return values


def _scalar(node: yaml.ScalarNode, where: str) -> Any:
    """Resolve a scalar by the rules of YAML 1.2, refusing what 1.1 and 1.2 read differently."""
    text = str(node.value)
    if node.style is not None:  # quoted or block: a string, whatever it looks like
        return text
    _refuse_custom_tag(node, where)
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if _LEADING_ZERO.fullmatch(text):
        raise UsageError(
            f"{where}: {text} may be read as octal: write {int(text)} for the number, "
            f'"{text}" for the text'
        )
    if _INTEGER.fullmatch(text) and len(text) < MAX_DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _refuse_custom_tag(node: yaml.Node, where: str) -> None:
    if not str(node.tag).startswith(_STANDARD_TAG) or "python" in str(node.tag):
        raise UsageError(f"{where}: tag {node.tag} is not accepted: write a plain value")
