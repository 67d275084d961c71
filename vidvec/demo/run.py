"""The demo: make videos, learn from them, and show what was found.

Every stage is the one behind the command of the same name, and each carries on where a stopped demo
left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.config import Recipe, load_recipe
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.demo.render import make_videos
from vidvec.demo.report import write_picture, write_report
from vidvec.embed.embedder import embed
from vidvec.embed.evaluate import Evaluation, evaluate
from vidvec.embed.fusion import fuse
from vidvec.embed.vectors import Vectors
from vidvec.model.weights import save_model
from vidvec.search.index import ExactIndex, encode_titles
from vidvec.search.types import Hit
from vidvec.train.finetune import finetune
from vidvec.train.pretrain import pretrain
from vidvec.train.start import new_model

VIDEOS = 800
RECIPES = ("demo/mean", "demo/attention")
# Few enough pairs that what pretraining learns without them shows.
PAIRS_PER_VIDEO = 2
QUERIES = ("海边的帆船", "snow on a mountain")
Say = Callable[[Any], None]
Step = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found.

    Attributes:
        table: Name and figures of the untrained baseline, each model, and the fusion.
        found: For each query in words, what came up.
        seconds: The whole of it.
    """

    table: list[tuple[str, Evaluation]]
    found: list[tuple[str, list[Hit]]]
    seconds: float


def run_demo(
    folder: Path,
    *,
    videos: int = VIDEOS,
    seed: int = 2021,
    say: Say = print,
    step: Step | None = None,
) -> DemoResult:
    """Renders videos into ``folder`` and goes the whole way to search and ``report.html``.

    Args:
        folder: Where it all goes.
        videos: How many videos to render.
        seed: Of the videos; added to the recipes' seeds.
        say: Takes a line for the user.
        step: Gives a context manager around each stage, by its name; yields ``update(done, all)``.
    """
    started = time.monotonic()
    stage = _Stages(say, step or _quiet)
    source, corpus_path = folder / "source", folder / "corpus"
    with stage("render") as update:
        make_videos(
            source, videos=videos, pairs=PAIRS_PER_VIDEO * videos, seed=seed, progress=update
        )
    with stage("ingest") as update:
        options = IngestOptions(pairs=(source / "pairs.tsv",))
        report = ingest(source, corpus_path, options, lambda done, _: update(done, videos))
        corpus = Corpus(corpus_path)
        rejected = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
        stage.note(f"{report.videos} videos, {report.pairs} pairs; left out: {rejected or 'none'}")
        stage.note(report.note)
    recipes = [load_recipe(name, [f"seed={seed + place}"]) for place, name in enumerate(RECIPES)]
    vectors = {"untrained": _untrained(folder, corpus, recipes[0])}
    runs = {}
    for recipe in recipes:
        name = recipe.name.removeprefix("demo/")
        runs[name] = _train(folder, recipe, name, stage)
        with stage(f"embed {name}") as update:
            embed(runs[name], corpus_path, folder / "vectors" / name, update)
        vectors[name] = folder / "vectors" / name
    with stage("fuse"):
        fusion = fuse([vectors[name] for name in runs], folder / "vectors" / "fused")
        stage.note(f"{fusion.projection.shape[1]} numbers keep {fusion.kept:.1%} of the length")
        vectors["fused"] = folder / "vectors" / "fused"
    opened = {name: Vectors(path) for name, path in vectors.items()}
    with stage("evaluate"):
        table = [(name, evaluate(each, corpus.pairs())) for name, each in opened.items()]
    with stage("search"):
        found = _search(vectors["fused"], opened["fused"])
    with stage("report"):
        _write_pages(folder, corpus, opened, table, runs)
        stage.note(f"open {folder / 'report.html'}")
    return DemoResult(table, found, time.monotonic() - started)


def _untrained(folder: Path, corpus: Corpus, recipe: Recipe) -> Path:
    """Vectors of a model with random weights."""
    checkpoint, vectors = folder / "runs" / "untrained", folder / "vectors" / "untrained"
    if not (checkpoint / storage.MANIFEST).is_file():
        with storage.atomic_path(checkpoint) as temporary:
            save_model(temporary, new_model(recipe, corpus))
    embed(checkpoint, corpus.path, vectors)
    return vectors


def _train(folder: Path, recipe: Recipe, name: str, stage: _Stages) -> Path:
    """Pretrains and finetunes one model; returns the finetuned run."""
    corpus, pretrained = folder / "corpus", folder / "runs" / f"{name}-pretrained"
    with stage(f"pretrain {name}") as update:
        report = pretrain(corpus, pretrained, recipe, lambda at, of, _: update(at, of))
        stage.note(f"{report.steps} steps, best validation loss {report.best:.1f}")
    tuned = folder / "runs" / f"{name}-finetuned"
    with stage(f"finetune {name}") as update:
        report = finetune(corpus, tuned, recipe, pretrained, lambda at, of, _: update(at, of))
        stage.note(f"{report.steps} steps, best validation MSE {report.best:.4f}")
    return tuned


def _search(path: Path, vectors: Vectors) -> list[tuple[str, list[Hit]]]:
    queries = encode_titles(path, QUERIES)
    return list(zip(QUERIES, ExactIndex(vectors).search(queries, 3), strict=True))


def _write_pages(
    folder: Path,
    corpus: Corpus,
    vectors: dict[str, Vectors],
    table: list[tuple[str, Evaluation]],
    runs: dict[str, Path],
) -> None:
    curves = {}
    for name, run in runs.items():
        curves[f"{name}: pretraining"] = run.with_name(f"{name}-pretrained")
        curves[f"{name}: finetuning"] = run
    title = f"vidvec demo: {len(corpus)} videos"
    write_report(folder / "report.html", corpus, vectors, table, curves, title=title)
    write_picture(folder / "picture.png", corpus, vectors["fused"])


@contextmanager
def _quiet(_: str) -> Iterator[Callable[..., None]]:
    yield lambda *_: None


class _Stages:
    """Times each stage and says what it did."""

    def __init__(self, say: Say, step: Step) -> None:
        self._say, self._step = say, step

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[..., None]]:
        self._notes: list[str] = []
        began = time.monotonic()
        with self._step(name) as update:
            yield update
        self._say(f"{name:<20} {time.monotonic() - began:6.1f} s  {'; '.join(self._notes)}")

    def note(self, text: str) -> None:
        """Adds to the line that is said at the stage's end."""
        if text:
            self._notes.append(text)
