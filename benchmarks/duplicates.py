"""How well near duplicates are told from other videos, as a table in Markdown.

    python -m benchmarks.duplicates CLIPS [ENCODER]

CLIPS is a folder whose subfolders hold clips with a ``meta.jsonl`` each; lines with one ``group``
are altered copies of one another. Besides, 50 clips are altered here by picture. ENCODER is
that of ``vidvec ingest``, by default ``classic``. Each cell says how many pairs are duplicates,
and in brackets how many would be without looking at whether the two change together.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidvec import Corpus, IngestOptions, ingest
from vidvec.data.duplicates import FrameSpace
from vidvec.data.frames import open_frame_encoder
from vidvec.data.video import decode

Picture = NDArray[np.uint8]

THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9)
# Clips of one made or filmed set: alike, and no copies.
SETS = ("isl_avatar", "intel_samples")
ALTERED = {"panda70m": 40, "isl_avatar": 5, "intel_samples": 5}
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])


def coarse(picture: Picture) -> Picture:
    """A third of the width, enlarged again, as JPEG at quality 30."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 3, height // 3), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height))
    return cv2.imdecode(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1)


def bars(picture: Picture) -> Picture:
    """Squeezed between black bars above and below."""
    height, width = picture.shape[:2]
    inner = cv2.resize(picture, (width, int(0.76 * height)))
    top = (height - len(inner)) // 2
    made = np.zeros_like(picture)
    made[top : top + len(inner)] = inner
    return made


def logo(picture: Picture) -> Picture:
    """A red rectangle in a corner."""
    height, width = picture.shape[:2]
    made = picture.copy()
    made[height // 20 : height * 13 // 60, width // 20 : width // 4] = (250, 40, 40)
    return made


def cropped(picture: Picture) -> Picture:
    """A twentieth cut off at each side."""
    height, width = picture.shape[:2]
    cut = picture[height // 20 : height - height // 20, width // 20 : width - width // 20]
    return cv2.resize(cut, (width, height))


def captioned(picture: Picture) -> Picture:
    """Words across the lower part."""
    height, width = picture.shape[:2]
    place = (width // 10, int(0.9 * height))
    white = (255, 255, 255)
    return cv2.putText(picture.copy(), "SUBSCRIBE NOW", place, 0, width / 400, white, 3)


def _bytes(values: NDArray[np.float64]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)


ALTERATIONS: dict[str, Callable[[Picture], Picture]] = {
    "a logo": logo,
    "brighter, with more contrast": lambda picture: _bytes(picture * 1.15 + 15.0),
    "a tenth cropped away": cropped,
    "a caption": captioned,
    "a third of the width, JPEG at 30": coarse,
    "sepia": lambda picture: _bytes(picture @ SEPIA.T),
    "bars above and below": bars,
    "mirrored": lambda picture: picture[:, ::-1].copy(),
}


def read(clips: Path, folder: Path, encoder: str) -> tuple[Corpus, list[dict[str, str]]]:
    """A corpus of all clips, and their rows of metadata in its order."""
    rows = []
    for table in sorted(clips.glob("*/meta.jsonl")):
        for line in table.read_text("utf-8").splitlines():
            row = json.loads(line)
            rows.append({**row, "file": str((table.parent / row["file"]).absolute())})
    source = folder / "clips"
    source.mkdir()
    kept = [{"id": row["id"], "file": row["file"]} for row in rows]
    (source / "meta.jsonl").write_text("\n".join(map(json.dumps, kept)), "utf-8")
    ingest(source, folder / "corpus", IngestOptions(encoder=encoder))
    corpus = Corpus(folder / "corpus")
    by_id = {row["id"]: row for row in rows}
    return corpus, [by_id[video] for video in corpus.ids]


def kind_of(one: dict[str, str], other: dict[str, str]) -> str:
    """What two clips are to one another."""
    if one.get("group") and one.get("group") == other.get("group"):
        return "altered copies that came along"
    same = one["source"] == other["source"]
    return "others of one set" if same and one["source"] in SETS else "unrelated"


def main(clips: Path, encoder: str) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, rows = read(clips, Path(folder), encoder)
        space = FrameSpace(corpus, np.arange(len(corpus)))
        frames = [corpus.frames(row) for row in range(len(corpus))]
        found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        for one, other in combinations(range(len(rows)), 2):
            found[kind_of(rows[one], rows[other])].append(space.compare(frames[one], frames[other]))
        opened = open_frame_encoder(encoder)
        left = dict(ALTERED)
        for row in rows:
            if left.get(row["source"], 0):
                left[row["source"]] -= 1
                pictures = decode(Path(row["file"]), short_side=opened.short_side).images
                plain = opened.encode(pictures).astype(np.float16)
                half = plain[: max(2, len(plain) // 2)]
                found["the first half"].append(space.compare(plain, half))
                for name, alter in ALTERATIONS.items():
                    altered = opened.encode([alter(each) for each in pictures])
                    found[name].append(space.compare(plain, altered.astype(np.float16)))
    highest = max(similarity for similarity, _ in found["unrelated"])
    print(f"{encoder}: unrelated clips are alike up to {highest:.2f}\n")
    print(f"| pairs | of | {' | '.join(map(str, THRESHOLDS))} |")
    print("|---|---|" + "---|" * len(THRESHOLDS))
    for name, pairs in sorted(found.items(), key=lambda item: -len(item[1])):
        cells = []
        for threshold in THRESHOLDS:
            reach = [together for similarity, together in pairs if similarity >= threshold]
            cells.append(f"{sum(reach)} ({len(reach)})")
        print(f"| {name} | {len(pairs)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "classic")
