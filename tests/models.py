"""Small untrained models on disk."""

from __future__ import annotations

from pathlib import Path

from vidvec.config import load_recipe
from vidvec.data.corpus import Corpus
from vidvec.model.weights import save_model
from vidvec.train.start import new_model

SMALLEST = (
    "model.hidden_size=32",
    "model.layers=1",
    "model.heads=2",
    "model.ffn_size=64",
    "model.embedding_size=16",
)


def write_checkpoint(path: Path, corpus: Corpus, *settings: str, seed: int = 0) -> Path:
    """A checkpoint of a new model for a corpus, with settings such as ``model.pool=attention``."""
    recipe = load_recipe("base", [*SMALLEST, f"seed={seed}", *settings])
    save_model(path, new_model(recipe, corpus))
    return path
