"""Made corpora with the published lengths and sizes, written straight as Arrow shards.

A video has 18.5 frames and a title of 21.5 tokens on average, so 40 of the published 68 positions
are real; about 5 of 62,880 tags, of which the 10,000 most frequent are the vocabulary (system.md,
section 1). What the frames hold is noise: speed does not depend on it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.pair_rows import write_pairs
from vidvec.data.tokenizer import BERT_NAMES, load_tokenizer
from vidvec.records import Pair

FRAME_SIZE = 1536
FRAMES = (5, 32)
LETTERS = (4, 33)
TAGS_PER_VIDEO = (2, 8)
TAGS, TAG_VOCABULARY = 62_880, 10_000
VOCABULARY = 21_128
# As many rows as fit into a shard with frames of the published width, whatever the width here.
SHARD_ROWS = store.SHARD_BYTES // (sum(FRAMES) // 2 * FRAME_SIZE * 2)
FIRST_ID = 10**18  # nineteen digits, as the competition's
FIRST_LETTER, LETTERS_USED = 0x4E00, 5000


def make_corpus(
    path: Path, videos: int, *, frame_size: int = FRAME_SIZE, pairs: int = 0, seed: int = 0
) -> store.Corpus:
    """Writes a corpus and opens it.

    Args:
        path: Its folder, new.
        videos: How many.
        frame_size: D.
        pairs: Scored pairs of videos drawn at random, all for training by the published split.
        seed: Fixes everything.
    """
    random = np.random.default_rng(seed)
    tag_names = pa.array([f"tag{number}" for number in range(TAGS)])
    entries = []
    for number, start in enumerate(range(0, videos, SHARD_ROWS)):
        rows = np.arange(start, min(start + SHARD_ROWS, videos))
        table = _video_table(rows, frame_size, tag_names, random)
        nothing = pa.array([[]] * len(rows), pa.list_(pa.binary()))
        pictures = pa.table([table.column("id"), nothing], schema=store.THUMBNAIL_SCHEMA)
        entries.append(store.write_shard(path, f"{number:06d}.arrow", table, pictures))
    _write_tokenizer(path)
    scored = _pairs(videos, pairs, random)
    if scored:
        write_pairs(path / "pairs.parquet", scored)
    storage.write_manifest(
        path,
        store.KIND,
        frame_encoder={"name": "precomputed", "frame_size": frame_size},
        tag_vocabulary=tag_names[:TAG_VOCABULARY].to_pylist(),
        shards=entries,
        rejects_bytes=0,
        pairs=pairs,
        ingests=[{"complete": True, "videos": videos}],
    )
    return store.Corpus(path)


def _video_table(
    rows: NDArray[np.int64], frame_size: int, tag_names: pa.Array, random: np.random.Generator
) -> pa.Table:
    """Videos as one record batch of the corpus's schema."""
    count = len(rows)
    frames = _offsets(random.integers(FRAMES[0], FRAMES[1] + 1, count))
    noise = random.standard_normal((int(frames[-1]), frame_size), np.float32).astype(np.float16)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(noise.reshape(-1)), frame_size)
    tags = _offsets(random.integers(TAGS_PER_VIDEO[0], TAGS_PER_VIDEO[1] + 1, count))
    # Ranks whose logarithms are uniform: the n-th tag is about 1/n as frequent as the first.
    ranks = (TAGS ** random.random(int(tags[-1]))).astype(np.int64) - 1
    seconds = np.arange(frames[-1]) - np.repeat(frames[:-1], np.diff(frames))
    columns = {
        "id": pc.cast(pa.array(FIRST_ID + rows), pa.string()),
        "title": _titles(count, random),
        "speech_text": pa.array([""] * count),
        "screen_text": pa.array([""] * count),
        "tags": pa.ListArray.from_arrays(tags, tag_names.take(pa.array(ranks))),
        "category": pa.array([""] * count),
        "language": pa.array(["zh"] * count),
        "duration_seconds": pa.array(np.diff(frames).astype(np.float32)),
        "frame_times_seconds": pa.ListArray.from_arrays(frames, seconds.astype(np.float32)),
        "frames": pa.ListArray.from_arrays(frames, vectors),
    }
    # What it has no columns of reads as empty.
    held = [field for field in store.corpus_schema(frame_size) if field.name in columns]
    return pa.table(columns, schema=pa.schema(held))


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _titles(count: int, random: np.random.Generator) -> pa.Array:
    """Chinese letters drawn at random, three bytes each, as one buffer."""
    letters = "".join(chr(FIRST_LETTER + number) for number in range(LETTERS_USED))
    table = np.frombuffer(letters.encode(), np.uint8).reshape(LETTERS_USED, 3)
    lengths = random.integers(LETTERS[0], LETTERS[1] + 1, count)
    drawn = table[random.integers(0, LETTERS_USED, int(lengths.sum()))]
    buffers = [pa.py_buffer(_offsets(3 * lengths)), pa.py_buffer(drawn.tobytes())]
    return pa.StringArray.from_buffers(count, *buffers)


def vocabulary() -> list[str]:
    """A BERT vocabulary of the published size that holds every letter of the titles."""
    letters = [chr(FIRST_LETTER + number) for number in range(LETTERS_USED)]
    unused = VOCABULARY - len(BERT_NAMES) - len(letters)
    return [*BERT_NAMES, *letters, *(f"[unused{number}]" for number in range(unused))]


def _write_tokenizer(path: Path) -> None:
    (path / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", "utf-8")
    load_tokenizer(path / "vocab.txt").save(path / "tokenizer")


def _pairs(videos: int, count: int, random: np.random.Generator) -> list[Pair]:
    rows = np.arange(videos)
    first, second = random.choice(rows[rows % 5 > 0], count), random.choice(rows, count)
    ids = (FIRST_ID + np.stack([first, second], 1)).astype(str)
    scores = random.integers(0, 21, count) / 20
    return [Pair(*both, float(score)) for both, score in zip(ids.tolist(), scores, strict=True)]
