"""Several corpora as one, for what shows videos of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidvec.data.corpus import Corpus
from vidvec.records import Video
from vidvec.search.index import corpus_of


class Corpora:
    """Looks for a video in one corpus after the other.

    Args:
        corpora: Where several have a video, the first one's counts.
    """

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self._corpora = list(corpora)
        self._found: list[tuple[Corpus, int]] = []

    def __contains__(self, video_id: object) -> bool:
        return any(video_id in corpus for corpus in self._corpora)

    def row(self, video_id: str) -> int:
        """A number by which this knows the video.

        Raises:
            UsageError: No corpus has it.
        """
        having = (corpus for corpus in self._corpora if video_id in corpus)
        corpus = next(having, self._corpora[-1])
        self._found.append((corpus, corpus.row(video_id)))
        return len(self._found) - 1

    def video(self, row: int) -> Video:
        """A video by what ``row`` gave."""
        corpus, place = self._found[row]
        return corpus.video(place)

    def thumbnails(self, row: int) -> tuple[bytes, ...]:
        """Its pictures, JPEG."""
        corpus, place = self._found[row]
        return corpus.thumbnails(place)


def corpora_of(folders: Sequence[Path], given: Path | None = None) -> Corpus | Corpora | None:
    """What shows the videos of folders of vectors; ``None`` where no corpus is there any more.

    Args:
        folders: Made by ``embed`` or ``fuse``.
        given: A corpus that has them all.
    """
    if given is not None:
        return Corpus(given)
    opened = [corpus for path in folders if (corpus := corpus_of(path)) is not None]
    apart = list({corpus.path.resolve(): corpus for corpus in opened}.values())
    return Corpora(apart) if len(apart) > 1 else next(iter(apart), None)
