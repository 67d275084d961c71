"""Heads that the pretraining objectives read the encoder with (system.md, section 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vidvec.config import ModelConfig
from vidvec.model.encoder import Encoded, initialise


class PredictionHead(nn.Module):
    """Linear → GELU → LayerNorm → Linear, as BERT predicts masked words."""

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.inner = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(size, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """(n, H) to (n, outputs)."""
        return self.decoder(self.norm(F.gelu(self.inner(hidden))))


class TagHead(nn.Module):
    """Tags of the video: what finetuning keeps of the heads where it goes on learning tags.

    Its weights are to be put in.

    Args:
        config: With ``tags`` filled in. Without tags in the vocabulary there is no tag head.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from_cls = config.tag_from == "cls"
        width = config.hidden_size if from_cls else config.projected_size
        self.tag_from, self.tag_input = config.tag_from, config.tag_input
        self.tag = nn.Linear(width, config.tags) if config.tags else None

    def tag_logits(self, encoded: Encoded) -> Tensor | None:
        """(B, C), or ``None`` where there is no tag head."""
        if self.tag is None:
            return None
        return self.tag(self.tag_inputs(encoded))

    def tag_inputs(self, encoded: Encoded) -> Tensor:
        """(B, H) or (B, projected numbers), what the tags are told from."""
        read = encoded.cls if self.tag_from == "cls" else encoded.projected
        if self.tag_input == "direction":
            return F.normalize(read, dim=-1) * read.shape[-1] ** 0.5
        return F.relu(read) if self.tag_input == "relu" else read


class PretrainingHeads(TagHead):
    """Tags of the video, words of its texts, features of its frames and of its audio frames.

    Args:
        config: With ``vocab_size``, ``frame_size``, ``audio_size`` and ``tags`` filled in. Without
            tags in the vocabulary there is no tag head, without audio none for it.
        match: Whether there is a head that tells, from ``[CLS]``, whether title and frames belong
            together.
    """

    def __init__(self, config: ModelConfig, match: bool = False) -> None:
        super().__init__(config)
        self.mlm = PredictionHead(config, config.vocab_size)
        self.mfm = PredictionHead(config, config.frame_size)
        self.mam = PredictionHead(config, config.audio_size) if config.reads_audio else None
        self.match = nn.Linear(config.hidden_size, 1) if match else None
        self.apply(initialise)
