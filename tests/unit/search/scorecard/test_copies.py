"""Which videos are copied, among what their copies are looked for, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.corpora import made_videos, write_corpus
from tests.unit.search.indexed import write_vectors
from vidvec.data.altered_files import AlteredCopy
from vidvec.errors import UsageError
from vidvec.search.scorecard import copies
from vidvec.search.scorecard.copy_task import Task, chosen_sources
from vidvec.search.scorecard.material import Material, Settings

COUNT = 90


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A corpus of which every other video has a file, and vectors."""
    folder = tmp_path_factory.mktemp("card")
    videos = made_videos(COUNT)
    for number, video in enumerate(videos):
        file = folder / f"{number}.mp4"
        if number % 2:
            file.write_bytes(b"")
        videos[number] = replace(video, file=str(file))
    corpus = write_corpus(folder / "corpus", videos)
    vectors = np.random.default_rng(0).normal(size=(COUNT, 40)).astype(np.float32)
    return corpus, write_vectors(folder / "vectors", corpus.ids, vectors, folder / "corpus")


def material(places, groups=None, **settings) -> Material:
    corpus, vectors = places
    return Material(
        vectors, corpus, Settings(split="all", resamples=50, **settings), groups=groups or {}
    )


def test_the_same_videos_are_drawn_for_every_model(places, tmp_path):
    corpus, _ = places
    first = chosen_sources(material(places, copies=10))
    assert len(first) == 10
    assert all(path.is_file() for _, path in first)
    # Vectors that lack some videos do not change which of the others come.
    ids = [video for video in corpus.ids if video != first[3][0]]
    less = write_vectors(tmp_path / "less", ids, np.ones((len(ids), 3), np.float32))
    again = chosen_sources(material((corpus, less), copies=10))
    assert [each for each in again if each in first] == [*first[:3], *first[4:]]
    assert chosen_sources(material(places, copies=5)) == first[:5]
    assert chosen_sources(material(places, copies=10, seed=1)) != first
    assert len(chosen_sources(material(places, copies=1000))) == COUNT // 2


def test_without_files_the_reason_is_given(places, tmp_path):
    videos = [replace(video, file="/nowhere/x.mp4") for video in made_videos(4)]
    gone = write_corpus(tmp_path / "gone", videos)
    bare = write_corpus(tmp_path / "bare", made_videos(4))
    path = write_vectors(tmp_path / "vectors", gone.ids, np.ones((4, 3), np.float32))
    with pytest.raises(UsageError, match="none of the 4 video files"):
        chosen_sources(material((gone, path)))
    with pytest.raises(UsageError, match="knows no video files"):
        chosen_sources(material((bare, path)))


def made(ids: list[str], kinds=("crop", "sepia")) -> list[AlteredCopy]:
    return [AlteredCopy(video, kind, Path("x.mp4")) for video in ids for kind in kinds]


def test_background_and_references_are_apart_and_copies_are_never_background(places):
    ids = places[0].ids
    groups = {ids[0]: "g", ids[1]: "g", ids[2]: "g", ids[5]: "h"}
    known = material(places, groups)
    task = Task.of(known, made([ids[0], ids[7], ids[40]]))
    references, background = set(task.references.tolist()), set(task.background.tolist())
    assert not references & background
    assert references | background == set(range(COUNT))
    assert {0, 1, 2, 7, 40} <= references
    assert len(background) == int((COUNT - 5) / 3)
    assert [known.ids[task.references[target]] for target in task.targets] == [
        ids[0],
        ids[0],
        ids[7],
        ids[7],
        ids[40],
        ids[40],
    ]
    assert task.sources.tolist() == [0, 0, 1, 1, 2, 2]
    assert [task.references[each].tolist() for each in task.ignored] == [[0, 1, 2]] * 2 + [[]] * 4


def test_where_few_are_left_nothing_is_a_background(places):
    task = Task.of(material(places), made(places[0].ids[:60]))
    assert len(task.background) == 0
    assert len(task.references) == COUNT


class Seeing:
    """Stands for what made the vectors: sees a copy as its original, and as much noise."""

    def __init__(self, known: Material, noise: float) -> None:
        self._known, self._noise = known, noise
        self.modalities = ("frames",)

    def videos(self, some):
        random = np.random.default_rng(3)
        rows = np.array([self._known.place[video.id] for video in some])
        found = self._known.units[0][rows]
        return found + self._noise * random.normal(size=found.shape).astype(np.float32)


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 1.0, 1.0), (50.0, 0.0, 0.3)])
def test_copies_seen_as_their_originals_are_all_found_and_noise_is_not(places, noise, low, high):
    known = material(places, kinds=("crop", "sepia"))
    ids = known.ids[:12]
    task = Task.of(known, made(ids))
    seen = [replace(known.corpus.video(0), id=each.source) for each in made(ids)]
    rows = copies._rows(known, task, [Seeing(known, noise)], [seen])
    assert set(rows) == {"crop", "sepia", "all"}
    assert rows["all"].count == 24
    assert rows["crop"].few
    for key in ("micro_ap", "micro_ap_normalised", "recall_at_1", "recall_at_p90"):
        figure = rows["all"].figures[key]
        assert low <= figure.value <= high, key
        assert figure.low <= figure.value <= figure.high
        assert figure.other is None
