"""Decoders of PyAV's FFmpeg: each decodes a small video that is made here, in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from vidvec.doctor.findings import Finding

FRAMES = 4
WIDTH, HEIGHT = 64, 48
# Nearly every video on the web or from a camera is one of these.
_BASIC = frozenset({"h264", "mpeg4"})


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec, the encoders that can make a video of it, and a container for it."""

    name: str
    encoders: tuple[str, ...]
    container: str
    pixels: str = "yuv420p"


CODECS = (
    Codec("h264", ("libx264", "libopenh264"), "mp4"),
    Codec("hevc", ("libx265",), "mp4"),
    Codec("vp8", ("libvpx",), "webm"),
    Codec("vp9", ("libvpx-vp9",), "webm"),
    Codec("av1", ("libsvtav1", "libaom-av1"), "mp4"),
    Codec("mpeg4", ("mpeg4",), "mp4"),
    Codec("mjpeg", ("mjpeg",), "avi", "yuvj420p"),
    Codec("gif", ("gif",), "gif", "rgb8"),
)


def decoders() -> Iterator[Finding]:
    """Which codecs decode, which are only said to be there, which are missing."""
    import av

    av.logging.set_level(None)
    decoded, there, failed = [], [], []
    for codec in CODECS:
        try:
            if not has_codec(codec.name, "r"):
                failed.append((codec.name, "no decoder"))
            elif decodes(codec):
                decoded.append(codec.name)
            else:
                there.append(codec.name)
        except Exception as error:  # FFmpeg's errors are of many kinds
            failed.append((codec.name, f"{type(error).__name__}: {error}"[:120]))
    advice = "pip install --force-reinstall av: its wheels carry FFmpeg with these decoders"
    if decoded:
        found = f"{', '.join(decoded)}: a video was made and read with each (PyAV {av.__version__})"
        yield Finding("decoders", "ok", found)
    if there:
        found = f"{', '.join(there)}: there, but no encoder to make a test video with"
        yield Finding("decoders", "ok", found)
    for name, why in failed:
        yield Finding(f"decoder {name}", "problem" if name in _BASIC else "note", why, advice)


def has_codec(name: str, mode: str) -> bool:
    """Whether FFmpeg has a decoder (``r``) or an encoder (``w``) of this name."""
    import av

    try:
        av.Codec(name, mode)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def decodes(codec: Codec) -> bool:
    """Whether a video made here is decoded whole; ``False`` where none can be made.

    Raises:
        ValueError: Pictures are missing, or of the wrong size.
    """
    import av

    encoder = next((name for name in codec.encoders if has_codec(name, "w")), None)
    if encoder is None:
        return False
    file = io.BytesIO()
    with av.open(file, "w", format=codec.container) as container:
        stream = container.add_stream(encoder, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, codec.pixels
        for number in range(FRAMES):
            picture = av.VideoFrame(WIDTH, HEIGHT, "rgb24")
            shade = bytes([40 * number + 20]) * picture.planes[0].buffer_size
            picture.planes[0].update(shade)
            for packet in stream.encode(picture.reformat(format=codec.pixels)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        found = container.streams.video[0].codec_context.name
        pictures = [(frame.width, frame.height) for frame in container.decode(video=0)]
    if pictures != [(WIDTH, HEIGHT)] * FRAMES:
        raise ValueError(f"{found} gave {len(pictures)} of {FRAMES} pictures")
    return True
