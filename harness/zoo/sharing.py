"""Copies of policies with their card and index: a folder, or a repository at Hugging Face."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, SurroundingsError, UsageError
from harness.zoo.card import card
from harness.zoo.index import INDEX_FILE, Entry, Index
from harness.zoo.weights import HUB, INSTALL_HUB, Zoo


def copy(zoo: Zoo, names: Sequence[str], folder: Path) -> None:
    """Write a zoo of some policies to a new folder: weights, ``index.json`` and ``README.md``.

    Args:
        zoo: where they are.
        names: as for ``load_pretrained``; without a seed, all seeds are copied.
        folder: must not exist, or be empty.

    Raises:
        UsageError: there is no such policy, or the folder contains something.
        ArtefactError: a file is not the one that the index describes.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another folder")
    _describe(_copied(zoo, names, folder), folder, str(folder))


def push(zoo: Zoo, names: Sequence[str], repository: str, *, private: bool = False) -> str:
    """Add policies to a repository at Hugging Face, a new one if need be; return its address.

    Raises:
        UsageError: there is no such policy, or Hugging Face does not take it.
        ArtefactError: a file is not the one that the index describes.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UsageError(f"push: {error}; {INSTALL_HUB}") from error
    api, address = HfApi(), f"{HUB}{repository}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        entries = _copied(zoo, names, folder)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            if api.file_exists(repository, INDEX_FILE):
                entries = _merged(Zoo.open(address).index.entries, entries)
            _describe(entries, folder, address)
            message = f"Add {', '.join(names)}"
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except HarnessError:
            raise
        except Exception as error:  # of the connection, the token, the name
            raise SurroundingsError(f"{address} does not take it: {error}") from error
    return address


def _copied(zoo: Zoo, names: Sequence[str], folder: Path) -> dict[str, Entry]:
    """Copy the weights; return the entries that describe them."""
    entries: dict[str, Entry] = {}
    for given in names:
        name, entry, weights = zoo.index.find(given)
        chosen = entry.weights if given == name else (weights,)
        for each in chosen:
            target = folder / each.file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(zoo.fetch(f"{name}/s{each.seed}"), target)
        before = entries[name].weights if name in entries else ()
        entries[name] = entry.model_copy(
            update={"weights": (*before, *(each for each in chosen if each not in before))}
        )
    return entries


def _merged(there: Mapping[str, Entry], new: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries of both; of one policy, the seeds of both."""
    merged = {**there, **new}
    for name in there.keys() & new.keys():
        seeds = {each.seed: each for each in (*there[name].weights, *new[name].weights)}
        weights = tuple(seeds[seed] for seed in sorted(seeds))
        merged[name] = new[name].model_copy(update={"weights": weights})
    return merged


def _describe(entries: Mapping[str, Entry], folder: Path, address: str) -> None:
    Index(entries=dict(entries)).write(folder / INDEX_FILE)
    (folder / "README.md").write_text(card(entries, address), encoding="utf-8")
