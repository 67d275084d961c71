"""What a fresh process needs from its start to the first batch of a corpus, as one line of JSON.

python -m benchmarks.start CORPUS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from vidvec.config import load_recipe
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.data.tokenizer import load_tokenizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model

BATCH = 128


def resident(name: str) -> int:
    """Bytes by the kernel's count: ``VmHWM``, most ever resident, or ``RssAnon``, not of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def main(path: Path) -> None:
    """Opens, builds a batch, then gets ready to pretrain, and prints seconds and bytes."""
    began = time.perf_counter()
    corpus = Corpus(path)
    opening = time.perf_counter() - began
    recipe = load_recipe("base", ["model.size=tiny"])
    config = recipe.model.model_copy(update={"frame_size": corpus.frame_size})
    builder = BatchBuilder(corpus, load_tokenizer(path / "tokenizer"), config)
    rows = np.random.default_rng(0).choice(len(corpus), BATCH, replace=False)
    batch = builder.build(rows)
    figures = {
        "at": time.time(),
        "open_seconds": opening,
        "first_batch_seconds": time.perf_counter() - began,
        "resident_bytes": resident("VmHWM"),
        "anonymous_bytes": resident("RssAnon"),
    }
    del builder, batch
    began = time.perf_counter()
    PretrainTask(new_model(recipe, corpus), corpus).batch(0)
    figures["training_batch_seconds"] = opening + time.perf_counter() - began
    figures["training_resident_bytes"] = resident("VmHWM")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
