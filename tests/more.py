"""Videos with frames, audio and three texts, put together and taken apart by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.tiny import CLS, SEP, SHAPE
from vidvec.records import Batch

AUDIO_SIZE = 4
READ: dict[str, Any] = {
    "audio_size": AUDIO_SIZE,
    "max_audio": 5,
    "max_speech_tokens": 6,
    "max_screen_tokens": 4,
}
# Frames (F, D), audio (A, K), and token ids of title, speech and screen text as they are read.
Parts = tuple[Tensor, Tensor, list[int], list[int], list[int]]
# Frames, audio frames, and words of the title, of what is said and of what is written.
COUNTS = [(3, 2, 2, 4, 1), (0, 3, 4, 0, 2), (5, 0, 0, 1, 0), (1, 1, 1, 0, 0), (0, 0, 0, 0, 0)]


def made_parts(
    counts: Sequence[tuple[int, int, int, int, int]] = COUNTS,
    seed: int = 0,
    order: str = "cls_first",
) -> list[Parts]:
    """Videos of these sizes, with special tokens as ``order`` wants."""
    generator = torch.Generator().manual_seed(seed)
    lead = [CLS, SEP] if order == "cls_first" else [CLS]

    def words(count: int) -> list[int]:
        return torch.randint(5, SHAPE["vocab_size"], (count,), generator=generator).tolist()

    return [
        (
            torch.randn(frames, SHAPE["frame_size"], generator=generator),
            torch.randn(audio, AUDIO_SIZE, generator=generator),
            [*lead, *words(title), SEP],
            [*words(speech), SEP] if speech else [],
            [*words(screen), SEP] if screen else [],
        )
        for frames, audio, title, speech, screen in counts
    ]


def batch_of(videos: Sequence[Parts], **more: Any) -> Batch:
    frames, audio, titles, speech, screen = zip(*videos, strict=True)

    def counts(some: Sequence[Any]) -> Tensor:
        return torch.tensor([len(each) for each in some])

    return Batch(
        frames=torch.cat(frames),
        frame_counts=counts(frames),
        token_ids=torch.tensor([token for video in videos for text in video[2:] for token in text]),
        token_counts=counts(titles) + counts(speech) + counts(screen),
        audio=torch.cat(audio),
        audio_counts=counts(audio),
        speech_counts=counts(speech),
        screen_counts=counts(screen),
        **more,
    )
