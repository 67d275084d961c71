"""Folders that vidvec made: whether they open, are whole, and fit one another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vidvec import storage
from vidvec.doctor.findings import Finding
from vidvec.doctor.machine import gib, memory_sizes
from vidvec.errors import UsageError, VidvecError

if TYPE_CHECKING:
    from vidvec.data.corpus import Corpus
    from vidvec.model.weights import VideoModel


def folders(*paths: str) -> Iterator[Finding]:
    """Opens corpora, runs, checkpoints and vectors; then holds models against corpora.

    Args:
        paths: Folders.
    """
    from vidvec.data.corpus import Corpus
    from vidvec.model.weights import load_model

    corpora: list[Corpus] = []
    models: list[tuple[Path, VideoModel]] = []
    for path in map(Path, paths):
        try:
            kind = _kind(path)
            if kind == "corpus":
                corpora.append(Corpus(path, unfinished=True))
                yield _corpus(corpora[-1])
            elif kind == "vectors":
                yield _vectors(path)
            else:
                models.append((path, load_model(path)))
                yield _model(*models[-1])
        except (VidvecError, OSError) as error:
            advice = "give a corpus, run, checkpoint or vectors that vidvec made, or make it anew"
            yield Finding(str(path), "problem", str(error), advice)
    for path, model in models:
        for corpus in corpora:
            yield _fit(path, model, corpus)


def _kind(path: Path) -> str:
    """What a folder's manifest says that it is; empty where it has none, as a run."""
    if not path.is_dir():
        raise UsageError("there is no such folder")
    if not (path / storage.MANIFEST).is_file():
        return ""
    manifest = storage.read_json(path / storage.MANIFEST)
    return str(manifest.get("kind", "")) if isinstance(manifest, dict) else ""


def _corpus(corpus: Corpus) -> Finding:
    size = sum(int(entry["bytes"]) for entry in corpus.manifest["shards"])
    encoder = corpus.frame_encoder
    found = (
        f"corpus of {len(corpus):,} videos, {int(corpus.frame_counts.sum()):,} frames by "
        f"{encoder['name']} ({encoder['frame_size']} numbers), {gib(size)}"
    )
    if not corpus.complete:
        advice = "run its vidvec ingest again, it carries on"
        return Finding(str(corpus.path), "note", found + "; unfinished", advice)
    whole, _ = memory_sizes()
    if 0 < whole < size:
        found += f", more than the {gib(whole)} of memory: each epoch reads the disk"
        return Finding(str(corpus.path), "note", found, "keep it on a fast local disk")
    return Finding(str(corpus.path), "ok", found)


def _vectors(path: Path) -> Finding:
    from vidvec.embed.vectors import Vectors

    vectors = Vectors(path)
    found = f"{len(vectors):,} vectors of {vectors.dimension} numbers"
    return Finding(str(path), "ok", found)


def _model(path: Path, model: VideoModel) -> Finding:
    config = model.recipe.model
    weights = sum(weight.numel() for _, weight in model.named_parameters())
    found = (
        f"model of {weights:,} weights, frames by {model.frame_encoder['name']} "
        f"({config.frame_size} numbers), vectors of {config.embedding_size}"
    )
    return Finding(str(path), "ok", found)


def _fit(path: Path, model: VideoModel, corpus: Corpus) -> Finding:
    name = f"{path} on {corpus.path}"
    try:
        model.check_frames(corpus, path)
    except UsageError as error:
        advice = "ingest with the model's frame encoder, or take a model that was trained on these"
        return Finding(name, "problem", str(error), advice)
    return Finding(name, "ok", "the model reads this corpus")
