"""The map as a picture (PNG), or as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data import html
from vidvec.data.corpus import Corpus
from vidvec.data.fonts import Fonts
from vidvec.errors import UsageError
from vidvec.search.index import corpus_of
from vidvec.search.map import POINTS, Theme, VideoMap
from vidvec.search.themes import NAME_WORDS

# Ten hues that are told apart, in a light and a dark shade each, then again.
_HUES = ("4e79a7", "f28e2b", "59a14f", "e15759", "76b7b2", "b07aa1", "edc948", "9c755f")
_SHADES = (1.0, 0.62, 1.3)
COLOURS = tuple(
    "#" + "".join(f"{min(255, int(int(hue[i : i + 2], 16) * shade)):02x}" for i in (0, 2, 4))
    for shade in _SHADES
    for hue in _HUES
)
SIZE = 1000
_LETTERS = 26
_CSS = """
svg.map { display: block; width: 100%; height: auto; background: var(--card); }
svg.map text { font: 600 15px system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif;
  fill: var(--ink); stroke: var(--card); stroke-width: 4px; paint-order: stroke;
  text-anchor: middle; pointer-events: none; }
.dot { display: inline-block; width: .8em; height: .8em; border-radius: 50%; }
"""


def check_picture(path: Path) -> None:
    """Refuses names that end in something else than ``.png`` or ``.html``.

    Raises:
        UsageError: It does.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise UsageError(f"{path}: a map is written as .png or .html")


def write_picture(path: Path, made: VideoMap, vectors: Path, corpus: Path | None = None) -> None:
    """Writes the map as a picture or, where the name ends in ``.html``, as a page.

    Args:
        path: The file.
        made: The map.
        vectors: The folder that it is of.
        corpus: Whose titles the page shows under the pointer; ``None``: the one embedded.

    Raises:
        UsageError: The name ends in something else.
    """
    check_picture(path)
    if path.suffix.lower() == ".png":
        _write_png(path, made)
        return
    text = _page(made, vectors, corpus_of(vectors, corpus))
    with storage.atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def colour(theme: int) -> str:
    """The colour of a theme, as ``#rrggbb``."""
    return COLOURS[theme % len(COLOURS)]


def _shown(made: VideoMap) -> NDArray[np.int64]:
    """Rows of the videos that a picture shows: all, or ``POINTS`` of them spread over the rest."""
    if len(made.ids) <= POINTS:
        return np.arange(len(made.ids))
    return np.sort(np.random.default_rng(0).permutation(len(made.ids))[:POINTS])


# --- PNG ------------------------------------------------------------------------------------------


def _write_png(path: Path, made: VideoMap) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 11), dpi=110, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axis.axis("off")
    axis.set_aspect("equal")
    axis.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
    rows = _shown(made)
    palette = np.array([colour(theme) for theme in range(len(made.themes))])
    size = float(np.clip(60_000 / max(1, len(rows)), 3, 60))
    x, y = made.points[rows].T
    axis.scatter(x, y, s=size, c=palette[made.theme_of[rows]], alpha=0.65, linewidths=0)
    _label(axis, canvas, made.themes)
    with storage.atomic_path(path) as temporary:
        canvas.print_png(str(temporary))


