"""One search from question to answer, as the command line asks it."""

from __future__ import annotations

import difflib
import errno
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.data.dates import iso_date
from vidvec.embed.vectors import Vectors
from vidvec.errors import BadRecord, UsageError
from vidvec.search.cluster.engine import ClusterIndex
from vidvec.search.cluster.folder import check_folder, folder_of
from vidvec.search.engine import SearchIndex
from vidvec.search.explain import explain
from vidvec.search.filters import moment
from vidvec.search.folding import INDEX
from vidvec.search.in_memory import InMemoryIndex, indexed
from vidvec.search.index import corpus_of, gone_ids
from vidvec.search.interface import Index
from vidvec.search.partial import Missing, noted
from vidvec.search.query import QueryEncoder, check_text, like_and_unlike
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.sharded.folder_of import folder_of_shards
from vidvec.search.sharded.layout import is_shards_file
from vidvec.search.types import Filter, Hit, IndexedVideo, Why

# What an operating system says of a folder in which nothing can be written.
_UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})
# Ids that are looked through for one that was meant; more take seconds.
_MOST_IDS = 20_000

Build = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for. Of ``ids``, ``title`` and ``files`` the mean is looked for.

    Attributes:
        ids: Videos of the vectors that hits are to be like.
        unlike_ids: And unlike; see ``query.like_and_unlike``.
        title: Words that hits are to be like in meaning; ``None``: none.
        files: Video files and pictures that hits are to be like.
        words: Words that are in the hits' titles; instead of all of the above.
        k: How many hits.
        filter: Which videos may be found.
        exact: Compare with every vector.
        why: Say what each modality has to do with each hit.
    """

    ids: tuple[str, ...] = ()
    unlike_ids: tuple[str, ...] = ()
    title: str | None = None
    files: tuple[Path, ...] = ()
    words: str | None = None
    k: int = 10
    filter: Filter = Filter()  # noqa: RUF009 - frozen
    exact: bool = False
    why: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        hits: Best first.
        videos: What is known of them, by id.
        why: One for each hit; ``None``: not asked for.
        left_out: How many videos were passed over because they are gone from the source.
        in_memory: Whether every vector was compared in memory, for want of an index.
        missing: Shards that did not answer; ``None``: none.
    """

    hits: list[Hit]
    videos: Mapping[str, IndexedVideo]
    why: list[Why] | None
    left_out: int
    in_memory: bool
    missing: Missing | None = None


def find(
    vectors: Path | None,
    question: Question,
    build: Build,
    *,
    index: str = "",
    corpus: Path | None = None,
    encoders: Sequence[str] = (),
) -> Answer:
    """Looks for something in a folder of vectors.

    Args:
        vectors: The folder; ``None``, with an index elsewhere: the one that it was filled from.
        question: What to look for.
        build: Makes the folder's index where there is none; called when all else is known to be
            well. Where nothing can be written there, every vector is compared in memory instead.
        index: Address of a cluster, or file of shards, that is searched instead of the folder's
            own index.
        corpus: Where titles and such are; ``None``: as the index or the vectors say.
        encoders: See ``QueryEncoder.load``.

    Raises:
        UsageError: The question or the folder cannot be used; see the functions that this calls.
        BadRecord: A file cannot be read.
        ServerError: Nothing of the index elsewhere answers.
    """
    asked = check_question(question)
    with ExitStack() as stack:
        notes = stack.enter_context(noted())
        held: Index | Vectors
        if index:
            held, vectors = _elsewhere(index, vectors, stack)
        elif vectors is None:
            raise UsageError("give a folder of vectors, or the address of an index")
        elif (vectors / INDEX).is_dir():
            held = stack.enter_context(SearchIndex.open(vectors))
        else:
            held = Vectors(vectors)
        shown = corpus_of(vectors, corpus)
        if asked.why and shown is None:
            raise UsageError(f"the corpus of {vectors} is gone, without which nothing is explained")
        check_ids(asked.ids + asked.unlike_ids, held, vectors)
        gone = gone_ids(shown, Vectors(vectors), own=corpus is None) if _may_lack(shown) else []
        encoder = stack.enter_context(_LazyEncoder(vectors, encoders))
        new = _encoded(asked, encoder)
        opened = _built(vectors, build, shown, stack) if isinstance(held, Vectors) else held
        hits, query = _hits(opened, asked, new, gone)
        ids = [hit.id for hit in hits]
        why = None
        if asked.why and shown is not None:
            why = explain(encoder.opened(), shown, query, ids, [hit.cosine for hit in hits])
        videos = {video.id: video for video in opened.videos(ids)}
    if corpus is not None and shown is not None:
        videos |= {each: indexed(shown.video(shown.row(each))) for each in ids if each in shown}
    in_memory = isinstance(opened, InMemoryIndex)
    return Answer(hits, videos, why, len(gone), in_memory, notes.missing)


def _elsewhere(index: str, vectors: Path | None, stack: ExitStack) -> tuple[Index, Path]:
    """An opened index that is no folder's own, and the folder that says what made its vectors."""
    scratch = Path(stack.enter_context(TemporaryDirectory(prefix="vidvec-")))
    if is_shards_file(index):
        shards = stack.enter_context(ShardedIndex.open(Path(index)))
        return shards, folder_of_shards(shards, vectors, scratch)
    opened = stack.enter_context(ClusterIndex.open(index))
    if vectors is None:
        return opened, folder_of(opened.reader.held, scratch)
    check_folder(vectors, opened.reader.held, index)
    return opened, vectors


