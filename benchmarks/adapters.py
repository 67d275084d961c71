"""What a step of finetuning costs with the whole model, low-rank updates, a residual adapter.

    python -m benchmarks.adapters FOLDER [--size small] [--steps 12]

Steps of 32 pairs of videos of the published lengths, on one thread, the ways in turn; processor
seconds, medians. Of the residual adapter also the one pass of the trunk, for each video.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from benchmarks.corpus import make_corpus
from vidvec.config import load_recipe
from vidvec.data.corpus import Corpus
from vidvec.train.adapters import trained
from vidvec.train.cached import CachedFinetuneTask
from vidvec.train.finetune import FinetuneTask
from vidvec.train.optimizer import make_optimizer
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

VIDEOS, PAIRS = 400, 600
WAYS = {
    "whole model": ("finetune.adapter=none",),
    "lora, attention": ("finetune.adapter=lora",),
    "lora, all layers": ("finetune.adapter=lora", "finetune.adapter_layers=all"),
    "residual": ("finetune.adapter=residual",),
}


def main(folder: Path, size: str, steps: int) -> None:
    """Makes a corpus, times steps in turn, prints a table."""
    torch.set_num_threads(1)
    if not (folder / "manifest.json").is_file():
        make_corpus(folder, VIDEOS, pairs=PAIRS)
    corpus = Corpus(folder)
    more = [f"model.size={size}", "finetune.split=published", "finetune.modality_dropout=0"]
    sides, began = {}, time.process_time()
    for name, settings in WAYS.items():
        began = time.process_time()
        model = new_model(load_recipe("base", [*more, *settings]), corpus)
        kind = CachedFinetuneTask if name == "residual" else FinetuneTask
        ready = time.process_time()
        task = kind(model, corpus)
        if name == "residual":
            seconds = (time.process_time() - ready) / VIDEOS
            print(f"one pass of the trunk: {1000 * seconds:.1f} ms a video")
        sides[name] = (task, make_optimizer(model, task.stage), list[float]())
    batches = {name: task.batch(0) for name, (task, _, _) in sides.items()}
    for step in range(steps + 1):
        for name, (task, optimizer, seconds) in sides.items():
            began = time.process_time()
            train_step(task, optimizer, batches[name], step)
            if step:  # the first makes the optimiser's state
                seconds.append(time.process_time() - began)
    whole = statistics.median(sides["whole model"][2])
    print("| way | trained | ms a step | of the whole |\n|---|---|---|---|")
    for name, (task, _, seconds) in sides.items():
        median = statistics.median(seconds)
        print(f"| {name} | {trained(task.model)} | {1000 * median:.2f} | {median / whole:.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="small")
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    main(given.folder, given.size, given.steps)
