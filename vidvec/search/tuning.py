"""How much of an approximate index has to be looked at, measured on a sample of its vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.search.brute import nearest
from vidvec.search.neighbours import KINDS, TRAIN_EACH, Neighbours, list_count
from vidvec.search.source import Source

QUERIES = 256
NEIGHBOURS = 10
# More than is promised, as what is measured on a sample may fall a little below it elsewhere.
RECALL = 0.965
# The fewest vectors that a scalar quantiser learns its ranges from.
FLAT_SAMPLE = 65_536


def sample_rows(rows: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
    """Rows to learn from, ascending."""
    wanted = FLAT_SAMPLE
    if KINDS[kind].lists:
        wanted = max(wanted, TRAIN_EACH * list_count(len(rows)))
    if len(rows) <= wanted:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, wanted, replace=False))


def tune(
    neighbours: Neighbours,
    source: Source,
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
) -> dict[str, Any]:
    """Sets how many lists and candidates reach the recall that is wanted; returns the settings.

    Queries are vectors of the index, whose ten nearest besides themselves are wanted.

    Args:
        neighbours: The index, with all rows.
        source: The vectors.
        rows: (n,) the index's rows.
        places: Places by row.
    """
    chosen = np.sort(np.random.default_rng(1).choice(rows, min(QUERIES, len(rows)), replace=False))
    queries = source.gather(chosen, places[chosen])
    truth = nearest(queries, source.blocks(rows, places[rows]), NEIGHBOURS + 1)
    best, nprobe = 0.0, 1
    while True:
        for rerank in KINDS[neighbours.kind].rerank:
            neighbours.nprobe, neighbours.rerank = nprobe, rerank
            rows = neighbours.candidates(queries, truth.shape[1] * rerank)
            best = recall(truth, rows)
            if best >= RECALL:
                break
        if best >= RECALL or nprobe >= neighbours.lists:
            break
        nprobe = min(neighbours.lists, 2 * nprobe)
    return {
        "nprobe": neighbours.nprobe,
        "rerank": neighbours.rerank,
        "lists": neighbours.lists,
        "recall": round(best, 4),
    }


def recall(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Share of the (Q, k) true neighbours, by row, that are among the (Q, m) found ones.

    With exact re-ranking of what was found, that is the recall of the k nearest.
    """
    hit = (truth[:, :, None] == found[:, None, :]).any(axis=2) & (truth >= 0)
    return float(hit.sum() / max(1, (truth >= 0).sum()))
