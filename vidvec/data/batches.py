"""Flat batches: rows of a corpus to frames and tokens side by side, in a seeded order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from vidvec import storage
from vidvec.config import ModelConfig
from vidvec.data.corpus import Corpus
from vidvec.data.sampling import sample_positions
from vidvec.data.tokenizer import TitleTokenizer
from vidvec.records import Batch

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches are cut from windows of this many, sorted by length inside: long enough to make lengths
# alike, short enough that an epoch stays a shuffle.
WINDOW_BATCHES = 50
TITLES_AT_ONCE = 50_000


def title_tokens(
    corpus: Corpus, tokenizer: TitleTokenizer
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Token ids of all titles without special tokens, kept beside the corpus once computed.

    Returns:
        Ids (ΣT,) int32 in row order, and offsets (videos + 1,) int64.
    """
    name = f"{tokenizer.fingerprint}-{len(corpus)}.arrow"
    path = corpus.path / "tokens" / name
    if path.is_file():
        columns = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("token_ids")
        ids = [chunk.values.to_numpy() for chunk in columns.chunks]
        counts = [np.diff(chunk.offsets.to_numpy()) for chunk in columns.chunks]
    else:
        ids, counts = _tokenize(corpus, tokenizer, path)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([[], *counts]))]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.int32), *ids]), offsets


def _tokenize(
    corpus: Corpus, tokenizer: TitleTokenizer, path: Path
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int64]]]:
    titles = corpus.column("title")
    ids: list[NDArray[np.int32]] = []
    counts: list[NDArray[np.int64]] = []
    for start in range(0, len(titles), TITLES_AT_ONCE):
        some = tokenizer.encode(titles.slice(start, TITLES_AT_ONCE).to_pylist())
        ids.append(some[0])
        counts.append(some[1])
    try:
        with (
            storage.atomic_path(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, pa.schema([("token_ids", pa.list_(pa.int32()))])) as writer,
        ):
            for some_ids, some_counts in zip(ids, counts, strict=True):
                offsets = np.concatenate([[0], np.cumsum(some_counts)]).astype(np.int32)
                writer.write_batch(
                    pa.record_batch([pa.ListArray.from_arrays(offsets, some_ids)], ["token_ids"])
                )
    except OSError:
        pass  # a corpus on a read-only disk: the ids are in memory, only the cache is not kept
    return ids, counts


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices start, start + 1, …, start + count − 1 of every range, one after the other."""
    ends = np.cumsum(counts)
    within = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    return within + np.repeat(starts - (ends - counts), counts)


class TitleLayout:
    """How one model surrounds a title with special tokens, and how many tokens it leaves room for.

    The published tokenizer call on ('', title) leaves a ``[SEP]`` between ``[CLS]`` and the title;
    with the frames in front the title is tokenized alone (system.md, section 2).
    """

    def __init__(self, tokenizer: TitleTokenizer, config: ModelConfig) -> None:
        special = tokenizer.special_ids
        first = config.order == "cls_first"
        self.lead = np.array([special["cls"], special["sep"]] if first else [special["cls"]])
        self.end = special["sep"]
        self.room = config.max_tokens - len(self.lead) - 1

    @property
    def extra(self) -> int:
        """Special tokens a title."""
        return len(self.lead) + 1

    def surround(self, ids: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Token ids of titles (Σcounts,), title after title, with special tokens around each."""
        width = len(self.lead)
        starts = np.concatenate([[0], np.cumsum(counts + self.extra)])
        tokens = np.empty(starts[-1], np.int64)
        tokens[_ranges(starts[:-1] + width, counts)] = ids
        tokens[(starts[:-1, None] + np.arange(width)).ravel()] = np.tile(self.lead, len(counts))
        tokens[starts[1:] - 1] = self.end
        return tokens


