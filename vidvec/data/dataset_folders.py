"""Folders of tables as Hugging Face's ``datasets`` and its hub have them, without that library.

    dataset_dict.json, TRAIN/, TEST/   ``DatasetDict.save_to_disk``: for each split the next kind
    state.json, data-*.arrow           ``Dataset.save_to_disk``: which files there are, in order
    dataset_info.json, *.arrow         the cache of ``load_dataset``
    …/train-00000-of-00002.parquet     a snapshot of the hub's cache, or a repository's ``data/``

A split is a part of the corpus. Columns are those of any table; see ``data/tables.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.data.walk import Found
from vidvec.errors import FormatError

_NUMBERED = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.(parquet|arrow)")
_SAVED, _INFO = "state.json", "dataset_info.json"


def find_dataset(folder: Path, files: Sequence[Found]) -> list[tuple[str, Found]]:
    """The tables of a dataset's folder, in order, each with its split; none where it is no dataset.

    Args:
        folder: The folder.
        files: All that is in and below it, by ``list_folder``.

    Raises:
        FormatError: A description of the dataset is damaged, or names files that are not there.
    """
    by_path = {file.path: file for file in files}
    if "dataset_dict.json" in by_path:
        splits = _names(folder / "dataset_dict.json", "splits")
        return [(split, file) for split in splits for file in _saved(folder, split, by_path)]
    if _SAVED in by_path and any(file.suffix == ".arrow" for file in files):
        return [("", file) for file in _saved(folder, "", by_path)]
    if _INFO in by_path:
        return _cached(folder, files)
    found = []
    for file in files:
        match = _NUMBERED.fullmatch(file.name)
        if match is not None:
            found.append((match["split"], file))
    return sorted(found, key=lambda item: item[0])


def _saved(folder: Path, split: str, by_path: dict[str, Found]) -> list[Found]:
    """The files that a saved dataset's state names."""
    prefix = f"{split}/" if split else ""
    state = folder / prefix / _SAVED
    found = []
    for entry in _value(state, "_data_files"):
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or prefix + name not in by_path:
            raise FormatError(f"{state} names {name!r:.80}, which is not there: save it again")
        found.append(by_path[prefix + name])
    return found


def _cached(folder: Path, files: Sequence[Found]) -> list[tuple[str, Found]]:
    """The files of ``load_dataset``'s cache; those of ``map`` and the like are left out."""
    splits = storage.read_json(folder / _INFO)
    names = list(splits.get("splits") or {}) if isinstance(splits, dict) else []
    found = []
    for file in files:
        derived = file.name.startswith(("cache-", "tmp"))
        if file.suffix == ".arrow" and "/" not in file.path and not derived:
            ends = re.sub(r"(-\d{5}-of-\d{5})?\.arrow$", "", file.name)
            split = next((name for name in names if f"-{ends}".endswith(f"-{name}")), "")
            found.append((split, file))
    return sorted(found, key=lambda item: item[0])


def _names(file: Path, key: str) -> list[str]:
    names = _value(file, key)
    if not all(isinstance(name, str) and "/" not in name and name != ".." for name in names):
        raise FormatError(f"{file}: {key} are {names!r:.80}, expected names")
    return names


def _value(file: Path, key: str) -> list[Any]:
    """A list in a JSON file."""
    held = storage.read_json(file)
    value = held.get(key) if isinstance(held, dict) else None
    if not isinstance(value, list):
        raise FormatError(f"{file} has no list {key!r}: it is not of Hugging Face's datasets")
    return value
