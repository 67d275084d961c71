"""The scorecard's part of ``vidvec evaluate``: everything that is measured of some vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vidvec.cli.shared import out, print_json, progress
from vidvec.errors import UsageError


@Parameter(name="*", help="Scorecard.")
@dataclass(frozen=True)
class Card:
    """The scorecard.

    Args:
        scorecard: Measure a folder of vectors in every way there is, and write scorecard.json and
            scorecard.html into this folder.
        against: With --scorecard: other vectors of the same videos, to be compared with.
        groups: With --scorecard: a table of id and group, which videos are copies of one another;
            such as vidvec dedup --csv writes.
        copies: With --scorecard: make altered copies of so many videos, and look for them.
        altered: With --scorecard: keep the altered copies in this folder, and take those that are
            there; else they are removed in the end.
        positive: With --scorecard: score from which two videos are alike; by default three
            quarters of the way from the lowest score to the highest.
        compare: Print two scorecards beside each other: A.json B.json.
    """

    scorecard: Path | None = None
    against: Path | None = None
    groups: Path | None = None
    copies: int = 50
    altered: Path | None = None
    positive: float | None = None
    compare: Annotated[list[Path], Parameter(negative="", consume_multiple=True)] = field(
        default_factory=list
    )

    @property
    def asked(self) -> bool:
        """Whether this is what is to be done."""
        return self.scorecard is not None or bool(self.compare)

    def check_unasked(self) -> None:
        """Refuses options that mean nothing without ``--scorecard``."""
        given = {
            "--against": self.against,
            "--groups": self.groups,
            "--altered": self.altered,
            "--positive": self.positive,
        }
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name} belongs to --scorecard OUT_DIR, which is not given")


def show(
    card: Card, vectors: tuple[Path, ...], corpus: Path | None, split: str, as_json: bool
) -> None:
    """Does what the options ask for."""
    if card.compare:
        _compare(card, vectors, as_json)
    else:
        _measure(card, vectors, corpus, split, as_json)


def _measure(
    card: Card, vectors: tuple[Path, ...], corpus: Path | None, split: str, as_json: bool
) -> None:
    from dataclasses import asdict

    from vidvec import console_scorecard
    from vidvec.model.weights import is_model
    from vidvec.search.index import corpus_of
    from vidvec.search.scorecard.build import HTML, JSON, write_scorecard
    from vidvec.search.scorecard.material import Settings

    if len(vectors) != 1 or is_model(vectors[0]):
        raise UsageError(
            "a scorecard is of one folder of vectors: vidvec embed makes one of a run; --against "
            "takes another one to compare with"
        )
    opened = corpus_of(vectors[0], corpus)
    if opened is None:
        raise UsageError(f"the corpus that {vectors[0]} was made from is not there: give --corpus")
    folder = card.scorecard or Path()
    settings = Settings(split=split, positive=card.positive, copies=card.copies)
    with progress("scorecard", transient=True) as update:
        found = write_scorecard(
            vectors[0],
            opened,
            folder,
            against=card.against,
            groups=card.groups,
            altered=card.altered,
            settings=settings,
            progress=update,
        )
    if as_json:
        from vidvec.search.scorecard.figures import without_nan

        print_json(without_nan(asdict(found)))
        return
    for part in console_scorecard.scorecard(found):
        out.print(part, soft_wrap=True, highlight=False)
    out.print(f"wrote {folder / HTML} and {folder / JSON}", soft_wrap=True, highlight=False)


def _compare(card: Card, vectors: tuple[Path, ...], as_json: bool) -> None:
    from dataclasses import asdict

    from vidvec import console_scorecard
    from vidvec.search.scorecard.comparison import compare
    from vidvec.search.scorecard.figures import Scorecard, without_nan

    if len(card.compare) != 2 or vectors or card.scorecard is not None:
        raise UsageError("--compare takes two scorecards and nothing else: --compare A.json B.json")
    cards = [Scorecard.load(path) for path in card.compare]
    found = compare(*cards)
    if as_json:
        print_json(without_nan(asdict(found)))
        return
    for part in console_scorecard.comparison(found, *map(str, card.compare)):
        out.print(part, soft_wrap=True, highlight=False)
