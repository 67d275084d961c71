"""Corpus and checkpoint to vectors; and the public ``Encoder``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidvec.config import Backend, Precision
from vidvec.data.batches import BatchBuilder, assemble, prefetch
from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import UsageError
from vidvec.model.precision import autocast, in_bfloat16
from vidvec.model.quantized import quantized
from vidvec.model.weights import VideoModel, checkpoint_folder, load_model
from vidvec.records import Batch, Video

BATCH = 128
SHARD = 16_384
Progress = Callable[[int, int], None]


class Encoder:
    """A trained model: videos in, vectors out.

    >>> encoder = Encoder.load("runs/finetuned")
    >>> encoder.encode(["a cat on a sofa", Video("7", title="猫", frames=features)]).shape
    (2, 256)
    """

    def __init__(
        self,
        model: VideoModel,
        device: str | torch.device | None = None,
        backend: Backend = "auto",
    ) -> None:
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
    ) -> Encoder:
        """Reads a checkpoint, or a run's best one.

        Args:
            path: Of the checkpoint or run.
            device: ``None``: the GPU where there is one.
            backend: How the matrix products are computed. ``auto``: in bfloat16 on a GPU that has
                it, which moves cosines by about 0.001, else in float32. ``int8``: on a CPU, with
                weights and activations rounded to 8 bits.

        Raises:
            FormatError: There is no checkpoint, or it is damaged.
            UsageError: The device has no such backend.
        """
        return cls(load_model(path), device, backend)

    @property
    def dimension(self) -> int:
        """E, numbers in a vector."""
        return self.model.recipe.model.embedding_size

    def encode(self, videos: Sequence[Video | str], batch_size: int = BATCH) -> NDArray[np.float32]:
        """Vectors of videos, of length 1, in their order.

        Args:
            videos: ``Video`` records with features of the frame encoder that the model was trained
                on (``self.model.frame_encoder``), or plain titles. Frames or title may be empty.
            batch_size: Videos a batch.

        Returns:
            (videos, E) float32.

        Raises:
            UsageError: Frames of another width than the model's, or with NaN or infinity.
        """
        records = [Video(id="", title=v) if isinstance(v, str) else v for v in videos]
        for place, video in enumerate(records):
            width = self.model.recipe.model.frame_size
            if len(video.frames) and video.frames.shape[1] != width:
                raise UsageError(
                    f"video {video.id or place}: frames have {video.frames.shape[1]} numbers, the "
                    f"model expects {width} (of {self.model.frame_encoder['name']})"
                )
            if not np.isfinite(video.frames).all():
                raise UsageError(f"video {video.id or place}: frames hold NaN or infinity")
        vectors = np.zeros((len(records), self.dimension), np.float32)
        order = np.argsort([len(video.frames) + len(video.title) for video in records])
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            some = [records[row] for row in rows]
            ids, counts = self.model.tokenizer.encode([video.title for video in some])
            titles = np.split(ids, np.cumsum(counts)[:-1])
            frames = [video.frames for video in some]
            batch = assemble(frames, titles, self.model.tokenizer, self.model.recipe.model)
            vectors[rows] = self.run(batch)
        return vectors

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """(B, E) vectors of a flat batch."""
        return np.asarray(self._run(batch).cpu().numpy())

    def _run(self, batch: Batch) -> torch.Tensor:
        """(B, E) float32, on the device, which nobody waits for here."""
        with torch.inference_mode(), autocast(self.device, self._precision):
            vectors: torch.Tensor = self._encoder(batch.to(self.device)).vectors
            return vectors.float()


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
) -> int:
    """Writes a vector for every video of a corpus; carries on where it was stopped.

    Videos are batched by length inside a shard and written in corpus order.

    Args:
        checkpoint: A checkpoint or run.
        corpus_path: The corpus.
        out: Folder of the vectors.
        progress: Called with vectors done and all.
        parts: Only videos of these parts of the corpus, in any order; empty: all videos.
        backend: See ``Encoder.load``.

    Returns:
        How many vectors there are.

    Raises:
        UsageError: The model was trained on frames of another encoder, ``out`` holds others, or the
            corpus has no such part.
    """
    corpus = Corpus(corpus_path)
    chosen = rows_of_parts(corpus, parts)
    encoder = Encoder.load(checkpoint, backend=backend)
    encoder.model.check_frames(corpus, checkpoint)
    made_by: dict[str, Any] = {
        "stage": "embed",
        "checkpoint": str(checkpoint.resolve()),
        "weights": weights_hash(checkpoint),
        "corpus": str(corpus_path.resolve()),
        "videos": len(chosen),
    }
    if backend == "int8" or in_bfloat16(encoder.device, encoder._precision):
        made_by["backend"] = "int8" if backend == "int8" else "bf16"
    if parts:
        made_by["parts"] = sorted(set(parts))
    writer = VectorWriter(out, encoder.dimension, {"normalised": True, "made_by": made_by})
    builder = BatchBuilder(corpus, encoder.model.tokenizer, encoder.model.recipe.model)
    for start in range(writer.rows, len(chosen), SHARD):
        rows = chosen[start : start + SHARD]
        vectors = embed_rows(encoder, builder, rows, progress, (start, len(chosen)))
        writer.append([corpus.ids[row] for row in rows], vectors)
    writer.finish()
    return len(chosen)


def rows_of_parts(corpus: Corpus, parts: Sequence[str]) -> NDArray[np.int64]:
    """(n,) int64 rows of a corpus's videos that are in these parts, ascending; all without parts.

    Raises:
        UsageError: The corpus has no such part.
    """
    if not parts:
        return np.arange(len(corpus))
    known = corpus.parts
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise UsageError(
            f"{corpus.path} has no part {', '.join(map(repr, unknown))}; its parts are "
            f"{', '.join(known) or 'none: its source had no folders'}"
        )
    return np.unique(np.concatenate([known[part] for part in parts]))


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
