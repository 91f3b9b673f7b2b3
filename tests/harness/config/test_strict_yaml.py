"""The YAML traps: each is read as a person means it, or refused with file and line."""

import math

import pytest

from harness.config.strict_yaml import parse
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5E6", 1.5e6),
        (".5", 0.5),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ('"010"', "010"),
        ("'true'", "true"),
        ("[1, 2e0, x]", [1, 2.0, "x"]),
        ("9" * 5000, math.inf),
    ],
)
def test_scalars(text, value):
    read = parse(f"key: {text}\n", "f").values["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 010\n", r"f:2: 010 .*write 10"),
        ("a: 1\nb: 2\na: 3\n", r"f:3: 'a' is given twice \(first at f:1\)"),
        ("a:\n  b: 1\n  b: 2\n", r"f:3: 'b' is given twice"),
        ("a: &x 1\nb: *x\n", r"f: anchors"),
        ("a: !!python/object/apply:os.system ['true']\n", r"f:1: tag"),
        ("a: !custom 3\n", r"f:1: tag"),
        ("a: [1, 2\n", r"f:2: not valid YAML"),
        ("a: 1\n\tb: 2\n", r"f:2: not valid YAML"),
        ("- 1\n- 2\n", r"f:1: expected settings"),
        ("just text\n", r"f:1: expected settings"),
        ("a: 1\n---\nb: 2\n", r"f:.*not valid YAML"),
        ("? [a, b]\n: 1\n", r"f:1: a key"),
        ("a: \x00\n", r"f.*not valid YAML"),
        ("a: " + "[" * 2000 + "]" * 2000, r"f: nested too deeply"),
    ],
)
def test_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse(text, "f")


def test_lines_of_nested_keys():
    lines = parse("a: 1\n\nb:\n  # a comment\n  c: 2\n", "f").lines
    assert lines == {("a",): "f:1", ("b",): "f:3", ("b", "c"): "f:5"}


def test_nothing_is_no_settings():
    assert parse("", "f").values == parse("# only a comment\n", "f").values == {}
