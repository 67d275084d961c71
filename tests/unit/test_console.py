"""What the terminal shows: the figures, whole, and nothing that a terminal would obey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from vidvec import console, storage
from vidvec.data import corpus as store
from vidvec.data.inspect import RejectSummary, Spread, Summary, spread
from vidvec.embed.evaluate import Evaluation
from vidvec.metrics import Interval
from vidvec.records import Reject, Video
from vidvec.search.index import Hit

ESCAPE = "\x1b[31mred\x07 [bold]not bold[/]"


def printed(*parts: object, width: int = 140) -> str:
    out = Console(width=width, record=True, force_terminal=False)
    with out.capture() as capture:
        for part in parts:
            out.print(part)
    return capture.get()


def made_summary(**changes: object) -> Summary:
    lengths = spread([1, 2, 2, 3, 3, 3])
    values: dict[str, object] = {
        "path": Path("here/corpus"),
        "complete": True,
        "frame_encoder": {"name": "made", "frame_size": 24},
        "videos": 12_345,
        "with_frames": 12_000,
        "with_title": 11_000,
        "with_tags": 10_000,
        "never_tagged": 77,
        "languages": (("zh", 12_000), ("", 345)),
        "categories": (("sea", 9),),
        "category_count": 1,
        "frames_per_video": lengths,
        "title_characters": lengths,
        "duration_seconds": spread([]),
        "tags_per_video": lengths,
        "tags": (("海", 80), (ESCAPE, 40), ("rare", 1)),
        "tag_count": 4_321,
        "tag_vocabulary_size": 3,
        "pairs": 2,
        "scores": spread([0.25, 0.75]),
        "pairs_per_video": spread([1, 1, 2]),
        "rejects": (RejectSummary("nan", 9, (Reject("meta.csv:7", "x", "nan", ESCAPE),)),),
    }
    return Summary(**(values | changes))  # type: ignore[arg-type]


def test_summary_shows_its_figures() -> None:
    text = printed(*console.summary(made_summary()))
    for figure in ("12,345", "77 never tagged", "4,321 distinct", "2 among 3 videos", "not known"):
        assert figure in text
    assert "meta.csv:7" in text
    assert "unfinished" not in text
    assert "duration" not in text  # none is known


def test_summary_of_nothing() -> None:
    none = Spread(0, float("nan"), float("nan"), float("nan"), float("nan"), ())
    empty = made_summary(
        complete=False,
        videos=0,
        languages=(),
        categories=(),
        tags=(),
        rejects=(),
        scores=none,
        pairs_per_video=none,
        frames_per_video=none,
        title_characters=none,
        tags_per_video=none,
    )
    text = printed(*console.summary(empty))
    assert "unfinished" in text
    assert "nan" not in text


def test_bars_are_in_proportion() -> None:
    lines = printed(*console.summary(made_summary(rejects=()))).splitlines()
    [high] = [line for line in lines if "海" in line]
    [half] = [line for line in lines if "not bold" in line]
    [rare] = [line for line in lines if "rare" in line]
    assert (high.count("█"), half.count("█"), rare.count("█")) == (24, 12, 1)


def test_nothing_that_a_user_wrote_is_obeyed() -> None:
    text = printed(*console.summary(made_summary()), console.hits(None, [Hit(ESCAPE, 0.5)]))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]not bold[/]") == 3


def evaluation(**changes: object) -> Evaluation:
    values = {
        "split": "clean",
        "pairs": 791,
        "missing": 0,
        "shared": 0,
        "spearman": Interval(0.81234, 0.79, 0.835),
        "pearson": Interval(0.7, 0.6, 0.8),
        "mse": Interval(0.0312, 0.03, 0.04),
        "clean_spearman": None,
    }
    return Evaluation(**(values | changes))  # type: ignore[arg-type]


def test_evaluations() -> None:
    text = printed(console.evaluations([("untrained", evaluation()), ("fused", evaluation())]))
    assert "split: clean" in text
    [line] = [line for line in text.splitlines() if "fused" in line]
    assert line.split() == ["fused", "0.8123", "0.7900", "…", "0.8350", "0.7000", "0.0312", "791"]
    assert "without vectors" not in text

    leaky = evaluation(missing=3, shared=5, clean_spearman=Interval(0.5, 0.4, 0.6))
    text = printed(console.evaluations([("a", leaky), ("b", evaluation())]), width=200)
    assert "share no video with training" in text
    assert "0.5000 [0.4000, 0.6000]" in text


def test_hits_with_and_without_their_corpus(tmp_path: Path) -> None:
    video = Video(id="a", title="海边 [red]", tags=("sea", "boat"), category="coast")
    table, thumbnails = store.video_table([video], 4), store.thumbnail_table([video])
    entry = store.write_shard(tmp_path, "000000.arrow", table, thumbnails)
    storage.write_manifest(
        tmp_path,
        store.KIND,
        frame_encoder={"name": "made", "frame_size": 4},
        tag_vocabulary=[],
        shards=[entry],
        rejects_bytes=0,
        pairs=0,
        ingests=[],
    )
    found = [Hit("a", float(np.float32(0.98762))), Hit("gone", -0.5)]
    lines = printed(console.hits(store.Corpus(tmp_path), found)).splitlines()
    assert lines[3].split() == ["1", "0.9876", "a", "海边", "[red]", "sea,", "boat", "coast"]
    assert lines[4].split() == ["2", "-0.5000", "gone"]
    assert "title" not in printed(console.hits(None, found))
