"""Sentences that people scored, as videos with a title and nothing else.

STS-B (Cer et al. 2017) has pairs of sentences with scores of 0 … 5, in English and, translated, in
Chinese. Its dev part is what is measured on. It shares sentences with its train part: pairs of the
train part with such a sentence are left out. A part of what remains is held out, to choose
checkpoints and rates by.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vidvec import IngestOptions, ingest, storage
from vidvec.records import Pair

TOP_SCORE = 5.0
# Larger groups of sentences that pairs tie together are learned from, never held out.
HELD_GROUP = 20


@dataclass(frozen=True, slots=True)
class Scored:
    """Two sentences and how similar people found them, 0 … 1."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Task:
    """What a language's models learn from, are chosen by, and are measured on.

    Attributes:
        train: Pairs to learn from.
        held: Pairs of the train part that share no sentence with ``train``.
        test: The dev part. It shares no sentence with the other two.
        dropped: Pairs of the train part left out, because a sentence of theirs is in ``test``.
    """

    train: list[Scored]
    held: list[Scored]
    test: list[Scored]
    dropped: int


def texts_folder() -> Path:
    """The folder of texts: below ``VIDVEC_SHARED``, else below ``../shared``."""
    own = Path(__file__).parents[2].parent / "shared"
    return Path(os.environ.get("VIDVEC_SHARED", own)) / "data" / "text"


def read_scored(path: Path) -> list[Scored]:
    """Pairs of a file ``sentence, sentence, score`` without header, scores 0 … 5."""
    with path.open(encoding="utf-8", newline="") as rows:
        return [
            Scored(first.strip(), second.strip(), float(score) / TOP_SCORE)
            for first, second, score in csv.reader(rows)
        ]


def make_task(train: Sequence[Scored], test: Sequence[Scored], held: int, most: int = 0) -> Task:
    """Splits so that no sentence is in two of the three parts.

    Args:
        train: The train part.
        test: The dev part, kept whole.
        held: Pairs to hold out, at least; whole groups of sentences that pairs tie together, in an
            order that only depends on the sentences.
        most: Pairs to learn from, at most, drawn by a hash of their sentences; 0: all.
    """
    measured = _sentences(test)
    unseen = [pair for pair in train if not {pair.first, pair.second} & measured]
    # Of a sentence with itself there is nothing to learn: its cosine is 1.
    clean = [pair for pair in unseen if pair.first != pair.second]
    groups = _groups(clean)
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    small = [places for places in members.values() if len(places) <= HELD_GROUP]
    small.sort(key=lambda places: _digest(min(clean[place].first for place in places)))
    chosen: set[int] = set()
    for places in small:
        if len(chosen) >= held:
            break
        chosen |= set(places)
    rest = [pair for place, pair in enumerate(clean) if place not in chosen]
    if most:
        rest = sorted(rest, key=lambda pair: _digest(f"{pair.first}\n{pair.second}"))[:most]
    return Task(
        train=rest,
        held=[clean[place] for place in sorted(chosen)],
        test=list(test),
        dropped=len(train) - len(unseen),
    )


def _groups(pairs: Sequence[Scored]) -> list[int]:
    """Which group of sentences tied together by pairs each pair belongs to."""
    number = {sentence: place for place, sentence in enumerate(sorted(_sentences(pairs)))}
    ends = np.array([(number[pair.first], number[pair.second]) for pair in pairs]).reshape(-1, 2)
    size = len(number)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    _, groups = connected_components(graph, directed=False)
    return [int(groups[first]) for first in ends[:, 0]]


def _sentences(pairs: Iterable[Scored]) -> set[str]:
    return {sentence for pair in pairs for sentence in (pair.first, pair.second)}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def write_corpus(task: Task, folder: Path) -> Path:
    """Ingests a task's train and held-out pairs; returns the corpus.

    Ids are whole numbers whose remainder by 5 says which side of vidvec's clean split they are on:
    0 for held-out sentences. A sentence that is in several pairs is one video.
    """
    corpus = folder / "corpus"
    if corpus.is_dir():
        return corpus
    ids: dict[str, str] = {}
    pairs = []
    for some, remainder in ((task.train, 1), (task.held, 0)):
        for pair in some:
            for sentence in (pair.first, pair.second):
                ids.setdefault(sentence, str(10 * (len(ids) + 1) + remainder))
            pairs.append(Pair(ids[pair.first], ids[pair.second], pair.score))
    titles = [(number, sentence) for sentence, number in ids.items()]
    return ingest_titles(titles, folder, pairs)


def ingest_titles(
    titles: Sequence[tuple[str, str]], folder: Path, pairs: Sequence[Pair] = ()
) -> Path:
    """Ingests ids and titles, with scored pairs where there are some; returns the corpus."""
    corpus, table, scores = folder / "corpus", folder / "titles.jsonl", folder / "pairs.csv"
    lines = [json.dumps({"id": number, "title": title}) for number, title in titles]
    with storage.atomic_path(table) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
    if pairs:
        rows = [f"{pair.id_1},{pair.id_2},{pair.score!r}" for pair in pairs]
        with storage.atomic_path(scores) as temporary:
            temporary.write_text("\n".join(["id_1,id_2,score", *rows]) + "\n", "utf-8")
    files = (scores,) if pairs else ()
    ingest(table, corpus, IngestOptions(pairs=files))
    return corpus


def write_titles(texts: Path, task: Task, folder: Path) -> Path:
    """Ingests the titles of ``read_titles`` but sentences of the test pairs; returns the corpus."""
    corpus = folder / "corpus"
    if corpus.is_dir():
        return corpus
    titles = read_titles(texts, _sentences(task.test))
    return ingest_titles([(str(10 * n + 1), title) for n, title in enumerate(titles)], folder)


def read_titles(texts: Path, unwanted: Iterable[str]) -> list[str]:
    """Titles without scores, each once: of Chinese news (TNEWS) and of videos (YouTube trending).

    Args:
        texts: The folder of texts.
        unwanted: Sentences that are left out where they are among them.
    """
    news = sorted((texts / "tnews").glob("*.json"))
    videos = sorted((texts / "youtube_trending").glob("*.jsonl"))
    kinds = [(news, "sentence"), (videos, "title")]
    found: dict[str, None] = {}
    for files, key in kinds:
        for file in files:
            for line in file.read_text("utf-8").splitlines():
                found.setdefault(json.loads(line)[key].strip())
    left_out = {"", *unwanted}
    return [title for title in found if title not in left_out]
