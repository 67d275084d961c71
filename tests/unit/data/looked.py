"""Made corpora to look at, and a page as a browser would find it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.records import Pair, Reject, Video

WIDTH = 6
HOSTILE = "<script>alert('x')</script> & \"quoted\" <img src=http://example.org/x.png>"


def jpeg(shade: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((20, 30, 3), shade, np.uint8))[1])


def made_videos(count: int) -> list[Video]:
    random = np.random.default_rng(5)
    tags = ["sea", "海", "city", "night", "goal"]
    videos = []
    for number in range(count):
        frames = random.normal(size=(int(random.integers(0, 40)), WIDTH)).astype(np.float16)
        given = tuple(random.choice(tags, int(random.integers(0, 4))))  # some of them twice
        videos.append(
            Video(
                id=f"v{number}",
                title=["", "  ", "城市的夜 night", "海浪"][number % 4] * (1 + number % 3),
                tags=None if number % 7 == 2 else given,
                speech_text="" if number % 3 else "so it goes " * (number % 5),
                screen_text=" " if number % 4 else "EXIT",
                category=["", "cities", "sports"][number % 3],
                language="zh" if number % 5 else "",
                duration_seconds=None if number % 6 == 1 else number * 0.75,
                frames=frames,
                frame_times_seconds=np.arange(len(frames), dtype=np.float32),
                thumbnails=tuple(jpeg(40 * i) for i in range(number % 4)),
            )
        )
    return videos


def write_corpus(
    path: Path,
    videos: list[Video],
    *,
    pairs: list[Pair] | None = None,
    rejects: list[Reject] | None = None,
    shards: int = 3,
    complete: bool = True,
    gone: list[list[int]] | None = None,
    audio_size: int = 0,
) -> store.Corpus:
    entries = []
    parts = np.array_split(np.arange(len(videos)), shards) if videos else []
    for number, part in enumerate(parts):
        some = [videos[i] for i in part]
        name = f"{number:06d}.arrow"
        tables = store.video_table(some, WIDTH, audio_size), store.thumbnail_table(some)
        entries.append(store.write_shard(path, name, *tables))
    path.mkdir(exist_ok=True)
    if pairs:
        pq.write_table(pa.Table.from_pylist([asdict(p) for p in pairs]), path / "pairs.parquet")
    lines = [json.dumps(asdict(reject), ensure_ascii=False) + "\n" for reject in rejects or []]
    (path / "rejects.jsonl").write_text("".join(lines), "utf-8")
    storage.write_manifest(
        path,
        store.KIND,
        frame_encoder={"name": "made", "frame_size": WIDTH},
        tag_vocabulary=["sea", "海"],
        shards=entries,
        rejects_bytes=(path / "rejects.jsonl").stat().st_size,
        pairs=len(pairs or []),
        ingests=[{"complete": complete}],
        audio_encoder={"name": "heard", "frame_size": audio_size} if audio_size else store.NO_AUDIO,
        gone=gone or [],
    )
    return store.Corpus(path, unfinished=True)


class Page(HTMLParser):
    """What a browser would find: elements, what they fetch, and the text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "data"}]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in {"img", "meta"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
