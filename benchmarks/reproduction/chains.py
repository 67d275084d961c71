"""Running chains, several side by side, each on one core; what is done is not done again."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmarks.reproduction.arms import CHAINS, JOBS, Chain, Scale, recipe_of
from vidvec import Corpus, Vectors, embed_corpus, evaluate, finetune, pretrain, storage
from vidvec.config import Recipe
from vidvec.data.pairs import read_pairs
from vidvec.embed.evaluate import pair_cosines
from vidvec.embed.fusion import concatenate, fit, normalised_weights
from vidvec.model.weights import save_model
from vidvec.records import Pair
from vidvec.train.start import new_model

MEASURED = ("pairwise", "test_a", "test_b")
FUSED_SIZE = 256
DONE = "results.json"
Cosines = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A made corpus, and what is trained on it.

    Attributes:
        folder: Where it all is: ``competition/`` as made, ``corpus/`` ingested, ``results/``.
        scale: How much is trained.
        embedded: The parts whose vectors are kept; ``None``: all of the corpus.
    """

    folder: Path
    scale: Scale
    embedded: tuple[str, ...] | None = MEASURED

    @property
    def made(self) -> Path:
        """The source."""
        return self.folder / "competition"

    @property
    def corpus(self) -> Corpus:
        """The ingested corpus, opened."""
        return Corpus(self.folder / "corpus")

    def pairs(self) -> list[Pair]:
        """The scored pairs of both test parts: nothing learns from them or is chosen by them."""
        files = [self.made / "truth" / f"test_{part}.tsv" for part in "ab"]
        return [pair for file in files for pair in read_pairs(file)[0]]

    def recipe(self, chain: Chain, seed: int, more: tuple[str, ...] = ()) -> Recipe:
        """A chain's recipe, for the tags of this corpus."""
        return recipe_of(chain, self.scale, seed, len(self.corpus.tag_vocabulary), more)

    def results(self, chain: Chain, seed: int) -> Path:
        """Where a chain's results are; other settings, other folder."""
        name = f"{chain.name}-{self.recipe(chain, seed).hash}"
        return self.folder / "results" / f"seed{seed}" / name

    def done(self, chain: Chain, seed: int) -> bool:
        """Whether a chain has its results."""
        return (self.results(chain, seed) / DONE).is_file()


def run_chains(
    experiment: Experiment,
    say: Callable[[str], None],
    chains: Sequence[Chain] = CHAINS,
    workers: int | None = None,
) -> None:
    """Trains and measures every chain for every seed that has no results yet."""
    jobs = {
        f"seed {seed} {chain.name:10}": partial(run_chain, experiment, chain, seed)
        for seed in experiment.scale.seeds
        for chain in chains
        if not experiment.done(chain, seed)
    }
    run_side_by_side(jobs, say, workers)


def run_side_by_side(
    jobs: Mapping[str, Callable[[], float]],
    say: Callable[[str], None],
    workers: int | None = None,
) -> None:
    """Runs jobs in processes of their own, each on one thread.

    Args:
        jobs: By name, functions that give the seconds they took.
        say: Told of each that is done.
        workers: Processes at a time; ``None``: one a core.
    """
    if not jobs:
        return
    started, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    # Two processes of one thread each get twice as much done as one with two: models are small.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(
        workers or os.cpu_count(),
        mp_context=spawn,
        initializer=_end_with,
        initargs=(os.getpid(),),
    ) as pool:
        running = {pool.submit(job): name for name, job in jobs.items()}
        try:
            for count, done in enumerate(as_completed(running), 1):
                minutes = (time.monotonic() - started) / 60
                say(
                    f"{running[done]}{done.result():5.0f} s   "
                    f"{count} of {len(jobs)} in {minutes:.1f} min"
                )
        except BaseException:
            # What they were at carries on from its last checkpoint.
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, killed as it may be."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_chain(experiment: Experiment, chain: Chain, seed: int) -> float:
    """One chain: pretraining, finetunings, vectors, cosines. Returns seconds of this process."""
    started, spent = time.monotonic(), time.process_time()
    corpus, folder = experiment.corpus, experiment.results(chain, seed)
    recipe, runs = experiment.recipe(chain, seed), folder / "runs"
    start = None
    if chain.share:
        start = runs / "pretrained"
        pretrain(corpus.path, start, recipe)
    measured: dict[str, Path] = {}
    if chain.untuned:
        measured[chain.untuned] = start or _untrained(runs / "untrained", recipe, corpus)
    for arm, settings in chain.tuned.items():
        measured[arm] = runs / f"tuned-{arm}"
        tuned = experiment.recipe(chain, seed, settings)
        finetune(corpus.path, measured[arm], tuned, start)
    pairs, figures, cosines = experiment.pairs(), {}, {}
    for arm, run in measured.items():
        vectors = folder / "vectors" / arm
        embed_corpus(run, corpus.path, vectors, parts=experiment.embedded)
        cosines[arm] = pair_cosines(Vectors(vectors), pairs)
        figures[arm] = evaluate(Vectors(vectors), corpus.pairs()).spearman.value
    save_file(cosines, folder / "cosines.safetensors")
    seconds = time.monotonic() - started
    result = {"seconds": seconds, "core_seconds": time.process_time() - spent}
    storage.write_json(folder / DONE, {**result, "validation": figures})
    shutil.rmtree(runs)  # forty chains' checkpoints are gigabytes
    return seconds


