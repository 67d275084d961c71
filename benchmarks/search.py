"""How fast and how well each kind of index searches, as a table in Markdown.

    python -m benchmarks.search [CLIPS] [--vectors N] [--encoder ENCODER] [--kinds KIND …]

CLIPS is a folder whose subfolders hold clips. Their frames, by the encoder, are averaged over each
clip, projected at random to 256 numbers, and replicated with noise: a copy's cosine with its clip
is about 0.9. Queries are other copies. Everything runs on one thread but the building of the index.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import Corpus, IngestOptions, ingest
from vidvec.embed.vectors import VectorWriter
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.neighbours import KINDS
from vidvec.search.types import Filter, Hit

SIZE = 256
BLOCK = 65_536
QUERIES = 512
SINGLE = 64  # queries that are asked one at a time
NOISE = 0.48  # length of the noise, of a vector of length 1
# All videos, 1 % and 10 % of them: see ``give_durations``.
FILTERS = (Filter(), Filter(max_seconds=9), Filter(max_seconds=99))
K = 10
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one kind.

    Attributes:
        kind: Its name.
        recall: Share of the ten nearest that are found; then with filters.
        batch, single: Queries a second, many at a time and one at a time; then with filters.
        bytes_per_vector: Of the FAISS file, which is what lies in memory.
        seconds: To make the FAISS file.
        searched: Lists looked into and candidates a hit.
    """

    kind: str
    recall: tuple[float, ...]
    batch: tuple[float, ...]
    single: tuple[float, ...]
    bytes_per_vector: float
    seconds: float
    searched: str


