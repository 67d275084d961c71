"""Small made corpora: topics that show in frames, titles and tags, and pairs scored by topic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.lists import frequent_tags
from vidvec.data.pair_rows import write_pairs
from vidvec.data.tokenizer import train_tokenizer
from vidvec.records import Pair, Video

WIDTH = 24
WORDS = {
    0: "sea waves blue fish 海 浪",
    1: "city night lights street 城 夜",
    2: "forest tree green bird 森 林",
    3: "football goal team run 球 场",
}


def made_videos(count: int, seed: int = 0) -> list[Video]:
    """Videos of four topics; some without title, frames or tags."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(WORDS), WIDTH))
    videos = []
    for number in range(count):
        topic = int(random.integers(len(WORDS)))
        words = WORDS[topic].split()
        frames = centres[topic] + 0.7 * random.normal(size=(int(random.integers(1, 9)), WIDTH))
        title = " ".join(random.choice(words, size=int(random.integers(1, 9))))
        videos.append(
            Video(
                id=str(1000 + number),
                title="" if number % 17 == 3 else title,
                tags=None if number % 11 == 5 else (f"topic{topic}", *random.choice(words, 1)),
                category=str(topic),
                language="en",
                frame_times_seconds=np.arange(len(frames), dtype=np.float32),
                frames=frames[: 0 if number % 19 == 7 else None].astype(np.float16),
            )
        )
    return videos


# Words of what is said and of what is written in the picture; none is a title's.
SPOKEN = ["tide harbour sail", "tram crossing taxi", "moss trunk leaf", "match whistle crowd"]
WRITTEN = ["beach boat", "metro exit", "trail map", "score half"]
AUDIO_WIDTH = 10


def with_more(videos: list[Video], seed: int = 0) -> list[Video]:
    """The videos with audio, speech and screen text of their topic; some without one or more."""
    random = np.random.default_rng([seed, 1])
    centres = random.normal(size=(len(WORDS), AUDIO_WIDTH))
    more = []
    for number, video in enumerate(videos):
        topic = int(video.category)
        noise = random.normal(size=(int(random.integers(1, 7)), AUDIO_WIDTH))
        audio = (centres[topic] + 0.7 * noise).astype(np.float16)
        said = random.choice(SPOKEN[topic].split(), int(random.integers(1, 12)))
        written = random.choice(WRITTEN[topic].split(), int(random.integers(1, 5)))
        more.append(
            replace(
                video,
                audio=audio[: 0 if number % 5 == 1 else None],
                speech_text="" if number % 4 == 2 else " ".join(said),
                screen_text="" if number % 3 == 1 else " ".join(written),
            )
        )
    return more


def made_pairs(videos: list[Video], count: int, seed: int = 0) -> list[Pair]:
    """Pairs scored 1 within a topic and 0 across, less a little."""
    random = np.random.default_rng(seed)
    pairs = []
    while len(pairs) < count:
        a, b = random.choice(len(videos), 2, replace=False)
        same = videos[a].category == videos[b].category
        score = round(float(same) * 0.8 + 0.2 * random.random(), 2)
        pairs.append(Pair(videos[a].id, videos[b].id, score))
    return pairs


def write_corpus(
    path: Path,
    videos: list[Video],
    pairs: list[Pair] = [],  # noqa: B006 - never changed
    shards: int = 2,
    parts: dict[str, int] = {},  # noqa: B006 - never changed
) -> store.Corpus:
    """A corpus on disk, without going through a source; its first videos in parts so large."""
    entries = []
    audio_size = max(video.audio.shape[1] if len(video.audio) else 0 for video in videos)
    for number, part in enumerate(np.array_split(np.arange(len(videos)), shards)):
        some = [videos[i] for i in part]
        table, pictures = store.video_table(some, WIDTH, audio_size), store.thumbnail_table(some)
        entries.append(store.write_shard(path, f"{number:06d}.arrow", table, pictures))
    audio_encoder = {"name": "made sound", "frame_size": audio_size}
    manifest = {
        "frame_encoder": {"name": "made", "frame_size": WIDTH},
        **({"audio_encoder": audio_encoder} if audio_size else {}),
        "tag_vocabulary": [],
        "shards": entries,
        "rejects_bytes": 0,
        "pairs": len(pairs),
        "ingests": [{"complete": True, "videos": len(videos), "parts": parts}],
    }
    storage.write_manifest(path, store.KIND, **manifest)
    corpus = store.Corpus(path)
    train_tokenizer(store.iterate_texts(corpus)).save(path / "tokenizer")
    manifest["tag_vocabulary"] = frequent_tags(corpus)
    if pairs:
        write_pairs(path / "pairs.parquet", pairs)
    storage.write_manifest(path, store.KIND, **manifest)
    return store.Corpus(path)
