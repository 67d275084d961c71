"""Which vectors something was made from, so that it is not taken for others."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from vidvec.embed.vectors import Vectors

SAMPLE = 64


def vectors_stamp(vectors: Vectors) -> str:
    """Sixteen hex digits that differ where the vectors do.

    Of what the manifest says made them, their shards and count, and of 64 ids and vectors spread
    over all: every vector is not read.
    """
    facts = {key: vectors.manifest.get(key) for key in ("dimension", "made_by", "shards")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    places = np.linspace(0, len(vectors) - 1, min(SAMPLE, len(vectors))).astype(np.int64)
    start = 0
    for ids, matrix in vectors.shards():
        inside = places[(places >= start) & (places < start + len(ids))] - start
        for row in inside.tolist():
            digest.update(json.dumps(ids[row]).encode())
            digest.update(matrix[row].tobytes())
        start += len(ids)
    return digest.hexdigest()[:16]
