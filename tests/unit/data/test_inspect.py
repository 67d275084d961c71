"""Summaries against plain Python over the same videos, and by hand."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.looked import WIDTH, Page, made_videos, write_corpus
from vidvec.data.duplicates import Duplicates, Group
from vidvec.data.inspect import as_json, sample_rows, summarise
from vidvec.data.inspect_page import to_html
from vidvec.data.rejects import EXAMPLES, read_rejects
from vidvec.data.spread import describe
from vidvec.data.tokenizer import load_tokenizer, train_tokenizer
from vidvec.records import Pair, Reject, Video


def together(video: Video) -> str:
    parts = {
        "frames": len(video.frames) > 0,
        "audio": len(video.audio) > 0,
        "title": bool(video.title.strip()),
        "speech text": bool(video.speech_text.strip()),
        "screen text": bool(video.screen_text.strip()),
    }
    return " + ".join(name for name, there in parts.items() if there) or "nothing"


def test_counts_are_those_of_plain_python(tmp_path: Path) -> None:
    videos = made_videos(101)
    summary = summarise(write_corpus(tmp_path / "corpus", videos))

    assert summary.videos == 101
    assert summary.complete
    assert summary.frame_encoder == {"name": "made", "frame_size": WIDTH}
    assert dict(summary.present) == {
        "frames": sum(len(video.frames) > 0 for video in videos),
        "audio": 0,
        "title": sum(bool(video.title.strip()) for video in videos),
        "speech text": sum(bool(video.speech_text.strip()) for video in videos),
        "screen text": sum(bool(video.screen_text.strip()) for video in videos),
        "tags": sum(bool(video.tags) for video in videos),
        "category": sum(bool(video.category) for video in videos),
        "language": sum(bool(video.language) for video in videos),
        "duration": sum(video.duration_seconds is not None for video in videos),
        "date": 0,
    }
    assert dict(summary.together) == Counter(map(together, videos))
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
        (summary.speech_characters, [len(v.speech_text) for v in videos if v.speech_text.strip()]),
        (summary.screen_characters, [len(v.screen_text) for v in videos if v.screen_text.strip()]),
    ):
        assert measured.count == len(values)
        assert (measured.minimum, measured.maximum) == (min(values), max(values))
        assert measured.median == statistics.median(values)
        assert measured.mean == pytest.approx(statistics.fmean(values))
        assert sum(count for _, count in measured.histogram) == len(values)


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
    rejects = [Reject(f"meta.csv:{i}", f"b{i}", "truncated-video", "cut") for i in range(14)]
    rejects.insert(4, Reject("meta.csv:40", "c", "nan", "frame 3 has NaN"))
    corpus = write_corpus(tmp_path / "corpus", made_videos(4), rejects=rejects)
    # What a killed run wrote after its last commit is not counted.
    with (corpus.path / "rejects.jsonl").open("a") as file:
        file.write(json.dumps(asdict(rejects[0])) + "\n")
    truncated, nan = summarise(corpus).rejects
    assert (truncated.reason, truncated.count) == ("truncated-video", 14)
    assert [reject.id for reject in truncated.examples] == [f"b{i}" for i in range(EXAMPLES)]
    assert (nan.reason, nan.count, nan.examples[0].where) == ("nan", 1, "meta.csv:40")
    text = Page(to_html(corpus, summarise(corpus), [])).text
    assert "meta.csv:40 c: frame 3 has NaN" in text
    assert f"and 4 more: vidvec inspect {corpus.path} --rejects truncated-video" in text
    assert list(read_rejects(corpus)) == rejects


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
    there = dict(summary.present)
    assert (there["frames"], there["title"], summary.never_tagged) == (0, 1, 1)
    assert summary.together == (("title", 1),)
    assert summary.title_tokens.count == 0  # it has no tokenizer yet
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


def test_scripts_and_lengths_in_tokens(tmp_path: Path) -> None:
    videos = made_videos(40)
    corpus = write_corpus(tmp_path / "corpus", videos)
    train_tokenizer(video.title for video in videos).save(corpus.path / "tokenizer")
    summary = summarise(corpus)
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    lengths = [len(tokenizer.encode([video.title])[0]) for video in videos]
    assert summary.title_tokens.count == 40
    assert summary.title_tokens.mean == pytest.approx(statistics.fmean(lengths))
    assert summary.title_tokens.maximum == max(lengths)
    # "城市的夜 night" repeated: more Latin letters than Han, and both above a fifth; "海浪" is Han.
    assert dict(summary.scripts) == {"Latin": 10, "Han": 10}
    assert summary.mixed_scripts == 10


def test_titles_of_several_videos(tmp_path: Path) -> None:
    titles = ["Sea", " sea", "SEA ", "sea!", "", "", " ", "海", "海", "once"]
    videos = [Video(id=str(place), title=title) for place, title in enumerate(titles)]
    summary = summarise(write_corpus(tmp_path / "corpus", videos))
    assert summary.repeated_titles == (("Sea", 3), ("海", 2))
    assert (summary.repeated_title_count, summary.repeated_title_videos) == (2, 5)


def test_the_tail_of_the_tags(tmp_path: Path) -> None:
    given = [("a", "b"), ("a", "b"), ("a", "c"), ("a",), ("d",), (), None]
    videos = [Video(id=str(place), tags=tags) for place, tags in enumerate(given)]
    summary = summarise(write_corpus(tmp_path / "corpus", videos))
    assert summary.tags == (("a", 4), ("b", 2), ("c", 1), ("d", 1))
    assert (summary.tags_once, summary.tags_for_half, summary.never_tagged) == (2, 1, 1)


def test_longest_and_shortest(tmp_path: Path) -> None:
    lengths = [5.0, 1.0, None, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0]
    videos = [Video(id=str(i), duration_seconds=seconds) for i, seconds in enumerate(lengths)]
    summary = summarise(write_corpus(tmp_path / "seconds", videos))
    assert summary.longest == (3, 5, 7, 9)
    assert summary.shortest == (1, 4, 6, 8)
    few = summarise(write_corpus(tmp_path / "few", videos[:4]))
    assert (few.longest, few.shortest) == ((3, 0, 1), ())
    frames = [Video(id=str(i), frames=np.ones((i, WIDTH), np.float16)) for i in range(10)]
    summary = summarise(write_corpus(tmp_path / "frames", frames))
    assert (summary.longest, summary.shortest) == ((9, 8, 7, 6), (1, 2, 3, 4))


def test_videos_that_are_gone_do_not_count(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    videos = [
        replace(
            video,
            audio=random.normal(size=(place % 5, 3)).astype(np.float16),
            audio_times_seconds=np.arange(place % 5, dtype=np.float32),
            date="" if place % 3 else f"20{10 + place % 20}-05-03",
        )
        for place, video in enumerate(made_videos(60))
    ]
    left = [video for place, video in enumerate(videos) if not 10 <= place < 25 and place != 59]
    pairs = [Pair("v1", "v2", 0.5), Pair("v3", "v11", 0.5), Pair("v40", "v41", 1.0)]
    gone = [[10, 15], [59, 1]]
    whole = write_corpus(tmp_path / "all", videos, pairs=pairs, gone=gone, audio_size=3)
    rest = write_corpus(tmp_path / "left", left, pairs=[pairs[0], pairs[2]], audio_size=3)
    for corpus in (whole, rest):
        train_tokenizer(video.title for video in videos).save(corpus.path / "tokenizer")
    found, expected = summarise(whole), summarise(rest)
    names = {row: left[row].id for row in range(len(left))}
    for rows in ("longest", "shortest"):
        ids = [whole.video(row).id for row in getattr(found, rows)]
        assert ids == [names[row] for row in getattr(expected, rows)]
    same = {"path": Path(), "gone": 0, "longest": (), "shortest": ()}
    assert replace(found, **same) == replace(expected, **same)
    assert (found.gone, found.videos) == (16, 44)
    days = sorted(video.date for video in left if video.date)
    assert (found.first_date, found.last_date) == (days[0], days[-1])
    heard = [len(video.audio) for video in left if len(video.audio)]
    assert found.audio_frames_per_video.count == len(heard)
    assert dict(found.present)["audio"] == len(heard)
    assert set(sample_rows(whole, 99)) == set(whole.live.tolist())
    assert "and 16 gone" in Page(to_html(whole, found, [])).text


def test_as_json_names_videos_by_id(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    found = Duplicates(20, (), (Group((3, 7), 0.9),), (5,), 0.8, 4, 0, False)
    value = json.loads(json.dumps(as_json(summarise(corpus), found, corpus)))
    assert value["videos"] == 20
    assert value["path"] == str(corpus.path)
    assert value["duplicates"]["near"] == [{"ids": ["v3", "v7"], "similarity": 0.9}]
    assert value["duplicates"]["still"] == ["v5"]
    assert value["longest"][0] == "v18"  # 13.5 s; the duration of v19 is not known
    assert as_json(summarise(corpus), None, corpus)["duplicates"] is None
