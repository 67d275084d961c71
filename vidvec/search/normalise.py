"""Score normalisation: what a cosine is worth, given how near a video is to everything.

Some vectors are near to many others: a talking head, a black screen. One threshold for all pairs
then finds too much for them and too little for others. As in video copy detection (Pizzi et al.,
"The 2023 Video Similarity Dataset and Challenge", 2023, after "A self-supervised descriptor for
image copy detection", 2022), a background set that has no copies of what is searched says how near:

    score(q, r) = cosine(q, r) − β · bias(q)                       side ``query``
    score(q, r) = cosine(q, r) − β · (bias(q) + bias(r)) / 2       side ``both``

where bias is the mean of the k highest cosines with the background. The order of what one query
finds changes only with ``both``; what changes with either is which pairs of different queries pass
one threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, UsageError
from vidvec.search.types import Hit
from vidvec.storage import atomic_path

FORMAT_VERSION = 1
# docs/experiments.md, "Score normalisation": the best of 1, 3 and 10 on copies of real clips.
NEAREST = 3
BLOCK = 4096

Side = Literal["query", "both"]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoreNormaliser:
    """Takes from a cosine what a background set makes of its two videos.

    Attributes:
        background: (n, E) float32 unit vectors.
        nearest: k, over how many of the nearest the mean is.
        weight: β.
        side: Whether the query's bias is taken off, or the mean of both videos'.
    """

    background: Floats
    nearest: int = NEAREST
    weight: float = 1.0
    side: Side = "both"

    @classmethod
    def fit(
        cls,
        background: Floats,
        *,
        nearest: int = NEAREST,
        weight: float = 1.0,
        side: Side = "both",
    ) -> ScoreNormaliser:
        """Takes a background set, of any length of vectors.

        Args:
            background: (n, E) vectors of videos that are no copies of what is searched.
            nearest: k, from 1 to n.
            weight: β, 0 or more.
            side: ``query`` or ``both``.

        Raises:
            UsageError: The set is smaller than k, a vector has no direction, or an option is not
                as above.
        """
        if not 1 <= nearest <= len(background):
            raise UsageError(
                f"{nearest} nearest of {len(background)} background vectors: expected 1 or more, "
                "and as many vectors at least"
            )
        if not (np.isfinite(weight) and weight >= 0) or side not in ("query", "both"):
            raise UsageError(
                f"weight {weight!r}, side {side!r}: expected a weight of 0 or more, and query or "
                "both"
            )
        lengths = np.linalg.norm(background.astype(np.float64), axis=1, keepdims=True)
        wrong = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
        if len(wrong):
            raise UsageError(f"background vector {wrong[0]} is zero, or has NaN or infinity")
        return cls((background / lengths).astype(np.float32), nearest, float(weight), side)

    def bias(self, vectors: Floats) -> Floats:
        """(n,) mean of the k highest cosines of each vector with the background; NaN of a zero one.

        Args:
            vectors: (n, E), of any length.

        Raises:
            UsageError: They have another width than the background.
        """
        width = self.background.shape[1]
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise UsageError(
                f"vectors of shape {vectors.shape}: the background has {width} numbers a vector"
            )
        index = faiss.IndexFlatIP(width)
        index.add(self.background)
        biases = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), BLOCK):
            some = vectors[start : start + BLOCK].astype(np.float32)
            lengths = np.linalg.norm(some, axis=1)
            found, _ = index.search(some, self.nearest)
            with np.errstate(invalid="ignore", divide="ignore"):
                biases[start : start + BLOCK] = found.mean(axis=1) / lengths
        return biases

    def scores(self, cosines: Floats, queries: Floats, references: Floats | None = None) -> Floats:
        """Normalised scores of all pairs of queries and references.

        Args:
            cosines: (Q, R).
            queries: (Q, E).
            references: (R, E); needed for side ``both`` only.

        Raises:
            UsageError: References are needed and not given, or widths differ.
        """
        if self.side == "query":
            return cosines - np.float32(self.weight) * self.bias(queries)[:, None]
        if references is None:
            raise UsageError("normalising by both sides takes the vectors of what was found, too")
        both = self.bias(queries)[:, None] + self.bias(references)[None, :]
        return cosines - np.float32(self.weight / 2) * both

    def normalise(
        self,
        queries: Floats,
        hits: Sequence[Sequence[Hit]],
        vectors_of: Callable[[Sequence[str]], Floats] | None = None,
    ) -> list[list[Hit]]:
        """Hits with normalised scores in the place of cosines, highest first, ties by id.

        Args:
            queries: (Q, E).
            hits: Of each query.
            vectors_of: Gives the (n, E) vectors of ids, as ``SearchIndex.vectors_of`` does; needed
                for side ``both`` only.

        Raises:
            UsageError: As ``scores``.
        """
        if len(hits) != len(queries):
            raise UsageError(f"hits of {len(hits)} queries, vectors of {len(queries)}")
        found = sorted({hit.id for each in hits for hit in each})
        other = dict.fromkeys(found, 0.0)
        own = self.bias(queries)
        if self.side == "both":
            if vectors_of is None:
                raise UsageError(
                    "normalising by both sides takes the vectors of what was found, too"
                )
            own = own * np.float32(0.5)
            if found:
                biases = self.bias(vectors_of(found)) / 2
                other = dict(zip(found, biases.tolist(), strict=True))
        normalised = []
        for bias, each in zip(own.tolist(), hits, strict=True):
            some = [Hit(hit.id, hit.cosine - self.weight * (bias + other[hit.id])) for hit in each]
            normalised.append(sorted(some, key=lambda hit: (-hit.cosine, hit.id)))
        return normalised

    def save(self, path: Path) -> None:
        """Writes a safetensors file; there whole or not at all."""
        from safetensors.numpy import save_file

        facts = {
            "kind": "normaliser",
            "format_version": str(FORMAT_VERSION),
            "nearest": str(self.nearest),
            "weight": repr(self.weight),
            "side": self.side,
        }
        with atomic_path(path) as temporary:
            save_file({"background": np.ascontiguousarray(self.background)}, temporary, facts)

    @classmethod
    def load(cls, path: Path) -> ScoreNormaliser:
        """Reads what ``save`` wrote.

        Raises:
            FormatError: The file is missing, damaged, something else, or of another version.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = file.metadata() or {}
                if facts.get("kind") != "normaliser":
                    raise FormatError(f"{path} is no score normaliser")
                if facts.get("format_version") != str(FORMAT_VERSION):
                    raise FormatError(
                        f"{path} has format version {facts.get('format_version')}; this vidvec "
                        f"reads version {FORMAT_VERSION}"
                    )
                side: Side = "both" if facts["side"] == "both" else "query"
                nearest, weight = int(facts["nearest"]), float(facts["weight"])
                background = np.asarray(file.get_tensor("background"), np.float32)
            return cls.fit(background, nearest=nearest, weight=weight, side=side)
        except FileNotFoundError:
            raise FormatError(f"{path} is missing") from None
        except (SafetensorError, KeyError, ValueError, UsageError, OSError) as error:
            raise FormatError(f"{path} is damaged: {error}") from None
