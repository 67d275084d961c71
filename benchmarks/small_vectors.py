"""What smaller vectors cost, and whether a model gains from being trained for them.

    python -m benchmarks.small_vectors FOLDER [--videos N] [--seeds N] [--vectors N] [--clips CLIPS]

The first table is of a search: vectors of real clips, as ``benchmarks.search`` makes them, by kinds
of numbers. The second is of models: on a made corpus, from the same pretrained start, one is tuned
for whole vectors and one also for their first numbers (``finetune.prefixes``); the vectors of the
former are also projected by SVD, as ``vidvec fuse --size`` does. FOLDER keeps what was trained;
started again after a stop, it carries on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.search import SHARED, clip_vectors, write_vectors
from vidvec import (
    Corpus,
    IngestOptions,
    Vectors,
    embed_corpus,
    finetune,
    ingest,
    load_recipe,
    metrics,
    pretrain,
)
from vidvec.demo.competition import make_competition
from vidvec.embed.choice import rows_of_parts
from vidvec.embed.dtypes import DTYPES, check_dtype, unit_rows
from vidvec.embed.fusion import fuse
from vidvec.embed.resampled import Resampled
from vidvec.search.costs import Costs, as_kept, measure_costs

SIZES = (256, 128, 64, 32)
NOT_TURNED = "signs, not turned"  # binary without the rotation
SHOWN = ("float32", "int8", "binary", NOT_TURNED)
RESAMPLES = 200
PLAIN, TRAINED, PROJECTED = "whole vectors", "finetune.prefixes", "whole vectors, SVD"
SETTINGS = (
    *("model.size=tiny", "model.embedding_size=256", "model.tag_from=embedding"),
    *("pretrain.epochs=6", "pretrain.batch_size=64", "pretrain.learning_rate=5e-4"),
    *("pretrain.high_learning_rate=5e-4", "finetune.epochs=6", "finetune.learning_rate=3e-4"),
    "finetune.high_learning_rate=3e-4",
)
PREFIXES = "finetune.prefixes=[128, 64, 32]"
Floats = NDArray[np.float64]
Drawn = dict[tuple[str, int, str], Floats]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--clips", type=Path, default=SHARED / "videos")
    onnx = SHARED / "models" / "mobilenet_v2_1.0_224.onnx"
    parser.add_argument("--encoder", default=f"onnx:{onnx}")
    parser.add_argument("--save-base", type=Path, help="only write the clips' vectors, as .npy")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = clip_vectors(given.clips, given.encoder, Path(name))
    if given.save_base is not None:
        np.save(given.save_base, base)
        return
    print(search_table(search(base, given.vectors)), flush=True)
    corpus = made_corpus(given.folder, given.videos)
    seeds = range(given.seeds)
    for seed in seeds:
        train(given.folder, corpus, seed)
    print(f"\n{len(corpus):,} videos, {len(seeds)} seeds\n")
    print(model_table(draw(given.folder, corpus, seeds)))


def search(base: NDArray[np.float32], count: int) -> Costs:
    """Of so many noisy copies of clips' vectors, by kinds of numbers."""
    with tempfile.TemporaryDirectory() as name:
        write_vectors(base, count, Path(name) / "vectors")
        return measure_costs(Path(name) / "vectors", dtypes=DTYPES)


def made_corpus(folder: Path, videos: int) -> Corpus:
    """A made corpus with scored pairs."""
    make_competition(folder / "made", videos=videos)
    ingest(folder / "made", folder / "corpus", IngestOptions())
    return Corpus(folder / "corpus")


def train(folder: Path, corpus: Corpus, seed: int) -> None:
    """One start, two models on it, and their vectors."""
    recipe = load_recipe("base", [*SETTINGS, f"seed={seed}"])
    pretrain(corpus.path, folder / f"pre-{seed}", recipe)
    for arm, more in ((PLAIN, []), (TRAINED, [PREFIXES])):
        run = _vectors(folder, arm, seed).with_suffix(".run")
        tuned = load_recipe("base", [*SETTINGS, *more, f"seed={seed}"])
        finetune(corpus.path, run, tuned, start=folder / f"pre-{seed}")
        embed_corpus(run, corpus.path, _vectors(folder, arm, seed))
    for size in SIZES[1:]:
        fuse([_vectors(folder, PLAIN, seed)], _projected(folder, size, seed), size=size)


