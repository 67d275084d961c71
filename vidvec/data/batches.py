"""Flat batches: rows of a corpus to frames, audio and tokens side by side, in a seeded order."""

from __future__ import annotations

import queue
import threading
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vidvec import storage
from vidvec.config import Modality, ModelConfig
from vidvec.data.corpus import Corpus
from vidvec.data.sampling import sample_positions
from vidvec.data.texts import COLUMNS, TextLayout, TextTokens, ranges, text_tokens
from vidvec.data.tokenizer import TitleTokenizer
from vidvec.records import Batch

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches are cut from windows of this many, sorted by length inside: long enough to make lengths
# alike, short enough that an epoch stays a shuffle.
WINDOW_BATCHES = 50
# What may be left out beside frames and title, and with which probability where one of them is.
_BESIDES: tuple[Modality, ...] = ("audio", "speech", "screen")
BESIDES_SHARE = 0.5


def _stack_frames(
    frames: Sequence[NDArray[np.float16]], limit: int, width: int
) -> NDArray[np.float16]:
    """(ΣF, D): each video's frames, thinned to ``limit``, one after the other."""
    parts = [np.zeros((0, width), np.float16)]
    for some in frames:
        if len(some) > limit:
            parts.append(some[sample_positions(len(some), limit)])
        elif len(some):
            parts.append(some)
    return np.concatenate(parts)


def assemble(
    frames: Sequence[NDArray[np.float16]],
    titles: Sequence[NDArray[np.int32]],
    tokenizer: TitleTokenizer,
    config: ModelConfig,
    *,
    audio: Sequence[NDArray[np.float16]] = (),
    texts: Mapping[Modality, Sequence[NDArray[np.int32]]] | None = None,
) -> Batch:
    """A batch of videos that are in no corpus.

    Args:
        frames: (F, D) features of each video; F may be 0.
        titles: Token ids of each title, without special tokens.
        tokenizer, config: The model's.
        audio: (A, K) features of each video, where the model reads audio; A may be 0.
        texts: Token ids of each video's speech and screen text, where the model reads them.
    """
    layout = TextLayout(tokenizer, config)
    given = {"title": titles, **(texts or {})}
    tokens: dict[Modality, TextTokens] = {}
    for text in layout.rooms:
        some = given.get(text, [np.zeros(0, np.int32)] * len(titles))
        counts = np.array([min(len(ids), layout.rooms[text]) for ids in some], np.int64)
        cut = [ids[:count] for ids, count in zip(some, counts, strict=True)]
        tokens[text] = np.concatenate(cut), counts
    heard: dict[str, Any] = {}
    if config.reads_audio:
        sounds = audio or [np.zeros((0, 0), np.float16)] * len(titles)
        heard = {
            "audio": torch.from_numpy(_stack_frames(sounds, config.max_audio, config.audio_size)),
            "audio_counts": _counts(sounds, config.max_audio),
        }
    return Batch(
        frames=torch.from_numpy(_stack_frames(frames, config.max_frames, config.frame_size)),
        frame_counts=_counts(frames, config.max_frames),
        **layout.tensors(tokens),
        **heard,
    )


def _counts(frames: Sequence[NDArray[np.float16]], limit: int) -> torch.Tensor:
    return torch.from_numpy(np.array([min(len(some), limit) for some in frames], np.int64))


