"""The command line: parse, call one function of a stage, print."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vidvec import __version__
from vidvec.errors import UsageError, VidvecError

if TYPE_CHECKING:
    from vidvec.config import Recipe
    from vidvec.train.trainer import OnStep, TrainReport

app = App(
    name="vidvec",
    version=__version__,
    help="One vector per video: ingest, pretrain, finetune, embed, evaluate, fuse, search.",
)
# Names of files and titles are printed as they are, even with [brackets] or :colons: in them.
out = Console(markup=False, emoji=False)
err = Console(stderr=True, emoji=False)

SetOption = Annotated[list[str], Parameter(name="--set", negative="")]
NumbersOption = Annotated[list[float] | None, Parameter(negative="", consume_multiple=True)]
RecipeOption = Annotated[str, Parameter(name="--recipe")]


@contextmanager
def _progress(description: str, transient: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar in a terminal's error stream; yields ``update(done, total, note)``."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    quiet = not err.is_terminal
    with Progress(*columns, console=err, transient=transient, disable=quiet) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def _training(stage: str) -> Iterator[OnStep]:
    with _progress(stage) as update:

        def on_step(step: int, steps: int, figures: dict[str, float]) -> None:
            shown = [
                f"{key} {figures[key]:.4g}" for key in ("loss", "validation") if key in figures
            ]
            speeds = (key for key in figures if key.endswith("_per_second"))
            shown += [f"{figures[key]:.0f} {key.split('_')[0]}/s" for key in speeds]
            update(step, steps, " · ".join(shown))

        yield on_step


@app.command
def ingest(
    source: Path,
    corpus: Path,
    /,
    *,
    encoder: str = "classic",
    size: int | None = None,
    mean: NumbersOption = None,
    std: NumbersOption = None,
    output: str | None = None,
    resize: Literal["squash", "crop"] | None = None,
    tokenizer: str = "",
    pairs: Annotated[list[Path], Parameter(negative="")] = [],  # noqa: B006 - never changed
    tag_list: Path | None = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 2,
) -> None:
    """Read videos, TFRecords or features into a corpus; started again, it carries on.

    Args:
        source: Folder of videos with a table of metadata (meta.csv, meta.jsonl, meta.parquet: id,
            file, title, speech_text, tags, category), a table, a folder of TFRecords, or a table
            with a column of frame features.
        corpus: Folder of the corpus; an existing one is appended to.
        encoder: Frame encoder: classic (no weights), onnx:FILE, or hf:NAME.
        size: Picture size of an ONNX model, where its file does not say.
        mean: What an ONNX model's input has subtracted, in 0…255.
        std: What it is then divided by.
        output: Name of an ONNX model's output to take.
        resize: How pictures come to an ONNX model's size.
        tokenizer: Name or folder of a Hugging Face fast tokenizer; else one is trained on titles.
        pairs: Files with scored pairs: id_1, id_2, score.
        tag_list: File that fixes the tag vocabulary, one id a line.
        strict: Stop at the first record that cannot be read.
        workers: Videos decoded side by side.
    """
    from vidvec.data.ingest import IngestOptions
    from vidvec.data.ingest import ingest as run

    given = {"size": size, "mean": mean, "std": std, "output": output, "resize": resize}
    options = IngestOptions(
        encoder=encoder,
        encoder_options={key: value for key, value in given.items() if value is not None},
        tokenizer=tokenizer,
        pairs=tuple(pairs),
        tag_list=tag_list,
        strict=strict,
        workers=workers,
    )
    with _progress("ingest") as update:
        report = run(
            source, corpus, options, lambda done, bad: update(done, None, f"{bad} rejected")
        )
    if report.note:
        out.print(report.note, highlight=False)
    if report.resumed_at:
        out.print(f"carried on at row {report.resumed_at}")
    rejected = sum(report.rejected.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.most_common())
    out.print(
        f"{corpus}: {report.videos} videos ({report.added} from {source}), {report.pairs} pairs, "
        f"{rejected} rejected"
        + (f" ({reasons}; see {corpus / 'rejects.jsonl'})" if reasons else ""),
        soft_wrap=True,
        highlight=False,
    )


@app.command
def inspect(
    corpus: Path,
    /,
    *,
    html: Path | None = None,
    sample: int = 12,
    verify: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a corpus holds: counts, lengths, tags, scores, rejects, a sample.

    Args:
        corpus: The corpus.
        html: Write a page with film strips of the sample here.
        sample: Videos in the sample.
        verify: Read every shard and compare its checksum.
    """
    from vidvec import console
    from vidvec.data import inspect as inspection
    from vidvec.data.corpus import Corpus

    opened = Corpus(corpus, unfinished=True)
    summary = inspection.summarise(opened)
    for part in console.summary(summary):
        out.print(part)
    rows = inspection.sample_rows(opened, sample)
    for row in rows:
        video = opened.video(row)
        tags = ", ".join(video.tags or ())
        out.print(
            f"  {video.id}  {len(video.frames)} frames  {video.title!r}  {tags}", markup=False
        )
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(inspection.to_html(opened, summary, rows), "utf-8")
        out.print(f"wrote {html}")
    if verify:
        damaged = opened.verify()
        if damaged:
            raise VidvecError(f"{corpus}: checksum differs in {', '.join(damaged)}: ingest again")
        out.print("all checksums match")


