"""A folder in the competition's layout that models learn something from, of ``tests.corpora``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.corpora import made_pairs, made_videos
from vidvec.data.tfrecord import write_tfrecords
from vidvec.records import Video

TAGS = {f"topic{number}": str(100 + number) for number in range(4)}


def numbered(video: Video) -> Video:
    """Tags as numbers, as the format demands."""
    if video.tags is None:
        return video
    numbers = [TAGS.get(tag, str(200 + sum(tag.encode()) % 50)) for tag in video.tags]
    return replace(video, tags=tuple(sorted(set(numbers))))


def write_competition(folder: Path, videos: int = 120, seed: int = 0) -> Path:
    """Pointwise and pairwise videos, a twentieth in each test set, labels, tag list."""
    made = [numbered(video) for video in made_videos(videos, seed)]
    made = [replace(video, title=video.title or "海") for video in made]
    parts: dict[str, list[Video]] = {"pointwise": [], "pairwise": [], "test_a": [], "test_b": []}
    for number, video in enumerate(made):
        if number % 10 == 9:
            parts["test_a" if number % 20 == 9 else "test_b"].append(replace(video, tags=None))
        else:
            parts["pointwise" if number // 5 % 5 < 2 else "pairwise"].append(video)
    for part, some in parts.items():
        (folder / part).mkdir(parents=True)
        write_tfrecords(folder / part / f"{part}_0.tfrecords", some)
    pairs = made_pairs(parts["pairwise"], 3 * len(parts["pairwise"]), seed)
    lines = [f"{pair.id_1}\t{pair.id_2}\t{round(20 * pair.score) / 20}\n" for pair in pairs]
    (folder / "pairwise" / "label.tsv").write_text("".join(lines))
    numbers = sorted({tag for video in made for tag in video.tags or ()}, key=int)
    (folder / "tag_list.txt").write_text("".join(f"{tag}\n" for tag in numbers))
    return folder