def _vectors(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{'plain' if arm == PLAIN else 'trained'}-{seed}"


def _projected(folder: Path, size: int, seed: int) -> Path:
    return folder / f"svd-{seed}-{size}"


def draw(folder: Path, corpus: Corpus, seeds: Sequence[int]) -> Drawn:
    """Spearman of cosines with those of the hidden points, over all pairs of test videos.

    Nothing learns from a test video. Values are of all of them and of each resample of videos,
    (1 + RESAMPLES,), mean over the seeds; pairs of a video with itself are left out.
    """
    rows = rows_of_parts(corpus, ["test_a", "test_b"])
    ids = [corpus.ids[int(row)] for row in rows]
    random = np.random.default_rng(0)
    count = len(ids)
    draws = [np.arange(count), *(random.integers(0, count, count) for _ in range(RESAMPLES))]
    upper = np.triu_indices(count, 1)

    def ranks(vectors: NDArray[np.float32]) -> list[Floats]:
        cosines = (vectors @ vectors.T).astype(np.float64)
        found = []
        for drawn in draws:
            one, other = drawn[upper[0]], drawn[upper[1]]
            apart = one != other
            found.append(rankdata(cosines[one[apart], other[apart]]))
        return found

    truth = ranks(unit_rows(_of(folder / "made" / "truth" / "latent", ids)))
    places = {PLAIN: "plain-{seed}", TRAINED: "trained-{seed}", PROJECTED: "svd-{seed}-{size}"}
    drawn: Drawn = {}
    for size, dtype, (arm, name) in product(SIZES, SHOWN, places.items()):
        if arm == PROJECTED and size == SIZES[0]:
            continue
        found = []
        for seed in seeds:
            vectors = _of(folder / name.format(seed=seed, size=size), ids)
            own = ranks(_kept(vectors, size, dtype))
            found.append([metrics.pearson(a, b) for a, b in zip(own, truth, strict=True)])
        drawn[arm, size, dtype] = np.mean(found, axis=0)
    return drawn


def _kept(vectors: NDArray[np.float32], size: int, name: str) -> NDArray[np.float32]:
    if name == NOT_TURNED:
        return np.where(vectors[:, :size] > 0, 1, -1).astype(np.float32)
    return as_kept(vectors, size, check_dtype(name))


def _of(folder: Path, ids: Sequence[str]) -> NDArray[np.float32]:
    vectors = Vectors(folder)
    return vectors.take(np.array([vectors.row(video) for video in ids], np.int64))


def search_table(found: Costs) -> str:
    """Markdown."""
    lines = [
        f"{found.vectors:,} × {found.dimension}; {found.queries} queries, {found.candidates} "
        "candidates a hit",
        "",
        "| dtype | bytes a vector | recall@10 | re-ranked | ms a query | re-ranked |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        lines.append(
            f"| {row.dtype} | {row.bytes_per_vector:,} | {row.recall:.3f} | "
            f"{row.recall_reranked:.3f} | {row.milliseconds:.2f} | "
            f"{row.milliseconds_reranked:.2f} |"
        )
    return "\n".join(lines)


def model_table(drawn: Drawn) -> str:
    """Markdown: Spearman by size and dtype, and what training for prefixes adds."""
    lines = [
        f"| size | dtype | {PLAIN} | less than 256 float32 | {TRAINED} | {TRAINED} less {PLAIN} | "
        f"{PROJECTED} | {TRAINED} less {PROJECTED} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    whole = drawn[PLAIN, SIZES[0], "float32"]
    for size in SIZES:
        for dtype in SHOWN:
            plain, trained = drawn[PLAIN, size, dtype], drawn[TRAINED, size, dtype]
            cells = [f"{size}", dtype, f"{plain[0]:.4f}", _difference(plain - whole)]
            cells += [f"{trained[0]:.4f}", _difference(trained - plain)]
            projected = drawn.get((PROJECTED, size, dtype))
            if projected is not None:
                cells += [f"{projected[0]:.4f}", _difference(trained - projected)]
            lines.append(f"| {' | '.join(cells)} |" + " | |" * (projected is None))
    return "\n".join(lines)


def _difference(drawn: Floats) -> str:
    found = Resampled.interval(drawn)
    return f"{found.value:+.4f} ({found.low:+.4f} … {found.high:+.4f})"


if __name__ == "__main__":
    main()
