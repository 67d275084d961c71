"""A page that shows what a corpus holds: one file, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vidvec.data import html
from vidvec.data.corpus import Corpus
from vidvec.data.duplicates import Duplicates, Group
from vidvec.data.inspect import SetSummary, Summary
from vidvec.data.spread import Counts, describe

GROUPS = 12
OF_A_GROUP = 3
PICTURES_A_VIDEO = 6
# Pictures of the whole page, in bytes of JPEG: a third more in the file.
MOST_PICTURES = 6_000_000

_CSS = """
.group { margin: 1.3rem 0 .5rem; }
h3 { margin-top: 1.2rem; }
.box h3 { margin-top: 0; }
td:first-child { white-space: nowrap; }
td:last-child { min-width: 17rem; }
"""

Card = Callable[[int], html.Html]


class _Cards:
    """Cards of videos, with film strips until the page has as many pictures as it may."""

    def __init__(self, corpus: Corpus, budget: int) -> None:
        self._corpus = corpus
        self._left = budget
        self.without = 0

    def __call__(self, row: int) -> html.Html:
        pictures = self._corpus.thumbnails(row)
        chosen = html.chosen_pictures(pictures, PICTURES_A_VIDEO)
        self._left -= sum(map(len, chosen))
        if self._left < 0:
            self.without += bool(chosen)
            chosen = []
        return html.video_card(self._corpus.video(row), chosen, limit=PICTURES_A_VIDEO)


def to_html(
    corpus: Corpus,
    summary: Summary,
    rows: Sequence[int],
    duplicates: Duplicates | None = None,
    *,
    most_pictures: int = MOST_PICTURES,
) -> str:
    """A page that needs nothing but itself.

    Args:
        corpus: The corpus.
        summary: Of it.
        rows: Videos to show with film strip, title and tags.
        duplicates: ``None`` where they were not looked for.
        most_pictures: Bytes of JPEG on the page at most.
    """
    card = _Cards(corpus, most_pictures)
    sections = [
        ("there", "What is there", _there(summary)),
        ("lengths", "Lengths", _lengths(summary)),
        ("words", "Languages, scripts, tags", _words(summary)),
        ("pairs", "Scored pairs", _scores(summary)),
        ("left-out", "Left out", _left_out(summary)),
        ("duplicates", "Duplicates", _duplicates(summary, duplicates, card)),
        (
            "extremes",
            "Longest and shortest",
            html.join(_strips("Longest", summary.longest, card), _shortest(summary, card)),
        ),
        ("sample", f"{len(rows):,} of {summary.videos:,} videos", _strips("", rows, card)),
    ]
    if card.without:
        note = f"{card.without:,} videos are shown without pictures: the page has as many as it may"
        sections[-1] = (*sections[-1][:2], html.join(html.element("p", note), sections[-1][2]))
    state = "complete" if summary.complete else "unfinished: run its ingest again, it carries on"
    return html.page(
        f"Corpus {summary.path}",
        f"{summary.videos:,} videos, {state}",
        html.contents([(anchor, name) for anchor, name, _ in sections]),
        _figures(summary, duplicates),
        *(html.section(name, body, anchor=anchor) for anchor, name, body in sections),
        css=_CSS,
    )


def _figures(summary: Summary, duplicates: Duplicates | None) -> html.Html:
    encoder = summary.frame_encoder
    revision = f", revision {encoder['revision']}" if encoder.get("revision") else ""
    tiles = [
        ("videos", f"{summary.videos:,}", f"and {summary.gone:,} gone" if summary.gone else ""),
        ("left out", f"{sum(each.count for each in summary.rejects):,}", "records"),
        ("scored pairs", f"{summary.pairs:,}", ""),
        (
            "frame encoder",
            str(encoder["name"]),
            f"{encoder['frame_size']} numbers a frame{revision}"
            + (", key frames" if summary.frame_sampling == "keyframes" else ""),
        ),
        ("same title", f"{summary.repeated_title_videos:,}", "videos"),
    ]
    tiles += [("feature set", each.name, set_facts(each)) for each in summary.feature_sets]
    if summary.first_date:
        tiles.append(("from", summary.first_date[:10], f"to {summary.last_date[:10]}"))
    if dict(summary.present)["audio"]:
        sound = summary.audio_encoder
        tiles.append(
            ("audio encoder", str(sound["name"]), f"{sound['frame_size']} numbers a frame")
        )
    if duplicates is not None:
        tiles += [
            ("exact duplicates", f"{sum(len(g.rows) for g in duplicates.exact):,}", "videos"),
            ("near duplicates", f"{sum(len(g.rows) for g in duplicates.near):,}", "videos"),
            ("frames all alike", f"{len(duplicates.still):,}", "videos"),
        ]
    return html.figures(tiles)


def _columns(*boxes: html.Html) -> html.Html:
    return html.element("div", *boxes, class_="columns")


def _there(summary: Summary) -> html.Html:
    share = {
        name: count / summary.videos if summary.videos else 0 for name, count in summary.present
    }
    shown = tuple((f"{name}, {share[name]:.1%}", count) for name, count in summary.present)
    return _columns(
        html.bars("Videos that have", "", shown),
        html.bars("What they have together", "of what a model reads", summary.together),
    )


def _lengths(summary: Summary) -> html.Html:
    measures = {
        "Duration, seconds": summary.duration_seconds,
        "Frames a video": summary.frames_per_video,
        "Audio frames a video": summary.audio_frames_per_video,
        "Title, tokens": summary.title_tokens,
        "Title, characters": summary.title_characters,
        "Speech text, characters": summary.speech_characters,
        "Screen text, characters": summary.screen_characters,
    }
    return _columns(
        *(html.histogram(name, describe(each), each.histogram) for name, each in measures.items())
    )


def _words(summary: Summary) -> html.Html:
    untagged = summary.videos - dict(summary.present)["tags"]
    share = f" ({untagged / summary.videos:.1%})" if summary.videos else ""
    tags = (
        f"{summary.tag_count:,} distinct, {summary.tag_vocabulary_size:,} of them to be learned; "
        f"{summary.tags_for_half:,} are half of all that were given, {summary.tags_once:,} are on "
        f"one video only; {untagged:,} videos without{share}, {summary.never_tagged:,} of them "
        "never tagged"
    )
    scripts = f"by most letters of the title; {summary.mixed_scripts:,} titles mix scripts"
    return _columns(
        html.bars("Languages", "as given with the videos", named(summary.languages)),
        html.bars("Scripts", scripts, summary.scripts),
        html.bars("Categories", f"{summary.category_count:,} known", named(summary.categories)),
        html.bars("Tags", tags, summary.tags),
        html.histogram(
            "Tags a video", describe(summary.tags_per_video), summary.tags_per_video.histogram
        ),
    )


def named(counts: Counts) -> Counts:
    """Counts with words for the empty label."""
    return tuple((label or "not known", count) for label, count in counts)


def _scores(summary: Summary) -> html.Html:
    if not summary.pairs:
        return html.element("p", "No scored pairs came along.", class_="soft")
    each = summary.pairs_per_video
    return _columns(
        html.histogram("Scores", describe(summary.scores), summary.scores.histogram),
        html.histogram("Pairs a video", f"{each.count:,} videos; {describe(each)}", each.histogram),
    )


def _left_out(summary: Summary) -> html.Html:
    if not summary.rejects:
        return html.element("p", "Nothing was left out.", class_="soft")
    rows = []
    for left_out in summary.rejects:
        lines = [
            html.element("div", f"{reject.where} {reject.id}: {reject.detail}")
            for reject in left_out.examples
        ]
        if left_out.count > len(lines):
            more = (
                f"and {left_out.count - len(lines):,} more: {all_rejects(summary, left_out.reason)}"
            )
            lines.append(html.element("div", more, class_="soft"))
        rows.append([left_out.reason, f"{left_out.count:,}", html.join(*lines)])
    return html.table(["reason", "records", "which"], rows)


def set_facts(found: SetSummary) -> str:
    """A feature set in a line."""
    encoder = found.frame_encoder
    facts = f"{found.name}: {encoder['name']}, {encoder['frame_size']} numbers a frame"
    left_out = f", {found.left_out:,} left out" if found.left_out else ""
    unfinished = "" if found.complete else ", unfinished"
    return f"{facts}, {found.videos:,} videos{left_out}{unfinished}"


def all_rejects(summary: Summary, reason: str) -> str:
    """What to type to see all that was left out for a reason."""
    return f"vidvec inspect {summary.path} --rejects {reason}"


def _duplicates(summary: Summary, found: Duplicates | None, card: Card) -> html.Html:
    titles = html.bars(
        "Titles of several videos",
        f"{summary.repeated_title_count:,} titles on {summary.repeated_title_videos:,} videos, "
        "without regard to case",
        summary.repeated_titles,
    )
    if found is None:
        how = f"Not looked for in frames; to do so: vidvec inspect {summary.path} --duplicates"
        return html.join(html.element("p", how, class_="soft"), _columns(titles))
    parts = [html.element("p", explained(found), class_="soft")]
    parts += _groups("Exact duplicates", "the same frame features", found.exact, card)
    parts += _groups("Near duplicates", "the first has the most frames", found.near, card)
    if found.still:
        some = found.still[: 2 * OF_A_GROUP]
        parts.append(_strips(f"Frames all alike: {len(found.still):,} videos", some, card))
    return html.join(*parts, _columns(titles))


def explained(found: Duplicates) -> str:
    """What was compared and when two videos count as near duplicates."""
    if found.too_few:
        return "Near duplicates were not looked for: fewer than 8 different videos have frames."
    beyond = f", {found.unchecked:,} candidates were not" if found.unchecked else ""
    return (
        f"{found.compared:,} videos with frames; {found.checked:,} pairs were compared frame by "
        f"frame{beyond}. Near: similarity {found.threshold:g} or more, and frames that change "
        "together. Videos of one set or studio can reach that without being copies."
    )


def _groups(name: str, note: str, groups: Sequence[Group], card: Card) -> list[html.Html]:
    """The largest groups, each with strips of its first videos."""
    videos = sum(len(group.rows) for group in groups)
    parts = [html.element("h3", f"{name}: {len(groups):,} groups, {videos:,} videos; {note}")]
    for group in groups[:GROUPS]:
        alike = "" if group.similarity == 1 else f", similarity {group.similarity:.2f} or more"
        shown = group.rows[:OF_A_GROUP]
        heading = f"{len(group.rows):,} videos{alike}"
        strips = html.element("div", *map(card, shown), class_="cards")
        parts += [html.element("p", heading, class_="soft group"), strips]
    if len(groups) > GROUPS:
        more = f"and {len(groups) - GROUPS:,} more groups: vidvec inspect … --json lists them all"
        parts.append(html.element("p", more, class_="soft"))
    return parts


def _strips(heading: str, rows: Sequence[int], card: Card) -> html.Html:
    above = [html.element("h3", heading)] * bool(heading)
    return html.join(*above, html.element("div", *map(card, rows), class_="cards"))


def _shortest(summary: Summary, card: Card) -> html.Html:
    return _strips("Shortest", summary.shortest, card) if summary.shortest else html.Html("")