class BatchBuilder:
    """Makes flat batches of any rows of a corpus, as one model reads them.

    Args:
        corpus: Where the rows are.
        tokenizer: The model's tokenizer.
        config: The model's limits on frames, audio and tokens and its sequence order.
        without: What is read of no video, as if none had it.

    Attributes:
        counts: (videos,) int64 for each modality that the model reads: frames, audio frames, words
            without special tokens, that a batch takes of each video.
        token_counts: (videos,) int64, tokens with special tokens.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: TitleTokenizer,
        config: ModelConfig,
        without: Collection[Modality] = (),
    ) -> None:
        self._corpus, self._config = corpus, config
        self._layout = TextLayout(tokenizer, config)
        self._tokens: dict[Modality, TextTokens] = {}
        self.counts: dict[Modality, NDArray[np.int64]] = {
            "frames": np.minimum(corpus.frame_counts, config.max_frames)
        }
        if config.reads_audio:
            self.counts["audio"] = np.minimum(corpus.audio_counts, config.max_audio)
        for text, room in self._layout.rooms.items():
            # Titles are short, and one cache of them serves all models of a tokenizer.
            cut = None if text == "title" else room
            none = np.zeros(0, np.int32), np.zeros(len(corpus) + 1, np.int64)
            read = text not in without
            tokens = text_tokens(corpus, tokenizer, COLUMNS[text], cut) if read else none
            self._tokens[text] = tokens
            self.counts[text] = np.minimum(np.diff(self._tokens[text][1]), room)
        for modality in set(without) & self.counts.keys():
            self.counts[modality] = np.zeros_like(self.counts[modality])
        self.token_counts = self._layout.lengths(
            {text: self.counts[text] for text in self._layout.rooms}
        )
        self._tag_positions, self._tag_counts = corpus.tag_positions()
        self._tag_starts = np.concatenate([[0], np.cumsum(np.maximum(self._tag_counts, 0))])

    @property
    def frame_counts(self) -> NDArray[np.int64]:
        """(videos,) frames that a batch takes of each video."""
        return self.counts["frames"]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(videos,) frames, audio frames and tokens together."""
        return self.frame_counts + self.counts.get("audio", 0) + self.token_counts

    def ahead(self, rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Rows by parts, while what batches of the next part read is fetched from object storage.

        Args:
            rows: (rows,) int64, in the order of their use.
            size: Of a part; the last may be smaller.
        """
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        if not storage.is_remote(self._corpus.path):
            yield from parts
            return
        with ThreadPoolExecutor(1) as pool:
            coming = [pool.submit(self._fetch, part) for part in parts[:1]]
            for place, part in enumerate(parts):
                coming.pop().result()
                coming = [pool.submit(self._fetch, each) for each in parts[place + 1 : place + 2]]
                yield part

    def _fetch(self, rows: NDArray[np.int64]) -> None:
        """Has the features of rows in the cache; see ``Corpus.fetch``."""
        for name in ("frames", "audio"):
            if name in self.counts:
                some = rows[self.counts[name][rows] > 0]
                self._corpus.fetch(some, audio=name == "audio")

    def build(
        self,
        rows: NDArray[np.int64],
        without: Mapping[Modality, NDArray[np.bool_]] | None = None,
    ) -> Batch:
        """The batch of these rows, in their order; tensors share no memory with the corpus.

        Args:
            rows: Of the corpus.
            without: (rows,) for some modalities, where to leave out what the video has.
        """
        counts = {name: some[rows] for name, some in self.counts.items()}
        for name, where in (without or {}).items():
            counts[name] = np.where(where, 0, counts[name])
        tag_counts = self._tag_counts[rows]
        tags = ranges(self._tag_starts[rows], np.maximum(tag_counts, 0))
        tokens: dict[Modality, TextTokens] = {}
        for text, (ids, offsets) in self._tokens.items():
            tokens[text] = ids[ranges(offsets[rows], counts[text])], counts[text]
        config, corpus = self._config, self._corpus
        corpus.fetch(rows[counts["frames"] > 0])
        frames = [corpus.frames(int(row)) for row in rows[counts["frames"] > 0]]
        heard: dict[str, Any] = {}
        if "audio" in counts:
            corpus.fetch(rows[counts["audio"] > 0], audio=True)
            audio = [corpus.audio(int(row)) for row in rows[counts["audio"] > 0]]
            heard = {
                "audio": torch.from_numpy(
                    _stack_frames(audio, config.max_audio, config.audio_size)
                ),
                "audio_counts": torch.from_numpy(counts["audio"]),
            }
        return Batch(
            frames=torch.from_numpy(_stack_frames(frames, config.max_frames, config.frame_size)),
            frame_counts=torch.from_numpy(counts["frames"]),
            **self._layout.tensors(tokens),
            rows=torch.from_numpy(np.asarray(rows, np.int64)),
            tag_positions=torch.from_numpy(self._tag_positions[tags]),
            tag_counts=torch.from_numpy(tag_counts),
            **heard,
        )

    def build_with_dropout(
        self,
        rows: NDArray[np.int64],
        rate: float,
        seed: int,
        step: int,
        chosen: NDArray[np.int64] | None = None,
    ) -> Batch:
        """The batch of these rows, some read without a part of what they have; never without all.

        Where a video has frames and title, at most one of the two is left out. Audio, speech and
        screen text are each left out on their own, where frames or title are with probability
        ``BESIDES_SHARE``: so the title alone and the frames alone come up too, as in a search with
        words.

        Args:
            rows: Of the corpus.
            rate: Probability of each, at most 0.5.
            seed, step: Fix the draw.
            chosen: Positions among the rows of those that the batch is of, with what is drawn for
                them among all; ``None``: all.
        """
        whole = len(rows)
        rows, chosen = (rows, np.arange(whole)) if chosen is None else (rows[chosen], chosen)
        if not rate:
            return self.build(rows)
        drawn = np.random.default_rng([seed, step]).random(whole)[chosen]
        has = {name: counts[rows] > 0 for name, counts in self.counts.items()}
        without: dict[Modality, NDArray[np.bool_]] = {"frames": has["frames"] & (drawn < rate)}
        without["title"] = has["title"] & (drawn >= 1 - rate)
        besides = [name for name in _BESIDES if name in has]
        if besides:
            # A draw of its own, so that reading more changes nothing for frames and titles.
            more = np.random.default_rng([seed, step, 1]).random((len(_BESIDES), whole))[:, chosen]
            rates = np.where(without["frames"] | without["title"], BESIDES_SHARE, rate)
            for name in besides:
                without[name] = has[name] & (more[_BESIDES.index(name)] < rates)
        left = np.any([has[name] & ~without[name] for name in has], axis=0)
        return self.build(rows, {name: where & left for name, where in without.items()})


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
