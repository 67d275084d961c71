"""Whether altered copies find what they are copies of: micro-average precision.

The copies are made here from the user's own files, which therefore must still be there. Each is
looked for as a file without a title, by what made the vectors. References are the vectors of the
corpus; all that are not of the video itself, or of a given group with it, are wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.data.altered_files import AlteredCopy, altered_copies
from vidvec.errors import BadRecord, FormatError, UsageError
from vidvec.search.made import QueryVideo
from vidvec.search.neighbours import unit
from vidvec.search.normalise import NEAREST, ScoreNormaliser
from vidvec.search.query import QueryEncoder
from vidvec.search.scorecard.copy_task import FEWEST_BACKGROUND, Task, chosen_sources
from vidvec.search.scorecard.figures import FEW, Doubles, Figure, Row, Section
from vidvec.search.scorecard.material import Material, Settings
from vidvec.search.scorecard.precision import Floats, PairRanking, rank_pairs
from vidvec.search.scorecard.resampling import Drawn, Units

Progress = Callable[..., None]
ALL, TITLED = "all", "all_with_title"
LABELS = {
    "crop": "cropped",
    "bars": "between bars",
    "logo": "with logo and words",
    "speed": "at another speed",
    "reencode": "coarsely encoded",
    "sepia": "sepia",
    "picture_in_picture": "picture in picture",
    "screen": "filmed off a screen",
    ALL: "all of them",
    TITLED: "all, with the title",
}
_COLUMNS = {
    "micro_ap": "µAP",
    "micro_ap_normalised": "µAP, scores normalised",
    "recall_at_1": "found first",
    "recall_at_p90": "recall at 90 % precision",
}
_ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Shown:
    """Altered copies of one video to look at.

    Attributes:
        source: Its id.
        pictures: By kind, a JPEG from its middle.
    """

    source: str
    pictures: dict[str, bytes]


def copies(
    material: Material, folder: Path, progress: Progress | None = None
) -> tuple[Section, Shown | None]:
    """Makes altered copies, and looks for what they are copies of.

    Args:
        material: Vectors and corpus.
        folder: Where the copies are, or will be.
        progress: Called with what is done and all, and of what.

    Raises:
        UsageError: There is no file to make copies of, none could be altered, or what made the
            vectors cannot read files here.
    """
    settings = material.settings
    with _encoders(material) as encoders:
        sources = chosen_sources(material)
        made, failed = altered_copies(
            folder,
            sources,
            kinds=settings.kinds,
            seed=settings.seed,
            workers=settings.workers,
            progress=_named(progress, "videos altered"),
        )
        reasons = Counter(each.reason for each in failed)
        seen: list[tuple[list[QueryVideo | None], dict[int, str]]] = []
        for each in encoders:
            # What reads the same features sees the same videos, so that they are read once.
            same = bool(seen) and each.features == encoders[0].features
            say = _named(progress, "copies read")
            seen.append(seen[0] if same else _read(each, made, settings.workers, say))
        unread = {place for _, bad in seen for place in bad}
        reasons.update(reason for _, bad in seen[:1] for reason in bad.values())
        kept = [place for place in range(len(made)) if place not in unread]
        if not kept:
            said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            raise UsageError(f"no altered copy could be made and read: {said}")
        videos = [[found[place] for place in kept] for found, _ in seen]
        task = Task.of(material, [made[place] for place in kept])
        rows = _rows(material, task, encoders, videos)
        known = len(encoders)
    notes = _notes(material, task, len(sources), reasons, TITLED in rows)
    if known < len(material.tables):
        notes.append("What made the other vectors is not known here: they are not compared.")
    facts = {
        "sources": len(set(task.sources.tolist())),
        "references": len(task.references),
        "background": len(task.background),
        "failed": dict(reasons),
    }
    columns = {key: name for key, name in _COLUMNS.items() if key in rows[ALL].figures}
    title = "Whether altered copies find their original"
    section = Section(title, "copies", columns, rows, notes, facts=facts)
    return section, _shown([made[place] for place in kept], videos[0])


@contextmanager
def _encoders(material: Material) -> Iterator[list[QueryEncoder]]:
    """What made the vectors, and the others where that is known."""
    opened: list[QueryEncoder] = []
    workers = material.settings.workers
    try:
        opened.append(QueryEncoder.load(material.path, workers=workers))
        if material.against is not None:
            with suppress(UsageError, FormatError):  # imported vectors, or a model that is gone
                opened.append(QueryEncoder.load(material.against, workers=workers))
        yield opened
    finally:
        for each in opened:
            each.close()


def _read(
    encoder: QueryEncoder, made: Sequence[AlteredCopy], workers: int, progress: Progress
) -> tuple[list[QueryVideo | None], dict[int, str]]:
    """Each copy as the models see files, and by place why some cannot be read."""
    bad: dict[int, str] = {}

    def one(place: int) -> QueryVideo | None:
        try:
            return encoder.read(made[place].path)
        except BadRecord as error:
            bad[place] = error.reason
            return None

    found: list[QueryVideo | None] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for video in pool.map(one, range(len(made))):
            found.append(video)
            progress(len(found), len(made))
    return found, bad


def _rows(
    material: Material,
    task: Task,
    encoders: Sequence[QueryEncoder],
    videos: Sequence[Sequence[QueryVideo | None]],
) -> dict[str, Row]:
    """Figures of each kind of copy, and of all."""
    plain = [_encoded(e, v) for e, v in zip(encoders, videos, strict=True)]
    ranked = [_ranked(task, *both) for both in zip(plain, material.units, strict=False)]
    rows = {}
    for kind in [*material.settings.kinds, ALL]:
        some = np.flatnonzero((task.kinds == kind) | (kind == ALL))
        if len(some):
            rows[kind] = _row(material, task, LABELS.get(kind, kind), ranked, some)
    if all("title" in each.modalities for each in encoders) and any(task.titles):
        titled = [
            _encoded(
                e,
                [
                    None if one is None else replace(one, title=title)
                    for one, title in zip(v, task.titles, strict=True)
                ],
            )
            for e, v in zip(encoders, videos, strict=True)
        ]
        again = [_ranked(task, *both) for both in zip(titled, material.units, strict=False)]
        rows[TITLED] = _row(material, task, LABELS[TITLED], again, np.arange(len(task.kinds)))
    return rows


def _encoded(encoder: QueryEncoder, videos: Sequence[QueryVideo | None]) -> Floats:
    """(Q, E) unit vectors."""
    there = [video for video in videos if video is not None]
    parts = [
        encoder.videos(there[start : start + _ENCODED_AT_ONCE])
        for start in range(0, len(there), _ENCODED_AT_ONCE)
    ]
    return unit(np.concatenate(parts))


def _ranked(task: Task, queries: Floats, units: Floats) -> dict[str, PairRanking]:
    """By plain and by normalised scores."""
    references = units[task.references]
    found = {"micro_ap": rank_pairs(queries, references, task.targets, task.ignored)}
    usable = units[task.background]
    usable = usable[np.linalg.norm(usable, axis=1) > 0]
    if len(usable) >= FEWEST_BACKGROUND:
        # Half of both biases, as the normaliser's side "both" takes off.
        fitted = ScoreNormaliser.fit(usable)
        half = np.float32(fitted.weight / 2)
        own, theirs = (np.nan_to_num(half * fitted.bias(each)) for each in (queries, references))
        found["micro_ap_normalised"] = rank_pairs(
            queries, references, task.targets, task.ignored, (own, theirs)
        )
    return found


def _row(
    material: Material,
    task: Task,
    label: str,
    ranked: Sequence[dict[str, PairRanking]],
    some: NDArray[np.int64],
) -> Row:
    """Figures of some copies, their intervals over the videos that they are copies of."""
    settings = material.settings
    _, sources = np.unique(task.sources[some], return_inverse=True)
    own, *other = [_measured(each, some, sources, settings) for each in ranked]
    figures = {
        key: Figure.of(own[key], other[0].get(key) if other else None)
        for key in own
        if not other or key in other[0]
    }
    return Row(label, len(some), figures, int(sources.max()) + 1 < FEW)


def _measured(
    ranked: dict[str, PairRanking],
    some: NDArray[np.int64],
    sources: NDArray[np.int64],
    settings: Settings,
) -> dict[str, Drawn]:
    """Each figure, and its values on resamples of the videos that were copied."""
    rankings = {key: each.of(some) for key, each in ranked.items()}

    def figures(weights: Doubles) -> dict[str, Doubles]:
        found = {}
        for key, each in rankings.items():
            found[key], recall = each.micro(weights)
            if key == "micro_ap":
                first = (each.ranks == 0).astype(np.float64)
                found["recall_at_1"] = weights @ first / weights.sum(axis=1)
                found["recall_at_p90"] = recall
        return found

    whole = figures(np.ones((1, len(some))))
    units = Units("sources", int(sources.max()) + 1, sources[:, None])
    parts = [figures(each) for each in units.weights(settings.resamples, settings.seed)]
    return {
        key: Drawn(float(value[0]), np.concatenate([np.zeros(0), *(part[key] for part in parts)]))
        for key, value in whole.items()
    }


def _notes(
    material: Material, task: Task, sampled: int, reasons: Counter[str], titled: bool
) -> list[str]:
    videos = len(set(task.sources.tolist()))
    notes = [
        f"{len(task.kinds):,} copies of {videos:,} videos, without sound and title, are looked for "
        f"among {len(task.references):,} vectors. µAP: average precision of all pairs of copy and "
        "vector in one ranking, as one threshold would cut it. Intervals are over the videos."
    ]
    if titled:
        notes[0] += " In the last line the copies have the titles of their originals."
    if len(task.background):
        notes.append(
            f"Normalised: less the mean of the {NEAREST} nearest of {len(task.background):,} other "
            "videos of the corpus, which are not among those searched."
        )
    else:
        notes.append(
            f"Scores are not normalised: fewer than {FEWEST_BACKGROUND} videos would be left as a "
            "background."
        )
    if reasons:
        said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        notes.append(f"Could not be altered or read: {said}.")
    if sampled < material.settings.copies:
        notes.append(
            f"{material.settings.copies:,} videos were asked for; {sampled:,} have files here."
        )
    return notes


def _shown(made: Sequence[AlteredCopy], videos: Sequence[QueryVideo | None]) -> Shown | None:
    """The copies of the video that has most kinds of them, the first of such."""
    by_source: dict[str, dict[str, bytes]] = {}
    for each, video in zip(made, videos, strict=True):
        if video is not None and video.thumbnails:
            middle = video.thumbnails[len(video.thumbnails) // 2]
            by_source.setdefault(each.source, {})[each.kind] = middle
    if not by_source:
        return None
    source = max(by_source, key=lambda each: len(by_source[each]))
    return Shown(source, by_source[source])


def _named(progress: Progress | None, note: str) -> Progress:
    def say(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, note)

    return say
