"""Reads a folder of reference numbers: weights, inputs with masks already drawn, expected values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vidvec.config import ModelConfig
from vidvec.model.encoder import VideoEncoder
from vidvec.model.heads import PretrainingHeads
from vidvec.model.published import translate
from vidvec.records import Batch
from vidvec.train.masking import Masked

HEADS = 4  # of bert_tiny, which the tiny models were shaped by


@dataclass
class Reference:
    encoder: VideoEncoder
    heads: PretrainingHeads
    batch: Batch  # without padding
    masked: Masked  # positions in the filled batch
    expected: dict[str, Tensor]
    inputs: dict[str, Tensor]


def job_config(job: int, tensors: dict[str, Tensor]) -> ModelConfig:
    layers = 1 + max(int(n.split(".")[2]) for n in tensors if n.startswith("encoder.blocks."))
    vocab_size, hidden = tensors["encoder.word.weight"].shape
    return ModelConfig(
        hidden_size=hidden,
        layers=layers,
        heads=HEADS,
        ffn_size=tensors["encoder.blocks.0.up.weight"].shape[0],
        max_positions=tensors["encoder.token_embedding.position.weight"].shape[0],
        vocab_size=vocab_size,
        frame_size=tensors["encoder.frame_projection.weight"].shape[1],
        embedding_size=tensors["encoder.projection.weight"].shape[0],
        tags=tensors["heads.tag.weight"].shape[0],
        order="frames_first" if job in (2, 3) else "cls_first",
        pool="attention" if job in (4, 5) else "mean",
        tag_from="embedding" if job in (2, 3) else "cls",
        count_padding=True,
    )


def load_reference(folder: Path) -> Reference:
    job = json.loads((folder / "meta.json").read_text())["job"]
    tensors, unknown = translate(load_file(folder / "weights.safetensors"))
    assert unknown == []
    config = job_config(job, tensors)
    encoder, heads = VideoEncoder(config), PretrainingHeads(config)
    state = {n.removeprefix("encoder."): v for n, v in tensors.items() if n.startswith("encoder.")}
    encoder.load_state_dict(state)
    state = {n.removeprefix("heads."): v for n, v in tensors.items() if n.startswith("heads.")}
    if "mfm.decoder.weight" not in state:  # job 3 has no masked frame model
        state |= {n: v for n, v in heads.state_dict().items() if n.startswith("mfm.")}
    heads.load_state_dict(state)
    inputs = load_file(folder / "inputs.safetensors")
    batch, masked = _batch(inputs)
    return Reference(
        encoder.eval(),
        heads.eval(),
        batch,
        masked,
        load_file(folder / "expected.safetensors"),
        inputs,
    )


def _batch(inputs: dict[str, Tensor]) -> tuple[Batch, Masked]:
    tokens, frames = inputs["attention_mask"].bool(), inputs["frame_mask"].bool()
    tags = inputs["tag_targets"].bool()
    batch = Batch(
        frames=inputs["frames"][frames],
        frame_counts=frames.sum(1),
        token_ids=inputs["input_ids"][tokens],
        token_counts=tokens.sum(1),
        tag_positions=tags.nonzero()[:, 1],
        tag_counts=tags.sum(1),
    )
    masked = Masked(
        token_ids=inputs["masked_input_ids"].reshape(-1),
        token_targets=(inputs["mlm_labels"].reshape(-1) >= 0).nonzero().squeeze(1),
        frames=inputs["masked_frames"].flatten(0, 1),
        frame_targets=(inputs["mfm_labels"].reshape(-1) >= 0).nonzero().squeeze(1),
    )
    return batch, masked
