"""What a corpus looks like in a terminal: a summary, its duplicates, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vidvec.console import BAR, plain_table, printable
from vidvec.data.inspect_page import all_rejects, explained, set_facts

if TYPE_CHECKING:
    from vidvec.data import duplicates as copies
    from vidvec.data.corpus import Corpus
    from vidvec.data.inspect import Summary
    from vidvec.data.spread import Counts, Spread
    from vidvec.records import Reject, Video

SHOWN = 10
GROUPS = 8
OF_A_GROUP = 3
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def summary(found: Summary) -> list[RenderableType]:
    """A corpus's counts, lengths, scripts, tags, scores and rejects, one after another."""
    parts: list[RenderableType] = [_facts(found), _bars("videos that have", found.present)]
    parts += [_bars("together", found.together), _spreads(found)]
    for heading, counts in (
        ("languages, as given", found.languages),
        (f"scripts of titles ({found.mixed_scripts:,} mixed)", found.scripts),
        (f"tags ({found.tag_count:,} distinct)", found.tags),
        (f"categories ({found.category_count:,} known)", found.categories),
        ("scores", found.scores.histogram),
        (f"titles of several videos ({found.repeated_title_count:,})", found.repeated_titles),
    ):
        if counts:
            shown = counts if heading == "scores" else counts[:SHOWN]
            parts.append(_bars(heading, shown))
    if found.rejects:
        parts.append(_rejects(found))
        parts.append(Text(f"all of one reason: {all_rejects(found, 'REASON')}", "dim"))
    return parts


def _facts(found: Summary) -> Table:
    encoder = found.frame_encoder
    revision = f", revision {encoder['revision']}" if encoder.get("revision") else ""
    sound, heard = found.audio_encoder, dict(found.present)["audio"] > 0
    sampled = ", key frames" if found.frame_sampling == "keyframes" else ""
    gone = f", and {found.gone:,} marked gone, which vidvec compact removes" if found.gone else ""
    dates = f", from {found.first_date} to {found.last_date}" if found.first_date else ""
    untagged = found.videos - dict(found.present)["tags"]
    share = f" ({untagged / found.videos:.1%})" if found.videos else ""
    facts = [
        ("corpus", str(found.path) if found.complete else f"{found.path} (unfinished)"),
        ("videos", f"{found.videos:,}{gone}{dates}"),
        (
            "frame encoder",
            f"{encoder['name']}, {encoder['frame_size']} numbers a frame{revision}{sampled}",
        ),
        *(("feature set", set_facts(each)) for each in found.feature_sets),
        *[("audio encoder", f"{sound['name']}, {sound['frame_size']} numbers a frame")] * heard,
        ("without tags", f"{untagged:,}{share}, {found.never_tagged:,} of them never tagged"),
        (
            "tags",
            f"{found.tag_count:,}: {found.tags_for_half:,} are half of all given, "
            f"{found.tags_once:,} on one video only, {found.tag_vocabulary_size:,} to be learned",
        ),
        ("same title", f"{found.repeated_title_videos:,} videos"),
        ("scored pairs", f"{found.pairs:,} among {found.pairs_per_video.count:,} videos"),
        ("left out", f"{sum(each.count for each in found.rejects):,} records"),
    ]
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(Text(name, "bold"), printable(value))
    return table


def _spreads(found: Summary) -> Table:
    table = plain_table("", ">known", ">least", ">median", ">mean", ">most", "spread")
    measures = {
        "frames": found.frames_per_video,
        "audio frames": found.audio_frames_per_video,
        "seconds": found.duration_seconds,
        "title, tokens": found.title_tokens,
        "title, letters": found.title_characters,
        "speech, letters": found.speech_characters,
        "screen, letters": found.screen_characters,
        "tags": found.tags_per_video,
        "pairs": found.pairs_per_video,
        "score": found.scores,
    }
    for name, each in measures.items():
        if each.count:
            figures = (each.minimum, each.median, each.mean, each.maximum)
            table.add_row(name, f"{each.count:,}", *map(_figure, figures), _sparkline(each))
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 2):.10g}"


