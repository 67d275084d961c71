"""Files to look for something like: read in limited processes, seen as some models see videos."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vidvec.data.frames import FrameEncoder
from vidvec.data.media import THUMBNAILS, MediaRequest
from vidvec.data.modalities import Modalities
from vidvec.data.pictures import READ_QUERY
from vidvec.data.processing import Chunk, Seen, settle, with_file
from vidvec.data.reopen import noted_specs, reopen_audio_encoder, reopen_frame_encoder
from vidvec.data.sampling import KEYFRAMES
from vidvec.data.worker import Limits
from vidvec.data.workers import WorkerPool
from vidvec.errors import BadRecord, UsageError, VidvecError
from vidvec.records import Reject, SourceRow, Video
from vidvec.search.made import Features, MadeByModel, QueryVideo, encoder_key
from vidvec.storage import MANIFEST, located, read_json

# Pictures for a film strip alone.
_SHORT_SIDE = 256


@dataclass(frozen=True, slots=True)
class _Job:
    """One reading of a file.

    Attributes:
        encoders: Frame encoders by key that take the same pictures.
        modalities: Makes the audio frames.
        audio_key: Of the audio encoder; empty: no sound is read.
        request: What is wanted of the file.
    """

    encoders: dict[str, FrameEncoder]
    modalities: Modalities
    audio_key: str
    request: MediaRequest


class FileReader:
    """Reads video files and pictures; usable from any thread.

    Encoders and processes are started when the first file comes and stay until ``close``.

    Args:
        models: That are to see the files.
        specs: Where frame encoders are; see ``reopen.reopen_frame_encoder``.
        limits: Of each file.
        workers: Processes at most.
    """

    def __init__(
        self, models: Sequence[MadeByModel], specs: Sequence[str], limits: Limits, workers: int
    ) -> None:
        self._models, self._specs = models, tuple(specs)
        self._limits, self._workers = limits, workers
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None
        self._jobs: list[_Job] = []
        self._closed = False

    def close(self) -> None:
        """Ends the processes, with what they are at."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def read(self, path: Path, title: str) -> QueryVideo:
        """One file; see ``QueryEncoder.read``."""
        pool, jobs = self._started()
        row = with_file(SourceRow(str(path), Video(id=path.stem, title=title), path))
        coming = [pool.submit(path, job.request) for job in jobs]
        videos: list[Video] = []
        frames_of: dict[str, Features] = {}
        audio_of: dict[str, Features] = {}
        for job, future in zip(jobs, coming, strict=True):
            try:
                media = future.result()
            except BadRecord as error:
                raise _of_query(error) from None
            outcome, _ = settle(row, media, job.modalities)
            if isinstance(outcome, Reject):  # sound alone, and what hears it is another job
                if not videos:
                    raise BadRecord(outcome.reason, outcome.detail)
                continue
            videos.append(outcome.video)
            if job.audio_key:
                audio_of[job.audio_key] = outcome.video.audio
            if isinstance(outcome, Seen):
                each = job.encoders.items()
                frames_of |= {key: _frames(outcome, encoder) for key, encoder in each}
        known = {each.name: getattr(videos[0], each.name) for each in fields(Video)}
        known["frames"] = next(iter(frames_of.values()), known["frames"])
        return QueryVideo(**known, frames_of=frames_of, audio_of=audio_of)

    def _started(self) -> tuple[WorkerPool, list[_Job]]:
        """The pool and the readings that each file needs."""
        with self._lock:
            if self._closed:
                raise VidvecError("the reader of files was closed")
            self._jobs = self._jobs or self._opened_jobs()
            if self._pool is None:
                self._pool = WorkerPool(self._workers, self._limits, task=READ_QUERY)
            return self._pool, self._jobs

    def _opened_jobs(self) -> list[_Job]:
        frames: dict[str, FrameEncoder] = {}
        heard: dict[str, Modalities] = {}
        for model in self._models:
            identity, key = _identity_and_key(model.frame_encoder)
            if key and key not in frames:
                specs = [*self._specs, *_noted(model, "encoder")]
                frames[key] = reopen_frame_encoder(identity, specs)
            identity, key = _identity_and_key(model.audio_encoder)
            if key and key not in heard:
                heard[key] = Modalities(reopen_audio_encoder(identity, _noted(model, "audio")))
        if not frames and not heard:
            raise UsageError(
                "files cannot be looked for: the vectors were made of words alone; give a title"
            )
        keyframes = any(_of_keyframes(model.corpus) for model in self._models)
        return _jobs(frames, heard, keyframes)


def _jobs(
    frames: dict[str, FrameEncoder], heard: dict[str, Modalities], keyframes: bool
) -> list[_Job]:
    """The readings that serve these encoders, by key, the first of them with the film strip."""
    # Frame encoders that take pictures of one size share a reading.
    groups: dict[int, dict[str, FrameEncoder]] = {}
    for key, encoder in frames.items():
        groups.setdefault(encoder.short_side, {})[key] = encoder
    jobs: list[_Job] = []
    for group, sound in zip_longest(groups.items(), heard.items()):
        short_side, encoders = group or (_SHORT_SIDE, {})
        audio_key, modalities = sound or ("", Modalities("none"))
        wanted: dict[str, Any] = modalities.wanted(Video(id=""))
        shown = 0 if jobs else THUMBNAILS
        wanted |= {"short_side": short_side, "thumbnails": shown, "keyframes": keyframes}
        request = MediaRequest(**wanted)
        jobs.append(_Job(encoders, modalities, audio_key, request))
    return jobs


def _identity_and_key(identity: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
    return (identity, encoder_key(identity)) if identity else ({}, "")


def _of_keyframes(corpus: Path) -> bool:
    """Whether a corpus's frames are key frames; files are then looked at in the same way."""
    manifest = corpus / MANIFEST
    return manifest.is_file() and read_json(manifest).get("frame_sampling") == KEYFRAMES


def _noted(model: MadeByModel, kind: str) -> list[str]:
    """Specs of encoders that the vectors' corpus and the one trained on note."""
    trained_on = model.encoder.model.made_by.get("corpus", "")
    corpora = dict.fromkeys([model.corpus, located(trained_on)])
    return [spec for corpus in corpora for spec in noted_specs(corpus, kind)]


def _frames(seen: Seen, encoder: FrameEncoder) -> Features:
    """Features of a video's pictures, as ``ingest`` makes them."""
    chunk = Chunk(encoder)
    chunk.add(replace(seen, pictures=list(seen.pictures)))
    [outcome] = chunk.finish()
    if isinstance(outcome, Reject):
        raise BadRecord(outcome.reason, outcome.detail)
    return outcome.video.frames


def _of_query(error: BadRecord) -> BadRecord:
    """The error without the options of ``ingest``, which a query does not have."""
    return BadRecord(error.reason, re.sub(r" \(--file-[a-z-]+\)", "", error.detail))
