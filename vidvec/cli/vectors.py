"""Commands on vectors: embed, evaluate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.bulk import Bulk
from vidvec.cli.costs import Small
from vidvec.cli.costs import show as show_costs
from vidvec.cli.scorecard import Card
from vidvec.cli.scorecard import show as show_card
from vidvec.cli.shared import Location, err, out, print_json, progress
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.config import Backend, Modality
    from vidvec.embed.evaluate import Evaluation
    from vidvec.search.worst import WorstPairs

WithoutOption = Annotated[
    list[Literal["frames", "audio", "title", "speech", "screen"]],
    Parameter(negative="", consume_multiple=True),
]


def embed(
    checkpoint: Path,
    corpus: Location,
    vectors: Location,
    /,
    *,
    parts: Annotated[list[str], Parameter(negative="", consume_multiple=True)] = [],  # noqa: B006 - never changed
    backend: Literal["auto", "float32", "bf16", "int8"] = "auto",
    without: WithoutOption = [],  # noqa: B006 - never changed
    size: int | None = None,
    bulk: Bulk = Bulk(),  # noqa: B008 - never changed
) -> None:
    """Turn every video of a corpus into a vector; started again, it carries on.

    Args:
        checkpoint: A run or a checkpoint.
        corpus: The corpus.
        vectors: Folder of the vectors.
        parts: Only videos from these folders of the source, such as pairwise test_a test_b.
        backend: How products are computed: float32, bf16, or on a CPU int8; auto takes bf16 on a
            GPU that has it. For int8 and bf16 it is said what they cost on a sample.
        without: Read none of these of any video: frames, audio, title, speech, screen.
        size: Keep only the first so many numbers of each vector, brought to length 1: smaller
            vectors, which a model gives well that was trained with finetune.prefixes.
        bulk: On a Ray cluster.
    """
    from vidvec import console
    from vidvec.data.corpus import Corpus
    from vidvec.embed.backend import backend_loss
    from vidvec.embed.embedder import embed as here
    from vidvec.pipeline.bulk.embed import bulk_embed

    where = bulk.options()
    run = here if where is None else partial(bulk_embed, bulk=where)
    with progress("embed") as update:
        count = run(
            *(checkpoint, corpus, vectors),
            progress=update,
            parts=parts,
            backend=backend,
            without=without,
            size=size,
        )
    out.print(f"{vectors}: {count} vectors", highlight=False)
    if size is not None:
        _say_untrained(checkpoint, size)
    if backend in ("int8", "bf16"):
        loss = backend_loss(checkpoint, Corpus(corpus), backend)
        out.print(console.backend_loss(backend, loss), highlight=False, soft_wrap=True)


def _say_untrained(checkpoint: Path, size: int) -> None:
    """A note, where a model was not trained to have its vectors cut to this size."""
    from vidvec.embed.embedder import Encoder

    trained = Encoder.load(checkpoint).trained_sizes
    if size not in trained:
        err.print(
            f"note: {checkpoint} was trained for vectors of {', '.join(map(str, trained))} "
            f"numbers, not of {size}: vidvec evaluate --sizes shows what that costs, and "
            "finetune.prefixes in the recipe trains for it",
            highlight=False,
            markup=False,
        )


def evaluate(
    *vectors: Location,
    corpus: Location | None = None,
    split: Literal["clean", "balanced", "published", "all"] = "clean",
    without: WithoutOption = [],  # noqa: B006 - never changed
    ablation: Annotated[bool, Parameter(negative="")] = False,
    backend: Literal["auto", "float32", "bf16", "int8"] = "auto",
    worst: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    card: Card = Card(),  # noqa: B008 - never changed
    small: Small = Small(),  # noqa: B008 - never changed
) -> None:
    """Compare cosines with the corpus's scores: Spearman, Pearson, MSE, with 95 % intervals.

    Args:
        vectors: Folders of vectors; or runs and checkpoints, of which the pairs' videos are
            embedded in memory.
        corpus: The corpus with the scored pairs.
        split: Which pairs: clean (no video shared with training), balanced (the same, fewer pairs
            lost), published (the 2021 split, which leaks), or all.
        without: Of runs and checkpoints: read none of these of any video: frames, audio, title,
            speech, screen.
        ablation: Of runs and checkpoints: what each of these adds, by leaving each out and by
            each alone, with intervals of the difference.
        backend: Of runs and checkpoints: as in vidvec embed.
        worst: Of folders of vectors: also show so many of the pairs whose cosine is ranked furthest
            from their score, and what each modality adds to it.
        as_json: Print JSON.
        card: The scorecard.
        small: What smaller vectors cost.
    """
    from dataclasses import asdict

    from vidvec import console, console_search

    if corpus is not None:
        _warn_of_fitted(vectors, corpus, split)
    if card.asked:
        show_card(card, vectors, corpus, split, as_json)
        return
    card.check_unasked()
    if small.asked:
        show_costs(small, vectors, corpus, split, as_json)
        return
    small.check_unasked()
    if corpus is None:
        raise UsageError("the scored pairs are in the corpus: give --corpus")
    _check_options(vectors, without, ablation, worst)
    if ablation:
        _ablation(vectors, corpus, split, backend, as_json)
        return
    table = _evaluations(vectors, corpus, split, without, backend)
    pairs = {str(path): _worst(path, corpus, split, worst) for path in vectors if worst}
    if as_json:
        rows = {name: asdict(figures) for name, figures in table}
        for name, found in pairs.items():
            rows[name]["worst"] = asdict(found)["pairs"]
        print_json(rows)
        return
    out.print(console.evaluations(table))
    for name, found in pairs.items():
        out.print(console_search.worst_pairs(name, found, _titles(corpus, found)))


def _check_options(
    vectors: tuple[Path, ...], without: list[Modality], ablation: bool, worst: int
) -> None:
    """Refuses options of ``evaluate`` that do not go with what is evaluated."""
    from vidvec.model.weights import is_model

    if not vectors:
        raise UsageError("nothing to evaluate: give at least one folder of vectors")
    if without and ablation:
        raise UsageError("--ablation leaves out one after the other: give it without --without")
    made = [path for path in vectors if not is_model(path)]
    if made and (without or ablation):
        option = "--ablation" if ablation else "--without"
        raise UsageError(
            f"{made[0]} is no run and no checkpoint: with {option} videos are embedded anew, which "
            "takes a model"
        )
    if worst < 0 or (worst and len(made) < len(vectors)):
        raise UsageError(f"--worst {worst}: expected 1 or more, and folders of vectors alone")


def _warn_of_fitted(paths: tuple[Path, ...], folder: Path, split: str) -> None:
    """Says of which fusions the weights were fitted on the pairs that are measured on."""
    from vidvec import storage
    from vidvec.data.corpus import Corpus
    from vidvec.embed.weights_fit import fitted_here

    for path in paths:
        if not (path / storage.MANIFEST).is_file():
            continue
        made_by = storage.read_json(path / storage.MANIFEST).get("made_by")
        found = fitted_here(made_by, Corpus(folder), split) if made_by else None
        if found is None:
            continue
        left_out = "" if found.spearman is None else f": on pairs left out {found.spearman:.4f}"
        err.print(
            f"{path}: its weights were fitted on {found.shared:,} of these pairs (--split "
            f"{found.split}), which favours them here{left_out}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _evaluations(
    paths: tuple[Path, ...], folder: Path, split: str, without: list[Modality], backend: Backend
) -> list[tuple[str, Evaluation]]:
    """Name and figures of each folder of vectors and each model."""
    from vidvec.data.corpus import Corpus
    from vidvec.embed.ablation import evaluate_model
    from vidvec.embed.evaluate import evaluate as measure
    from vidvec.embed.evaluate import split_of
    from vidvec.embed.vectors import Vectors
    from vidvec.model.weights import is_model

    corpus = Corpus(folder)
    named = f" without {', '.join(without)}" if without else ""
    table = []
    for path in paths:
        if is_model(path):
            figures = evaluate_model(path, corpus, split, without=without, backend=backend)
        else:
            figures = measure(Vectors(path), corpus.pairs(), split_of(corpus, split))
        table.append((f"{path}{named}", figures))
    return table


def _worst(vectors: Path, folder: Path, split: str, count: int) -> WorstPairs:
    """The worst pairs, with what each modality adds where the models are still there."""
    from vidvec.data.corpus import Corpus
    from vidvec.errors import FormatError
    from vidvec.search.query import QueryEncoder
    from vidvec.search.worst import worst_pairs

    corpus = Corpus(folder)
    try:
        encoder = QueryEncoder.load(vectors)
    except (UsageError, FormatError) as error:
        err.print(f"modalities are not told apart: {error}", highlight=False, markup=False)
        return worst_pairs(vectors, corpus, split, limit=count)
    with encoder:
        return worst_pairs(vectors, corpus, split, limit=count, encoder=encoder)


def _titles(folder: Path, worst: WorstPairs) -> dict[str, str]:
    from vidvec.data.corpus import Corpus

    corpus = Corpus(folder)
    ids = {video for pair in worst.pairs for video in (pair.id_1, pair.id_2)}
    return {video: corpus.video(corpus.row(video)).title for video in ids}


def _ablation(
    paths: tuple[Path, ...], folder: Path, split: str, backend: Backend, as_json: bool
) -> None:
    from dataclasses import asdict

    from vidvec import console
    from vidvec.data.corpus import Corpus
    from vidvec.embed.ablation import ablate

    found = {}
    for path in paths:
        with progress(f"ablation of {path}", transient=True) as update:
            found[str(path)] = ablate(path, Corpus(folder), split, backend=backend, progress=update)
    if as_json:
        print_json({name: asdict(ablation) for name, ablation in found.items()})
        return
    for name, ablation in found.items():
        out.print(console.ablation(name, ablation))
