from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from scipy.stats import spearmanr

from vidvec.demo import words
from vidvec.demo.clips import ALTERATIONS, FPS, Clip, draw_clips
from vidvec.demo.filming import film
from vidvec.demo.ratings import draw_pairs
from vidvec.demo.render import clip_pictures, make_videos
from vidvec.demo.scenes import MOODS, Scene, draw_scene, draw_tags, draw_title, similarity
from vidvec.demo.sprites import drawings
from vidvec.errors import UsageError

VIDEOS, PAIRS, SEED = 30, 90, 7
SCENE = Scene("sea", "sailboat", "day", "straight", "slow", rightward=True, look=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    seen: list[tuple[int, int]] = []
    make_videos(folder, videos=VIDEOS, pairs=PAIRS, seed=SEED, progress=lambda *at: seen.append(at))
    assert seen == [(done, VIDEOS) for done in range(1, VIDEOS + 1)]
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def decoded(file: Path) -> tuple[int, float]:
    """Frames of a file and how long it is in seconds."""
    with av.open(str(file)) as container:
        [stream] = container.streams.video
        count = sum(1 for _ in container.decode(stream))
        return count, float(count / stream.average_rate)


def test_the_same_seed_gives_the_same_table_and_pairs(made: Path, tmp_path: Path) -> None:
    make_videos(tmp_path, videos=VIDEOS, pairs=PAIRS, seed=SEED, workers=1)
    for name in ("meta.jsonl", "pairs.tsv", "latent.jsonl", "made.json"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_another_seed_gives_other_videos() -> None:
    one, two = (draw_clips(np.random.default_rng(seed), 20) for seed in (1, 2))
    assert {clip.id for clip in one}.isdisjoint(clip.id for clip in two)
    assert [clip.title for clip in one] != [clip.title for clip in two]


def test_a_scene_always_gives_the_same_pictures() -> None:
    for clip in draw_clips(np.random.default_rng(3), 20)[:6]:
        short = replace(clip, frames=8)
        first, second = (hashlib.sha256() for _ in range(2))
        for digest in (first, second):
            for picture in clip_pictures(short):
                digest.update(picture.tobytes())
        assert first.digest() == second.digest()


def test_files_decode_to_the_length_they_were_made_with(made: Path) -> None:
    files = {row["id"]: made / row["file"] for row in lines(made / "meta.jsonl")}
    truth = lines(made / "latent.jsonl")
    for clip in truth:
        if not clip["damage"]:
            count, seconds = decoded(files[clip["id"]])
            assert count == clip["frames"]
            assert seconds == pytest.approx(clip["duration_seconds"], abs=0.01)
    assert all(2.3 < clip["duration_seconds"] < 11 for clip in truth)


def test_as_many_files_are_unreadable_as_reported(made: Path) -> None:
    reported = json.loads((made / "made.json").read_text("utf-8"))["counts"]
    unreadable = []
    for row in lines(made / "meta.jsonl"):
        try:
            decoded(made / row["file"])
        except (av.FFmpegError, ValueError):
            unreadable.append(row["id"])
    damaged = [clip["id"] for clip in lines(made / "latent.jsonl") if clip["damage"]]
    assert sorted(unreadable) == sorted(damaged)
    assert len(damaged) == reported["unreadable"] >= 2
    rated = (made / "pairs.tsv").read_text("utf-8").split()
    assert not set(rated) & set(damaged)


def test_the_table_tells_nothing_of_what_decides_the_scores(made: Path) -> None:
    rows = lines(made / "meta.jsonl")
    assert len(rows) == VIDEOS == len({row["id"] for row in rows})
    for row in rows:
        assert list(row) == ["id", "file", "title", "tags", "category", "language"]
        assert row["id"].isdigit()
        assert isinstance(row["tags"], list)
    assert {row["language"] for row in rows} == {"en", "zh"}


def test_pairs_are_distinct_and_scored_in_steps(made: Path) -> None:
    ids = {row["id"] for row in lines(made / "meta.jsonl")}
    pairs = [line.split("\t") for line in (made / "pairs.tsv").read_text("utf-8").splitlines()]
    assert len(pairs) == PAIRS
    assert len({frozenset(pair[:2]) for pair in pairs}) == PAIRS
    assert all(one in ids and two in ids and one != two for one, two, _ in pairs)
    assert all(0 <= float(score) <= 1 for *_, score in pairs)
    assert all(round(float(score) * 100) % 5 == 0 for *_, score in pairs)
    rated = Counter(name for pair in pairs for name in pair[:2])
    assert np.median(list(rated.values())) >= 3


def test_nothing_is_made_twice_and_nothing_else_is_overwritten(made: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*") if file.is_file()}
    make_videos(made, videos=VIDEOS, pairs=PAIRS, seed=SEED)
    assert before == {file: file.stat().st_mtime_ns for file in made.rglob("*") if file.is_file()}
    with pytest.raises(UsageError, match="holds other videos"):
        make_videos(made, videos=VIDEOS, pairs=PAIRS, seed=SEED + 1)
    (tmp_path / "meta.jsonl").write_text('{"id": "mine"}\n')
    with pytest.raises(UsageError, match="holds other videos"):
        make_videos(tmp_path, videos=VIDEOS, pairs=PAIRS, seed=SEED)
    assert (tmp_path / "meta.jsonl").read_text() == '{"id": "mine"}\n'


def test_too_few_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 20"):
        make_videos(tmp_path, videos=5)


# --- scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 1.0),
        ({"look": 2, "rightward": False}, 1.0),
        ({"pattern": "circle", "speed": "fast"}, 1.0),  # 0.28 + 0.47 + 0.15 = 0.9
        ({"mood": "sunset", "speed": "fast"}, (0.28 + 0.47 + 0.4 * 0.15 + 0.05 - 0.2) / 0.7),
        ({"mood": "night"}, (0.28 + 0.47 + 0.1 - 0.2) / 0.7),
        ({"subject": "car"}, (0.28 + 0.3 * 0.47 + 0.15 + 0.1 - 0.2) / 0.7),
        ({"subject": "bird"}, (0.28 + 0.15 + 0.1 - 0.2) / 0.7),
        ({"theme": "desert"}, (0.3 * 0.28 + 0.47 + 0.15 + 0.1 - 0.2) / 0.7),
        ({"theme": "city", "subject": "cat"}, (0.15 + 0.1 - 0.2) / 0.7),
        ({"theme": "city", "subject": "cat", "mood": "night"}, 0.0),
    ],
)
def test_similarity_by_hand(change: dict[str, Any], expected: float) -> None:
    other = replace(SCENE, **change)
    assert similarity(SCENE, other) == pytest.approx(expected)
    assert similarity(other, SCENE) == pytest.approx(expected)


@pytest.fixture(scope="module")
def rated() -> tuple[list[Clip], list[tuple[str, str, float]]]:
    """The demo's own number of videos and pairs, not rendered."""
    random = np.random.default_rng(11)
    clips = draw_clips(random, 300)
    return clips, draw_pairs(random, clips, 1800)


def test_scores_follow_what_the_videos_show(
    rated: tuple[list[Clip], list[tuple[str, str, float]]],
) -> None:
    clips, pairs = rated
    scenes = {clip.id: clip.scene for clip in clips}
    truth = [similarity(scenes[one], scenes[two]) for one, two, _ in pairs]
    assert spearmanr([score for *_, score in pairs], truth)[0] > 0.95


def test_altered_copies_score_high_and_stay_on_their_side_of_the_split(
    rated: tuple[list[Clip], list[tuple[str, str, float]]],
) -> None:
    clips, pairs = rated
    copies = {frozenset((clip.id, clip.copy_of)) for clip in clips if clip.copy_of}
    scores = {frozenset((one, two)): score for one, two, score in pairs}
    assert len(copies) == round(0.08 * 300)
    assert all(scores[copy] >= 0.9 for copy in copies)
    assert {clip.alteration for clip in clips if clip.copy_of} == set(ALTERATIONS)
    for pair in copies:
        one, two = (int(name) % 5 == 0 for name in pair)
        assert one == two


def test_the_histogram_of_scores_resembles_the_published_one(
    rated: tuple[list[Clip], list[tuple[str, str, float]]],
) -> None:
    scores = np.array([score for *_, score in rated[1]])
    assert 0.28 < np.mean(scores == 0) < 0.42  # published: 0.36
    assert 0.07 < np.mean(scores == 1) < 0.2  # published: 0.14
    between = np.histogram(scores[(scores > 0) & (scores < 1)], [0, 0.25, 0.5, 0.75, 1])[0]
    assert between.min() > 0.04 * len(scores)


def test_the_clean_split_keeps_most_pairs(
    rated: tuple[list[Clip], list[tuple[str, str, float]]],
) -> None:
    sides = [(int(one) % 5 == 0, int(two) % 5 == 0) for one, two, _ in rated[1]]
    shares = Counter(sum(side) for side in sides)
    assert shares[1] < 0.12 * len(sides)
    assert shares[2] > 0.12 * len(sides)


# --- pictures and words ----------------------------------------------------------------------


def test_every_subject_of_every_theme_has_a_drawing_and_names() -> None:
    for theme in words.THEMES.values():
        for subject in theme.subjects:
            assert subject in drawings()
            assert subject in words.SUBJECTS


@pytest.mark.parametrize("theme", sorted(words.THEMES))
def test_a_theme_moves_and_its_moods_look_different(theme: str) -> None:
    scene = replace(SCENE, theme=theme, subject=words.THEMES[theme].subjects[0], speed="fast")
    lightness = {}
    for mood in MOODS:
        first, *_, last = film(replace(scene, mood=mood), 64, 48, 7, FPS / 6)
        assert first.shape == (48, 64, 3)
        assert np.abs(first.astype(int) - last).mean() > 1
        lightness[mood] = first.mean()
    assert lightness["night"] < lightness["day"]
    assert lightness["night"] < lightness["mist"]


def test_an_altered_copy_looks_like_its_original_but_not_the_same() -> None:
    random = np.random.default_rng(5)
    clip = replace(draw_clips(random, 20)[0], frames=3, size=(96, 72), alteration="", damage="")
    original = np.stack(list(clip_pictures(clip))).astype(int)
    # Mean colours of the middle, where bars and crops reach least.
    middle = (slice(None), slice(18, 54), slice(24, 72))
    for alteration in ALTERATIONS:
        copy = np.stack(list(clip_pictures(replace(clip, alteration=alteration)))).astype(int)
        assert copy.shape == original.shape
        if alteration != "speed":  # which changes times only
            assert (copy != original).any()
        if alteration == "mirror":
            np.testing.assert_array_equal(copy[:, :, ::-1], original)
        elif alteration != "sepia":
            difference = copy[middle].mean((0, 1, 2)) - original[middle].mean((0, 1, 2))
            assert np.abs(difference).max() < 30


def test_titles_and_tags_show_only_a_part() -> None:
    random = np.random.default_rng(2)
    named = {"en": 0, "zh": 0}
    for _ in range(400):
        scene = draw_scene(random)
        for language in words.LANGUAGES:
            title = draw_title(scene, language, random)
            assert title
            assert not any(mark in title for mark in "{}")
            assert any("\u4e00" <= letter <= "\u9fff" for letter in title) or language == "en"
            names = words.SUBJECTS[scene.subject].names[language]
            named[language] += any(name in title for name in names)
            tags = draw_tags(scene, language, random)
            assert len(tags) == len(set(tags)) <= 7
    # 55 % name subject and place, 20 % the subject.
    for count in named.values():
        assert 0.6 < count / 400 < 0.9
