"""Which files of a pretrained model vidvec wants: as a hub lists them, or as its cache has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Literal

from vidvec.errors import UsageError
from vidvec.model.transfer import HubFile

Kind = Literal["text", "frames"]
TIMEOUT_SECONDS = 20

_TOKENIZERS = ("tokenizer.json", "vocab.txt")
# Beside the weights. Those of frame encoders are what ``vidvec.data.hf_frames`` reads.
_SMALL_FILES: dict[Kind, tuple[str, ...]] = {
    "text": (
        "config.json",
        *_TOKENIZERS,
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    "frames": ("config.json", "*processor_config.json"),
}
# Of a model that makes text, which has the first of these, a speech recogniser reads the others.
_WRITING = (
    "generation_config.json",
    *_TOKENIZERS,
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# The best first. Pickled frame encoders are never read; a BERT's are, as tensors and nothing else.
_WEIGHTS: dict[Kind, tuple[str, ...]] = {
    "text": ("model.safetensors", "pytorch_model.bin"),
    "frames": ("model.safetensors",),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a model that vidvec wants, as the hub or its cache lists them.

    Attributes:
        source: As it was asked for: ``NAME`` or ``NAME@REVISION``.
        kind: What it is read as.
        name, revision: The parts of the source; no revision: the hub's main one.
        commit: What the revision means now.
        files: What vidvec reads.
        reached: Whether the hub listed them, not the cache.
    """

    source: str
    kind: Kind
    name: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]
    reached: bool


def list_hub(source: str, kind: Kind) -> Listing:
    """The files that the hub states for a model; raises what huggingface_hub raises."""
    from huggingface_hub import HfApi

    name, revision = _split(source)
    info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS)
    stated = {each.rfilename: each for each in info.siblings or ()}
    files = []
    for chosen in choose(stated, kind, source):
        large = stated[chosen].lfs
        digest = large.sha256 if large else stated[chosen].blob_id
        files.append(HubFile(chosen, stated[chosen].size, digest or ""))
    return Listing(source, kind, name, revision, str(info.sha), tuple(files), reached=True)


def list_cached(source: str, kind: Kind) -> Listing | None:
    """What the hub's cache holds of a model, ``None`` where that is not all that is needed.

    The cache keeps each file under its digest and links to it from the snapshot.
    """
    from huggingface_hub import try_to_load_from_cache

    name, revision = _split(source)
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    try:
        chosen = choose(names, kind, source)
    except UsageError:
        return None
    files = []
    for each in chosen:
        digest = (folder / each).resolve().name
        known = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest) is not None
        files.append(HubFile(each, None, digest if known else ""))
    return Listing(source, kind, name, revision, folder.name, tuple(files), reached=False)


def cached_file(listing: Listing, file: HubFile) -> Path | None:
    """Where the cache has a file of this commit."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(listing.name, file.name, revision=listing.commit)
    return Path(found) if isinstance(found, str) else None


def cached_folder(listing: Listing) -> Path:
    """The cache's snapshot of a model that lies whole in it."""
    config = next(file for file in listing.files if file.name == "config.json")
    place = cached_file(listing, config)
    if place is None:
        raise FileNotFoundError(f"{listing.source}: config.json is gone from the hub's cache")
    return place.parent


def choose(names: Iterable[str], kind: Kind, where: str) -> list[str]:
    """Those files of a model that vidvec reads: one set of weights, in safetensors where there.

    Args:
        names: All its files.
        kind: What it is read as.
        where: The model's name or folder, for the message.

    Raises:
        UsageError: One that is needed is not among them.
    """
    safe = [name for name in names if _stays_inside(name)]
    patterns = _SMALL_FILES[kind]
    if kind == "frames" and _WRITING[0] in safe:
        patterns += _WRITING
    chosen = [name for name in safe if any(fnmatch(name, each) for each in patterns)]
    weights = next((w for w in (_weights(safe, each) for each in _WEIGHTS[kind]) if w), [])
    lacking = [] if "config.json" in chosen else ["config.json"]
    if kind == "text" and not set(chosen) & set(_TOKENIZERS):
        lacking.append(" or ".join(_TOKENIZERS))
    if kind == "frames" and not any(name.endswith("processor_config.json") for name in chosen):
        lacking.append("preprocessor_config.json")
    if not weights:
        lacking.append(" or ".join(_WEIGHTS[kind]))
    if lacking:
        raise UsageError(
            f"{where} lacks {', '.join(lacking)}: vidvec cannot read it as a "
            f"{'text encoder' if kind == 'text' else 'frame encoder'}. It holds: "
            f"{', '.join(sorted(safe)[:12]) or 'nothing'}"
        )
    return sorted(chosen) + weights


def _stays_inside(name: str) -> bool:
    """Whether a name that a hub gave stays inside the folder that it is written to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _weights(names: list[str], whole: str) -> list[str]:
    """The file of this name, or all its shards and their index; empty where one is missing."""
    if whole in names:
        return [whole]
    stem, suffix = whole.rsplit(".", 1)
    pattern = re.compile(rf"{stem}-\d{{5}}-of-(\d{{5}})\.{suffix}")
    shards = {name: int(found[1]) for name in names if (found := pattern.fullmatch(name))}
    index = f"{whole}.index.json"
    if not shards or index not in names or set(shards.values()) != {len(shards)}:
        return []
    return [index, *sorted(shards)]


def _split(source: str) -> tuple[str, str | None]:
    """Name and revision."""
    name, _, revision = source.partition("@")
    return name, revision or None
