"""Building blocks of the pages that vidvec writes: one file each, nothing fetched, no script.

Text becomes markup by being escaped: everything here takes plain strings, escapes them, and gives
``Html``, which is not escaped again.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from vidvec.data.sampling import sample_positions
from vidvec.records import Video

_NO_END_TAG = frozenset({"img", "meta", "br"})

# Nothing may be fetched and nothing run, whatever a title or a tag might smuggle in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

CSS = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #fff; --ink: #1c1e21; --soft: #646a73; --line: #e0e0dc;
  --accent: #2563b8; --accent-soft: #dbe7f7; --good: #1b7f4b; --film: #17181b;
  --holes: repeating-linear-gradient(90deg, transparent 0 5px, #8b8b8b 5px 10px);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1c1e22; --ink: #e7e8ea; --soft: #9aa0a8; --line: #30333a;
    --accent: #6ea8ff; --accent-soft: #24344d; --good: #58c58d; --film: #000;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC",
    "PingFang SC", "Microsoft YaHei", sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .8rem; }
h3 { font-size: .95rem; margin: 0 0 .4rem; }
p { margin: .3rem 0 .8rem; max-width: 48rem; }
.lead, .soft, figcaption { color: var(--soft); }
.soft, figcaption { font-size: .85rem; }
.box, .card, .figure {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem;
}
.figures, .columns, .cards { display: grid; gap: .8rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); margin-top: 1.2rem; }
.figure b { display: block; font-size: 1.35rem; line-height: 1.3; overflow-wrap: anywhere; }
.columns { grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.card { display: flex; flex-direction: column; gap: .35rem; min-width: 0; padding: .6rem; }
.card p { margin: 0; overflow-wrap: anywhere; }
.title { font-weight: 600; line-height: 1.35; }
.tags { display: flex; flex-wrap: wrap; gap: .25rem; }
.tag {
  background: var(--accent-soft); border-radius: 1rem; padding: 0 .55rem; font-size: .78rem;
  overflow-wrap: anywhere;
}
.strip {
  display: flex; gap: 3px; overflow: hidden; border-radius: .3rem; padding: 9px 4px;
  background:
    var(--holes) 0 3px / 100% 3px no-repeat, var(--holes) 0 calc(100% - 3px) / 100% 3px no-repeat,
    var(--film);
}
.strip img { height: 56px; min-width: 0; flex: 0 1 auto; object-fit: cover; display: block; }
.strip.none { color: #a8a8a8; justify-content: center; line-height: 56px; font-size: .8rem; }
.bar {
  display: grid; grid-template-columns: minmax(4.5rem, 9rem) 1fr 4.5rem; gap: .6rem;
  align-items: center; font-size: .83rem; line-height: 1.45;
}
.bar span { text-align: right; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.bar div { height: .75rem; border-radius: 2px; background: var(--accent); }
.bar b { font-weight: 400; color: var(--soft); font-variant-numeric: tabular-nums; }
.columns > .box { min-width: 0; }
svg.chart { display: block; width: 100%; max-width: 30rem; height: auto; overflow: visible; }
svg.chart text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg.chart rect { fill: var(--accent); }
svg.chart line { stroke: var(--line); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1rem 0 0; font-size: .9rem; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px;
}
summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: .4rem .7rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""


class Html(str):
    """Markup: escaped already, or made of such."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Text as markup; markup stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def element(tag: str, *children: str, **attributes: object) -> Html:
    """An element with its children; those that are plain strings are escaped.

    Args:
        tag: Its name.
        children: Text or markup.
        attributes: ``class_`` stands for class, ``aria_label`` for aria-label; ``None`` is left
            out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _NO_END_TAG:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{join(*children)}</{tag}>")


def join(*parts: str) -> Html:
    """Parts one after another; those that are plain strings are escaped."""
    return Html("".join(escape(part) for part in parts))


def page(title: str, lead: str, *body: str, css: str = "") -> str:
    """A whole document that needs nothing but itself, light or dark as its reader prefers.

    Args:
        title: Of the page.
        lead: A line below it.
        body: What follows.
        css: Added to ``CSS``.
    """
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(CSS + css)),
    )
    header = element("header", element("h1", title), element("p", lead, class_="lead"))
    content = element("body", element("main", header, *body))
    return f'<!doctype html>\n<html lang="en">{element("head", head)}{content}</html>\n'


def section(heading: str, *parts: str, anchor: str | None = None) -> Html:
    """A heading and what is under it; ``anchor`` is what a link to it names."""
    return element("section", element("h2", heading, id=anchor), *parts)


def contents(sections: Sequence[tuple[str, str]]) -> Html:
    """Links to sections of the page: (anchor, name)."""
    links = [element("a", name, href=f"#{anchor}") for anchor, name in sections]
    return element("nav", *links, aria_label="Sections")


def folded(summary: str, *parts: str) -> Html:
    """What is shown only when its summary is opened."""
    return element("details", element("summary", summary), *parts)


def figures(items: Sequence[tuple[str, str, str]]) -> Html:
    """Tiles of (name, value, note), the value large."""
    tiles = [
        element(
            "div",
            element("span", name, class_="soft"),
            element("b", value),
            element("span", note, class_="soft"),
            class_="figure",
        )
        for name, value, note in items
    ]
    return element("div", *tiles, class_="figures")


def bars(heading: str, note: str, counts: Sequence[tuple[str, int]]) -> Html:
    """A box with one horizontal bar for each label and count."""
    most = max((count for _, count in counts), default=0)
    rows = [
        element(
            "div",
            element("span", label, title=label),
            element(
                "div", style=f"width:max({min(1, count)}px, {100 * count / max(1, most):.2f}%)"
            ),
            element("b", f"{count:,}"),
            class_="bar",
        )
        for label, count in counts
    ]
    return element(
        "div", element("h3", heading), element("p", note, class_="soft"), *rows, class_="box"
    )


def histogram(heading: str, note: str, counts: Sequence[tuple[str, int]]) -> Html:
    """A box with a column for each bin, in order, as an inline SVG.

    Args:
        heading: What is measured.
        note: Its figures in words.
        counts: Label and count of each bin; none: the note alone is shown.
    """
    picture = []
    if counts:
        picture.append(
            element(
                "svg",
                *_columns(counts),
                viewBox=f"0 0 {_CHART_WIDTH} {_CHART_BASE + 30}",
                class_="chart",
                role="img",
                aria_label=f"{heading}: {note}",
            )
        )
    words = element("p", note, class_="soft")
    return element("div", element("h3", heading), words, *picture, class_="box")


_CHART_WIDTH, _CHART_BASE = 360, 120


def _columns(counts: Sequence[tuple[str, int]]) -> list[Html]:
    """The columns, their labels as far as there is room, and the count of the highest."""
    step = _CHART_WIDTH / len(counts)
    highest = max(range(len(counts)), key=lambda place: counts[place][1])
    most = max(1, counts[highest][1])
    # Labels that would run into one another are left out; each column also has its own as title.
    every = max(1, -(-max(len(label) for label, _ in counts) * 7 // int(step)))
    base = _CHART_BASE
    parts = [element("line", x1=0, x2=_CHART_WIDTH, y1=base + 0.5, y2=base + 0.5)]
    for place, (label, count) in enumerate(counts):
        height = max(1.5 if count else 0.0, (base - 16) * count / most)
        middle = f"{(place + 0.5) * step:.1f}"
        parts.append(
            element(
                "rect",
                element("title", f"{label}: {count:,}"),
                x=f"{(place + 0.08) * step:.1f}",
                y=f"{base - height:.1f}",
                width=f"{0.84 * step:.1f}",
                height=f"{height:.1f}",
            )
        )
        if place == highest:
            parts.append(element("text", f"{count:,}", x=middle, y=11, text_anchor="middle"))
        if place % every == 0:
            parts.append(element("text", label, x=middle, y=base + 18, text_anchor="middle"))
    return parts


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A box with a table, which scrolls where the screen is narrow."""
    lines = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    top = element("thead", element("tr", *(element("th", cell, scope="col") for cell in head)))
    whole = element("table", top, element("tbody", *lines))
    return element("div", whole, class_="box scroll", tabindex=0)