def _label(axis: Any, canvas: Any, themes: Sequence[Theme]) -> None:
    """Writes names at their themes, moved where they would lie over one another."""
    from matplotlib import patheffects

    fonts = Fonts()
    drawn = []
    for theme in themes:
        # A name with two dollar signs is no formula.
        text = axis.text(
            theme.x,
            theme.y,
            _drawable(theme, fonts),
            family=fonts.names,
            fontsize=12,
            fontweight="bold",
            color="#1c1e21",
            ha="center",
            va="center",
            parse_math=False,
            path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
        )
        drawn.append(text)
    renderer = canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in drawn]
    sizes = np.array([(box.width, box.height) for box in boxes]).reshape(-1, 2)
    centres = np.array([((b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2) for b in boxes]).reshape(-1, 2)
    frame = axis.get_window_extent(renderer)
    low, high = (frame.x0, frame.y0), (frame.x1, frame.y1)
    moved = spread_labels(centres, sizes, np.array(low), np.array(high))
    for text, place in zip(drawn, moved, strict=True):
        text.set_position(axis.transData.inverted().transform(place))


def _drawable(theme: Theme, fonts: Fonts) -> str:
    """A theme's name, or else those of its words that the fonts at hand can draw."""
    if fonts.draws(theme.name):
        return fonts.shortened(theme.name, _LETTERS)
    words = [word for word in theme.words if fonts.draws(word)]
    return fonts.shortened(", ".join(words[:NAME_WORDS]), _LETTERS) or f"#{theme.id + 1}"


def spread_labels(
    centres: NDArray[np.float64],
    sizes: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    rounds: int = 500,
) -> NDArray[np.float64]:
    """Moves boxes as little as need be until none lies over another.

    Args:
        centres: (n, 2) of the boxes.
        sizes: (n, 2) widths and heights.
        low: (2,) corner of the frame that boxes stay in, as far as they fit.
        high: (2,) the opposite corner.
        rounds: At most so many.

    Returns:
        (n, 2) centres.
    """
    found = centres.astype(np.float64).copy()
    half = sizes / 2
    inner_low, inner_high = low + half, np.maximum(high - half, low + half)
    for _ in range(rounds):
        found = np.clip(found, inner_low, inner_high)
        moved = False
        for one in range(len(found)):
            for other in range(one):
                over = half[one] + half[other] + 1 - np.abs(found[one] - found[other])
                if (over <= 0).any():
                    continue
                moved = True
                way = int(over.argmin())  # the shorter way out
                sign = 1.0 if found[one, way] >= found[other, way] else -1.0
                found[one, way] += sign * over[way] / 2
                found[other, way] -= sign * over[way] / 2
        if not moved:
            break
    return found


# --- a page ---------------------------------------------------------------------------------------


def _page(made: VideoMap, vectors: Path, corpus: Corpus | None) -> str:
    rows = _shown(made)
    several = f", {len(rows):,} of them drawn" if len(rows) < len(made.ids) else ""
    lead = f"{len(made.ids):,} videos of {vectors}, {len(made.themes)} themes{several}"
    table = html.table(
        ("", "theme", "videos", "words"),
        [
            (
                html.element("span", class_="dot", style=f"background:{colour(theme.id)}"),
                theme.name,
                f"{theme.count:,}",
                ", ".join(theme.words),
            )
            for theme in made.themes
        ],
    )
    return html.page(
        "Map",
        lead,
        html.element("div", _drawing(made, rows, corpus), class_="box"),
        html.section("Themes", table),
        css=_CSS,
    )


def _drawing(made: VideoMap, rows: NDArray[np.int64], corpus: Corpus | None) -> html.Html:
    titles = None if corpus is None else corpus.column("title")
    radius = f"{np.clip(200 / np.sqrt(max(1, len(rows))), 1.5, 6):.1f}"
    groups: list[list[html.Html]] = [[] for _ in made.themes]
    for row in rows.tolist():
        video = made.ids[row]
        known = corpus is not None and titles is not None and video in corpus
        title = titles[corpus.row(video)].as_py() if known and corpus and titles else ""
        x, y = _on_page(made.points[row])
        name = html.element("title", f"{title} ({video})" if title.strip() else video)
        groups[int(made.theme_of[row])].append(
            html.element("circle", name, cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius)
        )
    parts = [
        html.element("g", *circles, fill=colour(theme), fill_opacity="0.7")
        for theme, circles in enumerate(groups)
    ]
    centres = np.array([_on_page((theme.x, theme.y)) for theme in made.themes])
    sizes = np.array([(9.0 * _width(theme.name) + 8, 20.0) for theme in made.themes])
    moved = spread_labels(centres, sizes, np.zeros(2), np.full(2, float(SIZE)))
    for theme, (x, y) in zip(made.themes, moved.tolist(), strict=True):
        parts.append(html.element("text", theme.name, x=f"{x:.1f}", y=f"{y + 5:.1f}"))
    label = f"Map of {len(made.ids):,} videos"
    box = f"0 0 {SIZE} {SIZE}"
    return html.element("svg", *parts, viewBox=box, class_="map", role="img", aria_label=label)


def _on_page(point: Any) -> tuple[float, float]:
    x, y = float(point[0]), float(point[1])
    return SIZE / 2 * (1 + 0.94 * x), SIZE / 2 * (1 - 0.94 * y)


def _width(text: str) -> int:
    """Letters of a text, wide ones counted twice."""
    return sum(2 if ord(each) > 0x2E7F else 1 for each in text)
