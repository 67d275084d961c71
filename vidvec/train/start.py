"""A new model for a corpus: sized for it, and started from what it holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from vidvec.config import Recipe
from vidvec.data.corpus import NO_AUDIO, Corpus
from vidvec.data.tokenizer import load_tokenizer
from vidvec.errors import UsageError
from vidvec.model.bert import bert_shape, start_from_bert
from vidvec.model.encoder import VideoEncoder
from vidvec.model.frame_init import start_from_features
from vidvec.model.heads import PretrainingHeads
from vidvec.model.hub import fetch_pretrained
from vidvec.model.weights import VideoModel
from vidvec.train.linear_start import start_linear_reading

# Enough for the principal axes of 1536 numbers.
SAMPLED_VIDEOS = 2000


def new_model(recipe: Recipe, corpus: Corpus) -> VideoModel:
    """A model with the recipe's shape, sized for a corpus; from ``model.init`` or from scratch.

    Random weights come from PyTorch's global generator, seeded with the recipe's seed.

    Raises:
        UsageError: ``model.init`` is no BERT or ModernBERT, or has too few positions.
    """
    start = fetch_pretrained(recipe.model.init) if recipe.model.init else None
    tokenizer = load_tokenizer(start or corpus.path / "tokenizer")
    vocabulary = corpus.tag_vocabulary
    sizes = {
        **(bert_shape(start) if start else {}),
        "vocab_size": tokenizer.vocab_size,
        "frame_size": max(1, corpus.frame_size),
        "audio_size": corpus.audio_size if recipe.model.max_audio else 0,
        "tags": len(vocabulary),
    }
    config = recipe.model.model_copy(update=sizes)
    if config.beyond_positions:
        raise UsageError(
            f"{recipe.model.init} has {config.max_positions} positions: too few for "
            f"model.{config.beyond_positions}"
        )
    torch.manual_seed(recipe.seed)
    model = VideoModel(
        encoder=VideoEncoder(config, tokenizer.special_ids["pad"]),
        heads=PretrainingHeads(config, match=recipe.pretrain.match_weight > 0),
        tokenizer=tokenizer,
        recipe=recipe.model_copy(update={"model": config}),
        tag_vocabulary=vocabulary,
        frame_encoder=corpus.frame_encoder,
        audio_encoder=corpus.audio_encoder if config.reads_audio else NO_AUDIO,
    )
    if config.start == "data":
        encoder, seed = model.encoder, recipe.seed
        frames = _sample(corpus.frames, corpus.frame_counts, corpus.frame_size, seed)
        start_from_features(encoder.frame_projection, frames)
        if encoder.audio_projection is not None:
            audio = _sample(corpus.audio, corpus.audio_counts, corpus.audio_size, seed)
            start_from_features(encoder.audio_projection, audio)
        start_from_tags(model, corpus)
    start_linear_reading(model, corpus)
    if start:
        start_from_bert(model, start)
    return model


def start_from_tags(model: VideoModel, corpus: Corpus) -> None:
    """Sets the tag head's bias to each tag's log odds in the corpus, in place.

    A tag fits few videos. From a bias of 0 the head first learns to say no to everything, and where
    it reads the video vector it does so by giving all vectors one large common direction, in which
    cosines drown (the prior start of Lin et al. 2017, "Focal Loss for Dense Object Detection").
    """
    if model.heads is None or model.heads.tag is None:
        return
    positions, counts = corpus.tag_positions()
    tagged = int((counts >= 0).sum())
    found = np.bincount(positions, minlength=len(model.tag_vocabulary))
    odds = (found + 0.5) / (tagged - found + 0.5)
    with torch.no_grad():
        model.heads.tag.bias.copy_(torch.from_numpy(np.log(odds)))


def _sample(
    read: Callable[[int], NDArray[np.float16]], counts: NDArray[np.int64], width: int, seed: int
) -> NDArray[np.float16]:
    """(n, width) frames, or audio frames, of up to ``SAMPLED_VIDEOS`` videos."""
    rows = np.flatnonzero(counts)
    rows = np.random.default_rng(seed).permutation(rows)[:SAMPLED_VIDEOS]
    frames = (read(int(row)) for row in np.sort(rows))
    return np.concatenate([np.zeros((0, max(1, width)), np.float16), *frames])