def _stack_frames(
    frames: Sequence[NDArray[np.float16]], max_frames: int, width: int
) -> NDArray[np.float16]:
    """(ΣF, D): each video's frames, thinned to ``max_frames``, one after the other."""
    parts = [np.zeros((0, width), np.float16)]
    for some in frames:
        if len(some) > max_frames:
            parts.append(some[sample_positions(len(some), max_frames)])
        elif len(some):
            parts.append(some)
    return np.concatenate(parts)


def assemble(
    frames: Sequence[NDArray[np.float16]],
    titles: Sequence[NDArray[np.int32]],
    tokenizer: TitleTokenizer,
    config: ModelConfig,
) -> Batch:
    """A batch of videos that are in no corpus.

    Args:
        frames: (F, D) features of each video; F may be 0.
        titles: Token ids of each title, without special tokens.
        tokenizer, config: The model's.
    """
    layout = TitleLayout(tokenizer, config)
    counts = np.array([min(len(title), layout.room) for title in titles], np.int64)
    ids = [title[:count] for title, count in zip(titles, counts, strict=True)]
    frame_counts = np.array([min(len(some), config.max_frames) for some in frames], np.int64)
    return Batch(
        frames=torch.from_numpy(_stack_frames(frames, config.max_frames, config.frame_size)),
        frame_counts=torch.from_numpy(frame_counts),
        token_ids=torch.from_numpy(layout.surround(np.concatenate(ids), counts)),
        token_counts=torch.from_numpy(counts + layout.extra),
    )


