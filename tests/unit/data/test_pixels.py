"""Pictures of every make come out as they were drawn: formats, depths, sizes, turns, colours."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.data.media import HEIGHT, WIDTH, draw, read, render, steady
from vidvec.data.video import DecodedVideo, decode

# libvpx-vp9 in this build writes eight bits only; HEVC and AV1 stand for more.
X265 = {"x265-params": "log-level=none", "preset": "superfast"}
# Without frames held back for others, and with few of them in memory, which for 8K is a lot of it.
LEAN = {"x265-params": "log-level=none:bframes=0:frame-threads=1"}
VP = {"cpu-used": "8", "deadline": "realtime"}
FORMATS = [
    *[("libx264", name, "mp4") for name in ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12")],
    *[("libx264", name, "mp4") for name in ("yuv420p10le", "yuv422p10le", "yuv444p10le")],
    *[("libx264", name, "mkv") for name in ("gray", "gray10le", "nv21")],
    *[("libx264rgb", name, "mkv") for name in ("rgb24", "bgr24", "bgr0")],
    *[("libx265", name, "mp4") for name in ("yuv420p10le", "yuv420p12le", "yuv444p12le")],
    *[("libx265", name, "mkv") for name in ("gray", "gbrp", "gbrp10le")],
    *[("libvpx-vp9", name, "webm") for name in ("yuv422p", "yuv444p", "gbrp")],
    *[(codec, "yuva420p", "webm") for codec in ("libvpx", "libvpx-vp9")],
    ("libsvtav1", "yuv420p10le", "mkv"),
    *[("mjpeg", name, "avi") for name in ("yuvj422p", "yuvj444p")],
    ("prores_ks", "yuva444p10le", "mov"),
    *[("qtrle", name, "mov") for name in ("argb", "gray")],
    *[("png", name, "mov") for name in ("rgba", "rgb48be", "gray16be", "monob", "ya8")],
    *[("ffv1", name, "mkv") for name in ("yuv410p", "yuv411p", "yuv440p", "gray16le", "bgra")],
    *[("rawvideo", name, "avi") for name in ("bgr24", "gray", "yuyv422", "rgb555le")],
    *[("gif", name, "gif") for name in ("rgb8", "gray")],
]


def shown(decoded: DecodedVideo) -> list[int]:
    return [read(image) for image in decoded.images]


@pytest.mark.parametrize(("codec", "pix_fmt", "suffix"), FORMATS, ids=map("-".join, FORMATS))
def test_pixel_formats(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    alpha = {"auto-alt-ref": "0"} if "yuva" in pix_fmt else {}
    options = {"libx265": X265, "libvpx": VP | alpha, "libvpx-vp9": VP | alpha}.get(codec, {})
    path = tmp_path / f"clip.{suffix}"
    render(path, steady(21), codec=codec, pix_fmt=pix_fmt, codec_options=options)
    decoded = decode(path)
    assert shown(decoded) == [0, 10, 20]
    expected = draw(10).astype(int)
    # Black is 0 and white 255, whatever the range in which the file has them.
    assert np.abs(decoded.images[1] - expected).mean() < 8


@pytest.mark.parametrize(("codec", "suffix"), [("png", "mov"), ("gif", "gif"), ("rawvideo", "nut")])
def test_palettes(tmp_path: Path, codec: str, suffix: str) -> None:
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0], palette[3], palette[9] = 255, (255, 20, 40, 60), (255, 250, 240, 230)  # ARGB
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "pal8"
        for number in range(21):
            places = np.where(draw(number)[:, :, 0] > 127, 9, 3).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray((places, palette), format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    decoded = decode(path)
    assert shown(decoded) == [0, 10, 20]
    colours = {tuple(pixel) for pixel in decoded.images[1].reshape(-1, 3).tolist()}
    assert colours == {(20, 40, 60), (250, 240, 230)}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("x264.mp4", {"codec_options": {"x264-params": "tff=1", "bf": "3"}}),
        ("x264.ts", {"codec_options": {"x264-params": "bff=1", "bf": "3"}}),
        ("fake.mkv", {"codec_options": {"x264-params": "fake-interlaced=1"}}),
        (
            "mpeg2.mpg",
            {"codec": "mpeg2video", "codec_options": {"flags": "+ildct+ilme", "bf": "2"}},
        ),
        ("mpeg2.ts", {"codec": "mpeg2video", "codec_options": {"flags": "+ildct+ilme"}}),
        ("mpeg4.avi", {"codec": "mpeg4", "codec_options": {"flags": "+ildct+ilme"}}),
        ("prores.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    ],
)
def test_interlaced(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    if name.startswith("prores"):
        more = more | {"codec_options": {"flags": "+ildct"}}
    decoded = decode(render(tmp_path / name, steady(75, 25), rate=25, **more))
    assert shown(decoded) == [0, 25, 50]
    assert decoded.times_seconds.tolist() == pytest.approx([0, 1, 2], abs=2e-3)
    assert decoded.duration_seconds == pytest.approx(3.0, abs=0.05)
    assert shown(decode(path := tmp_path / name, max_frames=1)) == [25], path


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv444p", (131, 97)),
        ("libx264", "yuv420p", (130, 98)),
        ("libvpx-vp9", "yuv420p", (131, 97)),
        ("libsvtav1", "yuv420p", (130, 98)),
        ("mjpeg", "yuvj420p", (131, 97)),
        ("ffv1", "yuv420p", (16, 9)),
        ("ffv1", "yuv444p", (17, 3)),
        ("ffv1", "bgr0", (16, 2)),
        ("libx264", "yuv420p", (2048, 16)),
        ("libx264", "yuv420p", (16, 2048)),
    ],
)
def test_odd_sizes(tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]) -> None:
    width, height = size
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        options = VP if codec == "libvpx-vp9" else {}
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for number in range(11):
            drawn = cv2.resize(draw(number, 128, 128), size, interpolation=cv2.INTER_NEAREST)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
        container.mux(stream.encode())
    decoded = decode(path)
    assert decoded.images[0].shape == (height, width, 3)
    assert shown(decoded) == [0, 10]


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(1, 2), Fraction(16, 11)])
@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi", "mov"])
def test_pixels_become_square_in_every_container(
    tmp_path: Path, suffix: str, aspect: Fraction
) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = render(tmp_path / f"c.{suffix}", steady(12), codec=codec, pixel_aspect=aspect)
    decoded = decode(path)
    height, width = decoded.images[0].shape[:2]
    assert width / height == pytest.approx(WIDTH * aspect / HEIGHT, rel=0.02)
    assert (width == WIDTH) if aspect > 1 else (height == HEIGHT)
    assert shown(decoded) == [0, 10]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_turned_upright(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = render(tmp_path / "clip.mp4", steady(21), turn=(degrees, mirrored, False))
    image = decode(path).images[2].astype(int)  # shows the number 20
    # The same in NumPy's terms: turned counter-clockwise, then mirrored left to right.
    expected = np.rot90(draw(20), degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 5


@pytest.mark.parametrize("suffix", ["mov", "mkv", "3gp"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("aspect", [None, Fraction(2)])
def test_turned_in_every_container(
    tmp_path: Path, suffix: str, degrees: int, aspect: Fraction | None
) -> None:
    turn = (degrees, False, False)
    path = render(tmp_path / f"c.{suffix}", steady(21), turn=turn, pixel_aspect=aspect)
    image = decode(path).images[2].astype(int)
    picture = draw(20)
    if aspect:  # as wide again, and no larger than stored
        picture = cv2.resize(picture, (WIDTH, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    expected = np.rot90(picture, degrees // 90).astype(int)
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 8


def bars() -> NDArray[np.uint8]:
    """Six colours side by side, 16 pixels each."""
    colours = [
        (220, 30, 40),
        (30, 200, 60),
        (40, 50, 210),
        (200, 190, 20),
        (20, 30, 30),
        (235,) * 3,
    ]
    return np.repeat(np.repeat(np.array([colours], np.uint8), 64, axis=0), 16, axis=1)


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])  # BT.709, BT.470BG, SMPTE 170M, BT.2020
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_colours_by_matrix_and_range(tmp_path: Path, matrix: int, full: bool, codec: str) -> None:
    # From RGB by ITU-T H.273's formulas, not by FFmpeg.
    red, blue = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(matrix, (0.299, 0.114))
    rgb = bars() / 255.0
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    chroma = [(rgb[:, :, 2] - luma) / (2 - 2 * blue), (rgb[:, :, 0] - luma) / (2 - 2 * red)]
    scale = (255, 255) if full else (219, 224)
    planes = [luma * scale[0] + (0 if full else 16), *(each * scale[1] + 128 for each in chroma)]
    path = tmp_path / "clip.mkv"
    options = {"libx264": {"qp": "1"}, "libx265": X265 | {"crf": "1"}}.get(codec, VP | {"crf": "4"})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1 + full
        yuv = np.stack([np.rint(plane).clip(0, 255).astype(np.uint8) for plane in planes])
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(yuv, format="yuv444p")
            frame.colorspace, frame.color_range, frame.pts = matrix, 1 + full, number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = decode(path).images[0].astype(int)
    centre = slice(4, None, 8)  # away from the edges
    assert np.abs(found[:, centre] - bars()[:, centre].astype(int)).max() <= 8


def exif(orientation: int) -> bytes:
    """An APP1 segment that says how a JPEG file is to be turned (Exif 2.3, tag 0x0112)."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff"])
