"""Where every frame, audio frame and token of a batch stands in the flat sequence.

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
        lengths: (B,) int64, frames, audio frames and tokens of each video.
        max_length: The longest of them.
        offsets: (B + 1,) int32, where each video starts, and N.
        video_of: (N,) int64, the video that each position belongs to.
        slots: (N,) int64, each position's place in a padded (B, max_length) grid, flattened.
        frame_rows: (ΣF,) int64, where each frame stands.
        token_rows: (ΣT,) int64, where each token stands.
        cls_rows: (B,) int64, where each ``[CLS]`` stands.
        frame_positions, token_positions: (ΣF,), (ΣT,) int64, counted within the video's frames and
            within its title; from 1 within what is said and within what is written in the picture.
        real: (N,) bool, false on padding; ``None`` where there is none.
        positions: (N,) int64, counted within the video over all that it has. Padding is
            not counted, but stands where the real position before it does, so that it changes
            neither the distance between two real positions nor who is near whom.
        key_rows: (K,) int64, where ``real`` is true; ``None`` where nothing is hidden.
        key_offsets: (B + 1,) int32, where each video starts among these, and K; ``offsets`` where
            nothing is hidden.
        audio_rows, audio_positions: (ΣA,) int64, as of the frames; ``None`` where the batch has no
            audio.
        token_kinds: (ΣT,) int64, 0 in a title, 1 in what is said, 2 in what is written in the
            picture; ``None``: all are a title's.
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
    audio_rows: Tensor | None = None
    audio_positions: Tensor | None = None
    token_kinds: Tensor | None = None


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

    Audio stands right behind the frames. Nothing here waits for a GPU, given a batch that came
    there by ``Batch.to``.
    """
    frames, tokens = batch.frame_counts, batch.token_counts
    front = frames if batch.audio_counts is None else frames + batch.audio_counts
    lengths = front + tokens
    starts = _starts(lengths)
    frame_video, frame_positions = _within(frames, len(batch.frames))
    token_video, places = _within(tokens, len(batch.token_ids))
    first = order == "cls_first"
    frame_starts = starts + 1 if first else starts
    # With ``cls_first`` a video's first token stands in front of all that the others stand behind.
    behind = (places > 0) * front[token_video] if first else front[token_video]
    audio_rows, audio_positions, audio_total = None, None, 0
    if batch.audio is not None and batch.audio_counts is not None:
        audio_total = len(batch.audio)
        audio_video, audio_positions = _within(batch.audio_counts, audio_total)
        audio_rows = (frame_starts + frames)[audio_video] + audio_positions
    token_positions, token_kinds = _texts(batch, places, token_video)
    total = len(batch.frames) + audio_total + len(batch.token_ids)
    video_of = owners(lengths, total)
    max_length = int(batch.known_sizes()[[0, 1, 3]].sum(0).max(initial=0))
    positions = torch.arange(total, device=lengths.device) - starts[video_of]
    offsets = _offsets(lengths)
    layout = FlatLayout(
        lengths=lengths,
        max_length=max_length,
        offsets=offsets,
        video_of=video_of,
        slots=video_of * max_length + positions,
        frame_rows=frame_starts[frame_video] + frame_positions,
        token_rows=starts[token_video] + places + behind,
        cls_rows=starts if first else starts + front,
        frame_positions=frame_positions,
        token_positions=token_positions,
        real=None,
        positions=positions,
        key_rows=None,
        key_offsets=offsets,
        audio_rows=audio_rows,
        audio_positions=audio_positions,
        token_kinds=token_kinds,
    )
    return layout if batch.frame_mask is None else _with_padding(layout, batch, starts)


def _within(counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """(total,) int64 twice: which group each item belongs to, and its number there, from 0."""
    owner = owners(counts, total)
    return owner, torch.arange(total, device=counts.device) - _starts(counts)[owner]


def _texts(batch: Batch, places: Tensor, video: Tensor) -> tuple[Tensor, Tensor | None]:
    """Positions of tokens in their own text, and what kind of text that is.

    Args:
        batch: The batch.
        places: (ΣT,) places among the video's tokens.
        video: (ΣT,) the video of each.
    """
    if batch.speech_counts is None or batch.screen_counts is None:
        return places, None
    screen = batch.token_counts - batch.screen_counts
    speech = screen - batch.speech_counts
    kinds = (places >= speech[video]).long() + (places >= screen[video]).long()
    # From 1: a table of positions started from BERT knows 0 for [CLS] alone.
    starts = torch.stack([torch.zeros_like(speech), speech - 1, screen - 1])
    return places - starts[kinds, video], kinds


def _with_padding(layout: FlatLayout, batch: Batch, starts: Tensor) -> FlatLayout:
    """The layout with padding hidden: frames and tokens where the batch's masks are false."""
    if batch.frame_mask is None or batch.token_mask is None:
        return layout
    real = torch.empty_like(layout.positions, dtype=torch.bool)
    real[layout.frame_rows] = batch.frame_mask
    real[layout.token_rows] = batch.token_mask
    up_to = torch.cumsum(real, 0)
    earlier_videos = (up_to - real.long())[starts]
    per_video = torch.zeros_like(layout.lengths).index_add(0, layout.video_of, real.long())
    keys = batch.real_positions
    return replace(
        layout,
        real=real,
        positions=(up_to - 1 - earlier_videos[layout.video_of]).clamp(min=0),
        key_rows=where_true(real, int(real.sum()) if keys is None else keys),
        key_offsets=_offsets(per_video),
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
    owner, within = _within(counts, len(values))
    filled = values.new_full((len(mask), *values.shape[1:]), fill_with)
    return filled.index_copy_(0, owner * width + within, values), mask
