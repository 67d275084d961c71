"""Padded batches and their masks, made plainly: item by item, on the CPU, in each step.

Records are held in memory as a TFRecord gives them (system.md, section 1), which spares this side
all reading from the disk.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import BertTokenizer

from benchmarks.corpus import vocabulary
from benchmarks.plain import NO_LOSS, PlainBatch
from vidvec.data.corpus import Corpus

MAX_FRAMES = 32
MAX_TOKENS = 36


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """One video as its TFRecord holds it.

    Attributes:
        title: Text.
        tags: Classes.
        frames: One byte string a frame: float16, little-endian.
    """

    title: str
    tags: tuple[int, ...]
    frames: tuple[bytes, ...]


def read_records(corpus: Corpus) -> list[PlainRecord]:
    """A corpus's videos as records in memory."""
    classes = {tag: number for number, tag in enumerate(corpus.tag_vocabulary)}
    records = []
    for row in range(len(corpus)):
        video = corpus.video(row)
        tags = tuple(classes[tag] for tag in video.tags or () if tag in classes)
        frames = tuple(frame.tobytes() for frame in video.frames)
        records.append(PlainRecord(video.title, tags, frames))
    return records


class PlainVideos(Dataset[PlainBatch]):
    """Records as padded tensors, one video an item.

    Args:
        records: The videos.
        tokenizer: Called on the pair ('', title), which gives ``[CLS] [SEP] title [SEP]``; or on
            the title alone, where the frames come first.
        frame_size: D.
        tags: C.
        order: Of the model's sequence.
    """

    def __init__(
        self,
        records: Sequence[PlainRecord],
        tokenizer: BertTokenizer,
        frame_size: int,
        tags: int,
        order: Literal["cls_first", "frames_first"] = "cls_first",
    ) -> None:
        self._records, self._tokenizer = records, tokenizer
        self._frame_size, self._tags, self._order = frame_size, tags, order

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> PlainBatch:
        record = self._records[row]
        texts = ("", record.title) if self._order == "cls_first" else (record.title,)
        text = self._tokenizer(*texts, max_length=MAX_TOKENS, padding="max_length", truncation=True)
        frames = np.zeros((MAX_FRAMES, self._frame_size), np.float32)
        shown = record.frames[:MAX_FRAMES]
        for place, frame in enumerate(shown):
            frames[place] = np.frombuffer(frame, np.float16)
        frame_mask = torch.zeros(MAX_FRAMES, dtype=torch.long)
        frame_mask[: len(shown)] = 1
        tag_targets = torch.zeros(self._tags)
        tag_targets[list(record.tags)] = 1
        return {
            "input_ids": torch.tensor(text["input_ids"]),
            "attention_mask": torch.tensor(text["attention_mask"]),
            "frames": torch.from_numpy(frames),
            "frame_mask": frame_mask,
            "tag_targets": tag_targets,
        }


class PlainPairs(Dataset[tuple[PlainBatch, PlainBatch, Tensor]]):
    """Scored pairs as the tensors of both videos and the target.

    Args:
        videos: The videos.
        rows: (P, 2) rows of each pair's videos.
        targets: (P,) rank-normalised scores.
    """

    def __init__(self, videos: PlainVideos, rows: Sequence[Sequence[int]], targets: Tensor) -> None:
        self._videos, self._rows, self._targets = videos, rows, targets

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, pair: int) -> tuple[PlainBatch, PlainBatch, Tensor]:
        first, second = self._rows[pair]
        return self._videos[first], self._videos[second], self._targets[pair]


def make_tokenizer() -> BertTokenizer:
    """Hugging Face's for the made corpora's vocabulary."""
    return BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary())})


def make_loader(
    videos: PlainVideos | PlainPairs, batch_size: int, shuffle: bool = False
) -> DataLoader[Any]:
    """In this process: workers would compete for the cores that the step runs on."""
    return DataLoader(videos, batch_size, shuffle=shuffle)


def draw_masks(batch: PlainBatch, tokenizer: BertTokenizer, rate: float = 0.15) -> PlainBatch:
    """Masked ``input_ids`` and ``frames`` and their labels (system.md, section 3)."""
    input_ids, mlm_labels = mask_words(batch["input_ids"], tokenizer, rate)
    frames, mfm_labels = mask_frames(batch["frames"], batch["frame_mask"], rate)
    return {
        "input_ids": input_ids,
        "mlm_labels": mlm_labels,
        "frames": frames,
        "mfm_labels": mfm_labels,
    }


def mask_words(input_ids: Tensor, tokenizer: BertTokenizer, rate: float) -> tuple[Tensor, Tensor]:
    """(B, T) ids to read, of the chosen 80 % ``[MASK]`` and 10 % random, and (B, T) labels."""
    special = [
        tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
        for ids in input_ids.tolist()
    ]
    chances = torch.full(input_ids.shape, rate).masked_fill_(torch.tensor(special).bool(), 0.0)
    chosen = torch.bernoulli(chances).bool()
    labels = input_ids.masked_fill(~chosen, NO_LOSS)
    by_mask = torch.bernoulli(torch.full(input_ids.shape, 0.8)).bool() & chosen
    by_random = torch.bernoulli(torch.full(input_ids.shape, 0.5)).bool() & chosen & ~by_mask
    words = torch.randint(len(tokenizer), input_ids.shape)
    read = input_ids.masked_fill(by_mask, tokenizer.mask_token_id)
    return torch.where(by_random, words, read), labels


def mask_frames(frames: Tensor, frame_mask: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """(B, F, D) frames to read, zeros where masked, and (B, F) labels: places in the batch."""
    videos, places = frame_mask.shape
    labels = torch.full((videos, places), NO_LOSS)
    read = frames.clone()
    for video, real in enumerate(frame_mask.tolist()):
        for place in range(sum(real)):
            if random.random() < 0.9 * rate:  # noqa: S311 - no secret
                read[video, place] = 0
                labels[video, place] = video * places + place
    return read, labels
