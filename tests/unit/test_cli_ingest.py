"""`vidvec ingest` as a command: limits that it takes, what its progress bar says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.data.media import render, steady
from vidvec.cli import data, main
from vidvec.data.corpus import Corpus


def test_progress_says_how_fast(monkeypatch):
    now = iter([100.0, 100.5, 101.0, 102.0])
    monkeypatch.setattr(data.time, "monotonic", lambda: next(now))
    said = []
    update = data._with_rate(lambda done, total, note: said.append((done, total, note)))
    for done, rejected in ((41, 3), (42, 3), (50, 4)):  # 40 rows were done by an earlier run
        update(done, rejected)
    assert said == [
        (41, None, "2.0 a second, 3 rejected"),
        (42, None, "2.0 a second, 3 rejected"),
        (50, None, "5.0 a second, 4 rejected"),
    ]


def test_limits_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "clips"
    source.mkdir()
    render(source / "a.mp4", steady(20))
    (source / "meta.jsonl").write_text(json.dumps({"id": "a", "file": "a.mp4", "title": "clip"}))
    command = ["ingest", str(source), str(tmp_path / "corpus")]
    for option, value, said in (
        ("--file-seconds", "-1", "must be above 0 s, found -1"),
        ("--file-memory-mb", "64", "must be at least 256 MB, found 64"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*command, option, value])
        assert ended.value.code == 1
        assert said in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit) as ended:
        main([*command, "--file-seconds", "30", "--file-memory-mb", "500"])
    assert not ended.value.code
    assert "1 videos" in capsys.readouterr().out
    assert Corpus(tmp_path / "corpus").ids == ["a"]