class BatchBuilder:
    """Makes flat batches of any rows of a corpus, as one model reads them.

    Args:
        corpus: Where the rows are.
        tokenizer: The model's tokenizer.
        config: The model's limits on frames and tokens and its sequence order.

    Attributes:
        frame_counts: (videos,) int64, frames that a batch takes of each video.
        token_counts: (videos,) int64, title tokens with special tokens.
    """

    def __init__(self, corpus: Corpus, tokenizer: TitleTokenizer, config: ModelConfig) -> None:
        self._corpus = corpus
        self._layout = TitleLayout(tokenizer, config)
        self._ids, self._offsets = title_tokens(corpus, tokenizer)
        self._title_counts = np.minimum(np.diff(self._offsets), self._layout.room)
        self._max_frames = config.max_frames
        self._width = config.frame_size
        self.frame_counts = np.minimum(corpus.frame_counts, config.max_frames)
        self.token_counts = self._title_counts + self._layout.extra
        self._tag_positions, self._tag_counts = corpus.tag_positions()
        self._tag_starts = np.concatenate([[0], np.cumsum(np.maximum(self._tag_counts, 0))])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(videos,) tokens and frames together."""
        return self.frame_counts + self.token_counts

    def build(
        self,
        rows: NDArray[np.int64],
        without_frames: NDArray[np.bool_] | None = None,
        without_title: NDArray[np.bool_] | None = None,
    ) -> Batch:
        """The batch of these rows, in their order; tensors share no memory with the corpus.

        Args:
            rows: Of the corpus.
            without_frames, without_title: (rows,) where to leave out what the video has.
        """
        tag_counts = self._tag_counts[rows]
        tags = _ranges(self._tag_starts[rows], np.maximum(tag_counts, 0))
        counts, frame_counts = self._title_counts[rows], self.frame_counts[rows]
        if without_title is not None:
            counts = np.where(without_title, 0, counts)
        if without_frames is not None:
            frame_counts = np.where(without_frames, 0, frame_counts)
        ids = self._ids[_ranges(self._offsets[rows], counts)]
        shown = rows[frame_counts > 0]
        frames = [self._corpus.frames(int(row)) for row in shown]
        return Batch(
            frames=torch.from_numpy(_stack_frames(frames, self._max_frames, self._width)),
            frame_counts=torch.from_numpy(frame_counts),
            token_ids=torch.from_numpy(self._layout.surround(ids, counts)),
            token_counts=torch.from_numpy(counts + self._layout.extra),
            rows=torch.from_numpy(np.asarray(rows, np.int64)),
            tag_positions=torch.from_numpy(self._tag_positions[tags]),
            tag_counts=torch.from_numpy(tag_counts),
        )

    def build_with_dropout(
        self, rows: NDArray[np.int64], rate: float, seed: int, step: int
    ) -> Batch:
        """The batch of these rows, some read without their frames and some without their title.

        Args:
            rows: Of the corpus.
            rate: Probability of each, at most 0.5, where a video has both; never both at once.
            seed, step: Fix the draw.
        """
        if not rate:
            return self.build(rows)
        drawn = np.random.default_rng([seed, step]).random(len(rows))
        both = (self.frame_counts[rows] > 0) & (self._title_counts[rows] > 0)
        return self.build(rows, both & (drawn < rate), both & (drawn >= 1 - rate))


def epoch_batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """An epoch's batches: each row once, in an order that seed and epoch fix, lengths alike.

    Args:
        rows: Rows to go through.
        lengths: Length of each of them, aligned with ``rows``.
        batch_size: Rows a batch; the last may be smaller.
        seed, epoch: Fix the order.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(rows))
    window = batch_size * WINDOW_BATCHES
    batches = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [rows[part[i : i + batch_size]] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


class _Sender:
    """Copies results to a GPU from the thread that makes them.

    Out of pinned memory and on a stream of their own, copies run beside what the GPU computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, result: Any) -> tuple[Any, torch.cuda.Event]:
        """The result on its way to the GPU, and the event that says that it is there."""
        with torch.cuda.stream(self._stream):
            moved = _each(result, self._copy)
        return moved, self._stream.record_event()

    def receive(self, sent: tuple[Any, torch.cuda.Event]) -> Any:
        """The result, for whatever the calling thread has the GPU do from now on."""
        moved, arrived = sent
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrived)
        # Its memory is the copying stream's, which must not take it back while others read it.
        _each(moved, lambda part: _tensors(part, stream))
        return moved

    def _copy(self, part: Batch | torch.Tensor) -> Batch | torch.Tensor:
        if isinstance(part, Batch):
            return part.pinned().to(self._device)
        return part.pin_memory().to(self._device, non_blocking=True)


def _tensors(part: Batch | torch.Tensor, stream: torch.cuda.Stream) -> None:
    for tensor in part.tensors().values() if isinstance(part, Batch) else [part]:
        tensor.record_stream(stream)


def _each(result: Any, act: Callable[[Batch | torch.Tensor], Any]) -> Any:
    """The result with ``act`` done to it or, in a tuple, to the batches and tensors there."""
    if isinstance(result, tuple):
        return tuple(_each(part, act) for part in result)
    return act(result) if isinstance(result, Batch | torch.Tensor) else result


def prefetch(
    items: Iterable[Item],
    build: Callable[[Item], Result],
    depth: int = 4,
    device: torch.device | None = None,
) -> Iterator[Result]:
    """``build(item)`` for each item in order, made ahead by one thread.

    An error in ``build`` is raised here. Closing the iterator early ends the thread.

    Args:
        items: What to make results of.
        build: Makes one; its batches and tensors are on the CPU.
        depth: How many are ready at most.
        device: A GPU to which batches, tensors, and those in tuples are copied ahead as well; with
            another device or none they stay where they are.
    """
    sender = _Sender(device) if device is not None and device.type == "cuda" else None
    if sender is None:
        yield from _ahead(items, build, depth)
    else:
        with closing(_ahead(items, lambda item: sender.send(build(item)), depth)) as ahead:
            yield from map(sender.receive, ahead)


def _ahead(items: Iterable[Item], build: Callable[[Item], Result], depth: int) -> Generator[Result]:
    # A result comes as a tuple of one, an error as itself, the end as None.
    done: queue.Queue[tuple[Result] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(value: tuple[Result] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                done.put(value, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((build(item),)):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (result := done.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result[0]
    finally:
        stop.set()
        thread.join()
