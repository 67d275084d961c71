"""What was left out of a corpus, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from vidvec.data.corpus import Corpus
from vidvec.data.spread import by_count
from vidvec.records import Reject

EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class RejectSummary:
    """Records left out for one reason, the first few of them in full."""

    reason: str
    count: int
    examples: tuple[Reject, ...]


def read_rejects(corpus: Corpus) -> Iterator[Reject]:
    """What was left out, in the order it came; lines the manifest does not count are not there."""
    path = corpus.path / "rejects.jsonl"
    if not path.is_file():
        return
    left = corpus.manifest["rejects_bytes"]
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            yield Reject(**json.loads(line))


def summarise_rejects(corpus: Corpus) -> tuple[RejectSummary, ...]:
    """Rejects by reason, most frequent first."""
    counts: dict[str, int] = {}
    examples: dict[str, list[Reject]] = {}
    for reject in read_rejects(corpus):
        counts[reject.reason] = counts.get(reject.reason, 0) + 1
        some = examples.setdefault(reject.reason, [])
        if len(some) < EXAMPLES:
            some.append(reject)
    ordered = by_count(list(counts), list(counts.values()))
    return tuple(RejectSummary(name, count, tuple(examples[name])) for name, count in ordered)
