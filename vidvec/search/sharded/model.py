"""What made vectors, so that those of different models are not merged."""

from __future__ import annotations

from typing import Any

from vidvec.search.difference import digest_of


def model_of(made_by: dict[str, Any]) -> str:
    """Sixteen hex digits that differ where vectors cannot be compared; empty: not known.

    Vectors that one model made of several corpora have the same. Fusions fit their projection to
    the vectors, so that only parts of one fusion have the same. Of imported vectors nothing is
    known.

    Args:
        made_by: Of a manifest of vectors.
    """
    stage = made_by.get("stage")
    if stage == "embed":
        return digest_of([stage, *map(made_by.get, ("weights", "size")), made_by.get("without")])
    if stage == "compress":
        inner = model_of(made_by["made_of"])
        return digest_of([stage, made_by["size"], inner]) if inner else ""
    return digest_of(made_by) if stage == "fuse" else ""
