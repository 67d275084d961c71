"""The encoder, top to bottom: embeddings, blocks, pool, projection (system.md, section 2).

A single stream: frames, audio frames and tokens of a video in one sequence, a transformer over it,
one vector out of it. The transformer is BERT-shaped, here, or ModernBERT-shaped, its blocks in
``vidvec.model.modern``. Every layer sees flat tokens (N, H); only attention and the pools know
where a video ends. Letters for dimensions: see ``vidvec.records``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidvec.config import ModelConfig
from vidvec.model.adapter import ResidualAdapter
from vidvec.model.attention import attend
from vidvec.model.dropout import Dropout
from vidvec.model.layout import FlatLayout, fill, flat_layout
from vidvec.model.linear_reading import LinearReading
from vidvec.model.modern import ModernBlock, ModernEmbedding, modern_norm, shrink_residuals
from vidvec.model.pooling import make_pool
from vidvec.model.precision import exact
from vidvec.records import Batch

INITIAL_STD = 0.02


class InputEmbedding(nn.Module):
    """Adds positions and a token type to what is given, normalises, drops out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.position = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """(n, H) values and (n,) positions to (n, H)."""
        summed = values + self.position(positions) + self.token_type.weight[0]
        return self.dropout(self.norm(summed))


class Block(nn.Module):
    """A BERT layer: attention and a GELU feed-forward, each with dropout, residual, LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads, self.attention_dropout = config.heads, config.dropout
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.up = nn.Linear(size, config.ffn_size)
        self.down = nn.Linear(config.ffn_size, size)
        self.ffn_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden: Tensor, layout: FlatLayout) -> Tensor:
        """(N, H) to (N, H)."""
        qkv = self.ahead(hidden, layout.positions)
        attended = attend(qkv, layout, self.attention_dropout if self.training else 0.0)
        return self.behind(hidden, attended)

    def ahead(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """What comes ahead of attention: (N, H) to (N, 3, heads, H / heads)."""
        return self.qkv(hidden).view(len(hidden), 3, self.heads, hidden.shape[1] // self.heads)

    def behind(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """What comes behind attention: two (N, H) to one."""
        hidden = self.attention_norm(hidden + self.dropout(self.out(attended)))
        fed = self.down(F.gelu(self.up(hidden)))
        return self.ffn_norm(hidden + self.dropout(fed))


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder makes of a batch.

    Attributes:
        hidden: (N, H) last hidden states.
        layout: Where each frame and token stands in them.
        projected: (B, E) the video vectors before normalisation, without a linear part.
        pooled: (B, H) what they are projected from.
        linear: (B, K) the linear part, of length 1, where the vectors have one.
        linear_share: Of the vectors' squared length, what it has.
    """

    hidden: Tensor
    layout: FlatLayout
    projected: Tensor
    pooled: Tensor
    linear: Tensor | None = None
    linear_share: float = 0.0

    @property
    def vectors(self) -> Tensor:
        """(B, E) video vectors of length 1; a zero vector stays zero."""
        deep = F.normalize(self.projected, dim=-1)
        if self.linear is None:
            return deep
        parts = [(1 - self.linear_share) ** 0.5 * deep, self.linear_share**0.5 * self.linear]
        # Again, for either part may be nothing.
        return F.normalize(torch.cat(parts, dim=-1), dim=-1)

    @property
    def cls(self) -> Tensor:
        """(B, H) hidden states of ``[CLS]``."""
        return self.hidden.index_select(0, self.layout.cls_rows)

    @property
    def frames(self) -> Tensor:
        """(ΣF, H) hidden states of the frames."""
        return self.hidden.index_select(0, self.layout.frame_rows)

    @property
    def audio(self) -> Tensor:
        """(ΣA, H) hidden states of the audio frames; empty where the batch has none."""
        rows = self.layout.audio_rows
        return self.hidden[:0] if rows is None else self.hidden.index_select(0, rows)

    @property
    def tokens(self) -> Tensor:
        """(ΣT, H) hidden states of the tokens."""
        return self.hidden.index_select(0, self.layout.token_rows)


