"""The demo's material: video files, a table of titles and tags, and scored pairs.

Everything is drawn from one seed: the same seed gives the same table, the same pairs and the same
pictures before encoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vidvec import storage
from vidvec.demo import words
from vidvec.demo.clips import FPS, Clip, draw_clips
from vidvec.demo.drawing import Picture
from vidvec.demo.filming import film
from vidvec.demo.ratings import draw_pairs
from vidvec.errors import UsageError

# Goes up when the same parameters begin to give other videos.
VERSION = 1
FEWEST = 20
SEPIA = ((0.39, 0.77, 0.19), (0.35, 0.69, 0.17), (0.27, 0.53, 0.13))


def make_videos(
    folder: Path,
    *,
    videos: int = 600,
    pairs: int = 3000,
    seed: int = 2021,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Makes video files, their table, and scored pairs, from a seed.

    Writes ``videos/``, ``pairs.tsv`` (id, id, score), ``latent.jsonl`` (what each video really
    shows, which no stage reads), ``made.json`` (parameters and counts), and last ``meta.jsonl``.
    Does nothing where the same parameters made the folder already. About 8 % of the videos are
    altered copies of others, 2 % have no title, and a few files cannot be read.

    Args:
        folder: Where to; made where it is not there.
        videos: Rows of the table, at least 20.
        pairs: Scored pairs, fewer where there are not as many.
        seed: Decides everything.
        workers: Files rendered side by side.
        progress: Called with files done and all files.

    Raises:
        UsageError: Too few videos, or the folder holds a table that was not made by this call.
    """
    if videos < FEWEST:
        raise UsageError(f"{videos} videos: the demo needs at least {FEWEST}")
    parameters = {"version": VERSION, "videos": videos, "pairs": pairs, "seed": seed}
    if _made_before(folder, parameters):
        return
    random = np.random.default_rng(seed)
    clips = draw_clips(random, videos)
    scored = draw_pairs(random, clips, pairs)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    _write_clips(clips, folder, workers, progress or (lambda *_: None))
    _write_lines(folder / "pairs.tsv", (f"{one}\t{two}\t{score:.2f}" for one, two, score in scored))
    _write_lines(folder / "latent.jsonl", (_json(_latent(clip)) for clip in clips))
    storage.write_json(folder / "made.json", {"parameters": parameters, "counts": _counts(clips)})
    _write_lines(folder / "meta.jsonl", (_json(_row(clip)) for clip in clips))


def _write_clips(
    clips: list[Clip], folder: Path, workers: int, progress: Callable[[int, int], None]
) -> None:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        jobs = [pool.submit(write_clip, clip, folder) for clip in clips]
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                job.result()
                progress(done, len(jobs))
        except BaseException:
            # Else an interrupt would wait for all files that are still to be made.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _made_before(folder: Path, parameters: dict[str, int]) -> bool:
    if not (folder / "meta.jsonl").is_file():
        return False
    made = folder / "made.json"
    found = storage.read_json(made).get("parameters") if made.is_file() else None
    if found == parameters:
        return True
    raise UsageError(
        f"{folder} holds other videos (made with {found or 'something else'}, asked for "
        f"{parameters}): give another folder, or delete this one"
    )


def _row(clip: Clip) -> dict[str, Any]:
    return {
        "id": clip.id,
        "file": clip.file,
        "title": clip.title,
        "tags": clip.tags,
        "category": words.THEMES[clip.scene.theme].group,
        "language": clip.language,
    }


def _latent(clip: Clip) -> dict[str, Any]:
    known = ("id", "copy_of", "alteration", "damage", "frames", "fps")
    truth = {name: getattr(clip, name) for name in known}
    return truth | {"duration_seconds": clip.frames / clip.fps} | asdict(clip.scene)


def _counts(clips: list[Clip]) -> dict[str, int]:
    return {
        "altered_copies": sum(bool(clip.copy_of) for clip in clips),
        "untitled": sum(not clip.title for clip in clips),
        "unreadable": sum(bool(clip.damage) for clip in clips),
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    with storage.atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def clip_pictures(clip: Clip) -> Iterator[Picture]:
    """Yields a clip's pictures before encoding, (height, width, 3) uint8 RGB."""
    alter = _ALTER.get(clip.alteration)
    for picture in film(clip.scene, *clip.size, clip.frames, FPS):
        yield alter(picture) if alter else picture


def write_clip(clip: Clip, folder: Path) -> None:
    """Renders and encodes one video file, or leaves a file that cannot be read."""
    path = folder / clip.file
    if clip.damage == "empty":
        path.write_bytes(b"")
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=clip.fps, options={"preset": "ultrafast", "crf": str(clip.crf)}
        )
        stream.width, stream.height = clip.size
        stream.pix_fmt = "yuv420p"
        # One thread an encoder: files are made side by side.
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(clip_pictures(clip)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, clip.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if clip.damage == "truncated":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def _crop(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    part = picture[round(0.08 * height) : round(0.96 * height), round(0.1 * width) :]
    return _resized(part, width, height)


def _bars(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    bar = height // 7
    result = np.zeros_like(picture)
    result[bar : height - bar] = _resized(picture, width, height - 2 * bar)
    return result


def _coarse(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return _resized(_resized(picture, width * 2 // 5, height * 2 // 5), width, height)


def _sepia(picture: Picture) -> Picture:
    return np.asarray(cv2.transform(picture, np.array(SEPIA, np.float32)), np.uint8)


def _mirror(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


def _same(picture: Picture) -> Picture:
    """Speed changes when pictures are shown, not what they show."""
    return picture


def _resized(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


_ALTER: dict[str, Callable[[Picture], Picture]] = {
    "bars": _bars,
    "crop": _crop,
    "mirror": _mirror,
    "quality": _coarse,
    "sepia": _sepia,
    "speed": _same,
}
