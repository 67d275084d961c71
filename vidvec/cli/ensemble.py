"""Commands that make one of several: fuse, soup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vidvec.cli.shared import Location, NumbersOption, err, out, print_json, progress
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.embed.fuse_report import FuseReport
    from vidvec.embed.fusion import Fusion
    from vidvec.embed.weights_fit import FittedWeights

SplitOption = Literal["clean", "balanced", "published", "all"]


def fuse(
    *members: Location,
    to: Annotated[Path, Parameter(name="--out")],
    weights: NumbersOption = None,
    size: int = 256,
    method: Literal["streaming", "exact"] = "streaming",
    fit_weights: Annotated[bool, Parameter(negative="")] = False,
    corpus: Location | None = None,
    split: SplitOption = "clean",
    report: Annotated[bool, Parameter(negative="")] = False,
    html: Path | None = None,
    workers: int | None = None,
    on: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Fuse several models' vectors of the same videos into one.

    Args:
        members: Folders of vectors.
        to: Folder of the fused vectors.
        weights: One a model; equal without.
        size: Numbers in a fused vector.
        method: exact takes the SVD of all vectors in memory; streaming needs memory for one block.
        fit_weights: Fit the weights on the corpus's scored pairs; equal ones stay where that does
            not help on pairs left out.
        corpus: With scored pairs, for --fit-weights and --report.
        split: Whose validation pairs: clean, balanced, published, or all.
        report: Say what each member adds, what the SVD costs, and the price in milliseconds.
        html: Write the report as a page, too.
        workers: Processes that share the work, to the same vectors; on a cluster, at most so many.
        on: Of a cluster: ray (started on this machine), HOST:PORT or ray://HOST:PORT; all its
            machines must see the folders under the same paths.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec import console_ensemble as console
    from vidvec.storage import read_manifest

    _check_options(weights, fit_weights, corpus, report, html)
    if method == "exact" and (workers, on) != (None, None):
        raise UsageError("--method exact takes all vectors in one process: give no workers")
    found = _fitted(members, corpus, split) if fit_weights and corpus else None
    chosen = weights if found is None else list(found.weights)
    facts = None if found is None else found.facts()
    fusion = _fused(
        members,
        to,
        weights=chosen,
        size=size,
        method=method,
        facts=facts,
        workers=workers,
        on=on,
    )
    measured = _report(to, corpus, split, html) if report and corpus else None
    left_out = read_manifest(to, "vectors")["made_by"].get("left_out", [])
    kept, dimension = fusion.kept, fusion.projection.shape[1]
    if as_json:
        made: dict[str, Any] = {"vectors": str(to), "numbers": dimension, "kept": kept}
        made |= {"weights": fusion.weights.tolist(), "left_out": left_out}
        made["fit"] = None if found is None else asdict(found)
        print_json(made | {"report": None if measured is None else asdict(measured)})
        return
    lines = [] if found is None else console.fitted(found)
    lines.append(f"{to}: {len(members)} models, {dimension} numbers, {kept:.2%} of the length kept")
    for member, count in zip(members, left_out, strict=False):
        lines.append(f"left out: {count} videos of {member} that are not in all")
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
    if measured is not None:
        for part in console.fuse_report(measured):
            out.print(part, highlight=False, soft_wrap=not hasattr(part, "columns"))


def _check_options(
    weights: list[float] | None,
    fit_weights: bool,
    corpus: Path | None,
    report: bool,
    html: Path | None,
) -> None:
    if weights is not None and fit_weights:
        raise UsageError("--weights gives the weights that --fit-weights would find: give one")
    if corpus is None and (fit_weights or report):
        option = "--fit-weights" if fit_weights else "--report"
        raise UsageError(f"{option} measures on scored pairs: give --corpus CORPUS")
    if html is not None and not report:
        raise UsageError("--html is the report's page: give --report, too")


def _fused(
    members: tuple[Path, ...],
    to: Path,
    *,
    weights: list[float] | None,
    size: int,
    method: Literal["streaming", "exact"],
    facts: dict[str, Any] | None,
    workers: int | None,
    on: str | None,
) -> Fusion:
    """The fusion, by this process or by workers."""
    from vidvec.cli.workers import opened_workers
    from vidvec.embed.fusion import fuse as run
    from vidvec.embed.fusion_parts import fuse_in_parts

    with opened_workers(workers, on) as opened:
        if opened is None:
            return run(list(members), to, weights, size, method, weights_from=facts)
        with progress("fuse", transient=True) as update:
            return fuse_in_parts(
                list(members),
                to,
                weights,
                size,
                workers=opened,
                weights_from=facts,
                progress=update,
            )


def _fitted(members: tuple[Path, ...], corpus: Path, split: str) -> FittedWeights:
    from vidvec.data.corpus import Corpus
    from vidvec.embed.evaluate import split_of
    from vidvec.embed.vectors import Vectors
    from vidvec.embed.weights_fit import fit_weights

    vectors, opened = [Vectors(path) for path in members], Corpus(corpus)
    return fit_weights(vectors, opened.pairs(), split_of(opened, split), names=members)


def _report(fused: Path, corpus: Path, split: str, html: Path | None) -> FuseReport:
    from vidvec.data.corpus import Corpus
    from vidvec.embed.fuse_page import write_page
    from vidvec.embed.fuse_report import fuse_report

    with progress("time the members", transient=True) as update:
        found = fuse_report(fused, Corpus(corpus), split, progress=update)
    if html is not None:
        write_page(html, found)
    return found


def soup(
    *runs: Path,
    to: Annotated[Path, Parameter(name="--out")],
    corpus: Location | None = None,
    split: SplitOption = "clean",
    greedy: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Average the weights of several models of one shape into one model.

    It holds where they were tuned from one start, as with other seeds, folds or rates.

    Args:
        runs: Runs or checkpoints.
        to: Folder of the new checkpoint, which embed, search and serve take.
        corpus: With scored pairs, to say how the soup does beside its best model.
        split: Whose validation pairs: clean, balanced, published, or all.
        greedy: Take in a model only where that does not lower the figure on these pairs.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec import console_ensemble as console
    from vidvec.data.corpus import Corpus
    from vidvec.embed.soup import soup as run

    opened = None if corpus is None else Corpus(corpus)
    with progress("soup", transient=True) as update:
        report = run(list(runs), to, opened, split, greedy=greedy, progress=update)
    if as_json:
        print_json({"checkpoint": str(to), **asdict(report), "worse": report.worse})
        return
    out.print(console.soup(str(to), report))
    for line in console.soup_verdict(report):
        said = err if line.startswith("warning") else out
        said.print(line, highlight=False, soft_wrap=True)