def test_still_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    cv2.imwrite(str(path), draw(77))
    for keyframes in (False, True):
        decoded = decode(path, keyframes=keyframes)
        assert shown(decoded) == [77]
        assert decoded.times_seconds.tolist() == [0.0]
        assert 0 < decoded.duration_seconds <= 0.1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    data = cv2.imencode(".jpg", draw(77), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    path = tmp_path / "photograph.jpg"
    path.write_bytes(data[:2] + exif(orientation) + data[2:])
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)  # OpenCV goes by the tag, too
    image = decode(path).images[0]
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 5


def test_a_picture_that_changes_its_size(tmp_path: Path) -> None:
    sizes = [(128, 96), (192, 128)]
    parts = [
        render(
            tmp_path / f"{width}.ts",
            [start + time for time in steady(30)],
            size=(width, height),
            codec_options={"bf": "0"},
        )
        for start, (width, height) in zip((0, 3), sizes, strict=True)
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoded = decode(path)
    assert shown(decoded) == [0, 10, 20] * 2
    assert [image.shape[:2] for image in decoded.images] == [(96, 128)] * 3 + [(128, 192)] * 3
    assert decoded.times_seconds.tolist() == pytest.approx(range(6), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("libx264", "yuv420p10le", {"preset": "ultrafast"}),
        ("libx265", "yuv420p", X265 | {"preset": "ultrafast"} | LEAN),
        ("mjpeg", "yuvj420p", {}),
    ],
)
def test_8k(tmp_path: Path, codec: str, pix_fmt: str, options: dict[str, str]) -> None:
    more = {"codec": codec, "pix_fmt": pix_fmt, "codec_options": options}
    path = render(tmp_path / "clip.mkv", steady(2, 1), size=(7680, 4320), rate=1, **more)
    decoded = decode(path)
    assert shown(decoded) == [0, 1]
    assert decoded.images[0].shape == (256, 455, 3)
