"""How much work a model's matrix products are, counted from its shape, and how fast a device is.

A multiply-add counts as two. Norms, activations and softmax are left out: beside the products they
are small in number, if not in time.
"""

from __future__ import annotations

import time

import torch

from vidvec.config import ModelConfig, PretrainConfig

# A training step's products: forward, and backward for inputs and for weights.
TRAINING = 3


def encoder_flops(config: ModelConfig, frames: float, tokens: float, audio: float = 0.0) -> float:
    """Of one video's way to its vector, forward.

    Args:
        config: With ``frame_size`` and ``audio_size`` filled in.
        frames, tokens, audio: Of the video, as the model reads it: the maxima where padding is
            counted.
    """
    if config.count_padding:
        frames, tokens = config.max_frames, config.max_tokens
    positions, size = frames + audio + tokens, config.hidden_size
    # A gated feed-forward has a third matrix.
    matrices = 3 if config.trunk == "modern" else 2
    block = 4 * size**2 + matrices * size * config.ffn_size + 2 * positions * size
    return 2 * (
        positions * config.layers * block
        + (frames * config.frame_size + audio * config.audio_size) * size
        + size * config.projected_size
    )


def heads_flops(
    config: ModelConfig,
    settings: PretrainConfig,
    frames: float,
    words: float,
    batch_frames: float,
    *,
    audio: float = 0.0,
    batch_audio: float = 0.0,
) -> float:
    """Of the pretraining heads for one video, forward; they run on what is masked alone.

    Args:
        config: With ``frame_size``, ``audio_size``, ``vocab_size`` and ``tags`` filled in.
        settings: Mask rates, and which objectives have a weight.
        frames, words: Of the video; special tokens are never masked.
        batch_frames: Real frames of the whole batch, which each masked one is compared with.
        audio, batch_audio: Audio frames, likewise.
    """
    size = config.hidden_size
    read = size if config.tag_from == "cls" else config.projected_size
    tag = bool(settings.tag_weight) * read * config.tags
    masked_words = bool(settings.mlm_weight) * settings.mlm_rate * words
    masked_frames = bool(settings.mfm_weight) * 0.9 * settings.mfm_rate * frames
    mlm = masked_words * (size**2 + size * config.vocab_size)
    mfm = masked_frames * (size**2 + (size + batch_frames) * config.frame_size)
    masked_audio = bool(settings.mam_weight) * 0.9 * settings.mam_rate * audio
    mam = masked_audio * (size**2 + (size + batch_audio) * config.audio_size)
    return 2 * (tag + mlm + mfm + mam)


def parameters(config: ModelConfig) -> float:
    """About how many weights an encoder and its pretraining heads have."""
    size = config.hidden_size
    matrices = 3 if config.trunk == "modern" else 2
    blocks = config.layers * (4 * size**2 + matrices * size * config.ffn_size)
    tables = 2 * config.vocab_size * size + 2 * config.max_positions * size
    if config.reads_audio:
        tables += 2 * config.audio_size * size + (config.max_positions + size) * size
    return blocks + tables + 2 * config.frame_size * size + 3 * size**2 + config.tags * size


def matrix_rate() -> float:
    """Of this machine's GPU, or CPU, in a float32 matrix product a second; a trial of 0.3 s."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    best, ends = float("inf"), time.monotonic() + 0.3
    while best == float("inf") or time.monotonic() < ends:
        began = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
