"""Still pictures as videos of one frame, against Pillow's reading of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.media import read, render, steady
from vidvec.data.media import MediaRequest, read_media
from vidvec.data.pictures import READ_QUERY, picture_kind, read_query
from vidvec.data.workers import WorkerPool
from vidvec.errors import BadRecord

REQUEST = MediaRequest(short_side=64)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """80 × 120, smooth, so that lossy formats change little; each corner another colour."""
    across, down = np.meshgrid(np.linspace(0, 255, 120), np.linspace(0, 255, 80))
    return Image.fromarray(np.stack([across, down, 255 - across], 2).astype(np.uint8))


def plainly(path: Path, size: tuple[int, int]) -> np.ndarray:
    """By Pillow, scaled by its box filter."""
    return np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BOX))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", "jpeg"),
        ("b.png", "png"),
        ("c.webp", "webp"),
        ("d.tiff", "tiff"),
        ("e.bmp", "bmp"),
        ("without", "jpeg"),
        ("wrong.mp4", "png"),
        ("odd %d [1] *.jpg", "jpeg"),
    ],
)
def test_kinds(picture, tmp_path, name, kind):
    path = tmp_path / name
    picture.save(path, format=kind, quality=95)
    assert picture_kind(path) == kind
    media = read_query(path, REQUEST)
    [image] = media.pictures
    assert image.shape == (64, 96, 3)
    assert np.abs(image.astype(int) - plainly(path, (96, 64)).astype(int)).mean() < 3
    assert (media.times_seconds.tolist(), media.duration_seconds) == ([0], None)
    [strip] = media.thumbnails
    assert Image.open(io.BytesIO(strip)).size == (96, 64)


def test_small_pictures_are_not_enlarged(picture, tmp_path):
    picture.resize((9, 6)).save(tmp_path / "a.png")
    media = read_query(tmp_path / "a.png", MediaRequest(thumbnails=0))
    assert (media.pictures[0].shape, media.thumbnails) == ((6, 9, 3), ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(picture, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    picture.save(path, exif=exif, quality=95)
    upright = np.asarray(Image.open(path).convert("RGB"))
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, -1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, 1),
    }[orientation]
    [image] = read_query(path, MediaRequest(short_side=200)).pictures
    assert image.shape == turned.shape
    assert np.abs(image.astype(int) - turned.astype(int)).mean() < 3


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_other_colours(picture, tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
    else:
        picture.convert(mode).save(path)
    [image] = read_query(path, MediaRequest(short_side=80)).pictures
    assert image.shape == (80, 120, 3)
    if mode != "I;16":
        expected = np.asarray(picture.convert(mode).convert("RGB")).astype(int)
        assert np.abs(image.astype(int) - expected).mean() < 6


def test_the_first_of_a_moving_webp(picture, tmp_path):
    path = tmp_path / "moving.webp"
    black = Image.new("RGB", picture.size)
    picture.save(path, save_all=True, append_images=[black] * 3, duration=500, quality=95)
    [image] = read_query(path, MediaRequest(short_side=80)).pictures
    assert np.abs(image.astype(int) - np.asarray(picture).astype(int)).mean() < 4


def test_videos_and_gifs_are_read_as_videos(picture, tmp_path):
    path = render(tmp_path / "video.mp4", steady(30))
    assert picture_kind(path) == ""
    found, expected = read_query(path, REQUEST), read_media(path, REQUEST)
    assert [read(image) for image in found.pictures] == [read(i) for i in expected.pictures]
    moving = tmp_path / "moving.gif"
    black = Image.new("RGB", picture.size)
    picture.save(moving, save_all=True, append_images=[black] * 5, duration=500)
    assert len(read_query(moving, REQUEST).pictures) == 2
    # A WAV or AVI begins like a WebP, and a text like a bitmap.
    (tmp_path / "a.avi").write_bytes(b"RIFF\x00\x00\x00\x00AVI LIST")
    (tmp_path / "b.txt").write_text("BM is what this begins with, and then it goes on")
    assert picture_kind(tmp_path / "a.avi") == picture_kind(tmp_path / "b.txt") == ""
    assert picture_kind(tmp_path / "nowhere") == picture_kind(tmp_path) == ""


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "progressive.jpg", "a.tiff", "a.bmp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_pictures_that_are_cut_off(picture, tmp_path, name, share):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 60, (80, 120, 3)).astype(np.uint8)
    thumbnail = io.BytesIO()
    picture.resize((12, 8)).save(thumbnail, format="jpeg")
    exif = Image.Exif()
    exif[0x927C] = thumbnail.getvalue()  # holds the end of a picture, which is not this one's
    more = {"exif": exif} if name.endswith("jpg") else {}
    noisy = Image.fromarray(np.asarray(picture) // 2 + noise)
    noisy.save(path, progressive=name.startswith("progressive"), **more)
    assert read_query(path, REQUEST).pictures
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadRecord) as caught:
        read_query(path, REQUEST)
    assert caught.value.reason in ("truncated-picture", "damaged-picture")
    assert name in caught.value.detail


def test_bytes_that_only_begin_like_a_picture(tmp_path):
    heads = {
        "a.jpg": b"\xff\xd8\xff\xe0\x00\x02",
        "b.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "c.webp": b"RIFF\x0c\0\0\0WEBPVP8 ",
    }
    for name, head in heads.items():
        (tmp_path / name).write_bytes(head + bytes(range(256)) + b"\xff\xd9IEND")
        with pytest.raises(BadRecord, match="damaged-picture"):
            read_query(tmp_path / name, REQUEST)


def test_a_picture_that_needs_too_much_memory_costs_only_itself(picture, tmp_path):
    from vidvec.data.worker import Limits

    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")  # 110 kB, 2.7 GB in colour
    picture.save(tmp_path / "fine.png")
    with WorkerPool(1, Limits(memory_mb=512), task=READ_QUERY) as pool:
        with pytest.raises(BadRecord) as caught:
            pool.submit(tmp_path / "bomb.png", REQUEST).result()
        assert caught.value.reason in ("out-of-memory", "damaged-picture")
        assert pool.submit(tmp_path / "fine.png", REQUEST).result().pictures
