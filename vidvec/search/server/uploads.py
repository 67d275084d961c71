"""Files handed in: written under a name of ours, read in limited processes, removed in any case."""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import UploadFile

from vidvec.errors import BadRecord, UsageError
from vidvec.search.made import QueryVideo
from vidvec.search.server.answers import QueryAnswer
from vidvec.search.server.failures import ApiError, not_available
from vidvec.search.server.limits import BodyTooLarge
from vidvec.search.server.state import State

FOLDER = "uploads"
# A name tells some readers what to expect: of it, this much is taken.
_VIDEOS = ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv"
_PICTURES = ".bmp .gif .jpeg .jpg .png .webp"
_SUFFIXES = frozenset([*_VIDEOS.split(), *_PICTURES.split()])


@contextmanager
def written(source: BinaryIO, name: str, folder: Path, most: int) -> Iterator[Path]:
    """A file handed in, as a file of ours for as long as it is needed.

    Args:
        source: Its bytes.
        name: What the client calls it; only a usual suffix is taken over.
        folder: Where to write it.
        most: Bytes that are taken.

    Raises:
        BodyTooLarge: It has more.
        ApiError: It has none.
    """
    source.seek(0, 2)
    size = source.tell()
    source.seek(0)
    if size > most:
        raise BodyTooLarge(most)
    if not size:
        raise ApiError("bad-video", "empty-file: the file has 0 bytes", "hand in another file")
    suffix = Path(name).suffix.lower()
    path = folder / f"{uuid.uuid4().hex}{suffix if suffix in _SUFFIXES else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, 2**20)
        yield path
    finally:
        path.unlink(missing_ok=True)


def read(state: State, upload: UploadFile, title: str = "") -> QueryVideo:
    """A file handed in, as the model sees it.

    Raises:
        BadRecord: It cannot be read.
        ApiError: There is no model here that reads files.
    """
    encoder = state.model.required()
    most, name, size = state.config.upload_bytes, upload.filename or "", upload.size or 0
    try:
        with written(upload.file, name, state.scratch / FOLDER, most) as path:
            video = encoder.read(path, title=title)
    except BadRecord as error:
        state.metrics.upload(error.reason, size)
        detail = error.detail.replace(str(path), "the file").replace(path.name, "the file")
        raise BadRecord(error.reason, detail) from None
    except (ApiError, BodyTooLarge) as error:
        state.metrics.upload("too-large" if isinstance(error, BodyTooLarge) else "empty-file", size)
        raise
    except UsageError as error:
        raise not_available(f"files cannot be looked for here: {error}", "look for text") from None
    state.metrics.upload("ok", size)
    return video


def query_answer(video: QueryVideo) -> QueryAnswer:
    """What was seen of a file."""
    pictures = [base64.b64encode(each).decode("ascii") for each in video.thumbnails]
    return QueryAnswer.model_construct(
        duration_seconds=video.duration_seconds,
        pictures=[f"data:image/jpeg;base64,{each}" for each in pictures],
    )
