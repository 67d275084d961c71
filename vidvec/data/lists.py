"""What lies beside a source's records, into the corpus: scored pairs, tag list, ids of test videos.

Lists are read when all videos are there, and again where they changed since: the pairs of a changed
file replace those that it gave before. What is wrong with a list is rejected row by row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vidvec.data import corpus as store
from vidvec.data.competition import read_id_list
from vidvec.data.entries import GIVEN_TAGS
from vidvec.data.pair_rows import PairRow
from vidvec.data.pairs import iterate_pairs
from vidvec.data.sources import Source
from vidvec.data.tfrecord import read_tags
from vidvec.data.writer import CorpusWriter, stopped_by
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair, Reject

if TYPE_CHECKING:
    from vidvec.data.ingest import IngestOptions

MAX_TAGS = 10_000

LocatedPairs = Iterable[tuple[str, Pair | Reject]]


def check_lists(source: Source, options: IngestOptions) -> None:
    """Finds out before the work what would come out behind it.

    Raises:
        UsageError: A file that was given is not there.
        FormatError: It is of no kind that can be read.
        BadRecord: ``strict``, and a row of a list cannot be used, whatever the records hold.
    """
    for file in options.pairs:
        if not file.is_file():
            raise UsageError(f"file of pairs {file} does not exist")
        next(iterate_pairs(file), None)
    tag_list = options.tag_list or source.tag_list
    wrong_tags = read_tags(tag_list, source.name_of(tag_list))[1] if tag_list else []
    if options.strict:
        pairs = chain(_own_pairs(source), *map(iterate_pairs, options.pairs))
        rows = chain(source.missing, wrong_tags, (row for _, row in pairs), _listed_ids(source))
        first = next((row for row in rows if isinstance(row, Reject)), None)
        if first is not None:
            raise stopped_by(first)


def changed_lists(writer: CorpusWriter, source: Source, options: IngestOptions) -> list[str]:
    """The lists that a complete source's corpus has not taken as they are now, by key.

    A list that is gone counts as taken; so does a tag list beside the records while another was
    given in its place. A file of pairs that was given counts as changed, too, where it has pairs of
    videos that came with another source since.
    """
    held: dict[str, str] | None = writer.entry.get("lists")
    if held is None:
        return []
    changed = {key for key, digest in _digests(source, options).items() if held.get(key) != digest}
    corpus = store.Corpus(writer.path, unfinished=True)
    for file in options.pairs:
        held_pairs = [pair for pair, _ in writer.held_pairs()]
        if _new_pairs(corpus, held_pairs, iterate_pairs(file))[0]:
            changed.add(_key(file))
    return sorted(changed)


def take_lists(writer: CorpusWriter, source: Source, options: IngestOptions) -> None:
    """Takes a source's lists into its corpus, whose videos are all there.

    Raises:
        BadRecord: ``strict``, and a row is to be left out. Nothing is taken then.
    """
    reading = _Reading(writer, source, options)
    pairs, tags = reading.pairs(), reading.tags()
    reading.ids()
    wrong = [*reading.wrong_given, *reading.wrong_own]
    if options.strict and wrong:
        writer.commit()
        raise stopped_by(wrong[0])
    writer.put_pairs(pairs)
    for reject in reading.wrong_given:
        writer.reject(reject)
    writer.reject_in_lists(reading.wrong_own)
    writer.manifest["tag_vocabulary"] = tags
    writer.entry["lists"] = reading.taken()
    writer.entry.pop("changed", None)


class _Reading:
    """One reading of a source's lists, against the videos of a corpus.

    Attributes:
        wrong_given: What is wrong with lists that were given; said once.
        wrong_own: The same of lists beside the records; said anew with every reading.
    """

    def __init__(self, writer: CorpusWriter, source: Source, options: IngestOptions) -> None:
        self._writer, self._source, self._options = writer, source, options
        self._corpus = store.Corpus(writer.path, unfinished=True)
        self._digests = _digests(source, options)
        self._again = "changed" in writer.entry
        held = writer.entry.get("lists", {})
        differing = {key for key, digest in self._digests.items() if held.get(key) != digest}
        self._changed = differing | {*writer.entry.get("changed", ())}
        self.wrong_given: list[Reject] = []
        self.wrong_own: list[Reject] = [*source.missing]

    def pairs(self) -> list[PairRow]:
        """All pairs that the corpus is to have, and which file each is from."""
        read_now = self._changed & self._digests.keys()
        rows = [row for row in self._writer.held_pairs() if row[1] not in read_now]
        own = _key(self._source.labels) if self._source.labels else ""
        for key in dict.fromkeys(map(_key, self._options.pairs)):
            if key != own:
                wrong = self._add(rows, key, iterate_pairs(Path(key)))
                self.wrong_given += wrong if key in self._changed else []
        self.wrong_own += self._add(rows, own, _own_pairs(self._source))
        return rows

    def _add(self, rows: list[PairRow], key: str, pairs: LocatedPairs) -> list[Reject]:
        new, rejects = _new_pairs(self._corpus, [pair for pair, _ in rows], pairs)
        rows += [(pair, key) for pair in new]
        return rejects

    def tags(self) -> list[str]:
        """The tag vocabulary that the corpus is to have."""
        held: list[str] = self._writer.manifest["tag_vocabulary"]
        given, own = self._options.tag_list, self._source.tag_list
        file, key = (given, GIVEN_TAGS) if given else (own, _key(own) if own else "")
        if file is None or (self._was_given() and key not in self._changed):
            only = len(self._writer.manifest["ingests"]) == 1
            fresh = not self._again and (not held or only)
            return frequent_tags(self._corpus) if fresh else held
        tags, rejects = read_tags(file, self._source.name_of(file))
        if not given:
            self.wrong_own += rejects
        elif key in self._changed:
            self.wrong_given += rejects
        return (tags or frequent_tags(self._corpus)) if key in self._changed else held

    def _was_given(self) -> bool:
        """Whether the vocabulary is of a tag list that was given, with an earlier run."""
        return GIVEN_TAGS in self._writer.entry.get("lists", {})

    def ids(self) -> None:
        """Finds listed ids of test videos that no record has, or that are listed twice."""
        seen: dict[str, str] = {}
        for row in _listed_ids(self._source):
            if isinstance(row, Reject):
                self.wrong_own.append(row)
                continue
            where, video = row
            if video in seen:
                reject = Reject(where, video, "test-id-twice", f"it is listed in {seen[video]} too")
                self.wrong_own.append(reject)
            elif video not in self._corpus:
                detail = f"test video {video} has no record that could be read"
                self.wrong_own.append(Reject(where, video, "test-id-no-record", detail))
            seen.setdefault(video, where)

    def taken(self) -> dict[str, str]:
        """Digests of all lists that the corpus has taken, by key."""
        taken = {**self._writer.entry.get("lists", {}), **self._digests}
        own = self._source.tag_list
        if own and not self._options.tag_list and self._again and _key(own) in self._changed:
            taken.pop(GIVEN_TAGS, None)
        return taken


def frequent_tags(corpus: store.Corpus, limit: int = MAX_TAGS) -> list[str]:
    """The corpus's most frequent tags, ties by name; a tag of one video only teaches nothing."""
    given = zip(corpus.column("tags").to_pylist(), corpus.gone.tolist(), strict=True)
    counts = Counter(tag for tags, gone in given if not gone for tag in set(tags or ()))
    shared = [tag for tag, count in counts.items() if count > 1]
    return sorted(shared, key=lambda tag: (-counts[tag], tag))[:limit]


