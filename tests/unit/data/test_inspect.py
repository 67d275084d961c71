"""Summaries against plain Python over the same videos; the page against what it must not let in."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data import html
from vidvec.data.inspect import describe, sample_rows, spread, summarise, to_html
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
) -> store.Corpus:
    entries = []
    parts = np.array_split(np.arange(len(videos)), shards) if videos else []
    for number, part in enumerate(parts):
        some = [videos[i] for i in part]
        name = f"{number:06d}.arrow"
        tables = store.video_table(some, WIDTH), store.thumbnail_table(some)
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


def test_counts_are_those_of_plain_python(tmp_path: Path) -> None:
    videos = made_videos(101)
    summary = summarise(write_corpus(tmp_path / "corpus", videos))

    assert summary.videos == 101
    assert summary.complete
    assert summary.frame_encoder == {"name": "made", "frame_size": WIDTH}
    assert summary.with_frames == sum(len(video.frames) > 0 for video in videos)
    assert summary.with_title == sum(bool(video.title.strip()) for video in videos)
    assert summary.with_tags == sum(bool(video.tags) for video in videos)
    assert summary.never_tagged == sum(video.tags is None for video in videos)
    assert dict(summary.languages) == Counter(video.language for video in videos)
    assert dict(summary.categories) == Counter(video.category for video in videos)
    assert summary.category_count == 2
    expected = Counter(tag for video in videos for tag in set(video.tags or ()))
    assert dict(summary.tags) == expected
    assert [count for _, count in summary.tags] == sorted(expected.values(), reverse=True)
    assert summary.tag_count == 5
    assert summary.tag_vocabulary_size == 2


def test_spreads_are_those_of_plain_python(tmp_path: Path) -> None:
    videos = made_videos(101)
    summary = summarise(write_corpus(tmp_path / "corpus", videos))
    durations = [v.duration_seconds for v in videos if v.duration_seconds is not None]
    for measured, values in (
        (summary.frames_per_video, [len(video.frames) for video in videos]),
        (summary.title_characters, [len(video.title) for video in videos]),
        (summary.duration_seconds, durations),
        (summary.tags_per_video, [len(video.tags or ()) for video in videos]),
    ):
        assert measured.count == len(values)
        assert (measured.minimum, measured.maximum) == (min(values), max(values))
        assert measured.median == statistics.median(values)
        assert measured.mean == pytest.approx(statistics.fmean(values))
        assert sum(count for _, count in measured.histogram) == len(values)


def bounds(label: str, *, whole: bool) -> tuple[float, float]:
    low, _, high = label.removesuffix("+").partition("–")
    if label.endswith("+"):
        return float(low), float("inf")
    return float(low), float(high or low) + whole


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("whole", [True, False])
def test_every_bin_holds_what_its_label_says(seed: int, whole: bool) -> None:
    random = np.random.default_rng(seed)
    values = random.gamma(2, 10.0 ** random.integers(0, 4), int(random.integers(1, 500)))
    values = values.astype(np.int64) if whole else np.round(values, 2)
    histogram = spread(values).histogram
    assert 1 <= len(histogram) <= 14
    assert sum(count for _, count in histogram) == len(values)
    edges = [bounds(label, whole=whole) for label, _ in histogram]
    assert all(a[1] == b[0] for a, b in pairwise(edges))
    for place, (low, high) in enumerate(edges):
        last = place == len(edges) - 1
        held = (values >= low) & ((values < high) | (last & (values == high)))
        assert held.sum() == histogram[place][1]


@pytest.mark.parametrize(
    ("values", "histogram"),
    [
        ([3, 3, 3], (("3", 3),)),
        ([0, 1, 1, 2], (("0", 1), ("1", 2), ("2", 1))),
        ([*range(24)], tuple((f"{low}–{low + 1}", 2) for low in range(0, 24, 2))),
        ([0.0, 0.5, 1.0, 2.0], (("0–0.2", 1), ("0.2–0.4", 0), ("0.4–0.6", 1))),
    ],
)
def test_histogram_by_hand(values: list[float], histogram: tuple[tuple[str, int], ...]) -> None:
    assert spread(values).histogram[: len(histogram)] == histogram


def test_one_very_long_title_does_not_flatten_the_histogram() -> None:
    histogram = spread([5, 6, 7, 8] * 100 + [10_000]).histogram
    assert histogram[-1] == ("8+", 101)
    assert len(histogram) == 4


def test_pairs(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    names = [f"v{i}" for i in range(20)]
    chosen = [random.choice(names, 2, replace=False) for _ in range(80)]
    pairs = [Pair(str(a), str(b), float(random.integers(0, 5)) / 4) for a, b in chosen]
    corpus = write_corpus(tmp_path / "corpus", made_videos(30), pairs=pairs)
    summary = summarise(corpus)
    assert summary.pairs == 80
    assert dict(summary.scores.histogram) == Counter(f"{pair.score:g}" for pair in pairs)
    assert [label for label, _ in summary.scores.histogram] == ["0", "0.25", "0.5", "0.75", "1"]
    each = Counter(video for pair in pairs for video in (pair.id_1, pair.id_2))
    assert summary.pairs_per_video.count == len(each)
    assert summary.pairs_per_video.maximum == max(each.values())
    assert summary.pairs_per_video.mean == pytest.approx(160 / len(each))

    smooth = [Pair(str(a), str(b), float(random.random())) for a, b in chosen]
    summary = summarise(write_corpus(tmp_path / "smooth", made_videos(30), pairs=smooth))
    assert 5 <= len(summary.scores.histogram) <= 12
    assert sum(count for _, count in summary.scores.histogram) == 80


def test_rejects_by_reason_with_the_first_few(tmp_path: Path) -> None:
    rejects = [Reject(f"meta.csv:{i}", f"b{i}", "truncated-video", "cut") for i in range(9)]
    rejects.insert(4, Reject("meta.csv:40", "c", "nan", "frame 3 has NaN"))
    corpus = write_corpus(tmp_path / "corpus", made_videos(4), rejects=rejects)
    # What a killed run wrote after its last commit is not counted.
    with (corpus.path / "rejects.jsonl").open("a") as file:
        file.write(json.dumps(asdict(rejects[0])) + "\n")
    truncated, nan = summarise(corpus).rejects
    assert (truncated.reason, truncated.count) == ("truncated-video", 9)
    assert [reject.id for reject in truncated.examples] == ["b0", "b1", "b2", "b3", "b4"]
    assert (nan.reason, nan.count, nan.examples[0].where) == ("nan", 1, "meta.csv:40")
    text = Page(to_html(corpus, summarise(corpus), [])).text
    assert "meta.csv:40 c: frame 3 has NaN" in text
    assert "and 4 more" in text


def test_empty_and_frameless_corpora(tmp_path: Path) -> None:
    empty = write_corpus(tmp_path / "empty", [], complete=False)
    summary = summarise(empty)
    assert (summary.videos, summary.complete, summary.tags) == (0, False, ())
    assert summary.frames_per_video.count == 0
    assert describe(summary.frames_per_video) == "none known"
    assert sample_rows(empty, 5) == []
    assert "unfinished" in Page(to_html(empty, summary, [])).text

    words = write_corpus(tmp_path / "words", [Video(id="a", title="only words")], shards=1)
    summary = summarise(words)
    assert (summary.with_frames, summary.with_title, summary.never_tagged) == (0, 1, 1)
    page = Page(to_html(words, summary, [0]))
    assert "no pictures" in page.text
    assert page.tags["img"] == 0


def test_sample_is_seeded_and_without_repetition(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(50))
    rows = sample_rows(corpus, 12, seed=3)
    assert rows == sample_rows(corpus, 12, seed=3)
    assert rows != sample_rows(corpus, 12, seed=4)
    assert len(set(rows)) == 12
    assert rows == sorted(rows)
    assert sample_rows(corpus, 99) == list(range(50))


def test_page_shows_the_sample_and_fetches_nothing(tmp_path: Path) -> None:
    videos = made_videos(20)
    corpus = write_corpus(tmp_path / "corpus", videos)
    page = Page(to_html(corpus, summarise(corpus), [2, 3, 7]))
    assert page.tags["article"] == 3
    assert page.tags["img"] == sum(len(videos[row].thumbnails) for row in (2, 3, 7))
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    for row in (2, 3, 7):
        assert videos[row].title in page.text


def test_page_escapes_what_users_wrote(tmp_path: Path) -> None:
    video = Video(id=f"id{HOSTILE}", title=HOSTILE, tags=(HOSTILE,), category=HOSTILE, language='"')
    rejects = [Reject(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    corpus = write_corpus(tmp_path / "<b>corpus", [video], rejects=rejects, shards=1)
    text = to_html(corpus, summarise(corpus), [0])
    page = Page(text)
    assert not re.search(r"<script|<img src=http|<b>corpus", text)
    assert page.tags["script"] == 0
    assert page.links == []
    assert page.text.count(HOSTILE) >= 6


def test_element_escapes_text_and_attributes_but_not_markup() -> None:
    inner = html.element("b", "a < b", title='say "x"')
    assert inner == '<b title="say &quot;x&quot;">a &lt; b</b>'
    assert html.element("p", inner, " & c", class_="soft", lang=None) == (
        f'<p class="soft">{inner} &amp; c</p>'
    )
    assert html.element("img", src="x") == '<img src="x">'


def test_film_strip_spreads_its_pictures() -> None:
    strip = html.film_strip([jpeg(10 * i) for i in range(20)], "twenty", limit=4)
    assert strip.count("<img") == 4
    assert 'aria-label="twenty"' in strip
    assert html.film_strip([jpeg(0)] * 3, "three").count("<img") == 3
