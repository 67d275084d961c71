"""A forecast of cost as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from vidvec.pipeline.scale.assumptions import Assumptions
    from vidvec.pipeline.scale.limits import Limit
    from vidvec.pipeline.scale.stages import StageCost


def forecast(
    videos: float,
    costs: Sequence[StageCost],
    scales: Mapping[float, Sequence[StageCost]],
    limits: Sequence[Limit],
    given: Assumptions,
) -> Iterator[Table | str]:
    """What ``vidvec plan`` prints.

    Args:
        videos: How many are asked for.
        costs: Of each stage for them.
        scales: The same for other numbers of videos.
        limits: What ends first, first.
        given: What it all starts from.
    """
    yield _stages(videos, costs, given)
    yield _bottlenecks(scales)
    yield _limits(videos, limits)
    yield (
        "Rates were measured on two cores with AVX-512; GPUs by what their maker states times "
        f"{given.machines.gpu_share:g}. Prices are examples: --set prices.gpu_hour=…"
    )


def _stages(videos: float, costs: Sequence[StageCost], given: Assumptions) -> Table:
    machines = given.machines
    title = (
        f"{_count(videos)} videos on {machines.gpus:g} GPUs and {machines.cores:g} cores in "
        f"{machines.count:.0f} machines"
    )
    month = costs[0].written / 1e9 * given.prices.gb_month
    table = Table(title=title, caption=f"keeping the corpus for a month: {_money(month)}")
    table.add_column("stage")
    for name in ("read", "written", "hours", "machines", "money"):
        table.add_column(name, justify="right")
    table.add_column("waits for")
    for cost in costs:
        goes_on = cost.name == "search"
        table.add_row(
            cost.name,
            _bytes(cost.read),
            f"{_bytes(cost.written)}{' in memory' if goes_on else ''}",
            "" if goes_on else _hours(cost.hours),
            f"{cost.machines:,.0f}",
            f"{_money(cost.money)}{' a month' if goes_on else ''}",
            cost.bound_by,
        )
    return table


def _bottlenecks(scales: Mapping[float, Sequence[StageCost]]) -> Table:
    table = Table(title="Where the bottleneck is")
    for name in ("videos", "slowest stage", "waits for", "most machines for search", "for its"):
        table.add_column(name)
    for videos, costs in scales.items():
        slowest = max(costs, key=lambda cost: cost.hours)
        search = costs[-1]
        table.add_row(
            _count(videos),
            f"{slowest.name}, {_hours(slowest.hours)}",
            slowest.bound_by,
            f"{search.machines:,.0f}",
            search.bound_by,
        )
    return table


def _limits(videos: float, limits: Sequence[Limit]) -> Table:
    table = Table(title="What would break first")
    table.add_column("what")
    table.add_column("videos", justify="right")
    for name in ("why", "beyond"):
        table.add_column(name)
    for limit in limits:
        style = "bold red" if limit.videos < videos else None
        table.add_row(limit.what, _count(limit.videos), limit.why, limit.then, style=style)
    return table


def _count(number: float) -> str:
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:.0f}"


def _bytes(number: float) -> str:
    for size, name in ((1e18, "EB"), (1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number / 1e3:.3g} kB"


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours / 24:,.1f} days"


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2f}"
