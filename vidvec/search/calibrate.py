"""What a cosine means: probability that two videos are similar, and thresholds for a precision.

Scored pairs say which cosines go with similar videos: pairs whose score is at least ``positive``
are similar, the others are not. From them come

- a curve from cosine to probability that never falls: logistic (Platt) or isotonic, whichever
  foretells held-out pairs better (lower log loss over four times five folds);
- thresholds: the lowest cosine such that the pairs at or above it are similar for a stated share
  at least. As there are only so many pairs, that share is known up to an interval only; so the
  *lower end* of Wilson's 95 % interval must reach what was asked for. Few pairs assure little: 99 %
  takes 381 pairs without a single mistake.

Both speak of pairs like those that were scored. Where people scored what search had found, that is
what they are good for; any two videos of a corpus are far less often similar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.config import SplitName
from vidvec.data.splits import Split
from vidvec.embed.evaluate import chosen_pairs, pair_cosines
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair
from vidvec.search.fitting import FITS, Bin, Isotonic, Logistic, Quality, held_out, wilson
from vidvec.search.stamp import vectors_stamp

FILE = "calibration.json"
KIND = "calibration"
FORMAT_VERSION = 1
FEWEST = 5  # pairs of each kind: one a fold
# Where scores stop meaning "somewhat": this far from the lowest to the highest.
POSITIVE_SHARE = 0.75
MOST_STEPS = 4096  # cosines that are kept for thresholds
CONFIDENCE = 0.95

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Threshold:
    """The lowest cosine from which pairs are similar with a stated precision.

    Attributes:
        asked: The precision asked for.
        cosine: The threshold; ``None`` where the pairs do not assure that precision anywhere. The
            rest then is of the cosine that assures most.
        precision: Share of similar pairs among those at or above it.
        low, high: Wilson's 95 % interval of it; where there is a threshold, ``low`` is at least
            ``asked``.
        recall: Share of the similar pairs that are at or above it.
        recall_low, recall_high: Its interval.
        pairs: Pairs at or above it.
        best: The cosine that these figures are of.
        needed: How many pairs, all of them similar, would assure ``asked`` at least.
    """

    asked: float
    cosine: float | None
    precision: float
    low: float
    high: float
    recall: float
    recall_low: float
    recall_high: float
    pairs: int
    best: float
    needed: int

    def __str__(self) -> str:
        if self.cosine is not None:
            return (
                f"{self.cosine:.4f} = similar at {self.asked:.4g} precision: {self.precision:.4f} "
                f"[{self.low:.4f}, {self.high:.4f}] of {self.pairs:,} pairs, recall "
                f"{self.recall:.3f} [{self.recall_low:.3f}, {self.recall_high:.3f}]"
            )
        return (
            f"no threshold reaches {self.asked:.4g} precision with these pairs: at the best, "
            f"{self.best:.4f}, {self.precision:.4f} of {self.pairs:,} pairs are similar, which "
            f"assures {self.low:.4f}; it takes {self.needed:,} pairs without a mistake"
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probabilities and thresholds for the cosines of one folder of vectors.

    Attributes:
        stamp: Of the vectors (``vectors_stamp``).
        positive: Score from which a pair counts as similar.
        split: Which pairs: ``clean``, ``published``, ``all``.
        pairs: How many were used.
        similar: How many of them are similar.
        missing: Pairs of the split with a video that has no vector; left out.
        method: ``logistic`` or ``isotonic``.
        curve: From cosine to probability.
        qualities: Of both methods, on pairs that were not fitted on.
        steps: (cosine, pairs at or above it, similar ones of them), by falling cosine.
    """

    stamp: str
    positive: float
    split: str
    pairs: int
    similar: int
    missing: int
    method: str
    curve: Logistic | Isotonic
    qualities: dict[str, Quality]
    steps: tuple[tuple[float, int, int], ...]

    @classmethod
    def fit(
        cls,
        cosines: Doubles,
        scores: Doubles,
        *,
        positive: float | None = None,
        stamp: str = "",
        split: str = "all",
        missing: int = 0,
        seed: int = 0,
    ) -> Calibration:
        """Fits both curves, and keeps the one that foretells held-out pairs better.

        Args:
            cosines: (P,).
            scores: (P,) higher is more similar.
            positive: Score from which a pair is similar; ``None``: see ``default_positive``.
            stamp: Of the vectors.
            split: Which pairs they are.
            missing: Pairs that were left out.
            seed: Of the folds.

        Raises:
            UsageError: Fewer than five pairs are similar, or fewer than five are not.
        """
        x, given = np.asarray(cosines, np.float64), np.asarray(scores, np.float64)
        if positive is None:
            positive = default_positive(given)
        similar = given >= positive
        count = int(similar.sum())
        if min(count, len(given) - count) < FEWEST:
            raise UsageError(
                f"of {len(given)} pairs {count} are similar (score {positive:g} or more) and "
                f"{len(given) - count} are not: at least {FEWEST} of each are needed; give more "
                "pairs, another --positive, or --split all where the model has not learned from "
                "these pairs"
            )
        qualities = {method: held_out(method, x, similar, seed) for method in FITS}
        method = min(qualities, key=lambda name: qualities[name].log_loss)
        curve, steps = FITS[method](x, similar), _steps(x, similar)
        return cls(stamp, positive, split, len(x), count, missing, method, curve, qualities, steps)

    def probability(self, cosines: Sequence[float] | Doubles) -> Doubles:
        """Probability, 0…1, that two videos of such cosines are similar; NaN stays NaN."""
        return self.curve(np.asarray(cosines, np.float64))

    def threshold(self, precision: float) -> Threshold:
        """The lowest cosine that assures a precision.

        Args:
            precision: Above 0 and below 1.

        Raises:
            UsageError: It is not.
        """
        if not 0 < precision < 1:
            raise UsageError(f"a precision above 0 and below 1 is expected, not {precision:g}")
        found = [wilson(similar, pairs, CONFIDENCE) for _, pairs, similar in self.steps]
        lows = np.array([each.low for each in found])
        reached = np.flatnonzero(lows >= precision)
        place = int(reached[-1]) if len(reached) else int(lows.argmax())
        cosine, pairs, similar = self.steps[place]
        recall = wilson(similar, self.similar, CONFIDENCE)
        return Threshold(
            asked=precision,
            cosine=cosine if len(reached) else None,
            precision=found[place].value,
            low=found[place].low,
            high=found[place].high,
            recall=recall.value,
            recall_low=recall.low,
            recall_high=recall.high,
            pairs=pairs,
            best=cosine,
            needed=_needed(precision),
        )

    def save(self, vectors: Path) -> Path:
        """Writes ``calibration.json`` into the folder of the vectors; returns its path."""
        path = vectors / FILE
        facts = asdict(self)
        storage.write_json(path, {"kind": KIND, "format_version": FORMAT_VERSION, **facts})
        return path

    @classmethod
    def load(cls, vectors: Path) -> Calibration | None:
        """Reads that of a folder of vectors; ``None`` where there is none.

        Raises:
            FormatError: It is damaged, or of another version.
            UsageError: It was made for other vectors than are there.
        """
        path = vectors / FILE
        if not path.is_file():
            return None
        found = storage.read_json(path)
        if not isinstance(found, dict) or found.pop("kind", None) != KIND:
            raise FormatError(f"{path} is no calibration: delete it, or run vidvec calibrate again")
        version = found.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{path} has format version {version}; this vidvec reads version {FORMAT_VERSION}: "
                "run vidvec calibrate again"
            )
        calibration = _read(found, path)
        if calibration.stamp != vectors_stamp(Vectors(vectors)):
            raise UsageError(
                f"{path} was made for other vectors than are in {vectors}: run vidvec calibrate "
                "again"
            )
        return calibration


