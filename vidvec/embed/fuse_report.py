"""What a fusion is worth: each member's figures, what each adds, what the SVD costs, the price."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.config import Backend
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import Encoder, embed_rows, weights_hash
from vidvec.embed.evaluate import chosen_pairs, pair_cosines, split_of
from vidvec.embed.fusion import Fusion, load_fusion
from vidvec.embed.resampled import Resampled
from vidvec.embed.vectors import KIND, Vectors, origin
from vidvec.embed.weights_fit import scored_by_all
from vidvec.errors import UsageError, VidvecError
from vidvec.metrics import Interval
from vidvec.records import Pair

SAMPLED_VIDEOS = 128
WARM_UP_VIDEOS = 16
ROUNDS = 3
# No further round once those that there were took so long.
MOST_SECONDS = 10.0
Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MemberReport:
    """A member of a fusion.

    Attributes:
        path: Of its vectors.
        weight: In the fusion; all sum to 1.
        numbers, bytes: Of one of its vectors, as it is kept.
        spearman: Of its own cosines, with the 95 % interval.
        without: Spearman of all members less that of all others, over the same resampled pairs:
            what it adds beside the others. ``None``: there are no others with a weight.
        so_far: Spearman of the members up to this one, in the order given; ``None``: none of them
            has a weight.
        added: This less that of the members before it; ``None`` for the first with a weight.
        milliseconds: That its model takes for a video of the sample, from frame features and words;
            ``None``: not known, and ``unpriced`` says why.
        unpriced: Empty where the price is known.
    """

    path: str
    weight: float
    numbers: int
    bytes: int
    spearman: Interval
    without: Interval | None
    so_far: Interval | None
    added: Interval | None
    milliseconds: float | None
    unpriced: str


@dataclass(frozen=True, slots=True)
class FuseReport:
    """A fusion on the validation pairs of a split.

    Attributes:
        path: Of the fused vectors.
        split, pairs: What was measured on.
        missing: Pairs of the split with a video that not all members have; left out.
        weights_from: What the manifest says that the weights were fitted on; ``None``: on nothing.
        members: In the order they were given.
        concatenated, fused: Spearman of the weighted concatenation and of the fused vectors.
        svd: The fused vectors' less the concatenation's, over the same resampled pairs.
        kept: Share of the squared length that the projection keeps.
        concatenated_numbers, numbers, bytes: Of a concatenated vector, and of a fused one.
        fusing_milliseconds: Of normalising, concatenating and projecting a video's vectors.
        milliseconds: Of all members and of fusing; ``None``: a member's is not known.
        device: Where it was timed.
        sampled: Videos timed.
    """

    path: str
    split: str
    pairs: int
    missing: int
    weights_from: dict[str, Any] | None
    members: list[MemberReport]
    concatenated: Interval
    fused: Interval
    svd: Interval
    kept: float
    concatenated_numbers: int
    numbers: int
    bytes: int
    fusing_milliseconds: float
    milliseconds: float | None
    device: str
    sampled: int


def fuse_report(
    fused: Path,
    corpus: Corpus,
    split: str = "clean",
    *,
    seed: int = 0,
    resamples: int = 1000,
    progress: Progress | None = None,
) -> FuseReport:
    """Measures a fusion, its members, and their price on this machine.

    Args:
        fused: A folder that ``fuse`` made; its members are looked for where they were.
        corpus: With scored pairs, and the videos to time on.
        split: Whose validation pairs are measured on; see ``evaluate``.
        seed, resamples: Of the bootstrap.
        progress: Called with members timed and all.

    Raises:
        UsageError: ``fused`` is no fusion, a member has changed since, or no pair of the split has
            vectors in all members.
        FormatError: A folder is missing or damaged.
    """
    whole = Vectors(fused)
    members, weights = _members(whole)
    pairs = corpus.pairs()
    chosen = [pairs[int(at)] for at in chosen_pairs(pairs, split_of(corpus, split))[0]]
    kept = scored_by_all([*members, whole], chosen, split, [*(m.path for m in members), fused])
    sides = _Sides([_Side.of(member, kept) for member in members], weights, kept, seed, resamples)
    fusion = load_fusion(fused)
    sampled = _sample(corpus, seed)
    prices = []
    for done, member in enumerate(members, 1):
        prices.append(price_of(member.manifest["made_by"], corpus, sampled))
        if progress is not None:
            progress(done, len(members))
    everyone = list(range(len(members)))
    together, own = sides.drawn(everyone), sides.resampled.draw(pair_cosines(whole, kept))
    interval = sides.resampled.interval
    fusing = _fusing(fusion, members)
    known = [price.milliseconds for price in prices if price.milliseconds is not None]
    return FuseReport(
        path=str(fused),
        split=str(split),
        pairs=len(kept),
        missing=len(chosen) - len(kept),
        weights_from=whole.manifest["made_by"].get("weights_from"),
        members=[_member_report(sides, at, members[at], prices[at]) for at in everyone],
        concatenated=interval(together),
        fused=interval(own),
        svd=interval(own - together),
        kept=fusion.kept,
        concatenated_numbers=sum(member.dimension for member in members),
        numbers=whole.dimension,
        bytes=_bytes(whole),
        fusing_milliseconds=fusing,
        milliseconds=sum(known) + fusing if len(known) == len(members) else None,
        device=next((price.device for price in prices if price.device), "cpu"),
        sampled=len(sampled),
    )


def _members(fused: Vectors) -> tuple[list[Vectors], Floats]:
    """The folders that vectors were fused from, as they were then, and their weights."""
    made_by = fused.manifest["made_by"]
    if made_by.get("stage") != "fuse":
        raise UsageError(f"{fused.path} was made by {made_by.get('stage')}: expected fused vectors")
    members = [Vectors(path) for path in made_by["members"]]
    for member, then in zip(members, made_by.get("made_of", []), strict=False):
        if member.manifest["made_by"] != then:
            raise UsageError(
                f"{member.path} holds other vectors than those that {fused.path} was fused from: "
                "fuse again, into a new folder"
            )
    return members, np.array(made_by["weights"], np.float64)


@dataclass(frozen=True, slots=True)
class _Side:
    """One member's vectors of the pairs: (P,) products of unit vectors, and which are not zero."""

    products: Floats
    first: Floats
    second: Floats

    @classmethod
    def of(cls, member: Vectors, pairs: Sequence[Pair]) -> _Side:
        def there(ids: list[str]) -> Floats:
            rows = np.array([member.row(video) for video in ids], np.int64)
            return np.asarray(member.matrix[rows].any(axis=1), np.float64)

        first, second = [p.id_1 for p in pairs], [p.id_2 for p in pairs]
        return cls(pair_cosines(member, pairs), there(first), there(second))


