"""Write ``demo.ipynb`` from ``demo.py``: ``# %%`` starts a cell, ``# %% [markdown]`` a text cell.

The notebook is played and stored with its outputs.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(source: str) -> NotebookNode:
    """Return the notebook for ``source``, without outputs.

    Text before the first cell is dropped.
    """
    parts = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)[1:]
    cells = []
    for number, (kind, body) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        text = body.strip("\n")
        if kind.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.split("\n"))
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(text)
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def played(made: NotebookNode, folder: Path) -> NotebookNode:
    """Play a notebook in ``folder``; return it with its outputs."""
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(made, timeout=1200, resources=resources, record_timing=False)
    result: NotebookNode = client.execute()
    return result


def main() -> None:
    """Write the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        made = played(notebook((HERE / "demo.py").read_text()), Path(folder))
    made.metadata = {"kernelspec": KERNEL}
    nbformat.write(made, HERE / "demo.ipynb")


if __name__ == "__main__":
    main()