def calibrate(
    vectors: Vectors,
    pairs: Sequence[Pair],
    *,
    positive: float | None = None,
    split: SplitName | str | Split = "clean",
    seed: int = 0,
) -> Calibration:
    """Calibrates the cosines of a folder of vectors; not saved yet.

    Args:
        vectors: The vectors.
        pairs: Scored pairs; those with a video that has no vector are left out, and counted.
        positive: Score from which a pair is similar; ``None``: see ``default_positive``, of all
            these pairs.
        split: ``clean`` takes those that the model has not learned from, ``all`` every pair.
        seed: Of the folds of the held-out figures.

    Raises:
        UsageError: Too few pairs are left of one kind, or there is no such split.
    """
    chosen, _ = chosen_pairs(pairs, split)
    some = [pairs[row] for row in chosen.tolist()]
    there = [pair for pair in some if pair.id_1 in vectors and pair.id_2 in vectors]
    if positive is None:
        positive = default_positive(np.array([pair.score for pair in pairs], np.float64))
    return Calibration.fit(
        pair_cosines(vectors, there),
        np.array([pair.score for pair in there], np.float64),
        positive=positive,
        stamp=vectors_stamp(vectors),
        split=split.name if isinstance(split, Split) else str(split),
        missing=len(some) - len(there),
        seed=seed,
    )