def clip_vectors(clips: Path, encoder: str, scratch: Path) -> NDArray[np.float32]:
    """(clips, 256) unit vectors: the mean of each clip's frames, projected at random."""
    means = []
    for folder in sorted(path for path in clips.iterdir() if path.is_dir()):
        if not any(file.suffix in (".mp4", ".avi", ".webm") for file in folder.rglob("*")):
            continue
        corpus_path = scratch / folder.name
        ingest(folder, corpus_path, IngestOptions(encoder=encoder, audio="none"))
        corpus = Corpus(corpus_path)
        means += [corpus.frames(row).astype(np.float32).mean(0) for row in range(len(corpus))]
    whole = np.stack(means)
    whole -= whole.mean(0)
    random = np.random.default_rng(0)
    projection = random.standard_normal((whole.shape[1], SIZE), np.float32)
    return unit(whole @ projection)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def copies(base: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """(count, 256) noisy copies of vectors drawn at random."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, SIZE), np.float32) * (NOISE / SIZE**0.5)
    return unit(base[random.integers(0, len(base), count)] + noise)


def write_vectors(base: NDArray[np.float32], count: int, folder: Path) -> None:
    """A folder of so many copies."""
    writer = VectorWriter(folder, SIZE, {"normalised": True, "made_by": {"stage": "benchmark"}})
    for start in range(0, count, BLOCK):
        some = min(BLOCK, count - start)
        writer.append([f"v{start + at}" for at in range(some)], copies(base, some, start + 1))
    writer.finish()


def give_durations(folder: Path) -> None:
    """Says of the videos that they last 0 to 999 seconds, one after the other, to filter by."""
    with sqlite3.connect(folder / "index" / "records.sqlite") as connection:
        connection.execute("UPDATE videos SET seconds = row % 1000")
        connection.execute("UPDATE state SET generation = generation + 1")
    connection.close()


def queries_per_second(
    index: SearchIndex, queries: NDArray[np.float32], at_once: int, asked: Filter
) -> tuple[float, list[list[Hit]]]:
    """Of CPU time, which other work on the machine shares no part of; and what was found."""
    index.search(queries[:2], K, filter=asked)
    best, hits = 0.0, []
    for _ in range(2):
        began, hits = time.process_time(), []
        for start in range(0, len(queries), at_once):
            hits += index.search(queries[start : start + at_once], K, filter=asked)
        best = max(best, len(queries) / (time.process_time() - began))
    return best, hits


def measure(
    folder: Path, kind: str, queries: NDArray[np.float32], truth: Sequence[list[list[Hit]]]
) -> tuple[Figures, list[list[list[Hit]]]]:
    """Makes and searches one kind.

    Args:
        folder: Of the vectors.
        kind: Its name.
        queries: (Q, 256).
        truth: By filter, what is nearest; empty: this kind says it.
    """
    report = build_index(folder, kind=kind)
    settings = report.settings
    batch, single, recall, found = [], [], [], []
    with SearchIndex.open(folder) as index:
        for place, asked in enumerate(FILTERS):
            some = queries if place == 0 else queries[: QUERIES // 4]
            speed, hits = queries_per_second(index, some, len(some), asked)
            batch.append(speed)
            single.append(queries_per_second(index, queries[:SINGLE], 1, asked)[0])
            wanted = truth[place] if truth else hits
            recall.append(share_found(wanted, hits))
            found.append(hits)
    searched = (
        f"{settings['nprobe']}/{settings['lists']}, {settings['rerank']}"
        if settings.get("lists")
        else f"all, {settings.get('rerank', 1)}"
    )
    figures = Figures(
        *(kind, tuple(recall), tuple(batch), tuple(single)),
        *(report.bytes_per_vector, report.seconds, searched),
    )
    return figures, found


def share_found(wanted: list[list[Hit]], hits: list[list[Hit]]) -> float:
    """Recall@10."""
    shares = [
        len({hit.id for hit in right} & {hit.id for hit in some}) / max(1, len(right))
        for right, some in zip(wanted, hits, strict=True)
    ]
    return float(np.mean(shares))


def table(figures: Sequence[Figures]) -> str:
    """Markdown."""
    exact = figures[0]
    lines = [
        "| kind | recall@10 | queries/s, 512 at once | × `exact` | queries/s, one by one "
        "| × `exact` | bytes a vector | made in | lists looked into, candidates a hit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        lines.append(
            f"| `{one.kind}` | {one.recall[0]:.3f} | {one.batch[0]:,.0f} | "
            f"{one.batch[0] / exact.batch[0]:.1f} | {one.single[0]:,.0f} | "
            f"{one.single[0] / exact.single[0]:.1f} | {one.bytes_per_vector:,.0f} | "
            f"{one.seconds:.0f} s | {one.searched} |"
        )
    lines += [
        "",
        "| kind | 1 %: recall@10 | queries/s, at once | one by one | 10 %: recall@10 | "
        "queries/s, at once | one by one |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        cells = [
            f"{one.recall[at]:.3f} | {one.batch[at]:,.0f} | {one.single[at]:,.0f}" for at in (1, 2)
        ]
        lines.append(f"| `{one.kind}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="?", type=Path, default=SHARED / "videos")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    onnx = SHARED / "models" / "mobilenet_v2_1.0_224.onnx"
    parser.add_argument("--encoder", default=f"onnx:{onnx}")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # NumPy reads it when it is loaded. Indexes are built by FAISS, on all cores all the same.
        again = [sys.executable, "-m", "benchmarks.search", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "vectors"
        base = clip_vectors(given.clips, given.encoder, Path(name))
        write_vectors(base, given.vectors, folder)
        queries = copies(base, QUERIES, 0)
        began = time.perf_counter()
        report = build_index(folder, kind="int8")
        print(
            f"{len(base)} clips, {given.vectors:,} × {SIZE}, {platform.machine()}; records and "
            f"int8 index made in {report.seconds:.0f} s",
            flush=True,
        )
        give_durations(folder)
        figures, truth = [], []
        for kind in dict.fromkeys(["exact", *given.kinds]):
            measured, found = measure(folder, kind, queries, truth)
            truth = truth or found
            figures.append(measured)
            print(f"{kind}: {measured}", flush=True)
        print(f"\n{table(figures)}\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
