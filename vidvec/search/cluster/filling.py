"""Fills a cluster from a folder of vectors: a new generation beside the one that is searched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors
from vidvec.errors import ServerError, UsageError
from vidvec.search.cluster import generations
from vidvec.search.cluster.address import Address, parse
from vidvec.search.cluster.connection import connect, told
from vidvec.search.cluster.generations import VERSION, Generation
from vidvec.search.cluster.rows import record, refusal, schema
from vidvec.search.difference import NAMED, Progress, describe, digest_of, fingerprint
from vidvec.search.neighbours import list_count, unit
from vidvec.search.types import IndexedVideo

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# Rows of one call: 2 MB of vectors of 256 numbers, where a cluster takes 64 MB.
BATCH = 2_000
EXACT_BELOW = 100_000
KINDS = {"exact": "FLAT", "ivf-sq8": "IVF_SQ8", "hnsw": "HNSW"}
_POLL = 0.5


@dataclass(frozen=True, slots=True)
class FillReport:
    """What ``fill`` did.

    Attributes:
        address: Where.
        collection: The collection that is searched.
        videos: How many it has.
        kind: How neighbours are found.
        written: Whether anything was; not where the collection was there and is searched.
        resumed: Videos that a stopped run had put there.
        gone: Vectors whose videos are gone from the corpus: left out.
        refused: Why vectors were left out, and how many for each reason; empty where nothing was
            written.
        named: Ids of some of them.
        previous: The collection that a roll back would have searched again; ``None``: none.
        seconds: How long it took.
    """

    address: str
    collection: str
    videos: int
    kind: str
    written: bool
    resumed: int = 0
    gone: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    previous: str | None = None
    seconds: float = 0.0


def fill(
    vectors: Path,
    address: str,
    *,
    corpus: Path | None = None,
    kind: str = "auto",
    shards: int = 1,
    progress: Progress | None = None,
) -> FillReport:
    """Puts a folder of vectors into a cluster, and switches its name over when all are there.

    Searches go on meanwhile in the generation before, which is kept to go back to. A run that was
    stopped goes on where it was. Of several that fill the same name, the one that ends first drops
    what the others have.

    Args:
        vectors: Made by ``embed``, ``fuse`` or ``import-vectors``.
        address: ``http://HOST:PORT/NAME``.
        corpus: Where titles, tags and such are; ``None``: the corpus that was embedded.
        kind: One of ``KINDS``; ``auto``: ``exact`` below 100,000 vectors, else ``ivf-sq8``.
        shards: Among which the cluster spreads what is written.
        progress: Called with vectors done, all, and what is being done.

    Raises:
        UsageError: There is no such kind, or the address is none.
        FormatError: The folder is none.
        ServerError: The cluster cannot be reached, or refuses.
    """
    # Brings PyTorch along.
    from vidvec.search.index import corpus_of

    began = time.monotonic()
    place = parse(address)
    held = Vectors(Path(vectors))
    chosen = _kind(kind, len(held))
    known = corpus_of(held.path, corpus)
    facts = [VERSION, fingerprint(held), chosen, shards]
    facts += [known.content, known.edition] if known is not None else [None]
    collection = generations.collection_name(place, digest_of(facts))
    client = connect(place)
    try:
        task = _Filling(client, place, held, known, own=corpus is None, progress=progress)
        return replace(task.run(collection, chosen, shards), seconds=time.monotonic() - began)
    finally:
        client.close()


def _kind(kind: str, count: int) -> str:
    if kind == "auto":
        return "exact" if count < EXACT_BELOW else "ivf-sq8"
    if kind not in KINDS:
        raise UsageError(f"no kind {kind!r} of index in a cluster: auto, {', '.join(KINDS)}")
    return kind


class _Filling:
    """One run of ``fill``."""

    def __init__(
        self,
        client: MilvusClient,
        address: Address,
        vectors: Vectors,
        corpus: Corpus | None,
        *,
        own: bool,
        progress: Progress | None,
    ) -> None:
        from vidvec.search.index import gone_ids

        self._client, self._address, self._progress = client, address, progress
        self._vectors, self._corpus = vectors, corpus
        self._gone = set(gone_ids(corpus, vectors, own=own))
        self._refused: dict[str, int] = {}
        self._named: list[str] = []

    def run(self, collection: str, kind: str, shards: int) -> FillReport:
        """Fills, checks, switches."""
        client, place = self._client, self._address
        with told(place):
            there = client.has_collection(place.name)
            searched = generations.target(client, place, place.name)
        if there and searched is None:
            raise UsageError(
                f"{place.name} is a collection of its own in {place.url}: take another name"
            )
        # Its name is drawn from all that goes into it: one that is there says what this would be.
        with told(place):
            begun = client.has_collection(collection)
        wanted = (
            generations.read(client, place, collection) if begun else self._facts(collection, kind)
        )
        if searched == collection:
            return self._report(wanted, written=False, resumed=0)
        if not begun:
            with told(place):
                self._create(wanted, shards)
        generations.load(client, place, collection)
        resumed = self._upload(collection)
        self._settle(collection, wanted.rows)
        generations.switch(client, place, collection)
        return self._report(wanted, written=True, resumed=resumed)

    def _facts(self, collection: str, kind: str) -> Generation:
        """What the collection will say of itself; reads what is known of all videos."""
        tokens = rows = 0
        for videos, _ in self._wanted():
            rows += len(videos)
            tokens += sum(max(0, len(video.title) - 2) for video in videos)
        manifest: dict[str, Any] = {**self._vectors.manifest, "shards": []}
        path = str(self._vectors.path.resolve())
        dimension = self._vectors.dimension
        return Generation(collection, dimension, kind, path, manifest, tokens, rows)

    def _create(self, wanted: Generation, shards: int) -> None:
        client = self._client
        made = schema(client, wanted.dimension, wanted.description())
        client.create_collection(
            wanted.collection, schema=made, num_shards=shards, consistency_level="Bounded"
        )
        settings: dict[str, Any] = {
            "exact": {},
            "ivf-sq8": {"nlist": min(65_536, list_count(wanted.rows))},
            "hnsw": {"M": 32, "efConstruction": 200},
        }[wanted.kind]
        parameters = client.prepare_index_params()
        parameters.add_index(
            "vector", index_type=KINDS[wanted.kind], metric_type="IP", params=settings
        )
        client.create_index(wanted.collection, parameters)

    def _wanted(self) -> Iterator[tuple[list[IndexedVideo], NDArray[np.float32]]]:
        """Videos and (n, E) vectors that are to be there, in the order of the folder."""
        self._refused, self._named = {}, []
        seen: set[str] = set()
        for ids, matrix in self._vectors.shards():
            for start in range(0, len(ids), BATCH):
                names = ids[start : start + BATCH]
                block = matrix[start : start + BATCH]
                finite = np.all(np.isfinite(block), axis=1)
                videos = describe(self._corpus, names)
                keep = [
                    at
                    for at, video in enumerate(videos)
                    if self._takes(video, bool(finite[at]), seen)
                ]
                if keep:
                    yield [videos[at] for at in keep], block[keep]

    def _takes(self, video: IndexedVideo, finite: bool, seen: set[str]) -> bool:
        if video.id in self._gone:
            return False
        why = "" if finite else "its vector holds NaN or infinity"
        why = why or ("its id came before" if video.id in seen else refusal(video))
        if not why:
            seen.add(video.id)
            return True
        self._refused[why] = self._refused.get(why, 0) + 1
        if len(self._named) < NAMED:
            self._named.append(video.id)
        return False

    def _upload(self, collection: str) -> int:
        """Writes what is not there yet; how many were."""
        client, place = self._client, self._address
        with told(place):
            there = _count(client, collection)
        row, total = 0, len(self._vectors)
        for videos, block in self._wanted():
            # Calls are answered in turn, so that only the last one may be there in part.
            if row + len(videos) > there:
                made = unit(block)
                given = [record(video, made[at], row + at) for at, video in enumerate(videos)]
                with told(place):
                    client.upsert(collection, given)
            row += len(videos)
            if self._progress is not None:
                self._progress(row, total, "uploading")
        return there

    def _settle(self, collection: str, rows: int, seconds: float = 24 * 3600) -> None:
        """Waits until all is on disk and indexed, and makes sure that all is there."""
        client, place = self._client, self._address
        until = time.monotonic() + seconds
        with told(place):
            client.flush(collection)
            while int(client.describe_index(collection, "vector").get("pending_index_rows", 0)):
                if time.monotonic() > until:
                    raise ServerError("unreachable", f"{place.url} does not index {collection}")
                time.sleep(_POLL)
            there = _count(client, collection)
        if there != rows:
            raise ServerError(
                "failed",
                f"{collection} has {there} videos where {rows} were written: run the same again; "
                f"{place.name} still stands for what it did before",
            )

    def _report(self, wanted: Generation, *, written: bool, resumed: int) -> FillReport:
        before = generations.previous_name(self._address)
        return FillReport(
            address=str(self._address),
            collection=wanted.collection,
            videos=wanted.rows,
            kind=wanted.kind,
            written=written,
            resumed=resumed,
            gone=len(self._gone),
            refused=dict(self._refused),
            named=tuple(self._named),
            previous=generations.target(self._client, self._address, before),
        )


def _count(client: MilvusClient, collection: str) -> int:
    found = client.query(
        collection, filter="", output_fields=["count(*)"], consistency_level="Strong"
    )
    return int(found[0]["count(*)"])
