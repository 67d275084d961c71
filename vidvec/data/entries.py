"""A manifest's entries of sources: one for each that was read, and how far that is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vidvec.data import corpus as store
from vidvec.data.sources import Source
from vidvec.errors import UsageError

GIVEN_TAGS = "--tag-list"  # the key of a tag list that was given; other lists go by their paths


def empty_manifest() -> dict[str, Any]:
    """What the manifest of a corpus without videos says."""
    return {
        "frame_encoder": {"name": "none", "frame_size": 0},
        "audio_encoder": dict(store.NO_AUDIO),
        "tag_vocabulary": [],
        "shards": [],
        "rejects_bytes": 0,
        "pairs": 0,
        "ingests": [],
    }


def entry_for(manifest: dict[str, Any], source: Source, path: Path, update: bool) -> dict[str, Any]:
    """The manifest's entry of this source: found, to be continued, or new."""
    manifest.pop("kind", None)
    manifest.pop("format_version", None)
    entries: list[dict[str, Any]] = manifest["ingests"]
    place = os.path.abspath(source.path)
    mine = of_place(entries, place)
    for entry in reversed(entries):
        done = update and entry["complete"] and entry in mine
        if entry["fingerprint"] == source.fingerprint and not done:
            return entry
    entries[:] = [entry for entry in entries if entry["complete"] or entry["cursor"]]
    unfinished = [entry for entry in entries if not entry["complete"]]
    if unfinished and update and unfinished[0] in mine:
        unfinished[0].pop("read", None)
        unfinished[0] |= {"fingerprint": source.fingerprint, "cursor": 0, "update": True}
        return unfinished[0]
    if unfinished:
        raise UsageError(
            f"{path} holds an unfinished ingest of {unfinished[0]['source']}, and the source is "
            "another now: finish that one first (where it has changed, with --update), or delete "
            "the corpus and start again"
        )
    entry = {
        "source": str(source.path),
        "at": place,
        "kind": source.kind,
        "fingerprint": source.fingerprint,
        "cursor": 0,
        "videos": 0,
        "rejected": {},
        "rejects_start": manifest["rejects_bytes"],
        "complete": False,
    }
    if update and mine:
        # Pairs may be of videos that come now, and are read again; a vocabulary stays.
        own = str(source.tag_list.resolve()) if source.tag_list else ""
        held = mine[-1].get("lists", {})
        kept = {key: held[key] for key in (GIVEN_TAGS, own) if key in held}
        entry |= {"update": True, "lists": kept}
    entries.append(entry)
    return entry


def is_update(entry: dict[str, Any]) -> bool:
    """Whether a source's rows are to be held against what the corpus has of them."""
    return bool(entry.get("update") and not entry.get("read"))


def of_place(entries: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """Those entries of a manifest whose source is at this place, in order."""
    return [entry for entry in entries if place_of(entry) == place]


def place_of(entry: dict[str, Any]) -> str:
    """Where the source of a manifest's entry is, as an absolute path."""
    return str(entry.get("at") or os.path.abspath(entry.get("source", "")))
