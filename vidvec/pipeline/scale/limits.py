"""Where vidvec itself ends, before the machines do."""

from __future__ import annotations

from dataclasses import dataclass

from vidvec.pipeline.scale.assumptions import Assumptions
from vidvec.pipeline.scale.stages import corpus_bytes

MILLION = 1e6
DAY = 86_400.0
# A manifest is written anew after each shard, every 20 seconds; so long may that take.
MANIFEST_SECONDS = 2.0
DISK_BYTES_PER_SECOND = 200e6


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that does not go on for ever.

    Attributes:
        what: It.
        videos: How many it takes.
        why: The resource that ends, and the rate that it ends by.
        then: What to do beyond.
    """

    what: str
    videos: float
    why: str
    then: str


def limits(given: Assumptions) -> list[Limit]:
    """What ends first, first."""
    measured, machines, kind = given.measured, given.machines, given.work.index
    memory = 0.8 * machines.memory_gb * 1e9
    held = measured.index_bytes[kind]
    entries = MANIFEST_SECONDS * DISK_BYTES_PER_SECOND / measured.entry_bytes
    found = [
        Limit(
            "one process with a corpus open",
            memory / measured.id_bytes,
            f"ids in memory, {measured.id_bytes:g} bytes a video",
            "several corpora, one for each worker of ingest, embed and fuse",
        ),
        Limit(
            "finding near duplicates in one process",
            memory / measured.dedup_bytes,
            f"memory, {measured.dedup_bytes:g} bytes a video",
            "vidvec dedup --workers or --on, over the folders of several shards",
        ),
        Limit(
            f"one {kind} index, made within a day",
            MILLION
            # So many microseconds a vector are as many seconds for a million.
            * (DAY * machines.cores_each / measured.index_us[kind]) ** (2 / 3),
            f"each vector is compared with 4·√n lists, {measured.index_us[kind]:g} µs of a core "
            "at a million",
            "a search cluster, in shards",
        ),
        Limit(
            f"one {kind} index in memory",
            memory / held,
            f"{held:g} bytes a vector",
            "a search cluster, or ivf-sq4",
        ),
        Limit(
            "an index's records, written within a day",
            DAY / (measured.record_us / 1e6),
            f"one writer, {measured.record_us:g} µs a video",
            "a search cluster",
        ),
        Limit(
            "one corpus's manifest",
            entries * measured.shard_bytes / corpus_bytes(given),
            f"{measured.entry_bytes:g} bytes a shard, all written after each",
            "larger shards, or several corpora",
        ),
    ]
    return sorted(found, key=lambda limit: limit.videos)