def _untrained(folder: Path, recipe: Recipe, corpus: Corpus) -> Path:
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        save_model(folder, new_model(recipe, corpus))
    return folder


def read_results(experiment: Experiment, seed: int) -> tuple[Cosines, dict[str, float]]:
    """Cosines of the test pairs and Spearman on the validation pairs, by arm, of one seed.

    The fusions of ``fused_cosines`` are among the cosines.
    """
    cosines: Cosines = {}
    validation: dict[str, float] = {}
    for chain in CHAINS:
        folder = experiment.results(chain, seed)
        cosines |= load_file(folder / "cosines.safetensors")
        validation |= storage.read_json(folder / DONE)["validation"]
    jobs = [experiment.results(chain, seed) for chain in CHAINS if chain.name in JOBS]
    hashes = "".join(folder.name[-4:] for folder in jobs)
    cached = jobs[0].with_name(f"fused-{hashes}.safetensors")
    if not cached.is_file():
        members = [
            Vectors(folder / "vectors" / job) for folder, job in zip(jobs, JOBS, strict=True)
        ]
        with storage.atomic_path(cached) as temporary:
            save_file(fused_cosines(members, experiment.pairs()), temporary)
    return cosines | load_file(cached), validation


def core_minutes(experiment: Experiment) -> float:
    """What all chains took, one core each."""
    files = [
        experiment.results(chain, seed) / DONE
        for seed in experiment.scale.seeds
        for chain in CHAINS
    ]
    return sum(storage.read_json(file)["seconds"] for file in files) / 60


def subsets(size: int) -> list[tuple[int, ...]]:
    """Which models are fused where ``size`` of the jobs are."""
    return list(itertools.combinations(range(len(JOBS)), size))


def subset_name(chosen: Sequence[int]) -> str:
    """What a fusion is called in the results."""
    return "fused-" + "-".join(str(place + 1) for place in chosen)


def fused_cosines(members: Sequence[Vectors], pairs: Sequence[Pair]) -> Cosines:
    """(P,) cosines of every fusion to 256 numbers, and of all members concatenated (``plain``).

    Each projection is fitted on the videos of the pairs, as one is on the test videos.
    """
    videos = sorted({video for pair in pairs for video in (pair.id_1, pair.id_2)})
    rows = {video: row for row, video in enumerate(videos)}
    places = np.array([(rows[pair.id_1], rows[pair.id_2]) for pair in pairs])
    matrices = [vectors.matrix[[vectors.row(video) for video in videos]] for vectors in members]

    def cosines(fused: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.einsum("pe,pe->p", fused[places[:, 0]], fused[places[:, 1]], dtype=np.float64)

    found: Cosines = {}
    for size in range(1, len(members) + 1):
        weights = normalised_weights(None, size)
        for chosen in subsets(size):
            some = [matrices[place] for place in chosen]
            dimensions = [matrix.shape[1] for matrix in some]
            fusion = fit(iter([some]), weights, dimensions, FUSED_SIZE, "streaming")
            found[subset_name(chosen)] = cosines(fusion.apply(some))
    whole = concatenate(matrices, normalised_weights(None, len(members)))
    found["plain"] = cosines(whole)
    return found
