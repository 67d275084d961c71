"""The whole scorecard, section by section; what cannot be measured is left out with a line why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError, VidvecError
from vidvec.search.scorecard import agreement, copies, page, retrieval
from vidvec.search.scorecard.copies import Progress, Shown
from vidvec.search.scorecard.figures import Scorecard, Section
from vidvec.search.scorecard.material import Material, Settings, read_groups
from vidvec.search.stamp import vectors_stamp

JSON, HTML = "scorecard.json", "scorecard.html"
_ALTERED = ".altered.tmp"  # in the scorecard's folder, where copies lie that are not kept

_TITLES = {
    "agreement": "Cosine against people's scores",
    "retrieval": "Whether what is nearest is relevant",
    "copies": "Whether altered copies find their original",
    "calibration": "What a cosine says of similarity",
    "ablation": "What each modality adds",
    "slices": "By slice of the pairs",
}


def write_scorecard(
    vectors: Path,
    corpus: Corpus,
    out: Path,
    *,
    against: Path | None = None,
    groups: Path | None = None,
    altered: Path | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Scorecard:
    """Measures a folder of vectors, and writes ``scorecard.json`` and ``scorecard.html``.

    Args:
        vectors: The folder.
        corpus: Of its videos.
        out: Folder of the scorecard.
        against: Folder of other vectors of the same videos, to be compared with.
        groups: Table of copies among the videos; see ``read_groups``.
        altered: Folder in which altered copies stay, or already are; ``None``: they are removed
            when they have been measured. Of a run that was killed, the next one finds them.
        settings: What decides the figures.
        progress: Called with what is done and all, and of what.

    Raises:
        UsageError: No video of the corpus has vectors, or a setting cannot be used.
        FormatError: A folder or the table of groups is not what it should be.
    """
    settings = settings or Settings()
    _check(settings)
    known = {} if groups is None else read_groups(groups)
    material = Material(vectors, corpus, settings, against, known)
    sections, shown = _sections(material, altered or out / _ALTERED, progress)
    card = Scorecard(
        str(vectors),
        vectors_stamp(material.vectors),
        str(corpus.path),
        "" if against is None else str(against),
        _facts(material),
        sections,
    )
    card.save(out / JSON)
    page.write(out / HTML, card, shown)
    if altered is None:
        shutil.rmtree(out / _ALTERED, ignore_errors=True)
    return card


def _sections(
    material: Material, altered: Path, progress: Progress | None
) -> tuple[dict[str, Section], Shown | None]:
    """All sections in the order to show, and altered copies to look at."""
    sections = {
        "agreement": _section("agreement", lambda: agreement.agreement(material)),
        "retrieval": _section("retrieval", lambda: retrieval.retrieval(material)),
    }
    sections["copies"], shown = _copies(material, altered, progress)
    more = {
        "calibration": agreement.calibration,
        "ablation": agreement.ablation,
        "slices": agreement.slices,
    }
    for key, make in more.items():
        sections[key] = _section(key, partial(make, material))
    return sections, shown


def _facts(material: Material) -> dict[str, Any]:
    """What decides the figures, and of how many videos and pairs they are."""
    settings = material.settings
    return {
        "split": str(settings.split),
        "positive": settings.positive,
        "videos": len(material.ids),
        "pairs": len(material.pairs),
        "copies": settings.copies,
        "kinds": list(settings.kinds),
        "seed": settings.seed,
        "resamples": settings.resamples,
    }


def _check(settings: Settings) -> None:
    if settings.copies < 0 or settings.queries < 1 or settings.resamples < 1 or settings.seed < 0:
        raise UsageError(
            f"{settings.copies} videos to copy, {settings.queries} queries, {settings.resamples} "
            f"resamples, seed {settings.seed}: expected 0, 1, 1 and 0 or more"
        )


def _section(key: str, make: Callable[[], Section]) -> Section:
    try:
        return make()
    except (VidvecError, OSError) as error:
        return Section(_TITLES[key], left_out=f"{error}")


def _copies(
    material: Material, folder: Path, progress: Progress | None
) -> tuple[Section, Shown | None]:
    title = _TITLES["copies"]
    if not material.settings.copies:
        return Section(title, left_out="not asked for (--copies 0)"), None
    try:
        return copies.copies(material, folder, progress)
    except (VidvecError, OSError) as error:
        return Section(title, left_out=f"{error}"), None
