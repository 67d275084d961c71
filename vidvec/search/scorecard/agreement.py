"""Cosines against people's scores: correlations, what they mean, and where they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from vidvec.embed.ablation import ablate
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.search.calibrate import Calibration, default_positive
from vidvec.search.made import open_made
from vidvec.search.scorecard.figures import FEW, Figure, Row, Section
from vidvec.search.scorecard.material import Material
from vidvec.search.scorecard.resampling import (
    Units,
    Weighted,
    clusters,
    correlated,
    single,
    weighted_pearson,
    weighted_spearman,
)

_UNITS = {
    "components": "over components",
    "videos": "over videos",
}
MOST_VALUES = 12  # of a language or category that get a line of their own
_OTHERS, _UNKNOWN, _DIFFERENT = "others", "not known", "two different ones"


def check_pairs(material: Material) -> None:
    """Refuses to measure on no pairs.

    Raises:
        UsageError: There are none, and why.
    """
    if material.pairs:
        return
    settings = material.settings
    if not material.all_pairs:
        raise UsageError("the corpus has no scored pairs")
    raise UsageError(
        f"none of the {len(material.all_pairs):,} scored pairs is in the {settings.split} "
        "validation split with vectors; --split all takes every pair, also those trained on"
    )


def agreement(material: Material) -> Section:
    """Spearman's and Pearson's correlation, with intervals over pairs and over what they share.

    Raises:
        UsageError: There are no pairs.
    """
    check_pairs(material)
    drawn = {"over_pairs": single(len(material.pairs))}
    columns = {"over_pairs": "over pairs"}
    shared = clusters(material.pairs)
    if shared is not None:
        drawn["over_clusters"] = shared
        columns["over_clusters"] = _UNITS[shared.name]
    metrics = {
        "spearman": ("Spearman", weighted_spearman),
        "pearson": ("Pearson", weighted_pearson),
    }
    rows = {}
    for key, (label, metric) in metrics.items():
        figures = {name: _correlation(material, metric, units) for name, units in drawn.items()}
        rows[key] = Row(label, len(material.pairs), figures)
    notes = [_graph_note(material, shared)]
    if material.without_vectors:
        notes.append(f"{material.without_vectors:,} pairs with a video without vectors left out.")
    if material.settings.split == "all":
        notes.append("Every pair is measured, also those that a model may have been trained on.")
    facts = {
        "cluster": None if shared is None else shared.name,
        "clusters": None if shared is None else shared.count,
    }
    title = f"Cosine against people's scores, split {material.settings.split}"
    return Section(title, "pairs", columns, rows, notes, facts=facts)


def _graph_note(material: Material, shared: Units | None) -> str:
    if shared is None:
        return "No two pairs share a video: an interval over pairs is all there is to say."
    used = Counter(video for pair in material.pairs for video in (pair.id_1, pair.id_2))
    said = (
        f"{len(used):,} videos in {len(material.pairs):,} pairs, one in up to {max(used.values())}."
    )
    if shared.name == "components":
        return (
            f"{said} Pairs that share a video are not independent, so the interval to go by is "
            f"that over the {shared.count:,} components of the pair graph."
        )
    return (
        f"{said} One component holds too many of them to draw components, so the interval to go "
        "by is that over videos."
    )


def _correlation(
    material: Material,
    metric: Weighted,
    units: Units,
    some: NDArray[np.int64] | None = None,
) -> Figure:
    """A correlation of the pairs, or some of them, of the vectors and the others."""
    chosen = np.arange(len(material.pairs)) if some is None else some
    settings = material.settings
    drawn = {"resamples": settings.resamples, "seed": settings.seed}
    scores = material.scores[chosen]
    found = [correlated(metric, each[chosen], scores, units, **drawn) for each in material.cosines]
    return Figure.of(found[0], found[1] if len(found) > 1 else None)


def calibration(material: Material) -> Section:
    """How far the probabilities of ``search/calibrate.py`` are to be believed.

    Raises:
        UsageError: Too few pairs of a kind.
    """
    check_pairs(material)
    settings = material.settings
    positive = settings.positive
    if positive is None:
        positive = default_positive(np.array([pair.score for pair in material.all_pairs]))
    fitted = [
        Calibration.fit(each, material.scores, positive=positive, seed=settings.seed)
        for each in material.cosines
    ]
    rows = {}
    labels = {
        "calibration_error": "expected calibration error",
        "log_loss": "log loss",
        "brier": "Brier score",
    }
    for key, label in labels.items():
        values = [float(getattr(each.qualities[each.method], key)) for each in fitted]
        other = Interval(values[1], np.nan, np.nan) if len(values) > 1 else None
        less = Interval(values[0] - values[1], np.nan, np.nan) if len(values) > 1 else None
        rows[key] = Row(
            label, len(material.pairs), {"value": Figure(values[0], other=other, difference=less)}
        )
    own = fitted[0]
    base = own.qualities[own.method]
    notes = [
        f"{own.similar:,} of {own.pairs:,} pairs are similar (score {positive:.4g} or more); the "
        f"curve from cosine to probability is {own.method}, measured four times in five folds on "
        "pairs that it was not fitted on. Lower is better.",
        f"Saying the share of similar pairs to every pair: log loss {base.base_log_loss:.4f}, "
        f"Brier {base.base_brier:.4f}.",
    ]
    facts = {"positive": positive, "method": own.method, "bins": [asdict(b) for b in base.bins]}
    return Section(
        "What a cosine says of similarity", "pairs", {"value": "value"}, rows, notes, facts=facts
    )


def ablation(material: Material) -> Section:
    """What each modality adds, where the vectors were made by one model.

    Raises:
        UsageError: There are no pairs, or what made the vectors is not one model here.
    """
    check_pairs(material)
    models = open_made(material.path).models
    if len(models) != 1:
        raise UsageError(
            f"the vectors were fused from {len(models)} models: vidvec evaluate MODEL --ablation "
            "says it of each"
        )
    [model] = models
    if model.without:
        named = ", ".join(sorted(model.without))
        raise UsageError(f"the vectors were made without {named}: see those of all it reads")
    settings = material.settings
    found = ablate(
        model.checkpoint,
        material.corpus,
        settings.split,
        seed=settings.seed,
        resamples=settings.resamples,
    )
    rows = {}
    for row in found.rows:
        figures = {"spearman": Figure(row.spearman.value, row.spearman.low, row.spearman.high)}
        if row.difference is not None:
            less = row.difference
            figures["to_everything"] = Figure(less.value, less.low, less.high)
        rows[row.name.split(" = ")[0].replace(" ", "_")] = Row(row.name, found.pairs, figures)
    notes = [f"In no video: {', '.join(found.absent)}."] * bool(found.absent)
    columns = {"spearman": "Spearman", "to_everything": "to everything"}
    return Section("What each modality adds", "pairs", columns, rows, notes)


def slices(material: Material) -> Section:
    """Spearman's correlation where both videos have something in common, or are long or short.

    Raises:
        UsageError: There are no pairs.
    """
    check_pairs(material)
    rows = {}
    for name, key, of in _FACTS:
        places = [(material.place.get(p.id_1), material.place.get(p.id_2)) for p in material.pairs]
        values = of(material)
        either = [
            (None if a is None else values[a], None if b is None else values[b]) for a, b in places
        ]
        by_value = key in ("language", "category")
        labels = _by_value(either) if by_value else _by_size(either)
        for number, (label, some) in enumerate(labels.items(), 1):
            count = len(some)
            figure = _correlation(material, weighted_spearman, single(count), np.array(some))
            ending = label if by_value or label == _UNKNOWN else f"part {number}"
            row = Row(f"{name}: {label}", count, {"spearman": figure}, count < FEW)
            rows[f"{key}:{ending}"] = row
    notes = [
        "Of lengths and counts the lesser of the two videos counts; the four parts have as many "
        f"pairs each where values allow. Slices of fewer than {FEW} pairs, in grey, say little. "
        "Within a slice scores vary less than over all, so that a lower Spearman need not mean "
        "worse vectors: compare models, not slices. Where all scores of a slice are equal, none is "
        "defined."
    ]
    return Section(
        "By slice of the pairs", "pairs", {"spearman": "Spearman over pairs"}, rows, notes
    )


Values = Sequence[object]
_FACTS: list[tuple[str, str, Callable[[Material], Values]]] = [
    ("language", "language", lambda m: m.column("language")),
    ("category", "category", lambda m: m.column("category")),
    ("seconds", "duration", lambda m: m.column("duration_seconds")),
    ("characters of title", "title", lambda m: [len(str(t)) for t in m.column("title")]),
    ("frames", "frames", lambda m: [m.corpus.frame_counts[m.corpus.row(v)] for v in m.ids]),
]


def _by_value(either: Sequence[tuple[object, object]]) -> dict[str, list[int]]:
    """Places of pairs by what both videos have; those of two values, and of none, apart."""
    found: dict[str, list[int]] = {}
    for place, (a, b) in enumerate(either):
        label = _UNKNOWN if not a or not b else str(a) if a == b else _DIFFERENT
        found.setdefault(label, []).append(place)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    special = (_UNKNOWN, _DIFFERENT)
    kept = [item for item in ordered if item[0] not in special]
    shown = dict(kept[:MOST_VALUES])
    if rest := [place for _, places in kept[MOST_VALUES:] for place in places]:
        shown[_OTHERS] = sorted(rest)
    return shown | {label: found[label] for label in special if label in found}


def _by_size(either: Sequence[tuple[object, object]]) -> dict[str, list[int]]:
    """Places of pairs by quarters of the lesser of two numbers; those with an unknown one apart."""
    lesser = np.array([_lesser(a, b) for a, b in either], np.float64)
    known = np.flatnonzero(~np.isnan(lesser))
    found: dict[str, list[int]] = {}
    if len(known):
        inner = np.unique(np.quantile(lesser[known], [0.25, 0.5, 0.75], method="lower"))
        part = np.searchsorted(inner, lesser, side="left")
        for number in range(len(inner) + 1):
            some = [int(place) for place in known if part[place] == number]
            if some:
                low, high = lesser[some].min(), lesser[some].max()
                label = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
                found[label] = some
    if len(known) < len(lesser):
        found[_UNKNOWN] = np.flatnonzero(np.isnan(lesser)).tolist()
    return found


def _lesser(a: object, b: object) -> float:
    numbers = [float(each) for each in (a, b) if isinstance(each, int | float | np.number)]
    return min(numbers) if len(numbers) == 2 else float("nan")