def default_positive(scores: Doubles) -> float:
    """Three quarters of the way from the lowest score to the highest.

    Of grades 0…4 that is 3, of scores 0…1 it is 0.75; 0 where there are no scores.
    """
    if not len(scores):
        return 0.0
    return float(scores.min() + POSITIVE_SHARE * (scores.max() - scores.min()))


def _steps(cosines: Doubles, similar: Bools) -> tuple[tuple[float, int, int], ...]:
    """Pairs and similar pairs at or above each distinct cosine, falling; at most ``MOST_STEPS``."""
    order = np.argsort(-cosines, kind="stable")
    falling = cosines[order]
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of each equal run
    if len(last) > MOST_STEPS:
        last = last[np.unique(np.linspace(0, len(last) - 1, MOST_STEPS).astype(np.int64))]
    counts = np.cumsum(similar[order])[last]
    return tuple(
        (float(falling[place]), place + 1, int(count))
        for place, count in zip(last.tolist(), counts.tolist(), strict=True)
    )


def _needed(precision: float) -> int:
    """The fewest pairs, all similar, whose interval begins at the precision or above.

    Of n such pairs it begins at n / (n + z²).
    """
    from scipy.special import ndtri

    z = float(ndtri(0.5 + CONFIDENCE / 2))
    return ceil(z**2 * precision / (1 - precision))


def _read(found: dict[str, Any], path: Path) -> Calibration:
    """A calibration from what its file holds."""
    try:
        curve = found.pop("curve")
        shape: Logistic | Isotonic
        if found["method"] == "logistic":
            shape = Logistic(float(curve["slope"]), float(curve["intercept"]))
        elif found["method"] == "isotonic":
            knots = zip(curve["cosines"], curve["probabilities"], strict=True)
            x, y = zip(*((float(a), float(b)) for a, b in knots), strict=True)
            shape = Isotonic(x, y)
        else:
            raise ValueError(f"method {found['method']!r}")
        qualities = {name: _quality(each) for name, each in found.pop("qualities").items()}
        steps = tuple((float(c), int(n), int(k)) for c, n, k in found.pop("steps"))
        if not steps or any(k > n or n < 1 for _, n, k in steps):
            raise ValueError("its steps count more similar pairs than pairs")
        return Calibration(**found, curve=shape, qualities=qualities, steps=steps)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged ({error!r}): run vidvec calibrate again") from None


def _quality(found: dict[str, Any]) -> Quality:
    bins = tuple(Bin(**each) for each in found.pop("bins"))
    return Quality(**found, bins=bins)
