"""The programs of docs/environments.md run."""

import pytest

from tests.docs.pages import blocks


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("docs/environments.md", "python"))
def test_the_program_runs(code):
    exec(compile(code, "docs/environments.md", "exec"), {})
