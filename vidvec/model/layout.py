"""Where every frame and token of a batch stands in the flat sequence.

Two ways to fill a batch, one encoder: without padding, or filled up to the maxima with a key mask
as the published system runs it (system.md, section 2). Letters: see ``vidvec.records``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidvec.config import ModelConfig
from vidvec.records import Batch


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """Positions in the flat sequence of a batch.

    Attributes:
        lengths: (B,) int64, frames and tokens of each video.
        max_length: The longest of them.
        offsets: (B + 1,) int32, where each video starts, and N.
        video_of: (N,) int64, the video that each position belongs to.
        slots: (N,) int64, each position's place in a padded (B, max_length) grid, flattened.
        frame_rows: (ΣF,) int64, where each frame stands.
        token_rows: (ΣT,) int64, where each token stands.
        cls_rows: (B,) int64, where each ``[CLS]`` stands.
        frame_positions, token_positions: (ΣF,), (ΣT,) int64, counted within the video's frames and
            within its tokens.
        real: (N,) bool, false on padding; ``None`` where there is none.
        positions: (N,) int64, counted within the video over frames and tokens together. Padding is
            not counted, but stands where the real position before it does, so that it changes
            neither the distance between two real positions nor who is near whom.
        key_rows: (K,) int64, where ``real`` is true; ``None`` where nothing is hidden.
        key_offsets: (B + 1,) int32, where each video starts among these, and K; ``offsets`` where
            nothing is hidden.
    """

    lengths: Tensor
    max_length: int
    offsets: Tensor
    video_of: Tensor
    slots: Tensor
    frame_rows: Tensor
    token_rows: Tensor
    cls_rows: Tensor
    frame_positions: Tensor
    token_positions: Tensor
    real: Tensor | None
    positions: Tensor
    key_rows: Tensor | None
    key_offsets: Tensor


def _starts(counts: Tensor) -> Tensor:
    return torch.cumsum(counts, 0) - counts


def owners(counts: Tensor, total: int) -> Tensor:
    """(total,) int64: which of the groups of these sizes each item belongs to."""
    groups = torch.arange(len(counts), device=counts.device)
    return torch.repeat_interleave(groups, counts, output_size=total)


def where_true(mask: Tensor, count: int) -> Tensor:
    """(count,) int64: where a mask (n,) is true, which is known to be so many times.

    ``mask.nonzero()`` would have to wait for the GPU to learn the number.
    """
    ranks = torch.where(mask, torch.cumsum(mask, 0) - 1, count)
    found = torch.empty(count + 1, dtype=torch.int64, device=mask.device)
    return found.scatter(0, ranks, torch.arange(len(mask), device=mask.device))[:count]


def flat_layout(batch: Batch, order: str) -> FlatLayout:
    """Lays a batch out flat; ``cls_first`` puts frames behind the first token, else in front.

    Nothing here waits for a GPU, given a batch that came there by ``Batch.to``.
    """
    frames, tokens = batch.frame_counts, batch.token_counts
    lengths = frames + tokens
    starts = _starts(lengths)
    device = lengths.device
    total_frames, total_tokens = len(batch.frames), len(batch.token_ids)
    frame_video = owners(frames, total_frames)
    token_video = owners(tokens, total_tokens)
    frame_positions = torch.arange(total_frames, device=device) - _starts(frames)[frame_video]
    token_positions = torch.arange(total_tokens, device=device) - _starts(tokens)[token_video]
    if order == "cls_first":
        frame_rows = starts[frame_video] + 1 + frame_positions
        behind = (token_positions > 0) * frames[token_video]
        token_rows = starts[token_video] + token_positions + behind
        cls_rows = starts
    else:
        frame_rows = starts[frame_video] + frame_positions
        token_rows = starts[token_video] + frames[token_video] + token_positions
        cls_rows = starts + frames
    total = total_frames + total_tokens
    video_of = owners(lengths, total)
    max_length = int(batch.known_sizes()[:2].sum(0).max(initial=0))
    offsets = _offsets(lengths)
    positions = torch.arange(total, device=device) - starts[video_of]
    slots = video_of * max_length + positions
    real, key_rows, key_offsets = None, None, offsets
    if batch.frame_mask is not None and batch.token_mask is not None:
        real = torch.empty(total, dtype=torch.bool, device=device)
        real[frame_rows] = batch.frame_mask
        real[token_rows] = batch.token_mask
        up_to = torch.cumsum(real, 0)
        earlier_videos = (up_to - real.long())[starts]
        positions = (up_to - 1 - earlier_videos[video_of]).clamp(min=0)
        keys = batch.real_positions
        key_rows = where_true(real, int(real.sum()) if keys is None else keys)
        key_offsets = _offsets(torch.zeros_like(lengths).index_add(0, video_of, real.long()))
    return FlatLayout(
        lengths=lengths,
        max_length=max_length,
        offsets=offsets,
        video_of=video_of,
        slots=slots,
        frame_rows=frame_rows,
        token_rows=token_rows,
        cls_rows=cls_rows,
        frame_positions=frame_positions,
        token_positions=token_positions,
        real=real,
        positions=positions,
        key_rows=key_rows,
        key_offsets=key_offsets,
    )


def _offsets(lengths: Tensor) -> Tensor:
    """(B + 1,) int32, as kernels for ragged batches want them."""
    return torch.nn.functional.pad(torch.cumsum(lengths, 0), (1, 0)).int()


def fill(batch: Batch, config: ModelConfig, pad_id: int) -> Batch:
    """The batch with every video filled up with zero frames and pads to the model's maxima."""
    if batch.frame_mask is not None:
        return batch
    frames, frame_mask = _filled(batch.frames, batch.frame_counts, config.max_frames, 0)
    tokens, token_mask = _filled(batch.token_ids, batch.token_counts, config.max_tokens, pad_id)
    sizes = batch.known_sizes().copy()
    sizes[:2] = [[config.max_frames], [config.max_tokens]]
    return replace(
        batch,
        frames=frames,
        frame_counts=torch.full_like(batch.frame_counts, config.max_frames),
        frame_mask=frame_mask,
        token_ids=tokens,
        token_counts=torch.full_like(batch.token_counts, config.max_tokens),
        token_mask=token_mask,
        sizes=sizes,
        real_positions=len(batch.frames) + len(batch.token_ids),
    )


def _filled(values: Tensor, counts: Tensor, width: int, fill_with: int) -> tuple[Tensor, Tensor]:
    places = torch.arange(width, device=counts.device)
    mask = (places < counts[:, None]).reshape(-1)
    owner = owners(counts, len(values))
    within = torch.arange(len(values), device=counts.device) - _starts(counts)[owner]
    filled = values.new_full((len(mask), *values.shape[1:]), fill_with)
    return filled.index_copy_(0, owner * width + within, values), mask