def _key(file: Path) -> str:
    return str(file.resolve())


def _digests(source: Source, options: IngestOptions) -> dict[str, str]:
    """Digests of what is in a source's lists, by key."""
    files = [source.tag_list, source.labels, *source.id_lists, *options.pairs]
    digests = {_key(file): _digest(file) for file in files if file is not None}
    if options.tag_list is not None:
        digests[GIVEN_TAGS] = _digest(options.tag_list)
    return digests


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise FormatError(f"{file} cannot be read: {error}") from None


def _own_pairs(source: Source) -> Iterator[tuple[str, Pair | Reject]]:
    if source.labels is not None:
        name, labels = source.name_of(source.labels), source.kind == "competition"
        yield from iterate_pairs(source.labels, labels=labels, name=name)


def _listed_ids(source: Source) -> Iterator[tuple[str, str] | Reject]:
    for file in source.id_lists:
        yield from read_id_list(file, source.name_of(file))


def _new_pairs(
    corpus: store.Corpus, held: Sequence[Pair], pairs: LocatedPairs
) -> tuple[list[Pair], list[Reject]]:
    """Pairs of a file that the corpus does not have yet, and what is wrong with the others.

    A pair that came with an earlier file is not taken again, as where one file of pairs is given
    with each of several sources.
    """
    left = Counter(held)
    new: list[Pair] = []
    rejects: list[Reject] = []
    for where, pair in pairs:
        if isinstance(pair, Reject):
            rejects.append(pair)
            continue
        missing = [video for video in (pair.id_1, pair.id_2) if video not in corpus]
        if missing:
            detail = f"pair {pair.id_1} {pair.id_2}: not in the corpus: {', '.join(missing)}"
            rejects.append(Reject(where, missing[0], "pair-unknown-id", detail))
        elif left[pair]:
            left[pair] -= 1
        else:
            new.append(pair)
    return new, rejects
