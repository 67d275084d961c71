"""Folders that open and fit; the report as a whole; the real command on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpora import WIDTH, made_videos, write_corpus
from vidvec import storage
from vidvec.cli import main
from vidvec.config import load_recipe
from vidvec.doctor import examine, findings, folders, software
from vidvec.doctor.findings import Check, Finding
from vidvec.doctor.folders import folders as check_folders


def test_a_corpus_that_opens(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    [found] = check_folders(str(corpus.path))
    assert found.status == "ok"
    assert found.found.startswith(
        f"corpus of 20 videos, {corpus.frame_counts.sum()} frames by made"
    )


def test_a_corpus_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    monkeypatch.setattr(folders, "memory_sizes", lambda: (1000, 10))
    [found] = check_folders(str(corpus.path))
    assert found.status == "note"
    assert "each epoch reads the disk" in found.found


def test_an_unfinished_corpus(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    manifest = storage.read_json(corpus.path / storage.MANIFEST)
    manifest["ingests"][0]["complete"] = False
    storage.write_json(corpus.path / storage.MANIFEST, manifest)
    [found] = check_folders(str(corpus.path))
    assert found.status == "note"
    assert found.advice == "run its vidvec ingest again, it carries on"


def test_folders_that_do_not_open(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    shard = next((corpus.path / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    given = [tmp_path / "corpus", tmp_path / "empty", tmp_path / "nowhere"]
    found = list(check_folders(*map(str, given)))
    assert [finding.status for finding in found] == ["problem"] * 3
    assert "the manifest says" in found[0].found
    assert "no checkpoint and no run" in found[1].found
    assert found[2].found == "there is no such folder"


def test_a_model_is_held_against_a_corpus(tmp_path: Path) -> None:
    from vidvec.model.weights import save_model
    from vidvec.train.start import new_model

    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    other = write_corpus(tmp_path / "other", made_videos(20))
    manifest = storage.read_json(other.path / storage.MANIFEST)
    manifest["frame_encoder"] = {"name": "another", "frame_size": WIDTH}
    storage.write_json(other.path / storage.MANIFEST, manifest)
    model = new_model(load_recipe("vidvec/few", ['model.size="tiny"']), corpus)
    save_model(tmp_path / "model", model)
    given = [tmp_path / "model", corpus.path, other.path]
    found = {finding.name: finding for finding in check_folders(*map(str, given))}
    assert found[str(tmp_path / "model")].status == "ok"
    assert found[f"{tmp_path / 'model'} on {corpus.path}"].status == "ok"
    misfit = found[f"{tmp_path / 'model'} on {other.path}"]
    assert misfit.status == "problem"
    assert "the two do not fit" in misfit.found


def named(checks: list[Check]) -> list[str]:
    return [check.name for check in checks]


def test_which_checks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [software.Requirement("numpy", "2", ""), software.Requirement("no-such-one", "", "x")]
    monkeypatch.setattr(software, "requirements", lambda: wanted)
    monkeypatch.setattr(software, "BYSTANDERS", {})
    all_of_them = named(examine.checks([Path("a")], Path(), offline=False))
    assert "load numpy" in all_of_them
    assert "load no-such-one" not in all_of_them  # that it is missing is said already
    assert set(all_of_them) - set(named(examine.checks([], Path(), offline=True))) == {
        "hub",
        "folders",
    }


def test_what_loads_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "vidvec.doctor.software"
    made = [
        Check("first", "tests.unit.doctor.bad_checks:good"),
        Check("load a", f"{code}:load", ("a", "json", "")),
        Check("load b", f"{code}:load", ("b", "no_such_module", "")),
        Check("load c", f"{code}:load", ("c", "math", "")),
        Check("last", "tests.unit.doctor.bad_checks:good"),
    ]
    monkeypatch.setattr(examine, "checks", lambda *_, **__: made)
    found = list(examine.examine([], Path(), offline=True))
    assert [finding.name for finding in found] == ["good", "load b", "loading", "good"]
    assert found[2].found == "a, c load"


def test_the_command_ends_with_1_for_problems_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Finding("disk", "note", "is slow [bold]", "take another")]
    monkeypatch.setattr(examine, "examine", lambda *_, **__: iter(found))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code in {0, None}
    assert "is slow [bold]" in capsys.readouterr().out
    found.append(Finding("Python", "problem", "is old"))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert [each["status"] for each in json.loads(shown.out)] == ["note", "problem"]
    assert "Python" in shown.err


@pytest.mark.slow
def test_the_command_on_this_machine(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    command = [sys.executable, "-m", "vidvec.cli", "doctor", str(corpus.path), "--offline"]
    command += ["--folder", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    for name in ("Python", "torch", "CPU", "threads", "decoders", "memory", "text"):
        assert any(name in line and line.startswith(("ok", "note")) for line in lines), name
    assert "corpus of 20 videos" in done.stdout
    assert "h264" in done.stdout


def test_every_check_that_runs_is_there() -> None:
    from importlib import import_module

    for check in examine.checks([Path("a")], Path(), offline=False):
        module, _, function = check.target.partition(":")
        assert callable(getattr(import_module(module), function)), check
    assert findings.run_check(Check("Python", "vidvec.doctor.software:python"))[0].status == "ok"
