"""What each part of the demo brings, over several seeds, as a table in Markdown.

    python -m benchmarks.claims FOLDER [SEED ...]

FOLDER is made where it is missing: the demo's videos and corpus. For each seed, two models are
trained with and without pretraining, and fused. All figures are Spearman's correlation on the clean
validation pairs.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from vidvec import (
    Corpus,
    IngestOptions,
    Vectors,
    embed_corpus,
    evaluate,
    finetune,
    fuse,
    ingest,
    pretrain,
)
from vidvec.config import Recipe, load_recipe
from vidvec.demo.render import make_videos
from vidvec.demo.run import PAIRS_PER_VIDEO, RECIPES, VIDEOS
from vidvec.model.weights import save_model
from vidvec.train.start import new_model

SEEDS = (1, 2, 3)


def spearman(vectors: Path, corpus: Corpus) -> float:
    """Spearman's correlation on the clean validation pairs."""
    return evaluate(Vectors(vectors), corpus.pairs()).spearman.value


def one_model(folder: Path, corpus: Corpus, recipe: Recipe) -> dict[str, float]:
    """Untrained, finetuned from scratch, pretrained, pretrained and finetuned."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "untrained", new_model(recipe, corpus))
    finetune(corpus.path, folder / "scratch", recipe)
    pretrain(corpus.path, folder / "pretrained", recipe)
    finetune(corpus.path, folder / "tuned", recipe, folder / "pretrained")
    figures = {}
    for name in ("untrained", "scratch", "pretrained", "tuned"):
        embed_corpus(folder / name, corpus.path, folder / f"{name}-vectors")
        figures[name] = spearman(folder / f"{name}-vectors", corpus)
    return figures


def main(folder: Path, seeds: list[int]) -> None:
    """Trains everything and prints the table."""
    make_videos(folder / "source", videos=VIDEOS, pairs=PAIRS_PER_VIDEO * VIDEOS)
    pairs = (folder / "source" / "pairs.tsv",)
    ingest(folder / "source", folder / "corpus", IngestOptions(pairs=pairs))
    corpus = Corpus(folder / "corpus")
    rows: dict[str, list[float]] = {}
    for seed in seeds:
        tuned = []
        for name in RECIPES:
            short = name.removeprefix("demo/")
            recipe = load_recipe(name, [f"seed={seed}"])
            where = folder / f"seed{seed}" / short
            figures = one_model(where, corpus, recipe)
            tuned.append(where / "tuned-vectors")
            for stage, value in figures.items():
                rows.setdefault(f"{short}: {stage}", []).append(value)
        fuse(tuned, folder / f"seed{seed}" / "fused")
        models = [rows[f"{name.removeprefix('demo/')}: tuned"][-1] for name in RECIPES]
        rows.setdefault("mean of the two tuned", []).append(statistics.mean(models))
        fused = spearman(folder / f"seed{seed}" / "fused", corpus)
        rows.setdefault("fusion of the two tuned", []).append(fused)
    print("| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |")
    print("|---|" + "---|" * (len(seeds) + 1))
    for name, values in rows.items():
        cells = " | ".join(f"{value:.4f}" for value in [*values, statistics.mean(values)])
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]] or list(SEEDS))
