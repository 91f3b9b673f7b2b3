"""A suite of tests: a class that pytest collects, and that can be run without pytest."""

from __future__ import annotations

import re
import traceback
import unittest
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one test."""

    test: str
    """What is tested, as a sentence."""
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""
    """Why it failed or was skipped, on one line."""


class Suite:
    """Base of all suites: every method whose name begins with ``test_`` is a test."""

    name: ClassVar[str]
    """The component, by any name that it can be given."""
    settings: ClassVar[Mapping[str, Any]]
    """Settings in place of its defaults."""

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any]) -> type[Self]:
        """Return the suite of one component."""
        word = re.sub(r"\W+", "_", name)
        return type(f"Test_{word}", (cls,), {"name": name, "settings": dict(settings)})

    @classmethod
    def verdicts(cls) -> Iterator[Verdict]:
        """Run every test, yielding its outcome."""
        for base in reversed(cls.__mro__):
            for method in vars(base):
                if method.startswith("test_"):
                    yield cls._verdict(method)

    @classmethod
    def _verdict(cls, method: str) -> Verdict:
        sentence = method.removeprefix("test_").replace("_", " ")
        try:
            getattr(cls(), method)()
        except unittest.SkipTest as skipped:
            return Verdict(sentence, "skipped", str(skipped))
        except Exception as error:  # noqa: BLE001 - a component may raise anything
            return Verdict(sentence, "failed", _cause(error))
        return Verdict(sentence, "passed")


def _cause(error: Exception) -> str:
    """Return what failed: the message, or the assertion that does not hold."""
    text = " ".join(str(error).split())
    if isinstance(error, AssertionError):
        line = traceback.extract_tb(error.__traceback__)[-1].line or ""
        return text or f"not so: {line.removeprefix('assert ')}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({frame.filename}:{frame.lineno})"
