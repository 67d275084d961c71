"""The competition's submission (system.md, section 1): written, and checked.

A zip holds ``result.json``, one object: video id to a list of at most 256 numbers, each a float16.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError

MEMBER = "result.json"
MOST_NUMBERS = 256
# The earliest that a zip can say, so that the same vectors give the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)
_LARGE = 2**31
_BLOCK = 1024
MOST_VIDEOS = 1_000_000
MOST_BYTES = 4 * 2**30  # unpacked; that many videos of 256 numbers take less
_MOST_CHARACTERS = 2**18  # of one vector, or of one id


@dataclass(frozen=True, slots=True)
class Written:
    """What ``write_submission`` wrote.

    Attributes:
        videos: In the submission.
        dimension: Numbers a video.
        filled: Ids without a vector of their own, which got the mean of the others.
    """

    videos: int
    dimension: int
    filled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SubmissionReport:
    """What ``check_submission`` found.

    Attributes:
        videos: In the submission, each counted once.
        dimension: Numbers of most vectors.
        problems: A line for each kind of problem; none where the submission is valid.
    """

    videos: int
    dimension: int
    problems: tuple[str, ...]


@cache
def shortest_forms() -> tuple[list[str], NDArray[np.float64]]:
    """For each of the 65,536 float16, by its bits: its shortest decimal form, and that as float64.

    The form is the shortest that rounds to this float16 and no other (of NaN and infinities: null).

    Returns:
        Texts, and (65536,) float64.
    """
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    texts = [str(value) if np.isfinite(value) else "null" for value in values]
    numbers = [np.nan if text == "null" else float(text) for text in texts]
    return texts, np.array(numbers, np.float64)


def write_submission(
    vectors_path: Path, ids: Sequence[str], out: Path, *, strict: bool = False
) -> Written:
    """Writes a submission, atomically; the same vectors and ids give the same bytes.

    A video without a vector, as its record was damaged, gets the mean of the others' vectors, so
    that the submission stays valid.

    Args:
        vectors_path: Folder of vectors, of at most 256 numbers each.
        ids: Of the test videos, in the order in which they are written; each is written once.
        out: The zip.
        strict: Stop where a video has no vector.

    Raises:
        UsageError: No or, with ``strict``, not every video has a vector; or they are too long, not
            finite as float16, or zero.
    """
    vectors = Vectors(vectors_path)
    if vectors.dimension > MOST_NUMBERS:
        raise UsageError(
            f"{vectors_path} holds vectors of {vectors.dimension} numbers, a submission takes at "
            f"most {MOST_NUMBERS}: fuse them to that (vidvec fuse … --size {MOST_NUMBERS})"
        )
    wanted = list(dict.fromkeys(ids))
    without = [video for video in wanted if video not in vectors]
    if len(without) == len(wanted):
        raise UsageError(
            f"none of the {len(wanted)} test videos has a vector in {vectors_path}: was it made "
            "from the same data, with its test parts?"
        )
    if without and strict:
        raise UsageError(
            f"no vector in {vectors_path} for {_some(without, 'test video')}: without --strict "
            "they get the mean vector"
        )
    halves = _halves(vectors, wanted)
    with storage.atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        info = zipfile.ZipInfo(MEMBER, _TIME)
        info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
        info.external_attr = 0o644 << 16
        large = halves.size * 12 > _LARGE
        with archive.open(info, "w", force_zip64=large) as file:
            _write_json(file, wanted, halves)
    return Written(len(wanted), vectors.dimension, tuple(without))


def _some(ids: Sequence[str], what: str) -> str:
    """As in "2 test videos (7, 9)"; of many, the first few."""
    plain = [one if one.isprintable() and len(one) < 40 else f"{one!r:.40}" for one in ids[:5]]
    shown = ", ".join(plain) + (", …" if len(ids) > 5 else "")
    return f"{len(ids)} {what}{'s' * (len(ids) != 1)} ({shown})"


def _halves(vectors: Vectors, ids: Sequence[str]) -> NDArray[np.float16]:
    """(videos, E) float16; the mean where a video has no vector."""
    rows = np.array([vectors.row(video) if video in vectors else -1 for video in ids], np.int64)
    there = rows >= 0
    matrix = vectors.matrix[rows[there]]
    halves = np.empty((len(ids), vectors.dimension), np.float16)
    with np.errstate(over="ignore"):
        halves[there] = matrix.astype(np.float16)
    for wrong, what in (
        (~np.isfinite(halves[there]).all(axis=1), "holds a number that is no finite float16"),
        (~halves[there].any(axis=1), "is zero as float16, and has no cosine with any other"),
    ):
        if wrong.any():
            video = ids[int(np.flatnonzero(there)[wrong][0])]
            raise UsageError(f"{vectors.path}: the vector of video {video} {what}")
    if not there.all():
        mean = matrix.mean(axis=0, dtype=np.float64)
        if vectors.normalised:
            mean /= max(float(np.linalg.norm(mean)), 1e-12)
        filling = mean.astype(np.float16)
        halves[~there] = filling if filling.any() else halves[there][0]
    return halves


def _write_json(file: IO[bytes], ids: Sequence[str], halves: NDArray[np.float16]) -> None:
    texts = np.array(shortest_forms()[0], object)
    lead = b"{"
    for start in range(0, len(ids), _BLOCK):
        block = texts[halves[start : start + _BLOCK].view(np.uint16)].tolist()
        for video, numbers in zip(ids[start : start + _BLOCK], block, strict=True):
            line = f"{json.dumps(video)}: [{', '.join(numbers)}]"
            file.write(lead + line.encode())
            lead = b",\n"
    file.write(b"}\n")


def check_submission(path: Path, ids: Sequence[str] | None = None) -> SubmissionReport:
    """Finds out whether a submission is valid, whoever wrote it.

    It is read as a stream, in little memory, and nothing is unpacked to disk: it may be hostile.

    Args:
        path: The zip.
        ids: Of all test videos; ``None``: it is not checked which ids are in it.

    Raises:
        UsageError: There is no such file.
    """
    if not path.is_file():
        raise UsageError(f"submission {path} does not exist")
    problems: list[str] = []
    seen: dict[str, None] = {}
    found: dict[str, list[str]] = defaultdict(list)
    lengths: dict[int, list[str]] = defaultdict(list)
    try:
        with zipfile.ZipFile(path) as archive:
            problems += _other_members(archive)
            with archive.open(_member(archive)) as file:
                for video, numbers in _entries(file):
                    if video in seen:
                        found["more than once"].append(video)
                    seen[video] = None
                    for problem in _wrong_with(numbers):
                        found[problem].append(video)
                    if isinstance(numbers, list):
                        lengths[len(numbers)].append(video)
    except FormatError as error:
        problems.append(str(error))
    # A broken zip shows in all these ways.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        problems.append(f"no zip that can be read: {error}")
    if not (seen or problems):
        problems.append(f"{MEMBER} holds no vectors")
    dimension = max(lengths, key=lambda length: len(lengths[length]), default=0)
    for length, videos in lengths.items():
        if length != dimension:
            found[f"{length} numbers, where most have {dimension}"] += videos
    if ids is not None and seen:
        wanted = dict.fromkeys(ids)
        found["missing"] += [video for video in wanted if video not in seen]
        found["no test video"] += [video for video in seen if video not in wanted]
    problems += [f"{what}: {_some(videos, 'video')}" for what, videos in found.items() if videos]
    return SubmissionReport(len(seen), dimension, tuple(problems))


def _other_members(archive: zipfile.ZipFile) -> list[str]:
    names = [info.orig_filename for info in archive.infolist() if info.orig_filename != MEMBER]
    if not names:
        return []
    shown = ", ".join(f"{name!r:.60}" for name in names[:5]) + (", …" if len(names) > 5 else "")
    return [f"the zip holds more than {MEMBER}: {len(names)} other members ({shown})"]


def _member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one ``result.json``.

    Raises:
        FormatError: There is none or more than one, or it cannot or should not be unpacked.
    """
    found = [info for info in archive.infolist() if info.orig_filename == MEMBER]
    if len(found) != 1:
        raise FormatError(f"expected one {MEMBER} at the top of the zip, found {len(found)}")
    info = found[0]
    if info.flag_bits & 1:
        raise FormatError(f"{MEMBER} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(f"{MEMBER} is packed in another way than deflate")
    if info.file_size > MOST_BYTES:
        raise FormatError(f"{MEMBER} unpacks to {info.file_size:,} bytes: more than {MOST_BYTES:,}")
    return info


def _wrong_with(numbers: Any) -> Iterator[str]:
    """What is wrong with one vector by itself."""
    if not isinstance(numbers, list) or not {*map(type, numbers)} <= {int, float}:
        yield "no list of numbers"
        return
    if not numbers:
        yield "no numbers"
        return
    if len(numbers) > MOST_NUMBERS:
        yield f"more than {MOST_NUMBERS} numbers"
    try:
        values = np.array(numbers, np.float64)
    except OverflowError:
        values = np.array([np.inf])
    if not np.isfinite(values).all():
        yield "NaN or infinity"
        return
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    exact = halves.astype(np.float64) == values
    if not (exact | (shortest_forms()[1][halves.view(np.uint16)] == values)).all():
        yield "a number that is no float16"
    if not halves.any():
        yield "nothing but zeros"


class _Window:
    """The part of a JSON text that is being read; it grows on demand and forgets what was taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._reader = io.TextIOWrapper(file, "utf-8", newline="")
        self._decoder = json.JSONDecoder(parse_constant=float)
        self._text, self._at = "", 0
        self._read, self._ended = 0, False

    def _more(self) -> None:
        try:
            block = self._reader.read(_MOST_CHARACTERS)
        except UnicodeDecodeError as error:
            raise FormatError(f"{MEMBER} is not UTF-8: {error.reason}") from None
        self._read += len(block)
        if self._read > MOST_BYTES:
            raise FormatError(f"{MEMBER} unpacks to more than {MOST_BYTES:,} bytes")
        self._ended = not block
        self._text, self._at = self._text[self._at :] + block, 0

    def blank(self) -> str:
        """Leaves out blanks; returns the next character, not taken, or nothing at the end."""
        while True:
            rest = len(self._text) - self._at
            if rest and self._text[self._at] not in " \t\r\n":
                return self._text[self._at]
            stripped = self._text[self._at :].lstrip(" \t\r\n")
            self._at += rest - len(stripped)
            if rest - len(stripped) >= _MOST_CHARACTERS:
                raise FormatError(f"{MEMBER} holds more blanks in a row than any vector is long")
            if not stripped:
                if self._ended:
                    return ""
                self._more()

    def take(self, expected: str) -> str:
        """Takes the next character, one of these.

        Raises:
            FormatError: It is another.
        """
        found = self.blank()
        if not found or found not in expected:
            what = repr(self._text[self._at : self._at + 20]) if found else "its end"
            raise FormatError(f"{MEMBER} is no JSON object: expected {expected!r}, found {what}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Takes the next value.

        Raises:
            FormatError: It is no JSON, or longer than any id or vector.
        """
        while True:
            self.blank()
            problem = ""
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                problem = str(error)
            # A number may go on behind the window.
            if not problem and (end < len(self._text) or self._ended):
                self._at = end
                return value
            if self._ended or len(self._text) - self._at > _MOST_CHARACTERS:
                found = repr(self._text[self._at : self._at + 40])
                raise FormatError(f"{MEMBER} is no JSON at {found}: {problem or 'too long'}")
            self._more()


def _entries(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yields the keys and values of a JSON object, one by one, repeated keys too.

    Raises:
        FormatError: The text is no JSON object.
    """
    window = _Window(file)
    window.take("{")
    if window.blank() == "}":
        window.take("}")
    else:
        separator, count = ",", 0
        while separator == ",":
            count += 1
            if count > MOST_VIDEOS:
                raise FormatError(f"{MEMBER} holds more than {MOST_VIDEOS:,} entries")
            if window.blank() != '"':
                window.take('"')
            video = window.value()
            window.take(":")
            yield video, window.value()
            separator = window.take(",}")
    if window.blank():
        raise FormatError(f"{MEMBER} goes on behind its JSON object")
