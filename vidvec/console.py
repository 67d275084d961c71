"""What results look like in a terminal: result objects in, rich renderables out, nothing computed.

Words that users wrote go in as ``Text``, so that brackets in a title are not taken for markup, and
without control characters, which a terminal would obey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from vidvec.doctor.findings import Finding
    from vidvec.embed.ablation import Ablation
    from vidvec.embed.backend import BackendLoss
    from vidvec.embed.evaluate import Evaluation
    from vidvec.metrics import Interval
    from vidvec.pipeline.results import Row
    from vidvec.pipeline.run import Forecast
    from vidvec.pipeline.runner import Failure, State
    from vidvec.pipeline.speed import Speeds
    from vidvec.train.profile import Profile
    from vidvec.train.reference import Difference

BAR = 24


def plain_table(*headings: str, **options: object) -> Table:
    """A plain table; headings that begin with ``>`` are of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, **options)  # type: ignore[arg-type]
    for heading in headings:
        number = heading.startswith(">")
        table.add_column(heading.lstrip(">"), justify="right" if number else "left")
    return table


def printable(text: str, style: str = "") -> Text:
    """Words of a user without what a terminal would obey."""
    return Text("".join(c if c.isprintable() else " " for c in text), style)


def evaluations(table: Sequence[tuple[str, Evaluation]]) -> Table:
    """A line for each name and its figures."""
    clean = any(figures.clean_spearman is not None for _, figures in table)
    missing = any(figures.missing for _, figures in table)
    headings = ["vectors", ">Spearman", ">95 % interval", ">Pearson", ">MSE", ">pairs"]
    headings += [">on pairs that share no video with training"] * clean
    headings += [">pairs without vectors"] * missing
    splits = ", ".join(sorted({figures.split for _, figures in table}))
    shown = plain_table(
        *headings, title=f"cosine against scores, split: {splits}", title_justify="left"
    )
    for name, figures in table:
        cells = [
            f"{figures.spearman.value:.4f}",
            _interval(figures.spearman),
            f"{figures.pearson.value:.4f}",
            f"{figures.mse.value:.4f}",
            f"{figures.pairs:,}",
        ]
        if clean:
            cells.append(str(figures.clean_spearman or ""))
        if missing:
            cells.append(f"{figures.missing:,}")
        shown.add_row(printable(name), *map(Text, cells))
    return shown


def ablation(name: str, found: Ablation) -> Table:
    """What each modality adds to a model of this name."""
    title = f"{name}: cosine against scores, split: {found.split}, {found.pairs:,} pairs"
    headings = ["read", ">videos with it", ">Spearman", ">95 % interval"]
    shown = plain_table(
        *headings, ">to everything", ">95 % interval", title=printable(title), title_justify="left"
    )
    for row in found.rows:
        cells = [row.name, "" if row.share is None else f"{row.share:.0%}"]
        measured = math.isfinite(row.spearman.value)  # not where all vectors are one
        cells += [f"{row.spearman.value:.4f}", _interval(row.spearman)] if measured else ["–", ""]
        if row.difference is not None and measured:
            cells += [f"{row.difference.value:+.4f}", _interval(row.difference, "+")]
        shown.add_row(*map(Text, cells))
    if found.absent:
        shown.caption = f"in no video: {', '.join(found.absent)}"
        shown.caption_justify = "left"
    return shown


def _interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.low:{sign}.4f} … {interval.high:{sign}.4f}"


def differences(found: Sequence[Difference], everything: bool) -> Table:
    """The largest relative difference of each loss, of the gradients, and of each other number.

    Args:
        found: One for each expected number.
        everything: Every gradient on a line of its own; else the worst, and those that fail.
    """
    shown = plain_table("number", ">relative difference", ">allowed", "")
    gradients = [each for each in found if each.name.startswith("grad_norm/")]
    worst = max(gradients, key=lambda each: each.relative, default=None)
    for each in found:
        if everything or each not in gradients or each is worst or not each.holds:
            verdict = Text("holds", "green") if each.holds else Text("differs", "bold red")
            known = each.relative < float("inf")
            figure = f"{each.relative:.2e}" if known else "missing"
            shown.add_row(printable(each.name), figure, f"{each.tolerance:.0e}", verdict)
    shown.caption = f"{len(found)} numbers, {len(gradients)} of them gradients"
    return shown


