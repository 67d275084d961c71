"""What a search looks like in a terminal: hits and why, and the pairs that are ranked worst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vidvec.console import plain_table, printable

if TYPE_CHECKING:
    from vidvec.search.types import Hit, IndexedVideo, Why
    from vidvec.search.worst import WorstPair, WorstPairs

_TITLE_CHARACTERS = 60
_BESIDES = ("tags", "category")


def found(
    videos: Mapping[str, IndexedVideo],
    hits: Sequence[Hit],
    why: Sequence[Why] | None = None,
    score: str = "cosine",
) -> Table:
    """Videos found, best first.

    Args:
        videos: What is known of them, by id.
        hits: Best first.
        why: One for each hit.
        score: What the hits' numbers are.
    """
    rows = [videos.get(hit.id) for hit in hits]
    modalities = list(dict.fromkeys(each for one in why or () for each in one.alone))
    # Where each modality has a column there is room for the title alone.
    shown = (
        []
        if modalities
        else [name for name in _BESIDES if any(map(attrgetter(name), filter(None, rows)))]
    )
    titled = bool(shown) or any(video.title for video in rows if video is not None)
    headings = ["", f">{score}", "id", *(f">by {each}" for each in modalities)]
    table = plain_table(*headings, *["title"] * titled, *shown)
    for column in table.columns[2 : 3 + len(modalities)]:
        column.no_wrap = True  # an id cut short could not be searched for
    table.columns[2].min_width = max((len(hit.id) for hit in hits), default=0)
    for place, (hit, video) in enumerate(zip(hits, rows, strict=True), 1):
        cells = [Text(str(place), "dim"), Text(f"{hit.cosine:.4f}"), printable(hit.id)]
        if why is not None:
            cells += [_of_modality(why[place - 1], each) for each in modalities]
        if video is not None:
            cells += [printable(video.title)] * titled
            texts = {"tags": ", ".join(video.tags), "category": video.category}
            cells += [printable(texts[name], "dim") for name in shown]
        table.add_row(*cells)
    if modalities:
        table.caption_justify = "left"
        table.caption = (
            "by each modality: the cosine through it alone, and how the cosine changes without it"
        )
    return table


def _of_modality(why: Why, modality: str) -> Text:
    alone = {str(name): value for name, value in why.alone.items()}
    lost = {str(name): value for name, value in why.lost.items()}
    if modality not in alone:
        return Text("–", "dim")
    text = Text(f"{alone[modality]:.3f}")
    return text.append(f" {-lost[modality]:+.3f}", "dim") if modality in lost else text


def worst_pairs(name: str, worst: WorstPairs, titles: Mapping[str, str]) -> Table:
    """The pairs on which cosine and score are furthest apart.

    Args:
        name: Of the vectors.
        worst: The pairs.
        titles: By id, where known.
    """
    heading = f"{name}: {len(worst.pairs)} of {worst.total:,} pairs, those ranked worst"
    modalities = list(dict.fromkeys(each for pair in worst.pairs for each in pair.why or ()))
    table = plain_table(
        *("", ">gap", ">score", ">rank", ">cosine", ">rank"),
        *(f">{each}" for each in modalities),
        *("ids", "titles"),
        title=printable(heading),
        title_justify="left",
    )
    table.columns[-2].no_wrap = True
    for place, pair in enumerate(worst.pairs, 1):
        table.add_row(Text(str(place), "dim"), *_pair_cells(pair, modalities, titles))
    table.caption_justify = "left"
    table.caption = "rank: 0 for the lowest of all pairs, 1 for the highest; gap: between the two"
    if modalities:
        table.caption += "\nof each modality: how far the cosine falls where both lack it"
    return table


def _pair_cells(
    pair: WorstPair, modalities: Iterable[str], titles: Mapping[str, str]
) -> list[Text]:
    numbers = (f"{pair.gap:.3f}", f"{pair.score:g}", f"{pair.score_rank:.3f}")
    cells = [Text(each) for each in (*numbers, f"{pair.cosine:.4f}", f"{pair.cosine_rank:.3f}")]
    shares = {str(name): value for name, value in (pair.why or {}).items()}
    cells += [Text(f"{shares[each]:+.3f}" if each in shares else "–") for each in modalities]
    both = (pair.id_1, pair.id_2)
    cells.append(Text("\n").join(printable(video) for video in both))
    shown = (titles.get(video, "")[:_TITLE_CHARACTERS] for video in both)
    cells.append(Text("\n").join(printable(title) for title in shown))
    return cells
