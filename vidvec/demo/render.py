"""The demo's material: video files, a table of titles and tags, and scored pairs.

Everything is drawn from one seed: the same seed gives the same table, the same pairs and the same
pictures before encoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.demo import words
from vidvec.demo.drawing import Picture
from vidvec.demo.filming import film
from vidvec.demo.scenes import Scene, draw_scene, draw_tags, draw_title, similarity
from vidvec.errors import UsageError

# Goes up when the same parameters begin to give other videos.
VERSION = 1
FPS = 12
SIZES = ((192, 144), (256, 144), (160, 160))
COPY_SHARE, UNTITLED_SHARE, MKV_SHARE = 0.08, 0.02, 0.05
# The clean split puts pairs in validation whose ids are both multiples of five, and drops pairs
# across. Most pairs are drawn within one side, so that few are lost.
WITHIN_SIDE = 0.9
# Shares of pairs by similarity: many zeros, as among real scores.
STRATA = (
    (-1.0, 0.0, 0.32),
    (0.0, 0.2, 0.14),
    (0.2, 0.4, 0.14),
    (0.4, 0.6, 0.14),
    (0.6, 0.85, 0.12),
    (0.85, 1.0, 0.14),
)
# Raters agree on the extremes and differ most in the middle.
RATER_NOISE = 0.1
SEPIA = ((0.39, 0.77, 0.19), (0.35, 0.69, 0.17), (0.27, 0.53, 0.13))


@dataclass(frozen=True, slots=True)
class Clip:
    """One video file to make, and what is known and shown of it.

    Attributes:
        id: A whole number, as the competition's are.
        scene: What it shows.
        title: May be empty.
        tags: Words.
        language: Of the title.
        size: Width and height in pixels.
        frames: How many.
        fps: Frames a second.
        crf: Quality for the encoder: higher is worse.
        suffix: Of the file, which decides the container.
        copy_of: Id of the video that it is an altered copy of, or empty.
        alteration: A key of ``ALTERATIONS``, or empty.
        damage: ``empty`` or ``truncated`` for a file that cannot be read, else empty.
    """

    id: str
    scene: Scene
    title: str
    tags: list[str]
    language: str
    size: tuple[int, int]
    frames: int
    fps: int
    crf: int
    suffix: str
    copy_of: str = ""
    alteration: str = ""
    damage: str = ""

    @property
    def file(self) -> str:
        """Path relative to the folder."""
        return f"videos/{self.id}{self.suffix}"


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
    if videos < 20:
        raise UsageError(f"{videos} videos: the demo needs at least 20")
    parameters = {"version": VERSION, "videos": videos, "pairs": pairs, "seed": seed}
    if _made_before(folder, parameters):
        return
    random = np.random.default_rng(seed)
    clips = draw_clips(random, videos)
    scored = draw_pairs(random, clips, pairs)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        jobs = [pool.submit(write_clip, clip, folder) for clip in clips]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if progress is not None:
                progress(done, len(jobs))
    _write_lines(folder / "pairs.tsv", (f"{one}\t{two}\t{score:.2f}" for one, two, score in scored))
    _write_lines(folder / "latent.jsonl", (_json(_latent(clip)) for clip in clips))
    storage.write_json(folder / "made.json", {"parameters": parameters, "counts": _counts(clips)})
    _write_lines(folder / "meta.jsonl", (_json(_row(clip)) for clip in clips))


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


# --- What there is ---------------------------------------------------------------------------


def draw_clips(random: np.random.Generator, count: int) -> list[Clip]:
    """Draws the videos, originals and altered copies in mixed order."""
    copies, damaged = round(COPY_SHARE * count), max(2, round(0.005 * count))
    originals = [_draw_clip(random) for _ in range(count - copies)]
    for place in range(damaged):
        damage = ("empty", "truncated")[place % 2]
        originals[place] = replace(originals[place], damage=damage)
    readable = originals[damaged:]
    chosen = random.choice(len(readable), copies, replace=copies > len(readable))
    kinds = sorted(ALTERATIONS)
    altered = [
        _draw_copy(random, readable[int(place)], kinds[number % len(kinds)])
        for number, place in enumerate(chosen)
    ]
    clips = originals + altered
    return [clips[int(place)] for place in random.permutation(len(clips))]


def _draw_clip(random: np.random.Generator) -> Clip:
    scene = draw_scene(random)
    language = words.LANGUAGES[int(random.integers(2))]
    title = draw_title(scene, language, random)
    return Clip(
        id=_draw_id(random),
        scene=scene,
        title="" if random.random() < UNTITLED_SHARE else title,
        tags=draw_tags(scene, language, random),
        language=language,
        size=SIZES[int(random.choice(len(SIZES), p=(0.5, 0.35, 0.15)))],
        frames=int(random.integers(3 * FPS, 8 * FPS + 1)),
        fps=FPS,
        crf=int(random.integers(20, 33)),
        suffix=".mkv" if random.random() < MKV_SHARE else ".mp4",
    )


def _draw_copy(random: np.random.Generator, original: Clip, alteration: str) -> Clip:
    """An altered copy: the title is the original's with a word more, or another one."""
    language = original.language
    if original.title and random.random() < 0.5:
        title = f"{original.title} {random.choice(words.NOISE_TAGS[language])}"
    else:
        language = words.LANGUAGES[int(random.integers(2))]
        title = draw_title(original.scene, language, random)
    name = _draw_id(random)
    # On the same side of the clean split as the original: neither is known before the other.
    while (int(name) % 5 == 0) != (int(original.id) % 5 == 0):
        name = _draw_id(random)
    return replace(
        original,
        id=name,
        title=title,
        language=language,
        tags=draw_tags(original.scene, language, random),
        fps=(9, 15)[int(random.integers(2))] if alteration == "speed" else FPS,
        crf=36 if alteration == "quality" else original.crf + 3,
        suffix=".mp4",
        copy_of=original.id,
        alteration=alteration,
    )