def _hits(
    index: Index | InMemoryIndex,
    asked: Question,
    new: Sequence[NDArray[np.float32]],
    gone: Collection[str],
) -> tuple[list[Hit], NDArray[np.float32]]:
    """What is found, and the query's vector; (0,) for words."""
    if asked.words is not None:
        left_out = set(gone)
        found = index.words(asked.words, asked.k + len(left_out), filter=asked.filter)
        hits = [hit for hit in found if hit.id not in left_out][: asked.k]
        return hits, np.zeros(0, np.float32)
    known = [index.vectors_of(asked.ids)] if asked.ids else []
    query = like_and_unlike(np.concatenate([*known, *new]), index.vectors_of(asked.unlike_ids))
    without = [{*asked.ids, *asked.unlike_ids, *gone}]
    k = max(1, min(asked.k, len(index)))
    [hits] = index.search(query[None], k, filter=asked.filter, without=without, exact=asked.exact)
    return hits, query


class _LazyEncoder:
    """A query encoder that is opened when it is needed: ids and words in titles need none."""

    def __init__(self, vectors: Path, specs: Sequence[str]) -> None:
        self._vectors, self._specs = vectors, specs
        self._encoder: QueryEncoder | None = None

    def opened(self) -> QueryEncoder:
        if self._encoder is None:
            self._encoder = QueryEncoder.load(self._vectors, encoders=self._specs)
        return self._encoder

    def __enter__(self) -> _LazyEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._encoder is not None:
            self._encoder.close()


def _encoded(asked: Question, encoder: _LazyEncoder) -> list[NDArray[np.float32]]:
    """Vectors (n, E) of what is new: of the title, of the files."""
    parts: list[NDArray[np.float32]] = []
    if asked.title is not None:
        parts.append(encoder.opened().titles([asked.title]))
    if asked.files:
        opened = encoder.opened()
        parts.append(opened.videos([opened.read(file) for file in asked.files]))
    return parts


def _may_lack(corpus: Corpus | None) -> bool:
    """Whether videos may be gone from a corpus: only then it is worth looking for them."""
    return corpus is not None and bool(corpus.edition)


def _built(
    vectors: Path, build: Build, corpus: Corpus | None, stack: ExitStack
) -> SearchIndex | InMemoryIndex:
    """The index of a folder that has none as yet."""
    try:
        build(vectors)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        return InMemoryIndex(Vectors(vectors), corpus)
    return stack.enter_context(SearchIndex.open(vectors))


def check_question(question: Question) -> Question:
    """Refuses a question that cannot be answered.

    Returns:
        The question, dates in the form that filters have.

    Raises:
        UsageError: It asks for nothing, for what does not go together, or a value cannot be used.
    """
    like = [*question.ids, *question.files, *([] if question.title is None else [question.title])]
    if question.words is not None and (like or question.unlike_ids or question.why):
        raise UsageError("--words looks in titles: it goes with filters, and with nothing else")
    if not like and question.words is None:
        raise UsageError("nothing to look for: give --id, --title, --file or --words")
    if question.k < 1:
        raise UsageError(f"-k {question.k}: expected 1 or more")
    for name, text in (("--title", question.title), ("--words", question.words)):
        if text is not None and not text.strip():
            raise UsageError(f"{name} is empty: give words to look for")
        check_text(text or "")
    return replace(question, filter=_checked_filter(question.filter))


def _checked_filter(asked: Filter) -> Filter:
    low, high = asked.min_seconds, asked.max_seconds
    for name, value in (("--min-seconds", low), ("--max-seconds", high)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} {value:g}: expected 0 or more")
    if low is not None and high is not None and low > high:
        raise UsageError(f"--min-seconds {low:g} is above --max-seconds {high:g}: nothing is both")
    after, before = _date("--after", asked.after), _date("--before", asked.before)
    if after and before and (moment(after) or 0) >= (moment(before) or 0):
        raise UsageError(f"--after {after} is not before --before {before}: nothing is both")
    return replace(asked, after=after, before=before)


def _date(option: str, date: str) -> str:
    try:
        return iso_date(date) if date else ""
    except BadRecord as error:
        raise UsageError(f"{option}: {error.detail}") from None


def check_ids(ids: Iterable[str], held: Index | Vectors, vectors: Path) -> None:
    """Refuses ids that no vector has.

    Raises:
        UsageError: There is one; names the nearest there are.
    """
    for video in ids:
        if not _is_text(video) or video not in held:
            # Reading all ids from elsewhere takes long, and every shard.
            many = isinstance(held, ShardedIndex)
            many = many or (isinstance(held, ClusterIndex) and len(held) > _MOST_IDS)
            near = [] if many else nearest_ids(video, held.ids)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UsageError(f"no vector for video {video!r} in {vectors}{hint}")


def _is_text(video: str) -> bool:
    try:
        video.encode()
    except UnicodeEncodeError:
        return False
    return True


def nearest_ids(video: str, ids: Sequence[str], count: int = 3) -> list[str]:
    """Ids that may have been meant, nearest first; of many, such as begin or end alike."""
    if len(ids) > _MOST_IDS:
        ends = (video[:3], video[-3:])
        alike = (each for each in ids if each[:3] == ends[0] or each[-3:] == ends[1])
        ids = list(islice(alike, _MOST_IDS))
    return difflib.get_close_matches(video[:200], ids, count)
