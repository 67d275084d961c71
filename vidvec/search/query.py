"""Queries into vectors: words, video files and pictures, seen as the vectors' own videos were."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.config import Modality
from vidvec.data.corpus import Corpus
from vidvec.data.worker import Limits
from vidvec.errors import UsageError
from vidvec.records import Video
from vidvec.search.made import Features, Made, QueryVideo, encoder_key, open_made, seen_without
from vidvec.search.reading import FileReader

# Of words to look for; a model reads a few dozen tokens of them.
TEXT_LIMIT = 10_000
# A file to look for gets this much, besides what its size adds (``worker.Limits``).
FILE_SECONDS = 60.0
# Vectors of videos seen without a modality that are kept for the next query.
KEPT_VIEWS = 10_000
# What is to be unlike weighs this much of what is to be like (after Rocchio, "Relevance feedback
# in information retrieval", 1971; with as much weight, the two would cancel what they share).
UNLIKE_WEIGHT = 0.5
# A video's id, and what it is seen without.
View = tuple[str, frozenset[Modality]]


class QueryEncoder:
    """What made a folder of vectors, for new videos and words; usable from any thread.

    Frame encoders and the processes that read files are started when the first file comes, and
    stay until ``close``.

    >>> with QueryEncoder.load(Path("vectors")) as encoder:
    ...     encoder.titles(["a dog on a beach"]).shape
    (1, 256)

    Args:
        made: What made the vectors; see ``load``.
        encoders, limits, workers: See ``load``.

    Attributes:
        dimension: E.
        modalities: What the models read of a video that has everything.
    """

    def __init__(
        self,
        made: Made,
        *,
        encoders: Sequence[str] = (),
        limits: Limits | None = None,
        workers: int = 2,
    ) -> None:
        self._made = made
        self.dimension = made.dimension
        read = [modality for model in made.models for modality in model.reads]
        self.modalities: tuple[Modality, ...] = tuple(dict.fromkeys(read))
        limits = limits or Limits(seconds=FILE_SECONDS)
        self._reader = FileReader(made.models, encoders, limits, workers)
        self._lock = threading.Lock()
        self._fitting: tuple[Corpus | None, list[Corpus]] = (None, [])
        self._seen: OrderedDict[View, NDArray[np.float32]] = OrderedDict()

    @classmethod
    def load(
        cls,
        vectors: Path,
        *,
        encoders: Sequence[str] = (),
        limits: Limits | None = None,
        workers: int = 2,
    ) -> QueryEncoder:
        """Opens what made a folder of vectors.

        Args:
            vectors: Made by ``embed`` or, from several, by ``fuse``.
            encoders: Where frame encoders are that the corpus does not note, or that have moved:
                ``onnx:FILE``, ``hf:FOLDER``.
            limits: What reading one file may take; ``None``: a minute, memory as in ``ingest``.
            workers: Processes that read files side by side, at most.

        Raises:
            UsageError: What made the vectors is not known, or has changed since.
            FormatError: A checkpoint or a fusion is missing or damaged.
        """
        return cls(open_made(vectors), encoders=encoders, limits=limits, workers=workers)

    def __enter__(self) -> QueryEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes that read files."""
        self._reader.close()

    @property
    def features(self) -> frozenset[str]:
        """Keys (``encoder_key``) of the encoders whose frames and audio frames the models read."""
        models = self._made.models
        identities = [each for m in models for each in (m.frame_encoder, m.audio_encoder)]
        return frozenset(encoder_key(each) for each in identities if each is not None)

    def titles(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, E) float32 unit vectors of words: of videos with such titles and nothing else.

        Raises:
            UsageError: One is longer than ``TEXT_LIMIT`` characters, or no model reads titles.
        """
        for text in texts:
            check_text(text)
        if "title" not in self.modalities:
            read = ", ".join(self.modalities)
            raise UsageError(f"words cannot be looked for: the vectors were made of {read} alone")
        return self._made.encode([Video(id="", title=text) for text in texts])

    def videos(
        self, videos: Sequence[Video], without: Collection[Modality] = ()
    ) -> NDArray[np.float32]:
        """(n, E) float32 unit vectors of videos, in few batches.

        Args:
            videos: From ``read`` or ``of_corpus``; others where all models read features of the
                same encoders.
            without: What is read of none of them.

        Raises:
            UsageError: A video has features that the models do not read.
        """
        several = len({encoder_key(m.frame_encoder) for m in self._made.models if m.frame_encoder})
        for video in videos:
            if several > 1 and len(video.frames) and not isinstance(video, QueryVideo):
                raise UsageError(
                    f"video {video.id!r} has the frames of one encoder, and the models read those "
                    f"of {several}: take it from QueryEncoder.read or of_corpus"
                )
        return self._made.encode([seen_without(video, without) for video in videos])

    def read(self, path: Path, *, title: str = "") -> QueryVideo:
        """A video file, or a picture as a video of one frame, with what the models read of it.

        It is read in a process of its own with limits on time and memory. What is said in it and
        written on its pictures is not made into text.

        Args:
            path: The file.
            title: Its title, where it has one.

        Returns:
            The video, with a film strip; its id is the file's name.

        Raises:
            BadRecord: The file cannot be read; ``reason`` is one of those of ``ingest``,
                ``truncated-picture`` or ``damaged-picture``.
            UsageError: A frame encoder of the models cannot be opened here, no model reads
                pictures or sound, or the title is too long.
        """
        check_text(title)
        return self._reader.read(Path(path), title)

    def of_corpus(self, corpus: Corpus, ids: Sequence[str]) -> list[QueryVideo]:
        """Videos of a corpus with the frames, of it or its feature sets, that each model reads.

        Raises:
            UsageError: The corpus has no such video, or not the features that a model reads.
        """
        fitting = self._fitting_corpora(corpus)
        videos = []
        for video_id in ids:
            row = corpus.row(video_id)
            video = corpus.video(row)
            frames_of: dict[str, Features] = {}
            audio_of: dict[str, Features] = {}
            for model, own in zip(self._made.models, fitting, strict=True):
                if model.frame_encoder is not None:
                    frames_of[encoder_key(model.frame_encoder)] = own.frames(row)
                if model.audio_encoder is not None:
                    audio_of[encoder_key(model.audio_encoder)] = video.audio
            known = {each.name: getattr(video, each.name) for each in fields(Video)}
            videos.append(QueryVideo(**known, frames_of=frames_of, audio_of=audio_of))
        return videos

    def views(self, corpus: Corpus, wanted: Collection[View]) -> dict[View, NDArray[np.float32]]:
        """(E,) unit vectors of videos of a corpus, each seen without some modalities.

        Those that are not known from an earlier call are made together, in few batches. So many
        are kept as take some ten megabytes, until another ``Corpus`` is given.

        Args:
            corpus: Where the videos are.
            wanted: Ids, each with what the video is seen without.

        Raises:
            UsageError: See ``of_corpus``.
        """
        self._fitting_corpora(corpus)  # forgets what was seen of another
        with self._lock:
            found = {view: self._seen[view] for view in wanted if view in self._seen}
        missing = sorted(set(wanted) - found.keys(), key=lambda view: (view[0], sorted(view[1])))
        if missing:
            ids = list(dict.fromkeys(video_id for video_id, _ in missing))
            videos = dict(zip(ids, self.of_corpus(corpus, ids), strict=True))
            made = self.videos([seen_without(videos[each], left) for each, left in missing])
            found |= dict(zip(missing, made, strict=True))
        with self._lock:
            if self._fitting[0] is corpus:
                for view in wanted:
                    self._seen[view] = found[view]
                    self._seen.move_to_end(view)
                while len(self._seen) > KEPT_VIEWS:
                    self._seen.popitem(last=False)
        return found

    def _fitting_corpora(self, corpus: Corpus) -> list[Corpus]:
        """For each model the corpus with the frames that it reads; kept for the next call."""
        with self._lock:
            held, fitting = self._fitting
            if held is not corpus:
                fitting = [
                    model.encoder.model.check_frames(corpus, model.checkpoint, model.without)
                    for model in self._made.models
                ]
                self._fitting = (corpus, fitting)
                self._seen.clear()
            return fitting


def check_text(text: str) -> None:
    """Refuses words that cannot be looked for.

    Raises:
        UsageError: They have more than ``TEXT_LIMIT`` characters, or are not Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("the text to look for is not Unicode") from None
    if len(text) > TEXT_LIMIT:
        raise UsageError(
            f"the text to look for has {len(text):,} characters, at most {TEXT_LIMIT:,} are taken: "
            "give a title, not a document"
        )