def _draw_id(random: np.random.Generator) -> str:
    # 10^17 numbers: two equal ones do not happen.
    return str(int(random.integers(10**17, 2 * 10**17)))


# --- How alike -------------------------------------------------------------------------------


def draw_pairs(
    random: np.random.Generator, clips: list[Clip], count: int
) -> list[tuple[str, str, float]]:
    """Draws pairs of readable videos and scores them.

    The score is ``scenes.similarity`` with noise of standard deviation ``0.1·√(s·(1 − s))``, in
    steps of 0.05; for an altered copy and its original 0.9, 0.95 or 1. Every altered copy is paired
    with its original; for the rest, videos take turns and find a partner of a similarity drawn from
    ``STRATA``.

    Returns:
        Id, id and score; no pair twice.
    """
    clips = [clip for clip in clips if not clip.damage]
    alike = _similarities(clips)
    places = {clip.id: place for place, clip in enumerate(clips)}
    chosen = {
        (min(places[clip.id], places[clip.copy_of]), max(places[clip.id], places[clip.copy_of]))
        for clip in clips
        if clip.copy_of
    }
    side = np.array([int(clip.id) % 5 == 0 for clip in clips])
    count = min(count, len(clips) * (len(clips) - 1) // 4)
    edges = [(low, high) for low, high, _ in STRATA]
    shares = [share for _, _, share in STRATA]
    turn = 0
    while len(chosen) < count:
        first = turn % len(clips)
        turn += 1
        low, high = edges[int(random.choice(len(edges), p=shares))]
        fits = (alike[first] > low) & (alike[first] <= high)
        if random.random() < WITHIN_SIDE:
            fits &= side == side[first]
        fits[first] = False
        partners = np.flatnonzero(fits)
        if len(partners):
            second = int(random.choice(partners))
            chosen.add((min(first, second), max(first, second)))
    order = sorted(chosen)
    return [
        (clips[one].id, clips[two].id, _score(random, float(alike[one, two])))
        for one, two in (order[int(place)] for place in random.permutation(len(order)))
    ]


def _similarities(clips: list[Clip]) -> NDArray[np.float64]:
    """(N, N): similarity of every two scenes; 1 for the same one."""
    count = len(clips)
    alike = np.ones((count, count))
    for one in range(count):
        for two in range(one):
            if clips[one].scene.look != clips[two].scene.look:
                value = min(similarity(clips[one].scene, clips[two].scene), 0.95)
                alike[one, two] = alike[two, one] = value
    return alike


def _score(random: np.random.Generator, alike: float) -> float:
    if alike == 1:
        return float(random.choice([0.9, 0.95, 1.0]))
    rated = alike + RATER_NOISE * np.sqrt(alike * (1 - alike)) * random.standard_normal()
    return float(np.clip(np.round(rated * 20) / 20, 0, 1))


# --- Files -----------------------------------------------------------------------------------


def clip_pictures(clip: Clip) -> Iterator[Picture]:
    """Yields a clip's pictures before encoding, (height, width, 3) uint8 RGB."""
    alter = ALTERATIONS.get(clip.alteration)
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


ALTERATIONS: dict[str, Callable[[Picture], Picture]] = {
    "bars": _bars,
    "crop": _crop,
    "mirror": _mirror,
    "quality": _coarse,
    "sepia": _sepia,
    "speed": _same,
}
