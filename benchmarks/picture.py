"""The ratios as a picture for the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Comparison

INK, BAR, FAINT = "#1f2328", "#2f6f9f", "#d0d7de"
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw(comparisons: Sequence[Comparison], subtitle: str, path: Path) -> None:
    """Bars on a logarithmic axis from 1, the plain way.

    Args:
        comparisons: From top to bottom.
        subtitle: Machine and date.
        path: Of the PNG.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.family": "DejaVu Sans", "text.color": INK, "font.size": 11}):
        figure = Figure(figsize=(8.4, 1.3 + 0.56 * len(comparisons)), dpi=150, layout="constrained")
        axes = figure.subplots()
        places = range(len(comparisons))
        axes.barh(places, [each.ratio for each in comparisons], color=BAR, height=0.4)
        for place, each in zip(places, comparisons, strict=True):
            axes.text(1.02, place - 0.27, each.what, va="bottom")
            axes.hlines(place, min(each.ratios), max(each.ratios), color=INK, linewidth=1.2)
            text = f"{each.ratio:.1f}×" if each.ratio < 20 else f"{each.ratio:.0f}×"
            axes.text(max(each.ratios) * 1.03, place, text, va="center", weight="bold")
        axes.set_yticks([])
        axes.set_ylim(len(comparisons) - 0.7, -0.8)
        axes.set_xscale("log")
        axes.set_xlim(1, max(10, 1.6 * max(max(each.ratios) for each in comparisons)))
        ticks = [tick for tick in TICKS if tick <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{tick}×" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=INK)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_title("Times faster than the published way, written plainly", loc="left", size=13)
        figure.supxlabel(subtitle, size=9, x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