class _Sides:
    """Members beside one another, on pairs that all have."""

    def __init__(
        self,
        members: list[_Side],
        weights: Floats,
        pairs: Sequence[Pair],
        seed: int,
        resamples: int,
    ) -> None:
        self.weights = weights
        self._members = members
        self._scores = np.array([pair.score for pair in pairs])
        self.resampled = Resampled(self._scores, seed, resamples)
        self._drawn: dict[tuple[int, ...], Floats] = {}

    def cosines(self, some: Sequence[int]) -> Floats:
        """(P,) cosines of the weighted concatenation of some members; 0 where it is zero.

        Without zero vectors that is the weighted mean of their cosines.
        """
        products, first, second = np.zeros((3, len(self._scores)))
        for at in some:
            weight, member = self.weights[at], self._members[at]
            products += weight * member.products
            first += weight * member.first
            second += weight * member.second
        lengths = np.sqrt(first * second)
        return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)

    def drawn(self, some: Sequence[int]) -> Floats:
        """Spearman of the concatenation of some members, over all pairs and all resamples."""
        key = tuple(some)
        if key not in self._drawn:
            self._drawn[key] = self.resampled.draw(self.cosines(some))
        return self._drawn[key]

    def weigh(self, some: Sequence[int]) -> bool:
        """Whether any of these members has a weight."""
        return bool(self.weights[list(some)].sum() > 0)

    def alone(self, at: int) -> Floats:
        """(P,) cosines of a member, whatever its weight."""
        return self._members[at].products


