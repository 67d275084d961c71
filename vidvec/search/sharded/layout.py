"""The file that lists shards, ``shards.toml``, and which shard an id belongs to.

It says where the shards are, such as:

placing = "hash"                          # an id's shard is told by its hash
dimension = 256
[[shard]]
folder = "shard-0"                        # beside this file
[[shard]]
cluster = "http://milvus:19530/vidvec"
[[shard]]
server = "http://other-machine:8000"      # a vidvec server
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from vidvec import storage
from vidvec.errors import FormatError, UsageError

FILE = "shards.toml"
HASH = "hash"
Kind = Literal["folder", "cluster", "server"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_SHARDS = 1_024


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """Where a shard is.

    Attributes:
        kind: What it is.
        place: Path of the folder, or an address.
        name: What messages call it.
        videos: How many it had when the file was written; ``None``: not said.
    """

    kind: Kind
    place: str
    name: str
    videos: int | None = None


@dataclass(frozen=True, slots=True)
class ShardsFile:
    """A file of shards.

    Attributes:
        path: The file.
        shards: In the order that numbers them.
        placing: ``hash``: the shard of an id is ``shard_of``; empty: any may have it.
        dimension: E; ``None``: as most shards have.
        vectors: Folder of vectors that says which model made them, with calibration and map;
            ``None``: the first shard that does.
        timeout_seconds: A shard that takes longer for its part of an answer is left out.
        retry_seconds: So long it is not asked again then; up to eight times as long where it fails
            again and again.
        made_of: What ``split`` wrote, so that it knows whether it has to again.
    """

    path: Path
    shards: tuple[ShardPlace, ...]
    placing: str = ""
    dimension: int | None = None
    vectors: Path | None = None
    timeout_seconds: float = 5.0
    retry_seconds: float = 5.0
    made_of: str = ""


def is_shards_file(place: object) -> bool:
    """Whether a place is meant as a file of shards, by its name."""
    return str(place).endswith(".toml")


def shard_of(video_id: str, shards: int) -> int:
    """The number of the shard that an id belongs to: 64 bits of BLAKE2b, modulo the shards."""
    digest = hashlib.blake2b(video_id.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def is_text(video_id: str) -> bool:
    """Whether an id is Unicode, as all that a shard can have are."""
    try:
        video_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_shards(path: Path) -> ShardsFile:
    """Reads a file of shards.

    Raises:
        UsageError: It is missing, or a setting cannot be used.
        FormatError: It is no TOML.
    """
    try:
        held = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: expected a file that lists shards") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not TOML: {error}") from None
    shards = held.pop("shard", [])
    _only(path, held, {one.name for one in fields(ShardsFile)} - {"path", "shards"})
    if not isinstance(shards, list) or not 1 <= len(shards) <= MOST_SHARDS:
        raise UsageError(f"{path} lists no [[shard]], or more than {MOST_SHARDS}")
    places = tuple(_place(path, number, each) for number, each in enumerate(shards))
    names = [one.name for one in places]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: shard {name!r} comes twice: give each a name of its own")
    if held.get("placing", "") not in ("", HASH):
        raise UsageError(f'{path}: placing {held["placing"]!r}: expected "{HASH}", or none')
    for name, kind in (("dimension", int), ("timeout_seconds", float), ("retry_seconds", float)):
        held |= {name: _number(path, name, held[name], kind)} if name in held else {}
    for name in ("vectors", "made_of"):
        if not isinstance(held.get(name, ""), str):
            raise UsageError(f"{path}: {name} is {held[name]!r}, expected text")
    vectors = held.pop("vectors", "")
    return ShardsFile(path, places, vectors=path.parent / vectors if vectors else None, **held)


def _only(path: Path, held: dict[str, Any], known: set[str]) -> None:
    for name in held:
        if name not in known:
            raise UsageError(f"{path}: there is no setting {name!r}: {', '.join(sorted(known))}")


def _number(path: Path, name: str, value: Any, kind: type) -> Any:
    allowed = int | float if kind is float else int
    if not isinstance(value, allowed) or isinstance(value, bool) or not 0 < value < 1e6:
        raise UsageError(f"{path}: {name} is {value!r}, expected a number above 0")
    return kind(value)


def _place(path: Path, number: int, held: Any) -> ShardPlace:
    where = f"{path}: shard {number + 1}"
    if not isinstance(held, dict):
        raise UsageError(f"{where} is {held!r}, expected a table [[shard]]")
    _only(path, held, {*KINDS, "name", "videos"})
    kinds = [kind for kind in KINDS if kind in held]
    if len(kinds) != 1:
        raise UsageError(f"{where} has {len(kinds)} places, expected one of {', '.join(KINDS)}")
    for name in (*kinds, "name"):
        if not isinstance(held.get(name, "-"), str) or not held.get(name, "-"):
            raise UsageError(f"{where}: {name} is {held[name]!r}, expected text")
    [kind], given = kinds, held[kinds[0]]
    if kind != "folder" and not given.startswith(("http://", "https://")):
        raise UsageError(f"{where}: {kind} is {given!r}, expected http://HOST:PORT…")
    videos = held.get("videos")
    if videos is not None and (not isinstance(videos, int) or videos < 0):
        raise UsageError(f"{where}: videos is {videos!r}, expected 0 or more")
    place = str(path.parent / given) if kind == "folder" else given
    return ShardPlace(kind, place, str(held.get("name", given)), videos)


def write_shards(held: ShardsFile) -> None:
    """Writes a file of shards whose folders lie beside it."""
    lines = ["# Shards that are searched as one: vidvec search --index, vidvec serve --index."]
    settings = {
        "placing": held.placing,
        "dimension": held.dimension,
        "vectors": str(held.vectors) if held.vectors is not None else "",
        "timeout_seconds": held.timeout_seconds,
        "retry_seconds": held.retry_seconds,
        "made_of": held.made_of,
    }
    lines += [f"{name} = {_toml(each)}" for name, each in settings.items() if each]
    for shard in held.shards:
        lines += ["", "[[shard]]", f"{shard.kind} = {_toml(shard.name)}"]
        lines += [] if shard.videos is None else [f"videos = {shard.videos}"]
    with storage.atomic_path(held.path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")


def _toml(value: str | float) -> str:
    """A value as TOML has it: as JSON, as far as Unicode goes."""
    return json.dumps(value, ensure_ascii=False)