def _sparkline(spread: Spread) -> str:
    """One block a bin, as high as its count; a bin with any video shows."""
    most = max(count for _, count in spread.histogram)
    return "".join(_HEIGHTS[-(-8 * count // most)] for _, count in spread.histogram)


def _bars(heading: str, counts: Counts) -> Table:
    table = plain_table(heading, ">", "")
    most = max((count for _, count in counts), default=0)
    for label, count in counts:
        bar = "█" * max(1, round(BAR * count / most)) if count else ""
        name = printable(label) if label else Text("not known", "dim")
        table.add_row(name, f"{count:,}", Text(bar, "blue"))
    return table


def _rejects(found: Summary) -> Table:
    table = plain_table("left out because", ">records", "such as")
    for each in found.rejects:
        for place, reject in enumerate(each.examples):
            first = place == 0
            table.add_row(
                printable(each.reason) if first else "",
                f"{each.count:,}" if first else "",
                _where(reject),
            )
    return table


def _where(reject: Reject) -> Text:
    return printable(f"{reject.where} {reject.id}: {reject.detail}")


def rejects(found: Sequence[Reject]) -> RenderableType:
    """Records that were left out, one a line."""
    return Group(*map(_where, found))


def duplicates(found: copies.Duplicates | None, corpus: Corpus) -> list[RenderableType]:
    """What is there more than once, by ids and titles; how to look where nobody did.

    Args:
        found: ``None`` where nobody looked.
        corpus: For ids and titles.
    """
    if found is None:
        how = f"duplicates: not looked for in frames: vidvec inspect {corpus.path} --duplicates"
        return [Text(how)]
    table = plain_table("duplicates", ">groups", ">videos")
    for name, groups in (("exact, the same frame features", found.exact), ("near", found.near)):
        table.add_row(name, f"{len(groups):,}", f"{sum(len(g.rows) for g in groups):,}")
    table.add_row("frames all alike", "", f"{len(found.still):,}")
    parts: list[RenderableType] = [table, Text(explained(found), "dim")]
    parts += [_groups(n, g, corpus) for n, g in (("exact", found.exact), ("near", found.near)) if g]
    if found.still:
        some = found.still[: GROUPS * OF_A_GROUP]
        named = ", ".join(corpus.video(row).id for row in some)
        more = ", …" if len(some) < len(found.still) else ""
        parts.append(printable(f"frames all alike: {named}{more}"))
    return parts


def _groups(name: str, groups: Sequence[copies.Group], corpus: Corpus) -> Table:
    table = plain_table(f"{name} duplicates", ">videos", ">similarity", "the first of them")
    for group in groups[:GROUPS]:
        some = [corpus.video(row) for row in group.rows[:OF_A_GROUP]]
        shown = "\n".join(f"{video.id}  {video.title}" for video in some)
        if len(some) < len(group.rows):
            shown += f"\nand {len(group.rows) - len(some):,} more"
        lines = Text("\n").join(printable(line) for line in shown.split("\n"))
        table.add_row("", f"{len(group.rows):,}", f"{group.similarity:.2f}", lines)
    if len(groups) > GROUPS:
        table.caption = f"and {len(groups) - GROUPS:,} more groups: --json lists them all"
    return table


def sample(videos: Sequence[Video]) -> Table:
    """A line for each video: id, frames, seconds, title, tags."""
    table = plain_table("some of the videos", ">frames", ">seconds", "title", "tags")
    table.columns[0].overflow = "fold"
    for video in videos:
        seconds = video.duration_seconds
        table.add_row(
            printable(video.id),
            f"{len(video.frames):,}",
            "" if seconds is None else f"{seconds:,.1f}",
            printable(video.title),
            printable(", ".join(video.tags or ()), "dim"),
        )
    return table