def _recipe(
    recipe: str, size: str | None, init: str | None, seed: int | None, sets: list[str]
) -> Recipe:
    from vidvec.config import load_recipe

    overrides = list(sets)
    if size is not None:
        overrides.append(f"model.size={json.dumps(size)}")
    if init is not None:
        overrides.append(f"model.init={json.dumps(init)}")
    if seed is not None:
        overrides.append(f"seed={seed}")
    return load_recipe(recipe, overrides)


def _restart(run: Path, restart: bool) -> None:
    import shutil

    if restart and (run / "run.json").is_file():
        shutil.rmtree(run)


def _trained(report: TrainReport, run: Path) -> None:
    best = ""
    if report.best is not None:
        best = f", best validation {report.best:.4f} at step {report.best_step}"
    resumed = f" (carried on at {report.resumed_at})" if report.resumed_at else ""
    out.print(
        f"{run}: {report.steps} steps{resumed} in {report.seconds:.0f} s{best}",
        soft_wrap=True,
        highlight=False,
    )


@app.command
def pretrain(
    corpus: Path,
    run: Path,
    /,
    *,
    recipe: RecipeOption = "base",
    size: Literal["tiny", "small", "base", "large"] | None = None,
    init: str | None = None,
    seed: int | None = None,
    settings: SetOption = [],  # noqa: B006 - never changed
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Learn from tags, masked words and masked frames; started again, it carries on.

    Args:
        corpus: The corpus.
        run: Folder of the run: checkpoints, metrics.jsonl, tensorboard.
        recipe: Name or path of a recipe.
        size: Shape of the model.
        init: Hugging Face BERT (name or folder) to start from; its shape wins over --size.
        seed: Of weights, masks and order.
        settings: Settings over the recipe's, such as --set pretrain.epochs=5.
        restart: Throw away what the run has and begin again.
    """
    from vidvec.train.pretrain import pretrain as train

    settled = _recipe(recipe, size, init, seed, settings)
    _restart(run, restart)
    with _training("pretrain") as on_step:
        report = train(corpus, run, settled, on_step)
    _trained(report, run)


@app.command
def finetune(
    corpus: Path,
    run: Path,
    /,
    *,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    recipe: RecipeOption | None = None,
    size: Literal["tiny", "small", "base", "large"] | None = None,
    init: str | None = None,
    seed: int | None = None,
    settings: SetOption = [],  # noqa: B006 - never changed
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Tune on scored pairs; started again, it carries on.

    Args:
        corpus: The corpus, with pairs.
        run: Folder of the run.
        start: Pretrained run or checkpoint to start from; without it a new model is trained.
        recipe: Name or path of a recipe; else the one of --from, or base.
        size: Shape of a new model.
        init: Hugging Face BERT (name or folder) for a new model.
        seed: Of order and dropout (and of a new model's weights).
        settings: Settings over the recipe's, such as --set finetune.epochs=3.
        restart: Throw away what the run has and begin again.
    """
    from vidvec.model.weights import checkpoint_folder
    from vidvec.train.finetune import finetune as train

    if start is not None and (size or init):
        raise UsageError("--size and --init shape a new model; --from brings its own")
    default = str(checkpoint_folder(start) / "recipe.toml") if start else "base"
    settled = _recipe(recipe or default, size, init, seed, settings)
    _restart(run, restart)
    with _training("finetune") as on_step:
        report = train(corpus, run, settled, start, on_step)
    _trained(report, run)


@app.command
def embed(checkpoint: Path, corpus: Path, vectors: Path, /) -> None:
    """Turn every video of a corpus into a vector; started again, it carries on.

    Args:
        checkpoint: A run or a checkpoint.
        corpus: The corpus.
        vectors: Folder of the vectors.
    """
    from vidvec.embed.embedder import embed as run

    with _progress("embed") as update:
        count = run(checkpoint, corpus, vectors, update)
    out.print(f"{vectors}: {count} vectors", highlight=False)


@app.command
def evaluate(
    *vectors: Path,
    corpus: Path,
    split: Literal["clean", "published", "all"] = "clean",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compare cosines with the corpus's scores: Spearman, Pearson, MSE, with 95 % intervals.

    Args:
        vectors: Folders of vectors.
        corpus: The corpus with the scored pairs.
        split: Which pairs: clean (no video shared with training), published (the 2021 split, which
            leaks), or all.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec import console
    from vidvec.data.corpus import Corpus
    from vidvec.embed.evaluate import evaluate as measure
    from vidvec.embed.vectors import Vectors

    if not vectors:
        raise UsageError("nothing to evaluate: give at least one folder of vectors")
    pairs = Corpus(corpus).pairs()
    table = [(str(path), measure(Vectors(path), pairs, split)) for path in vectors]
    if as_json:
        _print_json({name: asdict(figures) for name, figures in table})
    else:
        out.print(console.evaluations(table))


@app.command
def fuse(
    *members: Path,
    to: Annotated[Path, Parameter(name="--out")],
    weights: NumbersOption = None,
    size: int = 256,
    method: Literal["streaming", "exact"] = "streaming",
) -> None:
    """Fuse several models' vectors of the same videos into one.

    Args:
        members: Folders of vectors.
        to: Folder of the fused vectors.
        weights: One a model; equal without.
        size: Numbers in a fused vector.
        method: exact takes the SVD of all vectors in memory; streaming needs memory for one block.
    """
    from vidvec.embed.fusion import fuse as run

    fusion = run(list(members), to, weights, size, method)
    kept, dimension = fusion.kept, fusion.projection.shape[1]
    out.print(f"{to}: {len(members)} models, {dimension} numbers, {kept:.2%} of the length kept")


@app.command
def search(
    vectors: Path,
    /,
    *,
    id: str | None = None,  # noqa: A002 - the option's name
    title: str | None = None,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 10,
    corpus: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Find the videos nearest to a video or to words; exact.

    Args:
        vectors: Folder of vectors.
        id: Video of the folder to look for neighbours of.
        title: Words to look for.
        k: How many.
        corpus: Shows titles of what was found; by default the one that was embedded.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec import console
    from vidvec.embed.vectors import Vectors
    from vidvec.search.index import ExactIndex, corpus_of, encode_titles

    if (id is None) == (title is None):
        raise UsageError("give either --id or --title")
    if k < 1:
        raise UsageError(f"-k {k}: expected 1 or more")
    if title is not None and not title.strip():
        raise UsageError("--title is empty: give words to look for")
    index = ExactIndex(Vectors(vectors))
    if id is not None:
        hits = index.like([id], k)[0]
    else:
        hits = index.search(encode_titles(vectors, [str(title)]), k)[0]
    if as_json:
        _print_json([asdict(hit) for hit in hits])
        return
    out.print(console.hits(corpus_of(vectors, corpus), hits))


@app.command
def demo(
    folder: Path = Path("demo"),
    /,
    *,
    videos: int = 800,
    seed: int = 2021,
) -> None:
    """Make videos, then do everything with them, and write a report.

    Args:
        folder: Where it all goes.
        videos: How many videos to render.
        seed: Of the videos and of training.
    """
    from vidvec import console
    from vidvec.data.corpus import Corpus
    from vidvec.demo.run import run_demo

    result = run_demo(
        folder,
        videos=videos,
        seed=seed,
        say=lambda line: out.print(line, soft_wrap=True, highlight=False),
        step=lambda name: _progress(name, transient=True),
    )
    out.print(console.evaluations(result.table))
    opened = Corpus(folder / "corpus")
    for words, hits in result.found:
        out.print(f"nearest to the words {words!r}:", highlight=False)
        out.print(console.hits(opened, hits))
    out.print(f"{result.seconds:.0f} s in all; open {folder / 'report.html'}", highlight=False)


@app.command(name="import-checkpoint")
def import_checkpoint(
    file: Path,
    checkpoint: Path,
    /,
    *,
    recipe: RecipeOption,
    bert: Path | None = None,
    tag_list: Path | None = None,
    settings: SetOption = [],  # noqa: B006 - never changed
) -> None:
    """Turn a published-style checkpoint (.pth) into one of vidvec's.

    Args:
        file: The state dict; nothing but tensors is read from it.
        checkpoint: Folder of the new checkpoint.
        recipe: Recipe of the job that it comes from, such as aiac2021/job1.
        bert: Folder with config.json and tokenizer of the BERT that it was started from; else
            looked for beside the file.
        tag_list: The competition's tag_list.txt, for the names of the tag classes.
        settings: Settings over the recipe's.
    """
    from vidvec.model.importing import import_checkpoint as run

    settled = _recipe(recipe, None, None, None, settings)
    report = run(file, settled, checkpoint, bert, tag_list)
    out.print(f"{checkpoint}: {report.taken} parameters from {file}", soft_wrap=True)
    for what, names in (("left random", report.missing), ("not known", report.unknown)):
        for name in names:
            out.print(f"  {what}: {name}", markup=False, soft_wrap=True)


@app.command(name="check-reference")
def check_reference(
    folder: Path,
    /,
    *,
    recipe: RecipeOption,
    settings: SetOption = [],  # noqa: B006 - never changed
    show_all: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> None:
    """Hold a recipe against reference numbers of the published code; exit 1 where one differs.

    Args:
        folder: weights, inputs with the masks already drawn, expected numbers, meta.json.
        recipe: Name or path of the recipe that they belong to.
        settings: Settings over the recipe's.
        show_all: Print every number, not only the largest difference of each kind and what fails.
    """
    from vidvec import console
    from vidvec.train.reference import check_reference as check

    differences = check(folder, _recipe(recipe, None, None, None, settings))
    out.print(console.differences(differences, show_all))
    failed = [each.name for each in differences if not each.holds]
    if failed:
        raise VidvecError(
            f"{len(failed)} of {len(differences)} outside the tolerance: {', '.join(failed[:5])}"
        )


@app.command
def recipes() -> None:
    """List the recipes that come with vidvec."""
    from vidvec.config import recipe_names

    for name in recipe_names():
        out.print(name, highlight=False)


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; the user's errors become one line and exit status 1."""
    logging.captureWarnings(True)
    try:
        return app(arguments)
    except KeyboardInterrupt:
        err.print("stopped; the same command carries on")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except (VidvecError, OSError) as error:
        line = " ".join(str(error).splitlines())
        err.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True, highlight=False)
    sys.exit(1)


def _print_json(value: Any) -> None:
    print(json.dumps(_without_nan(value), ensure_ascii=False, indent=1))


def _without_nan(value: Any) -> Any:
    """The value with ``None`` for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    main()
