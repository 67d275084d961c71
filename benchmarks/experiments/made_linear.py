"""What the best recipe's linear reading ranks alone, and joined with its transformer afterwards."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from benchmarks.experiments.made_arms import BEST_CHAIN, DEEP, DEEP_CHAIN
from benchmarks.reproduction.chains import DONE, Experiment
from benchmarks.reproduction.measure import Floats
from vidvec import metrics, storage
from vidvec.data.batches import BatchBuilder
from vidvec.records import Pair
from vidvec.train.start import new_model

LINEAR, JOINED = "linear", "joined"
VIDEOS_AT_ONCE = 500


def linear_folder(experiment: Experiment) -> Path:
    """Where the reading's results are; other settings, other folder."""
    return experiment.results(BEST_CHAIN, experiment.scale.seeds[0]).with_name(
        f"{LINEAR}-{experiment.recipe(BEST_CHAIN, experiment.scale.seeds[0]).hash}"
    )


def measure_linear(experiment: Experiment) -> None:
    """Solves for the reading, where that is not done, and takes its cosines of the test pairs.

    It is the same for all seeds of training: no steps are made, and all videos are looked at.
    """
    folder = linear_folder(experiment)
    if (folder / DONE).is_file():
        return
    spent = time.process_time()
    cosines = linear_cosines(experiment, experiment.pairs())
    folder.mkdir(parents=True, exist_ok=True)
    save_file({LINEAR: cosines}, folder / "cosines.safetensors")
    storage.write_json(folder / DONE, {"core_seconds": time.process_time() - spent})


@torch.no_grad()
def linear_cosines(experiment: Experiment, pairs: list[Pair]) -> Floats:
    """(P,) cosines of the linear part of the vectors alone."""
    corpus = experiment.corpus
    model = new_model(experiment.recipe(BEST_CHAIN, experiment.scale.seeds[0]), corpus)
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
    reading = model.encoder.linear
    if reading is None:
        raise ValueError("the best recipe has no linear reading")
    rows = np.array([[corpus.row(pair.id_1), corpus.row(pair.id_2)] for pair in pairs])
    videos, places = np.unique(rows, return_inverse=True)
    spans = [videos[at : at + VIDEOS_AT_ONCE] for at in range(0, len(videos), VIDEOS_AT_ONCE)]
    vectors = torch.cat([reading(builder.build(span)) for span in spans]).numpy()
    first, second = vectors[places.reshape(rows.shape)].transpose(1, 0, 2)
    return np.asarray(metrics.cosines(first, second), np.float64)


def joined(experiment: Experiment) -> dict[str, dict[int, Floats]]:
    """By row and seed, cosines of the test pairs: of the reading, and of both in equal shares.

    Cosines of two vectors of length 1 side by side are the mean of theirs.
    """
    folder = linear_folder(experiment)
    if not (folder / DONE).is_file():
        return {}
    alone = load_file(folder / "cosines.safetensors")[LINEAR]
    found: dict[str, dict[int, Floats]] = {LINEAR: {}, JOINED: {}}
    for seed in experiment.scale.seeds:
        found[LINEAR][seed] = alone
        if experiment.done(DEEP_CHAIN, seed):
            deep = load_file(experiment.results(DEEP_CHAIN, seed) / "cosines.safetensors")[DEEP]
            found[JOINED][seed] = (alone + deep) / 2
    return found
