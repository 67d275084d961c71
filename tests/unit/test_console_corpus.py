"""What the terminal shows of a corpus: the figures, whole, readable at 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.data.looked import made_videos, write_corpus
from tests.unit.test_console import ESCAPE, printed
from vidvec import console_corpus
from vidvec.cli import main
from vidvec.data import duplicates as copies
from vidvec.data.duplicates import Duplicates, Group
from vidvec.data.inspect import SetSummary, Summary
from vidvec.data.rejects import RejectSummary
from vidvec.data.spread import Spread, spread
from vidvec.records import Reject, Video


def made_summary(**changes: object) -> Summary:
    lengths = spread([1, 2, 2, 3, 3, 3])
    values: dict[str, object] = {
        "path": Path("here/corpus"),
        "complete": True,
        "frame_encoder": {"name": "made", "frame_size": 24},
        "audio_encoder": {"name": "log-mel", "frame_size": 128},
        "frame_sampling": "even",
        "feature_sets": (),
        "videos": 12_345,
        "gone": 0,
        "present": (("frames", 12_000), ("audio", 9), ("title", 11_000), ("tags", 10_000)),
        "together": (("frames + title", 11_000), ("nothing", 5)),
        "never_tagged": 77,
        "languages": (("zh", 12_000), ("", 345)),
        "categories": (("sea", 9),),
        "category_count": 1,
        "scripts": (("Han", 10_000), ("Latin", 1_000)),
        "mixed_scripts": 456,
        "frames_per_video": lengths,
        "audio_frames_per_video": lengths,
        "title_characters": lengths,
        "title_tokens": lengths,
        "speech_characters": spread([]),
        "screen_characters": spread([12, 1_234_567]),
        "duration_seconds": spread([]),
        "first_date": "",
        "last_date": "",
        "longest": (),
        "shortest": (),
        "tags_per_video": lengths,
        "tags": (("海", 80), (ESCAPE, 40), ("rare", 1)),
        "tag_count": 4_321,
        "tags_once": 2_222,
        "tags_for_half": 33,
        "tag_vocabulary_size": 3,
        "repeated_titles": (("same again", 7),),
        "repeated_title_count": 1,
        "repeated_title_videos": 7,
        "pairs": 2,
        "scores": spread([0.25, 0.75]),
        "pairs_per_video": spread([1, 1, 2]),
        "rejects": (RejectSummary("nan", 9, (Reject("meta.csv:7", "x", "nan", ESCAPE),)),),
    }
    return Summary(**(values | changes))  # type: ignore[arg-type]


def test_summary_shows_its_figures() -> None:
    text = printed(*console_corpus.summary(made_summary()))
    for figure in (
        *("12,345", "2,345 (19.0%), 77 of them never tagged", "4,321 distinct", "not known"),
        *("4,321: 33 are half of all given, 2,222 on one video only", "456 mixed", "same again"),
        *("2 among 3 videos", "meta.csv:7", "inspect here/corpus --rejects REASON", "1,234,567"),
    ):
        assert figure in text
    assert "unfinished" not in text
    assert "seconds" not in text  # none is known


def test_summary_shows_what_is_there_besides() -> None:
    siglip = {"name": "siglip2", "frame_size": 768}
    sets = (SetSummary("seen", siglip, 12_000, 5, True), SetSummary("half", siglip, 7, 0, False))
    days = {"first_date": "2019-04-01", "last_date": "2021-05-03"}
    text = printed(*console_corpus.summary(made_summary(feature_sets=sets, gone=1_234, **days)))
    for words in (
        *("1,234 marked gone", "vidvec compact", "from 2019-04-01 to 2021-05-03", "log-mel, 128"),
        *("seen: siglip2, 768 numbers a frame, 12,000 videos, 5 left out", "7 videos, unfinished"),
    ):
        assert words in " ".join(text.split())
    assert "key frames" not in text
    assert "key frames" in printed(
        *console_corpus.summary(made_summary(frame_sampling="keyframes"))
    )
    none = (("frames", 9), ("audio", 0), ("tags", 0))
    assert "log-mel" not in printed(*console_corpus.summary(made_summary(present=none)))


def test_summary_of_nothing() -> None:
    none = Spread(0, float("nan"), float("nan"), float("nan"), float("nan"), ())
    empty = made_summary(
        complete=False,
        videos=0,
        present=(("frames", 0), ("audio", 0), ("title", 0), ("tags", 0)),
        together=(),
        scripts=(),
        repeated_titles=(),
        title_tokens=none,
        screen_characters=none,
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
    text = printed(*console_corpus.summary(empty))
    assert "unfinished" in text
    assert "nan" not in text


def test_bars_are_in_proportion() -> None:
    lines = printed(*console_corpus.summary(made_summary(rejects=()))).splitlines()
    [high] = [line for line in lines if "海" in line]
    [half] = [line for line in lines if "not bold" in line]
    [rare] = [line for line in lines if "rare" in line]
    assert (high.count("█"), half.count("█"), rare.count("█")) == (24, 12, 1)


def test_nothing_that_a_user_wrote_is_obeyed() -> None:
    text = printed(*console_corpus.summary(made_summary()))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]not bold[/]") == 2


def test_duplicates_are_named(tmp_path: Path) -> None:
    videos = [Video(id=f"id{n}", title=f"title {n} {ESCAPE}") for n in range(20)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    near = tuple(Group((n, n + 1), 0.8765) for n in range(2, 2 + console_corpus.GROUPS + 1))
    found = Duplicates(20, (Group((0, 1, 2, 3, 4), 1.0),), near, (7, 8), 0.75, 99, 0, False)
    text = printed(*console_corpus.duplicates(found, corpus), width=80)
    for said in ("id0", "and 2 more", "0.88", "and 1 more groups", "frames all alike: id7, id8"):
        assert said in text
    assert "id5" in text
    assert "id3 " not in text.split("near duplicates")[0]  # of the five, three are named
    assert "\x1b" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "--duplicates" in printed(*console_corpus.duplicates(None, corpus))


def test_a_summary_fits_80_columns() -> None:
    text = printed(*console_corpus.summary(made_summary()), width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "1,234,567" in text
    assert "…" not in text


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *map(str, arguments)])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_inspect_prints_writes_and_gives_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(30))
    page = tmp_path / "out" / "page.html"
    status, out, _ = run(capsys, corpus.path, "--html", page)
    assert status == 0
    assert "near" in out  # so few are looked at without being asked
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert "not looked for" in run(capsys, corpus.path, "--no-duplicates")[1]
    value = json.loads(run(capsys, corpus.path, "--json")[1])
    assert value["videos"] == 30
    assert value["duplicates"]["threshold"] == copies.THRESHOLD
    value = json.loads(run(capsys, corpus.path, "--json", "--threshold", 0.9)[1])
    assert value["duplicates"]["threshold"] == 0.9
    assert (
        json.loads(run(capsys, corpus.path, "--json", "--no-duplicates")[1])["duplicates"] is None
    )


def test_a_large_corpus_is_not_read_without_being_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(30))
    monkeypatch.setattr(copies, "QUICK_BYTES", 10)
    assert "not looked for" in run(capsys, corpus.path)[1]
    assert "compared frame by frame" in " ".join(
        run(capsys, corpus.path, "--duplicates")[1].split()
    )


def test_all_rejects_of_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [
        Reject(f"meta.csv:{n}", f"b{n}", "truncated-video", f"f{n}.mp4 ends") for n in range(30)
    ]
    made.append(Reject("meta.csv:40", "c", "nan", "frame 3 has NaN"))
    corpus = write_corpus(tmp_path / "corpus", made_videos(4), rejects=made)
    status, out, _ = run(capsys, corpus.path, "--rejects", "truncated-video")
    assert status == 0
    assert out.splitlines() == [f"meta.csv:{n} b{n}: f{n}.mp4 ends" for n in range(30)]
    assert len(run(capsys, corpus.path, "--rejects", "all")[1].splitlines()) == 31
    status, _, err = run(capsys, corpus.path, "--rejects", "typo")
    assert status == 1
    assert "reasons: nan, truncated-video" in err