def film_strip(thumbnails: Sequence[bytes], label: str, limit: int = 8) -> Html:
    """JPEG pictures side by side; says so where there are none.

    Args:
        thumbnails: JPEG files in time order.
        label: What a reader who does not see them is told.
        limit: At most so many, spread over all of them.
    """
    if not thumbnails:
        return element("div", "no pictures", class_="strip none")
    shown = chosen_pictures(thumbnails, limit)
    sources = ["data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for jpeg in shown]
    pictures = [element("img", src=source, alt="") for source in sources]
    return element("div", *pictures, class_="strip", role="img", aria_label=label)


def chosen_pictures(thumbnails: Sequence[bytes], limit: int) -> list[bytes]:
    """At most ``limit`` pictures, spread over all of them."""
    return [thumbnails[int(place)] for place in sample_positions(len(thumbnails), limit)]


def video_card(video: Video, thumbnails: Sequence[bytes], *more: str, limit: int = 8) -> Html:
    """A video's film strip, title, facts and tags.

    Args:
        video: The video.
        thumbnails: JPEG files in time order.
        more: Put between film strip and title.
        limit: Pictures at most.
    """
    seconds = video.duration_seconds
    facts = [
        video.id,
        video.category,
        f"{len(video.frames)}\N{NO-BREAK SPACE}frames",
        "" if seconds is None else f"{seconds:.1f}\N{NO-BREAK SPACE}s",
    ]
    tags = [element("span", tag, class_="tag") for tag in video.tags or ()]
    return element(
        "article",
        film_strip(thumbnails, f"Pictures of {video.title or video.id}", limit),
        *more,
        element("p", video.title, class_="title", dir="auto", lang=video.language or None)
        if video.title.strip()
        else element("p", "no title", class_="soft"),
        element("p", " · ".join(fact for fact in facts if fact), class_="soft"),
        element("div", *tags, class_="tags"),
        class_="card",
    )