class VideoEncoder(nn.Module):
    """What is seen, heard and read of videos to one vector each.

    Args:
        config: With ``vocab_size`` and ``frame_size`` filled in, and ``audio_size`` where audio is
            read; only then are there weights for it.
        pad_id: Token that fills titles where padding is counted.

    Attributes:
        checkpointing: Compute the blocks' activations again in the backward pass.
    """

    def __init__(self, config: ModelConfig, pad_id: int = 0) -> None:
        super().__init__()
        self.config, self.pad_id, self.checkpointing = config, pad_id, False
        size, modern = config.hidden_size, config.trunk == "modern"
        embedding = ModernEmbedding if modern else InputEmbedding
        # The pad token learns nothing, as in BERT; it only runs where padding is counted.
        self.word = nn.Embedding(config.vocab_size, size, padding_idx=pad_id)
        self.token_embedding = embedding(config)
        self.frame_projection = nn.Linear(config.frame_size, size)
        self.frame_embedding = embedding(config)
        self.audio_projection, self.audio_embedding, self.text_kind = None, None, None
        if config.reads_audio:
            self.audio_projection = nn.Linear(config.audio_size, size)
            self.audio_embedding = embedding(config)
        if config.text_limits:
            # Of what is said and of what is written in the picture; a title has none.
            self.text_kind = nn.Embedding(2, size)
        self.blocks = nn.ModuleList(
            ModernBlock(config, layer) if modern else Block(config)
            for layer in range(config.layers)
        )
        self.final_norm = modern_norm(config) if modern else nn.Identity()
        self.pool = make_pool(config)
        self.projection = nn.Linear(size, config.projected_size)
        self.apply(initialise)
        if self.text_kind is not None:
            # Words all the same: what a model learnt from titles holds for them as it is.
            nn.init.zeros_(self.text_kind.weight)
        if modern:
            shrink_residuals(self.blocks)
        # Keeps angles, so that what is alike before the projection is alike after it.
        nn.init.orthogonal_(self.projection.weight)
        self.linear: LinearReading | None = None
        if config.linear_size:
            self.linear = LinearReading(config.frame_size, config.vocab_size, config.linear_size)
        self.adapter: ResidualAdapter | None = None
        if config.adapter_size:
            self.adapter = ResidualAdapter(
                config.projected_size, config.adapter_size, config.adapter_scale
            )

    def filled(self, batch: Batch) -> Batch:
        """The batch as this model reads it: padded where the model counts padding."""
        return fill(batch, self.config, self.pad_id) if self.config.count_padding else batch

    def compile_blocks(self) -> None:
        """Lets PyTorch compile what the blocks do around attention, from the next step on.

        Any number of positions runs through the same code, and so do all blocks of one kind.
        Attention is left out: it is one kernel on a GPU, and the numbers and lengths of videos that
        it asks for would be compiled for again and again.
        """
        for block in self.blocks:
            for part in ("ahead", "behind"):
                setattr(block, part, torch.compile(getattr(block, part), dynamic=True))

    def forward(
        self,
        batch: Batch,
        token_ids: Tensor | None = None,
        frames: Tensor | None = None,
        audio: Tensor | None = None,
        layout: FlatLayout | None = None,
    ) -> Encoded:
        """Encodes a batch.

        Args:
            batch: As ``filled`` gives it.
            token_ids: (ΣT,) to read instead of the batch's, as masked.
            frames: (ΣF, D) to read instead of the batch's, as masked.
            audio: (ΣA, K) to read instead of the batch's, as masked.
            layout: Of the batch, where it is at hand.
        """
        batch = self.filled(batch)
        read = {"token_ids": token_ids, "frames": frames, "audio": audio}
        masked: dict[str, Any] = {name: value for name, value in read.items() if value is not None}
        batch = replace(batch, **masked) if masked else batch
        layout = layout or flat_layout(batch, self.config.order)
        hidden = self._embed(batch, layout)
        again = self.checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            hidden = (
                checkpoint(block, hidden, layout, use_reentrant=False)
                if again
                else block(hidden, layout)
            )
        hidden = self.final_norm(hidden)
        counted = None if self.config.count_padding else layout.real
        pooled = self.pool(hidden, layout, counted)
        linear = None if self.linear is None else self.linear(batch)
        share = self.config.linear_share
        return Encoded(hidden, layout, self.project(pooled), pooled, linear, share)

    def project(self, pooled: Tensor) -> Tensor:
        """(B, H) pooled hidden states to the (B, E) video vectors before normalisation."""
        # Under autocast too: cosines would lose more by it than products gain.
        with exact(pooled):
            projected: Tensor = self.projection(pooled.to(self.projection.weight.dtype))
            return projected if self.adapter is None else self.adapter(projected)

    def _embed(self, batch: Batch, layout: FlatLayout) -> Tensor:
        """(N, H): tokens, frames and audio, each through its own embedding, in sequence order."""
        words = self.word(batch.token_ids)
        if self.text_kind is not None and layout.token_kinds is not None:
            kinds = F.pad(self.text_kind.weight, (0, 0, 1, 0))  # in front, the title's nothing
            words = words + F.embedding(layout.token_kinds, kinds)
        projected = self.frame_projection(batch.frames.to(self.frame_projection.weight.dtype))
        parts = [
            (layout.token_rows, self.token_embedding(words, layout.token_positions)),
            (layout.frame_rows, self.frame_embedding(projected, layout.frame_positions)),
        ]
        if batch.audio is not None and layout.audio_rows is not None:
            if self.audio_projection is None or self.audio_embedding is None:
                raise ValueError("a batch with audio for a model that reads none: max_audio is 0")
            projected = self.audio_projection(batch.audio.to(self.audio_projection.weight.dtype))
            parts.append(
                (layout.audio_rows, self.audio_embedding(projected, layout.audio_positions))
            )
        source = torch.empty_like(layout.slots)
        source[torch.cat([rows for rows, _ in parts])] = torch.arange(
            len(source), device=source.device
        )
        return torch.cat([values for _, values in parts]).index_select(0, source)


def initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal weights with standard deviation 0.02, zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
