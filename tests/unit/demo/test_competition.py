from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from vidvec import storage
from vidvec.data import tfrecord
from vidvec.data.splits import split_pairs
from vidvec.data.tfrecord import read_tag_list, read_tfrecords
from vidvec.demo import competition, latent
from vidvec.demo.competition import draw_pairs, make_competition
from vidvec.demo.latent import World, draw_latents
from vidvec.embed.evaluate import pair_cosines
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.records import Pair, SourceRow, Video

VIDEOS, SEED = 400, 5
FILES = [
    *(f"pointwise/pretrain_{number}.tfrecords" for number in range(20)),
    "pairwise/pairwise.tfrecords",
    "test_a/test_a.tfrecords",
    "test_b/test_b.tfrecords",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    seen: list[tuple[int, int]] = []
    make_competition(folder, videos=VIDEOS, seed=SEED, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (VIDEOS, VIDEOS)
    return folder


def videos_of(file: Path) -> list[Video]:
    rows = list(read_tfrecords(file, expected_width=1536))
    assert all(isinstance(row, SourceRow) for row in rows)
    return [row.video for row in rows if isinstance(row, SourceRow)]


def pairs_of(file: Path) -> list[Pair]:
    rows = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
    return [Pair(one, two, float(score)) for one, two, score in rows]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_the_layout_is_the_competitions(made: Path) -> None:
    found = {path for path in digests(made) if not path.startswith("truth/")}
    assert found == {*FILES, "pairwise/label.tsv", "tag_list.txt", "manifest.json"}
    videos = [video for file in FILES for video in videos_of(made / file)]
    assert len({video.id for video in videos}) == len(videos) == VIDEOS
    assert all(re.fullmatch(r"[1-9]\d{17}", video.id) for video in videos)


def test_records_are_as_published(made: Path) -> None:
    for file in FILES:
        for video in videos_of(made / file):
            assert len(video.frames) <= 32
            assert video.title or len(video.frames)
            if file.startswith("test"):
                assert (video.tags, video.category) == (None, "")
            else:
                assert video.tags is not None
                assert len(set(video.tags)) == len(video.tags)
                assert re.fullmatch(r"1[0-2]\d0[1-5]", video.category)


def test_amounts_are_near_the_published_ones(made: Path) -> None:
    videos = [video for file in FILES for video in videos_of(made / file)]
    tagged = [video.tags for video in videos if video.tags is not None]
    assert np.mean([len(video.frames) for video in videos]) == pytest.approx(18, abs=1.5)
    assert np.mean([len(video.title) for video in videos]) == pytest.approx(19, abs=2)
    assert np.mean([len(tags) for tags in tagged]) == pytest.approx(4.6, abs=0.6)
    counts = Counter(tag for tags in tagged for tag in tags)
    listed = read_tag_list(made / "tag_list.txt")
    assert len(listed) == 150
    assert set(listed) <= set(counts)
    most = {tag for tag, _ in counts.most_common(50)}
    assert most <= set(listed)


def test_the_scores_have_the_published_histogram(made: Path) -> None:
    text = (made / "pairwise" / "label.tsv").read_bytes()
    assert b"\r" not in text
    pairs = pairs_of(made / "pairwise" / "label.tsv")
    known = {video.id for video in videos_of(made / FILES[20])}
    assert len(pairs) == round(len(known) * 67_899 / 63_613)
    assert all({pair.id_1, pair.id_2} <= known and pair.id_1 != pair.id_2 for pair in pairs)
    scores = np.array([pair.score for pair in pairs])
    assert np.allclose(scores * 20, np.rint(scores * 20))
    assert (scores == 0).mean() == pytest.approx(0.36, abs=1 / len(pairs))
    assert (scores == 1).mean() == pytest.approx(0.14, abs=1 / len(pairs))
    found = Counter(frozenset((pair.id_1, pair.id_2)) for pair in pairs)
    assert Counter(found.values())[2] >= 1
    assert max(found.values()) == 2


def test_most_pairs_are_kept_by_the_clean_split() -> None:
    world = World(np.random.default_rng(1), tags=20)
    latents = draw_latents(np.random.default_rng(2), world, 500)
    places = draw_pairs(np.random.default_rng(3), latents, 600)
    ids = [str(video) for video in latents.ids]
    pairs = [Pair(ids[one], ids[two], 0.0) for one, two in places]
    assert len(pairs) == 600
    assert split_pairs(pairs, "clean").dropped < 60
    assert set(places.ravel()) == set(range(500))


def test_the_truth_ranks_pairs_better_than_anything_shown(made: Path) -> None:
    pairs = [pair for part in ("a", "b") for pair in pairs_of(made / "truth" / f"test_{part}.tsv")]
    pairs += pairs_of(made / "pairwise" / "label.tsv")
    scores = [pair.score for pair in pairs]
    truth = spearmanr(pair_cosines(Vectors(made / "truth" / "latent"), pairs), scores).statistic
    means = {
        video.id: video.frames.astype(np.float32).mean(axis=0)
        for file in FILES[20:]
        for video in videos_of(made / file)
        if len(video.frames)
    }
    centre = np.mean(list(means.values()), axis=0)
    seen = [pair for pair in pairs if pair.id_1 in means and pair.id_2 in means]
    cosines = []
    for pair in seen:
        one, two = means[pair.id_1] - centre, means[pair.id_2] - centre
        cosines.append(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
    frames = spearmanr(cosines, [pair.score for pair in seen]).statistic
    assert 0.85 < truth < 0.99
    assert 0.1 < frames < truth - 0.2


def test_words_and_tags_follow_their_log_linear_models() -> None:
    world = World(np.random.default_rng(1), tags=40)
    count = 10_000
    latents = draw_latents(np.random.default_rng(2), world, 1)
    many = latent.Latents(*(np.repeat(field, count, axis=0) for field in fields(latents)))
    plain = np.exp(world.words.plain)
    shown = world.words.axes @ latents.in_words[0]
    chances = np.exp(shown) * plain
    other = latent.WORD_NOISE
    expected = other * plain / plain.sum() + (1 - other) * chances / chances.sum()
    titles, _ = latent.draw_texts(np.random.default_rng(3), world, many)
    # Some spellings are the first character of others, so the share of a character is compared.
    letters = Counter(letter for title in titles for letter in title)
    letter = world.spellings[int(expected.argmax())][0]
    per_word = np.array([word.count(letter) for word in world.spellings])
    words = sum(letters.values()) / (expected @ [len(word) for word in world.spellings])
    assert letters[letter] / words == pytest.approx(expected @ per_word, rel=0.05)
    tags = latent.draw_tags(np.random.default_rng(4), world, many)
    often = Counter(tag for some in tags for tag in some).most_common(1)[0][0]
    best = world.tags.plain + world.tags.axes @ latents.points[0]
    assert often == str(world.tag_ids[int(best.argmax())])


def fields(latents: latent.Latents) -> tuple[np.ndarray, ...]:
    return latents.ids, latents.topic, latents.points, latents.in_frames, latents.in_words


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    make_competition(tmp_path / "again", videos=VIDEOS, seed=SEED)
    assert digests(tmp_path / "again") == digests(made)
    make_competition(tmp_path / "other", videos=VIDEOS, seed=SEED + 1)
    other = digests(tmp_path / "other")
    assert not set(other.values()) & set(digests(made).values())


def test_a_complete_folder_is_left_alone(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(competition, "write_tfrecords", lambda *_: pytest.fail("written again"))
    before = (made / FILES[3]).stat().st_mtime_ns
    make_competition(made, videos=VIDEOS, seed=SEED)
    assert (made / FILES[3]).stat().st_mtime_ns == before


@pytest.mark.parametrize("calls", [0, 1, 7, 21])
def test_a_stopped_one_carries_on_to_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    left = calls

    def stopping(path: Path, videos: object) -> None:
        nonlocal left
        if not left:
            path.parent.mkdir(exist_ok=True)
            path.with_name(f".{path.name}.cut.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        left -= 1
        tfrecord.write_tfrecords(path, videos)  # type: ignore[arg-type]

    monkeypatch.setattr(competition, "write_tfrecords", stopping)
    with pytest.raises(KeyboardInterrupt):
        make_competition(tmp_path, videos=VIDEOS, seed=SEED)
    assert not storage.read_manifest(tmp_path, "competition")["complete"]
    monkeypatch.undo()
    make_competition(tmp_path, videos=VIDEOS, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_a_folder_with_something_else_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        make_competition(tmp_path, videos=VIDEOS)
    with pytest.raises(UsageError, match=r"was made with .*asked for"):
        make_competition(made, videos=VIDEOS + 1, seed=SEED)
    with pytest.raises(UsageError, match="at least 100"):
        make_competition(tmp_path / "new", videos=99)
