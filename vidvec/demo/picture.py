"""One picture of what a search finds: queries, and their nearest videos beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.corpus import Corpus
from vidvec.data.fonts import Fonts
from vidvec.data.sampling import sample_positions
from vidvec.demo.neighbours import choose_queries, nearest, pair_scores
from vidvec.embed.vectors import Vectors

FRAMES = 3
FRAME_HEIGHT, FRAME_WIDTH, GAP = 90, 120, 4
_BLUE = "#2563b8"
# Letters of caption and title together that fit under a strip.
_LETTERS = 41


def write_picture(
    path: Path,
    corpus: Corpus,
    vectors: Vectors,
    *,
    queries: int = 4,
    neighbours: int = 4,
    seed: int = 0,
) -> None:
    """Draws film strips of queries and of their nearest videos, with cosines, as PNG.

    A title is left out where no installed font has its characters.

    Args:
        path: The PNG file.
        corpus: The videos.
        vectors: Of the videos.
        queries: Rows, one a query.
        neighbours: Videos beside each query.
        seed: Of the choice of queries.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = nearest(vectors, choose_queries(corpus, vectors, queries, seed), neighbours)
    scores = pair_scores(corpus.pairs())
    fonts = Fonts()
    rows, columns = max(1, len(found)), neighbours + 1
    figure = Figure(figsize=(3.2 * columns, 1.15 * rows + 0.15), dpi=100, facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
        axis.set_anchor("N")
    for line, each in zip(axes, found, strict=False):
        _draw(line[0], corpus, each.query, "query", fonts, framed=True)
        for axis, hit in zip(line[1:], each.hits, strict=False):
            score = scores.get(frozenset((each.query, hit.id)))
            scored = "" if score is None else f", scored {score:.3g}"
            _draw(axis, corpus, hit.id, f"{hit.cosine:.3f}{scored}", fonts)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.99, bottom=0.01, wspace=0.03, hspace=0.06)
    with storage.atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def film_strip(thumbnails: Sequence[bytes], frames: int = FRAMES) -> NDArray[np.uint8]:
    """JPEG pictures side by side on black, (height, width, 3) uint8 RGB.

    Each is cut, in the middle, to the shape that all have. Where there are none, or one cannot be
    read, its place stays dark.
    """
    import cv2

    height, width = FRAME_HEIGHT + 2 * GAP, frames * (FRAME_WIDTH + GAP) + GAP
    strip = np.full((height, width, 3), 30, np.uint8)
    for place, shown in enumerate(sample_positions(len(thumbnails), frames)):
        image = cv2.imdecode(np.frombuffer(thumbnails[int(shown)], np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            continue
        scale = max(FRAME_HEIGHT / image.shape[0], FRAME_WIDTH / image.shape[1])
        size = tuple(int(np.ceil(side * scale)) for side in image.shape[1::-1])
        image = cv2.cvtColor(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB
        )
        top, left = (image.shape[0] - FRAME_HEIGHT) // 2, (image.shape[1] - FRAME_WIDTH) // 2
        start = GAP + place * (FRAME_WIDTH + GAP)
        cut = image[top : top + FRAME_HEIGHT, left : left + FRAME_WIDTH]
        strip[GAP : GAP + FRAME_HEIGHT, start : start + FRAME_WIDTH] = cut
    return strip


def _draw(
    axis: Any, corpus: Corpus, video_id: str, caption: str, fonts: Fonts, *, framed: bool = False
) -> None:
    known = video_id in corpus
    row = corpus.row(video_id) if known else 0
    strip = film_strip(corpus.thumbnails(row) if known else ())
    axis.imshow(strip, interpolation="antialiased")
    if framed:
        axis.add_patch(_frame(strip))
    # A title with two dollar signs is no formula.
    style = {"fontsize": 9, "family": fonts.names, "va": "top", "parse_math": False}
    below = strip.shape[0] + 5
    drawn = axis.text(0, below, caption, color="#1c1e21", fontweight="bold", **style)
    title = fonts.shortened(corpus.video(row).title, _LETTERS - len(caption)) if known else ""
    beside = {"xycoords": drawn, "xytext": (6, 0), "textcoords": "offset points"}
    axis.annotate(title, (1, 1), color="#555b64", **beside, **style)


def _frame(strip: NDArray[np.uint8]) -> Any:
    from matplotlib.patches import Rectangle

    height, width = strip.shape[:2]
    place = (-0.5, -0.5)
    return Rectangle(place, width, height, fill=False, edgecolor=_BLUE, linewidth=3, clip_on=False)
