"""The golden run: 20 steps of pretraining on the made corpus, on the CPU, without dropout.

    python -m tests.golden.record

writes its losses to ``golden_run.json``. A change that moves them is recorded with it, and its
commit message says why they moved.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.corpora import WORDS, made_pairs, made_videos, write_corpus
from vidvec.config import ModelConfig, PretrainConfig, Recipe
from vidvec.data.corpus import Corpus
from vidvec.data.tokenizer import load_tokenizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.trainer import train

GOLDEN = Path(__file__).with_name("golden_run.json")
STEPS = 20
RECIPE = Recipe(
    name="golden",
    seed=2021,
    model=ModelConfig(
        hidden_size=32,
        layers=2,
        heads=4,
        ffn_size=64,
        embedding_size=16,
        pool="attention",
        tag_from="embedding",
        dropout=0.0,
        # The features' principal axes have no sign of their own: it differs between machines.
        start="random",
    ),
    pretrain=PretrainConfig(
        epochs=5,
        batch_size=16,
        learning_rate=1e-3,
        high_learning_rate=2e-3,
        validation_share=0.2,
    ),
)


class NotingTask(PretrainTask):
    """Pretraining that notes the losses of its training steps."""

    noted: list[dict[str, float]]

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        losses = super().losses(batch, step)
        if step >= 0:
            self.noted.append({name: float(loss.detach()) for name, loss in losses.items()})
        return losses


def golden_corpus(folder: Path) -> Corpus:
    """The made corpus with a vocabulary of fixed order; training one numbers words at will."""
    videos = made_videos(92)
    corpus = write_corpus(folder, videos, made_pairs(videos, 60))
    words = sorted({word for text in WORDS.values() for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    load_tokenizer(folder / "vocab.txt").save(folder / "tokenizer")
    return corpus


def golden_run(folder: Path) -> dict[str, Any]:
    """Losses by name, one number a step, and the score of the last validation."""
    corpus = golden_corpus(folder / "corpus")
    task = NotingTask(new_model(RECIPE, corpus), corpus)
    task.noted = []
    train(task, folder / "run", {})
    with torch.no_grad():
        score = task.validate()["score"]
    names = task.noted[0]
    return {
        "losses": {name: [losses[name] for losses in task.noted] for name in names},
        "validation": score,
    }


def main() -> None:
    """Writes ``golden_run.json`` anew."""
    with tempfile.TemporaryDirectory() as folder:
        found = golden_run(Path(folder))
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
