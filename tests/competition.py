"""Tiny folders in the competition's layout, and ways to spoil them."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, IngestReport, ingest
from vidvec.data.tfrecord import write_tfrecords
from vidvec.records import Pair, Video

NO_OPTIONS, STRICT = IngestOptions(), IngestOptions(strict=True)
LABEL, LIST = "pairwise/label.tsv", "tag_list.txt"
IDS = {"pointwise": range(100, 112), "pairwise": range(200, 208), "test_a": range(300, 304)}
IDS["test_b"] = range(400, 405)
LABELS = [(200, 201, 0.5), (202, 203, 0.0), (203, 204, 1.0), (200, 201, 0.25)]
PAIRS = [Pair(str(one), str(two), score) for one, two, score in LABELS]
TAGS = [31, 7, 19]
ORDER = [str(one) for part in ("pairwise", "pointwise", "test_a", "test_b") for one in IDS[part]]


def made_video(number: int | str, part: str) -> Video:
    random = np.random.default_rng(int(number) if str(number).isdigit() else 0)
    count = int(random.integers(1, 5))
    return Video(
        id=str(number),
        title=f"title {number}",
        tags=None if part.startswith("test") else (str(random.choice(TAGS)), "5"),
        category="" if part.startswith("test") else "101",
        frames=random.normal(size=(count, 8)).astype(np.float16),
    )


def write_part(folder: Path, part: str, ids: list[int | str] | None = None) -> None:
    videos = [made_video(one, part) for one in (IDS[part] if ids is None else ids)]
    (folder / part).mkdir(parents=True, exist_ok=True)
    if part == "pointwise":
        for number, some in enumerate((videos[:7], videos[7:])):
            write_tfrecords(folder / part / f"pretrain_{number}.tfrecords", some)
    else:
        write_tfrecords(folder / part / f"{part}.tfrecords", videos)


def write_folder(folder: Path) -> Path:
    """A whole and sound folder."""
    for part in IDS:
        write_part(folder, part)
    rows = [f"{one}\t{two}\t{score}\n" for one, two, score in LABELS]
    (folder / LABEL).write_text("".join(rows))
    (folder / LIST).write_text("".join(f"{tag}\n" for tag in TAGS))
    return folder


def offsets(file: Path) -> list[int]:
    """Where the records of a file begin: length, CRC, payload, CRC."""
    data, found, at = file.read_bytes(), [], 0
    while at < len(data):
        found.append(at)
        at += 16 + struct.unpack_from("<Q", data, at)[0]
    return found


def rejects_of(corpus: Path) -> list[tuple[str, str, str]]:
    lines = (corpus / "rejects.jsonl").read_text("utf-8").splitlines()
    rejects = [json.loads(line) for line in lines]
    assert all(len(reject["detail"]) > 10 for reject in rejects)
    return [(reject["where"], reject["id"], reject["reason"]) for reject in rejects]


def read_in(folder: Path, options: IngestOptions = NO_OPTIONS) -> tuple[IngestReport, Corpus]:
    """Ingests a folder into the corpus beside it."""
    path = folder.parent / "corpus"
    report = ingest(folder, path, options)
    corpus = Corpus(path)
    assert report.rejected == Counter(reason for _, _, reason in rejects_of(path))
    assert report.pairs == len(corpus.pairs())
    return report, corpus


def lines_into(name: str, *lines: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write("".join(lines).encode(errors="surrogateescape"))

    return spoil


def list_of(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content, newline="") and None


def without(part: str, keep: bool = False) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for file in (folder / part).iterdir():
            file.unlink()
        if not keep:
            (folder / part).rmdir()

    return spoil


def flipped(name: str, record: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[offsets(folder / name)[record] + 40] ^= 1
        (folder / name).write_bytes(data)

    return spoil