def duration(seconds: float) -> str:
    """A length of time in the unit that fits: seconds, minutes, hours or days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def plan(expected: Forecast) -> Table:
    """The stages of a plan: which are done, and what the others will take."""
    shown = plain_table("stage", "", ">about", ">disk", "makes")
    for stage in expected.stages:
        guess = expected.estimates[stage.name]
        to_run = stage.name in expected.to_run
        shown.add_row(
            printable(stage.name),
            Text("to do") if to_run else Text("done", "green"),
            duration(guess.seconds) if to_run else "",
            f"{guess.bytes / 1e6:,.0f} MB" if to_run else "",
            printable(str(stage.output), "dim"),
        )
    return shown


def stage_line(state: State, name: str) -> str:
    """What happened to a stage just now."""
    if name in state.failed:
        return f"{name}: failed"
    if name in state.done:
        return f"{name}: done in {duration(state.done[name])}"
    return f"{name}: begun"


def failure(found: Failure) -> Text:
    """A stage that failed: its last lines, its log, and what to type to repeat it."""
    how = f"exit {found.status}" if found.status >= 0 else f"killed by signal {-found.status}"
    lines = "".join(f"  | {printable(line)}\n" for line in found.tail)
    return Text.assemble(
        ("failed: ", "bold red"),
        f"{found.stage.name} ({how}); its last lines, of {found.log}:\n{lines}",
        f"  to repeat it: {found.command}",
    )


def plan_table(rows: Sequence[Row]) -> Table:
    """A line for each job and each fusion, with the published figures where they are known."""
    known = any(row.published for row in rows)
    split = next((row.figures.split for row in rows if row.figures), "which leaves no pairs")
    leaky = split == "published"
    headings = ["model", ">Spearman", ">95 % interval", ">MSE", ">pairs"]
    headings += [">clean Spearman"] * leaky + [">published", ">MSE"] * known
    shown = plain_table(*headings, title=f"validation pairs, split: {split}", title_justify="left")
    for row in rows:
        figures = row.figures
        cells = [""] * (4 + leaky)
        if figures:
            clean = figures.clean_spearman
            cells = [
                f"{figures.spearman.value:.4f}",
                _interval(figures.spearman),
                f"{figures.mse.value:.4f}",
                f"{figures.pairs:,}",
                *([f"{clean.value:.4f}" if clean else ""] * leaky),
            ]
        if known:
            there = row.published
            cells += [f"{there.spearman:.4f}", f"{there.mse:.4f}"] if there else ["", ""]
        shown.add_row(printable(row.name), *map(Text, cells))
    ranked = max((row.members for row in rows), key=len)
    notes = [f"best first: {', '.join(ranked)}"] * bool(ranked)
    if leaky:
        notes.append("clean: on the pairs that share no video with training")
    shown.caption, shown.caption_justify = "; ".join(notes), "left"
    return shown


def profile(found: Profile) -> Table:
    """Where a step's time goes, with what it comes to below."""
    shown = plain_table("a pretraining step", ">ms", ">share", "")
    for part in found.parts:
        share = part.seconds / found.seconds
        name = f"  {part.name}" if part.inside else part.name
        style = "dim" if part.inside else ""
        bar = Text("█" * round(BAR * share), "blue dim" if part.inside else "blue")
        milliseconds = Text(f"{1000 * part.seconds:,.1f}", style)
        shown.add_row(Text(name, style), milliseconds, Text(f"{share:.1%}", style), bar)
    shown.caption_justify = "left"
    shown.caption = (
        f"{found.device}, {found.steps} steps: {found.videos_per_second:,.0f} videos/s, "
        f"{found.tokens_per_second:,.0f} tokens/s; padding {found.padding_share:.1%} of what runs; "
        f"{found.flops / 1e9:,.1f} GFLOP a step, {found.utilisation:.1%} of the "
        f"{found.matrix_rate / 1e9:,.0f} GFLOP/s of one large product (float32)"
    )
    return shown


def speeds(found: Speeds) -> Table:
    """What this machine does a second."""
    shown = plain_table(found.device, ">a second", "")
    rows = [
        ("read and batch, one thread", found.loader, "videos"),
        ("pretrain", found.pretrain, "videos"),
        ("finetune", found.finetune, "pairs"),
        ("embed", found.embed, "videos"),
    ]
    for name, speed, unit in rows:
        if speed is not None:
            shown.add_row(name, f"{speed:,.0f}", unit)
    return shown


_STATUS = {"ok": "green", "note": "yellow", "problem": "bold red"}


def finding(found: Finding) -> Table:
    """What a check of the machine found, and what to do about it."""
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(width=7)
    row.add_column(width=14, overflow="fold")
    row.add_column(ratio=1, overflow="fold")
    said = printable(found.found)
    if found.advice:
        said.append_text(Text("\n→ ", "bold")).append_text(printable(found.advice, "bold"))
    row.add_row(Text(found.status, _STATUS[found.status]), printable(found.name), said)
    return row


def backend_loss(backend: str, loss: BackendLoss) -> str:
    """What a backend costs against float32."""
    line = (
        f"  {backend} against float32, {loss.videos} videos: cosine {loss.cosine:.5f}, "
        f"least {loss.lowest_cosine:.5f}"
    )
    if loss.pairs:
        change = loss.spearman - loss.spearman_float32
        line += f"; Spearman {loss.spearman:.4f} ({change:+.4f}) on {loss.pairs} pairs"
    return line
