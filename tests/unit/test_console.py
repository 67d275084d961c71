"""What the terminal shows: the figures, whole, and nothing that a terminal would obey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from vidvec import console, storage
from vidvec.data import corpus as store
from vidvec.doctor.findings import Finding
from vidvec.embed.evaluate import Evaluation
from vidvec.metrics import Interval
from vidvec.records import Video
from vidvec.search.types import Hit

ESCAPE = "\x1b[31mred\x07 [bold]not bold[/]"


def printed(*parts: object, width: int = 140) -> str:
    out = Console(width=width, record=True, force_terminal=False)
    with out.capture() as capture:
        for part in parts:
            out.print(part)
    return capture.get()


def test_nothing_that_a_user_wrote_is_obeyed() -> None:
    finding = Finding(ESCAPE, "note", ESCAPE, ESCAPE)
    text = printed(console.hits(None, [Hit(ESCAPE, 0.5)]), console.finding(finding))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]not bold[/]") >= 3


def test_a_finding_fits_a_narrow_terminal() -> None:
    found = Finding("disk /a/long/path/of/a/folder", "problem", "word " * 40, "do " * 30)
    lines = printed(console.finding(found), width=80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "→ do" in "".join(lines)
    assert lines[0].startswith("problem")
    assert "→" not in printed(console.finding(Finding("a", "ok", "well")))


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