def combine(
    vectors: NDArray[np.floating], weights: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Several queries as one: the weighted mean of their unit vectors, of length 1 again.

    A video's cosine with it is, but for one factor, the weighted mean of its cosines with each.

    Args:
        vectors: (n, E), of any lengths but 0.
        weights: (n,); below 0 for what the videos found are to be unlike. ``None``: equal.

    Returns:
        (E,) float32.

    Raises:
        UsageError: There is no vector, one is zero or not finite, or they cancel out.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float64))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not len(rows) or not np.isfinite(rows).all() or not lengths.all():
        raise UsageError("a query needs one or more vectors, each of finite numbers, not all 0")
    scaled = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    if len(scaled) != len(rows) or not np.isfinite(scaled).all():
        raise UsageError(f"{len(scaled)} weights for {len(rows)} query vectors")
    mean = scaled @ (rows / lengths)
    length = float(np.linalg.norm(mean))
    if length <= 1e-6 * np.abs(scaled).sum():
        raise UsageError("the queries cancel out: what is to be unlike is what is to be like")
    return np.asarray(mean / length, np.float32)


def like_and_unlike(
    like: NDArray[np.floating], unlike: NDArray[np.floating]
) -> NDArray[np.float32]:
    """One query of what videos are to be like and unlike.

    The mean of the one, less ``UNLIKE_WEIGHT`` times the mean of the other, however many they are.

    Args:
        like: (n, E), at least one.
        unlike: (m, E), may be none.

    Returns:
        (E,) float32 of length 1.

    Raises:
        UsageError: See ``combine``.
    """
    if not len(like):
        raise UsageError(
            "nothing to look for: give an id, words or a file that hits are to be like"
        )
    weights = [1 / len(like)] * len(like) + [-UNLIKE_WEIGHT / max(1, len(unlike))] * len(unlike)
    return combine(np.concatenate([like, unlike]) if len(unlike) else like, weights)
