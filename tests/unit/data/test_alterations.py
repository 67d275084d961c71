"""What alterations do to a picture, and the files that are made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.search.clips import film, scene
from vidvec.data.alterations import ALTERATIONS, drawn, even_sized
from vidvec.data.altered_files import altered_copies, write_altered
from vidvec.data.video import decode


def changed(kind: str, picture: np.ndarray, video: str = "a", seed: int = 0) -> np.ndarray:
    return drawn(kind, seed, video).change(picture)


def likeness(one: np.ndarray, two: np.ndarray) -> float:
    """Correlation of two pictures of one size."""
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_a_seed_and_a_video_decide_what_is_done(kind):
    picture = scene(1)
    first = changed(kind, picture)
    assert first.dtype == np.uint8
    assert np.array_equal(first, changed(kind, picture))
    others = [drawn(kind, 0, f"video {number}") for number in range(8)]
    made = {(each.change(picture).tobytes(), each.speed) for each in others}
    assert len(made) > 1 or kind == "sepia"
    assert picture.tobytes() == scene(1).tobytes()


def test_sepia_worked_by_hand():
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    # The first column of the filter: 0.393, 0.349, 0.272 of 255.
    assert changed("sepia", red)[0, 0].tolist() == [100, 89, 69]


def test_a_crop_shows_a_part_of_the_picture():
    down, across = np.mgrid[0:96, 0:128]
    ramps = np.stack([2 * down, across, 0 * down], axis=2).astype(np.uint8)
    for video in "abcdef":
        part = changed("crop", ramps, video).astype(float)
        assert part.shape == ramps.shape
        for channel, step, length in ((0, 2, 96), (1, 1, 128)):
            shown = (part[:, :, channel].max() - part[:, :, channel].min()) / step / length
            assert 0.58 <= shown <= 0.8


def test_between_bars_the_picture_is_whole():
    picture = np.maximum(scene(2), 1)
    for video in "abcdef":
        made = changed("bars", picture, video)
        rows, columns = np.any(made > 0, axis=(1, 2)), np.any(made > 0, axis=(0, 2))
        assert np.array_equal(made[rows][:, columns], picture)
        bars = made.shape[0] / 96 - 1, made.shape[1] / 128 - 1
        assert min(bars) == 0
        assert 0.3 < max(bars) < 0.53


def test_a_logo_hides_little():
    picture = np.full((96, 128, 3), 30, np.uint8)
    hidden = [np.any(changed("logo", picture, v) != 30, axis=2).mean() for v in "abcdef"]
    assert all(0.02 < share < 0.2 for share in hidden)


def test_picture_in_picture_holds_it_smaller():
    made = changed("picture_in_picture", np.full((96, 128, 3), (0, 255, 0), np.uint8))
    inside = np.all(made == (0, 255, 0), axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    for found, length in ((rows, 96), (columns, 128)):
        assert 0.5 < len(found) / length <= 0.76


def test_a_screen_recording_is_slanted_noisy_and_still_alike():
    picture = scene(3)
    screen = drawn("screen", 0, "a")
    first, second = screen.change(picture), screen.change(picture)
    assert not np.array_equal(first, second)  # the hand shakes, and there is noise
    assert 0.4 < likeness(first, picture) < 0.95
    assert likeness(first, second) > likeness(first, picture)
    assert first[:3, :3].mean() < 70  # the dark room in a corner


def test_sides_are_made_even():
    assert even_sized(np.zeros((5, 8, 3), np.uint8)).shape == (4, 8, 3)
    assert even_sized(np.zeros((1, 7, 3), np.uint8)).shape == (2, 6, 3)


@pytest.mark.parametrize(("kind", "shape"), [("speed", (97, 129, 3)), ("bars", (1, 1, 3))])
def test_pictures_of_any_size_can_be_written(tmp_path, kind, shape):
    pictures = [np.full(shape, 40 * number, np.uint8) for number in range(5)]
    alteration = drawn(kind, 0, "a")
    write_altered(tmp_path / "made.mp4", pictures, np.arange(5) / 2, alteration)
    read = decode(tmp_path / "made.mp4", frames_per_second=10)
    assert len(read.images) == 5
    assert read.times_seconds[-1] == pytest.approx(2 / alteration.speed, abs=0.01)


def test_files_are_made_once_and_a_bad_one_costs_no_other(tmp_path):
    good, slow = film(tmp_path / "good.mp4", 1, 2.0), film(tmp_path / "slow.mp4", 2, 2.0)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:300])
    videos = [("b/ad", bad), ("gööd", good), ("slow", slow)]
    kinds = ("reencode", "speed")
    folder = tmp_path / "altered"

    made, failed = altered_copies(folder, videos, kinds=kinds, workers=1)

    assert [(each.source, each.kind) for each in made] == [
        (video, kind) for video in ("gööd", "slow") for kind in kinds
    ]
    assert [each.source for each in failed] == ["b/ad"]
    assert failed[0].reason
    speed = drawn("speed", 0, "gööd").speed
    played = decode(made[1].path).duration_seconds
    assert played == pytest.approx(decode(good).duration_seconds / speed, abs=0.3)
    noted = json.loads((folder / "manifest.json").read_text("utf-8"))["copies"]
    assert noted[0] == {"file": made[0].path.name, "of": "gööd", "kind": "reencode"}
    assert not list(folder.glob(".*"))

    # A copy that is missing, as of a run that was killed, is made again; the others are not.
    made[2].path.unlink()
    written = {each.path: each.path.stat().st_mtime_ns for each in made if each.path.exists()}
    again, _ = altered_copies(folder, videos[1:], kinds=kinds, workers=1)
    assert [each.path for each in again] == [each.path for each in made]
    assert made[2].path.is_file()
    assert written == {path: path.stat().st_mtime_ns for path in written}
    # Another video under the same name has other copies.
    film(slow, 4, 2.0)
    other = altered_copies(folder, [("slow", Path(slow))], kinds=("speed",), workers=1)[0]
    assert other[0].path not in written