def _member_report(sides: _Sides, at: int, member: Vectors, price: Price) -> MemberReport:
    everyone, before = range(len(sides.weights)), range(at)
    others, up_to = [each for each in everyone if each != at], range(at + 1)
    together, so_far = sides.drawn(everyone), sides.drawn(up_to)
    interval = sides.resampled.interval
    return MemberReport(
        path=str(member.path),
        weight=float(sides.weights[at]),
        numbers=member.dimension,
        bytes=_bytes(member),
        spearman=sides.resampled.spearman(sides.alone(at)),
        without=interval(together - sides.drawn(others)) if sides.weigh(others) else None,
        so_far=interval(so_far) if sides.weigh(up_to) else None,
        added=interval(so_far - sides.drawn(before)) if sides.weigh(before) else None,
        milliseconds=price.milliseconds,
        unpriced=price.reason,
    )


def _bytes(vectors: Vectors) -> int:
    """What a vector takes on disk."""
    kept = next(vectors.kept_shards())
    return int(kept.shape[1] * kept.itemsize)


@dataclass(frozen=True, slots=True)
class Price:
    """What a video's vector costs; ``reason`` says why it is not known."""

    milliseconds: float | None
    reason: str = ""
    device: str = ""


def _sample(corpus: Corpus, seed: int) -> NDArray[np.int64]:
    """Rows of some videos, at most ``SAMPLED_VIDEOS``."""
    live = corpus.live
    some = np.random.default_rng(seed).permutation(len(live))[:SAMPLED_VIDEOS]
    return np.sort(live[some])


def price_of(made_by: dict[str, Any], corpus: Corpus, rows: NDArray[np.int64]) -> Price:
    """Times the model that made vectors, or all of those that fused ones were made of.

    Args:
        made_by: Of the vectors' manifest.
        corpus: To read videos from; frame features are there already, and are not timed.
        rows: Videos to time on, (n,) int64.
    """
    made_by = origin(made_by)
    stage = made_by.get("stage")
    if stage == "fuse":
        parts = made_by.get("made_of") or [
            storage.read_manifest(storage.located(member), KIND)["made_by"]
            for member in made_by["members"]
        ]
        prices = [price_of(part, corpus, rows) for part in parts]
        missing = next((price for price in prices if price.milliseconds is None), None)
        total = sum(price.milliseconds or 0.0 for price in prices)
        return missing or Price(total, device=prices[0].device)
    if stage == "compress":
        return price_of(made_by["made_of"], corpus, rows)
    if stage != "embed":
        return Price(None, "imported" if stage == "import" else f"made by {stage}")
    checkpoint = Path(made_by["checkpoint"])
    try:
        if weights_hash(checkpoint) != made_by["weights"]:
            return Price(None, f"{checkpoint} has other weights by now")
        return _timed(checkpoint, made_by, corpus, rows)
    except (VidvecError, OSError) as error:
        return Price(None, str(error))


def _timed(
    checkpoint: Path, made_by: dict[str, Any], corpus: Corpus, rows: NDArray[np.int64]
) -> Price:
    backends: dict[str, Backend] = {"int8": "int8", "bf16": "auto"}
    backend = backends.get(made_by.get("backend", ""), "float32")
    encoder = Encoder.load(checkpoint, backend=backend, size=made_by.get("size"))
    without = made_by.get("without", ())
    fitting = encoder.model.check_frames(corpus, checkpoint, without)
    config = encoder.model.recipe.model
    builder = BatchBuilder(fitting, encoder.model.tokenizer, config, without)
    embed_rows(encoder, builder, rows[:WARM_UP_VIDEOS])
    seconds = _median_seconds(lambda: embed_rows(encoder, builder, rows))
    return Price(1000 * seconds / max(1, len(rows)), device=encoder.device.type)


def _fusing(fusion: Fusion, members: Sequence[Vectors]) -> float:
    """Milliseconds a video of normalising, concatenating and projecting."""
    some = [next(iter(member.shards()))[1][:1024] for member in members]
    count = min(len(each) for each in some)
    some = [each[:count] for each in some]
    return 1000 * _median_seconds(lambda: fusion.apply(some)) / max(1, count)


def _median_seconds(run: Callable[[], object]) -> float:
    taken: list[float] = []
    while len(taken) < ROUNDS and math.fsum(taken) < MOST_SECONDS:
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))
