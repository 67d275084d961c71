"""Which words, frames and audio frames are masked, drawn on the device from a hash.

A draw depends on the seed, the step, the video's row and the position in it, and on nothing else:
the same masks come out however videos are put together into batches, with padding or without, on
CPU and GPU alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vidvec.model.layout import FlatLayout, owners, where_true
from vidvec.records import Batch

REPLACED_BY_MASK = 0.8
REPLACED_BY_RANDOM = 0.1
# Each frame is chosen with this share of the rate (system.md, section 3).
FRAME_SHARE = 0.9
# Above any position in a text.
KIND_SHIFT = 32

_MULTIPLIERS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # splitmix64's, as signed int64
_GOLDEN = -0x61C8864680B583EB


def _shift(values: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, whose own shift keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _mix(values: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), on int64 that wraps around."""
    values = (values ^ _shift(values, 30)) * _MULTIPLIERS[0]
    values = (values ^ _shift(values, 27)) * _MULTIPLIERS[1]
    return values ^ _shift(values, 31)


def hash_uniform(
    seed: int, step: int, stream: int | Tensor, rows: Tensor, positions: Tensor
) -> Tensor:
    """Uniform numbers in [0, 1), one for each (row, position), float64.

    Args:
        seed, step, stream: Fix the draw; streams are independent of each other. A stream may be
            given for each number, (n,) int64.
        rows, positions: (n,) int64.
    """
    key = torch.full_like(rows, seed)
    streams = stream if isinstance(stream, Tensor) else torch.full_like(rows, stream)
    for part in (torch.full_like(rows, step), streams, rows, positions):
        key = _mix(key + _GOLDEN) ^ (part + _GOLDEN)
    return _shift(_mix(key + _GOLDEN), 11).to(torch.float64) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Masked:
    """A batch with masks drawn.

    Attributes:
        token_ids: (ΣT,) to be read instead of the originals.
        token_targets: (M,) positions in ``token_ids`` to be predicted.
        frames: (ΣF, D) to be read instead of the originals: zeros where masked.
        frame_targets: (M',) positions in ``frames`` to be predicted.
        audio, audio_targets: (ΣA, K) and (M'',), likewise; ``None`` where the batch has no audio.
    """

    token_ids: Tensor
    token_targets: Tensor
    frames: Tensor
    frame_targets: Tensor
    audio: Tensor | None = None
    audio_targets: Tensor | None = None


def mask_batch(
    batch: Batch,
    layout: FlatLayout,
    *,
    seed: int,
    step: int,
    mlm_rate: float,
    mfm_rate: float,
    mam_rate: float = 0.0,
    special_ids: Mapping[str, int],
    vocab_size: int,
) -> Masked:
    """Draws the masks of a step (system.md, section 3).

    Words of all texts: ``mlm_rate`` of them, never special ones; of those 80 % become ``[MASK]``,
    10 % a random token, 10 % stay. Frames: each with ``0.9 × mfm_rate``, set to zeros; audio frames
    likewise with ``mam_rate``.
    """
    if batch.rows is None:
        raise ValueError("masks need batch.rows: they are drawn for rows of a corpus")
    choice, kind, word, frame, sound = _draws(batch, batch.rows, layout, seed, step)
    special = _special(tuple(sorted(special_ids.values())), batch.token_ids.device)
    chosen = (choice < mlm_rate) & ~torch.isin(batch.token_ids, special)
    if batch.token_mask is not None:
        chosen &= batch.token_mask
    random_ids = (word * vocab_size).long()
    token_ids = torch.where(
        chosen & (kind < REPLACED_BY_MASK), special_ids["mask"], batch.token_ids
    )
    by_random = chosen & (kind >= REPLACED_BY_MASK) & (kind < REPLACED_BY_MASK + REPLACED_BY_RANDOM)
    token_ids = torch.where(by_random, random_ids, token_ids)

    hidden = frame < FRAME_SHARE * mfm_rate
    if batch.frame_mask is not None:
        hidden &= batch.frame_mask
    unheard = sound < FRAME_SHARE * mam_rate
    # The one number in a step that the host has to wait for: how large the heads' inputs are.
    tokens, frames, heard = torch.stack([chosen.sum(), hidden.sum(), unheard.sum()]).tolist()
    audio = batch.audio
    return Masked(
        token_ids=token_ids,
        token_targets=where_true(chosen, tokens),
        frames=batch.frames.masked_fill(hidden[:, None], 0),
        frame_targets=where_true(hidden, frames),
        audio=None if audio is None else audio.masked_fill(unheard[:, None], 0),
        audio_targets=None if audio is None else where_true(unheard, heard),
    )


def _draws(
    batch: Batch, rows: Tensor, layout: FlatLayout, seed: int, step: int
) -> tuple[Tensor, ...]:
    """Three uniform numbers for each token, one for each frame and one for each audio frame.

    All at once, in few kernels.
    """
    of_tokens = rows[owners(batch.token_counts, len(batch.token_ids))]
    of_frames = rows[owners(batch.frame_counts, len(batch.frames))]
    of_audio = audio_positions = rows[:0]
    if batch.audio is not None and batch.audio_counts is not None:
        of_audio = rows[owners(batch.audio_counts, len(batch.audio))]
        if layout.audio_positions is not None:
            audio_positions = layout.audio_positions
    sizes = [len(of_tokens)] * 3 + [len(of_frames), len(of_audio)]
    streams = [torch.full_like(rows[:1], n).expand(size) for n, size in enumerate(sizes)]
    token_places = layout.token_positions
    if layout.token_kinds is not None:
        # Each text counts its own positions.
        token_places = token_places + (layout.token_kinds << KIND_SHIFT)
    places = [token_places] * 3 + [layout.frame_positions, audio_positions]
    owning = torch.cat([of_tokens] * 3 + [of_frames, of_audio])
    drawn = hash_uniform(seed, step, torch.cat(streams), owning, torch.cat(places))
    return torch.split(drawn, sizes)


@lru_cache
def _special(ids: tuple[int, ...], device: torch.device) -> Tensor:
    """Ids on a device; copying them there each time would wait for it."""
    return torch.tensor(ids, device=device)
