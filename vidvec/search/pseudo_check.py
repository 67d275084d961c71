"""Whether pseudo-labels help: the same finetuning with and without, on several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.data.splits import corpus_split
from vidvec.embed.ablation import PairVectors
from vidvec.embed.embedder import Encoder, embed_rows
from vidvec.embed.evaluate import pair_cosines
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.records import Pair

ARMS = ("without", "with")
RESAMPLES = 1000
Doubles = NDArray[np.float64]
OnRun = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class PseudoCheck:
    """Spearman on the validation pairs, with and without pseudo-labels.

    Attributes:
        split: Whose validation pairs.
        pairs: How many they are.
        train: Scored pairs that both learned from.
        seeds: Of the runs.
        without, with_: Spearman of each seed.
        difference: Mean over the seeds of with less without; its 95 % interval is a bootstrap over
            the validation pairs, the same ones for all runs of a resample.
        spread: Standard deviation of the seeds' differences; NaN of one seed.
    """

    split: str
    pairs: int
    train: int
    seeds: tuple[int, ...]
    without: tuple[float, ...]
    with_: tuple[float, ...]
    difference: Interval
    spread: float

    @property
    def verdict(self) -> str:
        """``help`` or ``hurt`` where the interval is beyond 0, else ``no difference``."""
        if self.difference.low > 0:
            return "help"
        return "hurt" if self.difference.high < 0 else "no difference"


def check_pseudo_labels(
    corpus: Path,
    pseudo: Path,
    runs: Path,
    recipe: Recipe,
    start: Path | None = None,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    features: str = "",
    on_run: OnRun | None = None,
) -> PseudoCheck:
    """Finetunes with and without pseudo-labels, in the same steps, and compares.

    Both see the same scored pairs in the same order, for the same number of steps, and validate
    alike; batches with pseudo-labels are larger by these. Runs that are done are not done again.

    Args:
        corpus: With scored pairs.
        pseudo: File of pseudo-labelled pairs.
        runs: Folder of the runs, ``seed-N/with`` and ``seed-N/without``.
        recipe: Its ``finetune`` section.
        start: A pretrained checkpoint or run; ``None``: new models.
        seeds: One or more.
        features: See ``finetune``.
        on_run: Called with runs done, all of them, and the one that begins.

    Raises:
        UsageError: No seed is given, or the split validates on too few pairs.
    """
    from vidvec.train.finetune import finetune

    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError("one seed or more is expected, each once")
    opened = Corpus(corpus, features=features)
    split, pairs = corpus_split(opened, recipe.finetune.split), opened.pairs()
    if len(split.validation) < 3:
        raise UsageError(
            f"the {split.name} split of {corpus} validates on {len(split.validation)} pairs: too "
            "few to tell whether pseudo-labels help; try finetune.split=balanced"
        )
    chosen = [pairs[row] for row in split.validation.tolist()]
    said = on_run or (lambda *_: None)
    cosines: dict[str, list[Doubles]] = {arm: [] for arm in ARMS}
    for place, (seed, arm) in enumerate((seed, arm) for seed in seeds for arm in ARMS):
        run = runs / f"seed-{seed}" / arm
        said(place, 2 * len(seeds), f"seed {seed} {arm}")
        more = {"pseudo_pairs": str(pseudo) if arm == "with" else ""}
        stage = recipe.finetune.model_copy(update=more)
        finetune(
            corpus, run, recipe.model_copy(update={"finetune": stage, "seed": seed}), start,
            features=features,
        )  # fmt: skip
        cosines[arm].append(_cosines(run, opened, chosen))
    said(2 * len(seeds), 2 * len(seeds), "compared")
    scores = np.array([pair.score for pair in chosen])
    found = compare(cosines["without"], cosines["with"], scores)
    return PseudoCheck(split.name, len(chosen), len(split.train), tuple(seeds), *found)


def _cosines(run: Path, corpus: Corpus, pairs: Sequence[Pair]) -> Doubles:
    """(P,) cosines of pairs by a run's best checkpoint."""
    encoder = Encoder.load(run)
    corpus = encoder.model.check_frames(corpus, run)
    builder = BatchBuilder(corpus, encoder.model.tokenizer, encoder.model.recipe.model)
    ids = sorted({video for pair in pairs for video in (pair.id_1, pair.id_2)})
    rows = np.array([corpus.row(video) for video in ids], np.int64)
    places = {video: place for place, video in enumerate(ids)}
    return pair_cosines(PairVectors(places, embed_rows(encoder, builder, rows)), pairs)


def compare(
    without: Sequence[Doubles], with_: Sequence[Doubles], scores: Doubles
) -> tuple[tuple[float, ...], tuple[float, ...], Interval, float]:
    """Compares the (P,) cosines that each seed's two models give.

    Returns:
        Spearman of each seed, without and with; mean difference; spread. See ``PseudoCheck``.
    """
    table = np.stack([*without, *with_])

    def differences(rows: NDArray[np.int64]) -> Doubles:
        found = np.array([metrics.spearman(each[rows], scores[rows]) for each in table])
        return found[len(without) :] - found[: len(without)]

    random = np.random.default_rng(0)
    count = len(scores)
    resampled = [differences(random.integers(0, count, count)).mean() for _ in range(RESAMPLES)]
    known = np.array([each for each in resampled if np.isfinite(each)])
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    each = differences(np.arange(count))
    spearmans = [tuple(metrics.spearman(c, scores) for c in some) for some in (without, with_)]
    difference = Interval(float(each.mean()), float(low), float(high))
    spread = float(each.std(ddof=1)) if len(each) > 1 else float("nan")
    return spearmans[0], spearmans[1], difference, spread
