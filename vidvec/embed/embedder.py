"""Corpus and checkpoint to vectors; and the public ``Encoder``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vidvec.config import Backend, Modality, Precision
from vidvec.data.batches import BatchBuilder, assemble, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.texts import COLUMNS
from vidvec.embed.choice import check_without, rows_of_parts
from vidvec.embed.dtypes import check_size, cut, unit_rows
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import UsageError
from vidvec.model.precision import autocast, in_bfloat16
from vidvec.model.quantized import quantized
from vidvec.model.weights import VideoModel, checkpoint_folder, load_model
from vidvec.records import Batch, Video

BATCH = 128
SHARD = 16_384
Progress = Callable[[int, int], None]
Vectorlike = NDArray[Any] | torch.Tensor | Sequence[Any]


class Encoder:
    """A trained model: videos in, vectors out.

    >>> encoder = Encoder.load("runs/finetuned")
    >>> vectors = encoder.encode(["a cat on a sofa", Video("7", title="猫", frames=features)])
    >>> vectors.shape
    (2, 256)
    >>> encoder.similarity(encoder.encode("a cat"), vectors).shape
    (1, 2)

    Attributes:
        dimension: E, numbers in a vector.
    """

    def __init__(
        self,
        model: VideoModel,
        device: str | torch.device | None = None,
        backend: Backend = "auto",
        size: int | None = None,
    ) -> None:
        whole = model.recipe.model.embedding_size
        self.dimension = whole if size is None else check_size(size, whole, "the model")
        gpu = torch.cuda.is_available() and backend != "int8"
        self.device = torch.device(device or ("cuda" if gpu else "cpu"))
        if backend == "int8" and self.device.type != "cpu":
            raise UsageError(f"backend int8 is for the CPU, the device is {self.device}: use bf16")
        self.backend: Backend = backend
        self.model = model.to(self.device)
        model.encoder.eval()
        self._precision: Precision = "float32" if backend == "int8" else backend
        self._encoder = quantized(model.encoder) if backend == "int8" else model.encoder

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        backend: Backend = "auto",
        size: int | None = None,
    ) -> Encoder:
        """Reads a checkpoint, or a run's best one.

        Args:
            path: Of the checkpoint or run.
            device: ``None``: the GPU where there is one.
            backend: How the matrix products are computed. ``auto``: in bfloat16 on a GPU that has
                it, which moves cosines by about 0.001, else in float32. ``int8``: on a CPU, with
                weights and activations rounded to 8 bits.
            size: Of each vector only the first so many numbers, brought to length 1 (see
                ``trained_sizes``); ``None``: all.

        Raises:
            FormatError: There is no checkpoint, or it is damaged.
            UsageError: The device has no such backend, or a vector not so many numbers.
        """
        return cls(load_model(path), device, backend, size)

    @property
    def trained_sizes(self) -> tuple[int, ...]:
        """Sizes that the model was trained to be cut to, ascending, and its own."""
        recipe, past = self.model.recipe, self.model.made_by
        while past.get("stage") == "soup":
            past = past["members"][0]["made_by"]
        prefixes = recipe.finetune.prefixes if past.get("stage") == "finetune" else ()
        return tuple(sorted({*prefixes, recipe.model.embedding_size}))

    @overload
    def encode(
        self,
        videos: Sequence[Video | str] | Video | str,
        batch_size: int = ...,
        *,
        show_progress_bar: bool = ...,
        convert_to_tensor: Literal[False] = ...,
        size: int | None = ...,
    ) -> NDArray[np.float32]: ...

    @overload
    def encode(
        self,
        videos: Sequence[Video | str] | Video | str,
        batch_size: int = ...,
        *,
        show_progress_bar: bool = ...,
        convert_to_tensor: Literal[True],
        size: int | None = ...,
    ) -> torch.Tensor: ...

    def encode(
        self,
        videos: Sequence[Video | str] | Video | str,
        batch_size: int = BATCH,
        *,
        show_progress_bar: bool = False,
        convert_to_tensor: bool = False,
        size: int | None = None,
    ) -> NDArray[np.float32] | torch.Tensor:
        """Vectors of videos, of length 1, in their order; called as sentence-transformers is.

        Args:
            videos: ``Video`` records with features of the encoders that the model was trained on
                (``self.model.frame_encoder``, ``self.model.audio_encoder``), or plain titles. What
                the model reads may be empty in any of them, what it does not read is left out. Or
                one such.
            batch_size: Videos a batch.
            show_progress_bar: In the terminal's error stream.
            convert_to_tensor: Give a tensor on the model's device.
            size: Only the first so many numbers, brought to length 1; ``None``: all.

        Returns:
            (videos, E) float32; (E,) of one that is not in a list.

        Raises:
            UsageError: Frames or audio of another width than the model's, or with NaN or infinity;
                vectors have fewer numbers than ``size``.
        """
        if size is not None:
            check_size(size, self.dimension, "the encoder")
        one = isinstance(videos, (str, Video))
        given: Sequence[Video | str] = [videos] if isinstance(videos, (str, Video)) else videos
        records = [Video(id="", title=v) if isinstance(v, str) else v for v in given]
        for place, video in enumerate(records):
            self._check(video, f"video {video.id or place}")
        vectors = np.zeros((len(records), self.dimension), np.float32)
        config = self.model.recipe.model
        columns = [COLUMNS[text] for text in ("title", *config.text_limits)]
        columns += ["frames", *["audio"] * config.reads_audio]
        order = np.argsort([sum(len(getattr(v, name)) for name in columns) for v in records])
        for start in _counted(range(0, len(order), batch_size), show_progress_bar):
            rows = order[start : start + batch_size]
            vectors[rows] = self.run(self._assembled([records[row] for row in rows]))
        vectors = vectors if size is None else cut(vectors, size)
        found = vectors[0] if one else vectors
        return torch.from_numpy(found).to(self.device) if convert_to_tensor else found

    def similarity(self, a: Vectorlike, b: Vectorlike) -> NDArray[np.float32]:
        """Cosine of each vector of ``a`` with each of ``b``.

        Args:
            a: (n, E) or (E,): an array, a tensor or lists, of any lengths.
            b: (m, E) or (E,).

        Returns:
            (n, m) float32; 0 where a vector is zero.

        Raises:
            UsageError: They are not vectors of one width.
        """
        return np.asarray(_unit_rows(a) @ _unit_rows(b, a).T, np.float32)

    def similarity_pairwise(self, a: Vectorlike, b: Vectorlike) -> NDArray[np.float32]:
        """Cosine of each vector of ``a`` with the one at its place in ``b``.

        Args:
            a: (n, E) or (E,), as in ``similarity``.
            b: Of the same shape.

        Returns:
            (n,) float32; 0 where a vector is zero.

        Raises:
            UsageError: They are not as many vectors of one width.
        """
        left, right = _unit_rows(a), _unit_rows(b, a)
        if len(left) != len(right):
            raise UsageError(f"{len(left)} vectors and {len(right)}: give as many of both")
        return np.asarray((left * right).sum(1), np.float32)

    def _check(self, video: Video, name: str) -> None:
        """Refuses features that the model cannot read."""
        config, model = self.model.recipe.model, self.model
        read = [("frames", video.frames, config.frame_size, model.frame_encoder)]
        if config.reads_audio:
            read.append(("audio frames", video.audio, config.audio_size, model.audio_encoder))
        for what, features, width, encoder in read:
            if len(features) and features.shape[1] != width:
                raise UsageError(
                    f"{name}: {what} have {features.shape[1]} numbers, the model expects {width} "
                    f"(of {encoder['name']})"
                )
            if not np.isfinite(features).all():
                raise UsageError(f"{name}: {what} hold NaN or infinity")

    def _assembled(self, videos: Sequence[Video]) -> Batch:
        """The batch of some videos."""
        config, tokenizer = self.model.recipe.model, self.model.tokenizer
        texts: dict[Modality, list[NDArray[np.int32]]] = {}
        for text in ("title", *config.text_limits):
            ids, counts = tokenizer.encode([getattr(video, COLUMNS[text]) for video in videos])
            texts[text] = np.split(ids, np.cumsum(counts)[:-1])
        frames, audio = [video.frames for video in videos], [video.audio for video in videos]
        return assemble(frames, texts.pop("title"), tokenizer, config, audio=audio, texts=texts)

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """(B, E) vectors of a flat batch."""
        return np.asarray(self._run(batch).cpu().numpy())

    def _run(self, batch: Batch) -> torch.Tensor:
        """(B, E) float32, on the device, which nobody waits for here."""
        with torch.inference_mode(), autocast(self.device, self._precision):
            vectors: torch.Tensor = self._encoder(batch.to(self.device)).vectors
            if self.dimension == vectors.shape[1]:
                return vectors.float()
            return functional.normalize(vectors[:, : self.dimension].float())


def _counted(starts: range, shown: bool) -> Iterable[int]:
    """The starts of batches, with a bar where that is asked for."""
    if not shown:
        return starts
    from rich.console import Console
    from rich.progress import track

    return track(starts, "batches", console=Console(stderr=True))


def _unit_rows(vectors: Vectorlike, beside: Vectorlike | None = None) -> NDArray[np.float32]:
    """(n, E) float32 of length 1, zero where they are, from one vector or several."""
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().cpu().float().numpy()
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    width = rows.shape[-1] if beside is None else np.shape(beside)[-1]
    if rows.ndim != 2 or rows.shape[1] != width:
        raise UsageError(f"vectors of shape {rows.shape}, expected (n, {width})")
    return unit_rows(rows)


def weights_hash(checkpoint: Path) -> str:
    """Twelve hex digits of a checkpoint's weights."""
    with (checkpoint_folder(checkpoint) / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def embed(
    checkpoint: Path,
    corpus_path: Path,
    out: Path,
    progress: Progress | None = None,
    *,
    parts: Sequence[str] = (),
    backend: Backend = "auto",
    without: Collection[Modality] = (),
    size: int | None = None,
) -> int:
    """Writes a vector for every video of a corpus; carries on where it was stopped.

    Videos are batched by length inside a shard and written in corpus order.

    Args:
        checkpoint: A checkpoint or run.
        corpus_path: The corpus; its frames or the feature set that the model reads are taken.
        out: Folder of the vectors. Both may be by URL (``storage.located``).
        progress: Called with vectors done and all.
        parts: Only videos of these parts of the corpus, in any order; empty: all videos.
        backend: See ``Encoder.load``.
        without: What is read of no video, as if none had it.
        size: See ``Encoder.load``.

    Returns:
        How many vectors there are.

    Raises:
        UsageError: The model was trained on frames of another encoder, ``out`` holds others, the
            corpus has no such part, the model does not read what is to be left out, or its vectors
            have fewer numbers than ``size``.
    """
    job = open_embedding(
        checkpoint, corpus_path, parts=parts, backend=backend, without=without, size=size
    )
    writer = VectorWriter(out, job.encoder.dimension, job.facts)
    for rows in job.builder.ahead(job.rows[writer.rows :], SHARD):
        vectors = embed_rows(job.encoder, job.builder, rows, progress, (writer.rows, len(job.rows)))
        writer.append([job.corpus.ids[row] for row in rows], vectors)
    writer.finish()
    return len(job.rows)


@dataclass(frozen=True, slots=True)
class Embedding:
    """What is embedded, opened.

    Attributes:
        encoder: The model.
        corpus: With the frames that the model reads.
        rows: (videos,) int64 of the corpus.
        builder: Of the model's batches of it.
        facts: Of the vectors, for ``VectorWriter``.
    """

    encoder: Encoder
    corpus: Corpus
    rows: NDArray[np.int64]
    builder: BatchBuilder
    facts: dict[str, Any]


def open_embedding(
    checkpoint: Path,
    corpus_path: Path,
    *,
    parts: Sequence[str] = (),
    backend: Backend = "auto",
    without: Collection[Modality] = (),
    size: int | None = None,
) -> Embedding:
    """Opens the model and the corpus of ``embed``, whose arguments and errors these are."""
    corpus = Corpus(corpus_path)
    chosen = rows_of_parts(corpus, parts)
    encoder = Encoder.load(checkpoint, backend=backend, size=size)
    check_without(encoder.model, without)
    corpus = encoder.model.check_frames(corpus, checkpoint, without)
    made_by: dict[str, Any] = {
        "stage": "embed",
        "checkpoint": str(checkpoint.resolve()),
        "weights": weights_hash(checkpoint),
        "corpus": str(corpus_path.resolve()),
        "videos": len(chosen),
    }
    if backend == "int8" or in_bfloat16(encoder.device, encoder._precision):
        made_by["backend"] = "int8" if backend == "int8" else "bf16"
    if corpus.features:
        made_by["features"] = corpus.features
    if encoder.dimension < (whole := encoder.model.recipe.model.embedding_size):
        made_by |= {"size": encoder.dimension, "cut_from": whole}
    if parts:
        made_by["parts"] = sorted(set(parts))
    if without:
        made_by["without"] = sorted(set(without))
    if corpus.edition:
        made_by["edition"] = corpus.edition
    builder = BatchBuilder(corpus, encoder.model.tokenizer, encoder.model.recipe.model, without)
    return Embedding(encoder, corpus, chosen, builder, {"normalised": True, "made_by": made_by})


def embed_rows(
    encoder: Encoder,
    builder: BatchBuilder,
    rows: NDArray[np.int64],
    progress: Progress | None = None,
    done_of: tuple[int, int] = (0, 0),
) -> NDArray[np.float32]:
    """(rows, E) vectors of rows of a corpus, in their order, batched by length.

    Args:
        encoder: The model.
        builder: Of the corpus, for this model.
        rows: (rows,) int64.
        progress: Called with vectors done and all.
        done_of: Vectors done before, and all, for ``progress``.
    """
    vectors = np.empty((len(rows), encoder.dimension), np.float32)
    order = np.argsort(builder.lengths[rows], kind="stable")
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    done, total = done_of
    built = prefetch(batches, lambda some: builder.build(rows[some]), device=encoder.device)
    found = [torch.empty(0, encoder.dimension, device=encoder.device)]
    for batch in built:
        found.append(encoder._run(batch))
        done += len(batch)
        if progress is not None:
            progress(done, total)
    # Copied once for all: fetching each batch's vectors would have the GPU wait in between.
    vectors[order] = torch.cat(found).cpu().numpy()
    return vectors
