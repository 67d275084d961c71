"""Groups of near duplicates for people: a table for a spreadsheet, and a page with film strips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidvec.data import csv_files, html
from vidvec.data.corpus import Corpus
from vidvec.records import Video
from vidvec.search.corpora import Corpora
from vidvec.search.dedup import Deduplication
from vidvec.search.types import Group, Hit
from vidvec.storage import atomic_path

COLUMNS = ("group", "id", "cosine", "representative", "title", "file")
GROUPS = 500
CARDS = 12
PICTURES_A_VIDEO = 6
# Pictures of the whole page, in bytes of JPEG: a third more in the file.
MOST_PICTURES = 20_000_000

_CSS = """
.group { border-top: 1px solid var(--line); padding-top: .6rem; margin-top: 1.6rem; }
.stands { display: grid; }
.stands .card { border-color: var(--good); border-width: 2px; }
.stands .note { color: var(--good); font-weight: 600; }
"""


def csv_rows(groups: Sequence[Group], corpus: Corpus | Corpora | None) -> Iterator[tuple[str, ...]]:
    """A row for each video of each group, as ``COLUMNS``; groups are counted from 1.

    Args:
        groups: Groups.
        corpus: Has titles and files; ``None``: they are empty.
    """
    for number, group in enumerate(groups, 1):
        for hit in group.members:
            video = _video(corpus, hit.id)
            yield (
                str(number),
                hit.id,
                f"{hit.cosine:.6f}",
                group.representative,
                csv_files.harmless(video.title),
                video.file,
            )


def write_csv(path: Path, groups: Sequence[Group], corpus: Corpus | Corpora | None) -> None:
    """Writes ``csv_rows`` with a header, in UTF-8; there whole or not at all."""
    csv_files.write_csv(path, COLUMNS, csv_rows(groups, corpus))


def _video(corpus: Corpus | Corpora | None, video_id: str) -> Video:
    if corpus is None or video_id not in corpus:
        return Video(video_id)
    return corpus.video(corpus.row(video_id))


class _Cards:
    """Cards of videos, with film strips until the page has as many pictures as it may."""

    def __init__(self, corpus: Corpus | Corpora | None, budget: int) -> None:
        self._corpus, self._left = corpus, budget
        self.without = 0

    def __call__(self, hit: Hit, note: str) -> html.Html:
        shown: list[bytes] = []
        if self._corpus is not None and hit.id in self._corpus:
            pictures = self._corpus.thumbnails(self._corpus.row(hit.id))
            shown = html.chosen_pictures(pictures, PICTURES_A_VIDEO)
        self._left -= sum(map(len, shown))
        if self._left < 0:
            self.without += bool(shown)
            shown = []
        video = _video(self._corpus, hit.id)
        said = html.element("p", note, class_="soft note")
        return html.video_card(video, shown, said, limit=PICTURES_A_VIDEO)


def to_html(
    name: str,
    found: Deduplication,
    corpus: Corpus | Corpora | None = None,
    *,
    most_pictures: int = MOST_PICTURES,
    most_groups: int = GROUPS,
) -> str:
    """A page that needs nothing but itself.

    Args:
        name: Of the vectors.
        found: What ``deduplicate`` found.
        corpus: Has titles, facts and pictures; ``None``: ids and cosines only.
        most_pictures: Bytes of JPEG on the page at most.
        most_groups: Groups on the page at most, the largest.
    """
    card = _Cards(corpus, most_pictures)
    shown = found.groups[:most_groups]
    groups = [_group(number, group, corpus, card) for number, group in enumerate(shown, 1)]
    notes = [
        "Every video is at least as near to the one that represents its group as the threshold "
        "says; two others of a group may be less alike. The first of each group is kept, where the "
        "others are dropped."
    ]
    if len(found.groups) > len(shown):
        notes.append(
            f"The {len(shown):,} largest of {len(found.groups):,} groups are shown; "
            "vidvec dedup … --csv FILE lists all."
        )
    if card.without:
        notes.append(
            f"{card.without:,} videos are shown without pictures: the page has as many as it may."
        )
    nothing = [] if groups else [html.element("p", "No two videos are alike.", class_="soft")]
    return html.page(
        f"Near duplicates in {name}",
        f"{len(found.groups):,} groups at a cosine of {found.threshold:.4g} or more",
        _figures(found),
        *(html.element("p", note, class_="soft") for note in notes),
        *nothing,
        *groups,
        css=_CSS,
    )


def _figures(found: Deduplication) -> html.Html:
    tiles = [
        ("videos compared", f"{found.compared:,}", ""),
        ("groups", f"{len(found.groups):,}", ""),
        ("could be dropped", f"{found.extra:,}", "all but one of each group"),
    ]
    if found.recall is not None and found.recall.pairs:
        share = found.recall.found / found.recall.pairs
        note = f"of {found.recall.pairs:,} pairs of a sample of {found.recall.sample:,} videos"
        tiles.append(("pairs found", f"{share:.2%}", note))
    if found.left_out:
        tiles.append(("left out", f"{len(found.left_out):,}", "vectors without direction"))
    return html.figures(tiles)


def _group(number: int, group: Group, corpus: Corpus | Corpora | None, card: _Cards) -> html.Html:
    """A group's videos: cards of the first, a folded table of the others."""
    first, *others = group.members
    cards = [html.element("div", card(first, "represents the group"), class_="stands")]
    cards += [card(hit, f"cosine {hit.cosine:.4f}") for hit in others[: CARDS - 1]]
    parts = [
        html.element("h2", f"Group {number:,}: {len(group.members):,} videos", class_="group"),
        html.element("div", *cards, class_="cards"),
    ]
    if rest := others[CARDS - 1 :]:
        rows = [[hit.id, f"{hit.cosine:.4f}", _video(corpus, hit.id).title] for hit in rest]
        table = html.table(["id", "cosine", "title"], rows)
        parts.append(html.folded(f"and {len(rest):,} more", table))
    return html.element("section", *parts)


def write_html(
    path: Path, name: str, found: Deduplication, corpus: Corpus | Corpora | None
) -> None:
    """Writes ``to_html``; there whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_html(name, found, corpus), "utf-8", errors="replace")
