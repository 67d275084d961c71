"""The commands as users run them, on a small corpus of features."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import SMALLEST, write_checkpoint
from vidvec import cli
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.records import Pair

PROJECT = Path(__file__).resolve().parents[2]
VIDEOS = made_videos(160)
PAIRS = made_pairs([video for video in VIDEOS if len(video.frames)], 1500)


def vidvec(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, as on a machine with one thread and no terminal."""
    quiet = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "160", "CUDA_VISIBLE_DEVICES": ""}
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "vidvec.cli", *map(str, arguments)],
        cwd=folder,
        env=os.environ | quiet | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def here(ran, monkeypatch, capsys, command: str) -> str:
    """Runs a command in this process, where loading PyTorch is done already; what it printed."""
    monkeypatch.chdir(ran["folder"])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as caught:
        cli.main(command.split())
    captured = capsys.readouterr()
    assert caught.value.code in (0, None), captured.err
    return captured.out


def write_source(folder: Path) -> None:
    columns = {
        "id": [video.id for video in VIDEOS],
        "title": [video.title for video in VIDEOS],
        "tags": [None if video.tags is None else list(video.tags) for video in VIDEOS],
        "category": [video.category for video in VIDEOS],
        "frames": pa.array(
            [video.frames.astype(np.float32).tolist() for video in VIDEOS],
            pa.list_(pa.list_(pa.float32())),
        ),
    }
    pq.write_table(pa.table(columns), folder / "features.parquet")
    lines = [f"{pair.id_1},{pair.id_2},{pair.score}" for pair in PAIRS]
    (folder / "pairs.csv").write_text("\n".join(["id_1,id_2,score", *lines]))


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[str, str]:
    """All stages, one after the other, in a folder; what each of them printed."""
    folder = tmp_path_factory.mktemp("stages")
    write_source(folder)
    pretrain = ["pretrain.epochs=6", "pretrain.batch_size=32", "pretrain.learning_rate=1e-3"]
    tune = ["finetune.epochs=2", "finetune.batch_size=32", "finetune.learning_rate=1e-3"]
    settings = [part for one in (*SMALLEST, *pretrain, *tune) for part in ("--set", one)]
    stages = {
        "ingest": ["features.parquet", "corpus", "--pairs", "pairs.csv"],
        "inspect": ["corpus", "--html", "look/corpus.html", "--sample", 3, "--verify"],
        "pretrain": ["corpus", "runs/pre", *settings, "--seed", 7],
        "finetune": ["corpus", "runs/one", "--from", "runs/pre"],
        "embed": ["runs/one", "corpus", "vectors/one"],
        "embed pretrained": ["runs/pre", "corpus", "vectors/pre"],
        "fuse": ["vectors/one", "vectors/pre", "--weights", 2, 1, "--size", 20, "--out", "fused"],
        "evaluate": ["vectors/one", "vectors/pre", "fused", "--corpus", "corpus", "--json"],
        "search": ["fused", "--title", "sea waves 海", "-k", 4],
    }
    printed = {"folder": str(folder)}
    for stage, arguments in stages.items():
        done = vidvec(folder, stage.split()[0], *arguments)
        assert done.returncode == 0, f"{stage}: {done.stderr}"
        assert "Traceback" not in done.stderr
        printed[stage] = done.stdout
    return printed


@pytest.mark.slow
def test_ingest_says_what_it_did(ran):
    known = [video for video in VIDEOS if video.title.strip() or len(video.frames)]
    corpus = Corpus(Path(ran["folder"]) / "corpus")
    assert len(corpus) == len(known)
    left = len(VIDEOS) - len(known)
    reasons = f"{left} rejected (" if left else "0 rejected"
    counts = (
        f"corpus: {len(known)} videos ({len(known)} from features.parquet), 1500 pairs, {reasons}"
    )
    assert counts in ran["ingest"]


@pytest.mark.slow
def test_inspect_shows_and_writes_a_page(ran):
    assert "160" in ran["inspect"]
    assert "1,500" in ran["inspect"]
    assert "all checksums match" in ran["inspect"]
    page = (Path(ran["folder"]) / "look" / "corpus.html").read_text("utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert sum(video.id in page for video in VIDEOS) >= 3


@pytest.mark.slow
def test_training_says_how_far_it_came(ran):
    for stage, run in (("pretrain", "runs/pre"), ("finetune", "runs/one")):
        assert f"{run}: " in ran[stage]
        assert " steps in " in ran[stage]
        assert "best validation" in ran[stage]
        lines = (Path(ran["folder"]) / run / "metrics.jsonl").read_text().splitlines()
        assert {json.loads(line)["kind"] for line in lines} == {"train", "validation"}


@pytest.mark.slow
def test_every_video_has_a_vector(ran):
    folder = Path(ran["folder"])
    corpus = Corpus(folder / "corpus")
    for name, size in (("vectors/one", 16), ("vectors/pre", 16), ("fused", 20)):
        vectors = Vectors(folder / name)
        assert vectors.ids == corpus.ids
        assert vectors.dimension == size
        assert np.linalg.norm(vectors.matrix, axis=1) == pytest.approx(
            np.ones(len(corpus)), abs=1e-5
        )
    assert f"vectors/one: {len(corpus)} vectors" in ran["embed"]
    assert "fused: 2 models, 20 numbers, " in ran["fuse"]


@pytest.mark.slow
def test_evaluation_as_json(ran):
    table = json.loads(ran["evaluate"])
    assert list(table) == ["vectors/one", "vectors/pre", "fused"]
    for figures in table.values():
        assert figures["split"] == "clean"
        assert figures["shared"] == figures["missing"] == 0
        assert figures["clean_spearman"] is None
        spearman = figures["spearman"]
        assert spearman["low"] <= spearman["value"] <= spearman["high"]
    # Four topics that show in the frames: a trained model finds them.
    assert table["vectors/one"]["spearman"]["value"] > 0.4


@pytest.mark.slow
def test_evaluation_as_a_table(ran, monkeypatch, capsys):
    printed = here(
        ran, monkeypatch, capsys, "evaluate vectors/one --corpus corpus --split published"
    )
    assert "vectors/one" in printed
    assert "published" in printed


@pytest.mark.slow
def test_search_by_id_gives_the_nearest(ran, monkeypatch, capsys):
    vectors = Vectors(Path(ran["folder"]) / "fused")
    hits = json.loads(
        here(ran, monkeypatch, capsys, f"search fused --id {VIDEOS[0].id} -k 5 --json")
    )
    row = vectors.row(VIDEOS[0].id)
    cosines = vectors.matrix @ vectors.matrix[row]
    best = [i for i in np.argsort(-cosines, kind="stable") if i != row][:5]
    assert [hit["id"] for hit in hits] == [vectors.ids[i] for i in best]
    assert [hit["cosine"] for hit in hits] == pytest.approx(cosines[best].tolist(), abs=1e-5)


@pytest.mark.slow
def test_search_by_words_shows_titles(ran):
    shown = [video for video in VIDEOS if video.id in ran["search"]]
    assert len(shown) == 4
    for video in shown:
        assert video.title in ran["search"]


@pytest.mark.slow
def test_commands_that_are_done_do_nothing_more(ran, monkeypatch, capsys):
    folder = Path(ran["folder"])
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*.arrow")}
    before |= {f: f.stat().st_mtime_ns for f in folder.rglob("*.safetensors")}
    again = here(ran, monkeypatch, capsys, "ingest features.parquet corpus")
    assert "160 videos" in again
    again = here(ran, monkeypatch, capsys, "finetune corpus runs/one --from runs/pre")
    assert "carried on at" in again
    assert "160 vectors" in here(ran, monkeypatch, capsys, "embed runs/one corpus vectors/one")
    assert {f: f.stat().st_mtime_ns for f in before} == before


# --- errors -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A corpus without pairs, one with a single pair, a model, vectors, and what is none."""
    root = tmp_path_factory.mktemp("errors")
    corpus = write_corpus(root / "corpus", VIDEOS[:12])
    write_corpus(root / "paired", VIDEOS[:12], [Pair("1000", "1005", 0.5)])
    write_checkpoint(root / "model", corpus)
    embed(root / "model", corpus.path, root / "vectors")
    writer = VectorWriter(root / "few", 16, {"normalised": True, "made_by": {"stage": "test"}})
    writer.append(["1000", "1001"], np.eye(2, 16, dtype=np.float32))
    writer.finish()
    for name in ("empty", "odd[/bold]name", "notes"):
        (root / name).mkdir(parents=True)
    (root / "notes" / "todo.txt").write_text("milk")
    (root / "table.csv").write_text("title,length\na,3\n")
    (root / "bad.toml").write_text("seed = = 1")
    (root / "damaged").mkdir()
    (root / "damaged" / "manifest.json").write_text("{")
    return root


ERRORS = {
    "ingest nowhere new": "source nowhere does not exist",
    "ingest empty new": "nothing to ingest in empty",
    "ingest notes new": "nothing to ingest in notes",
    "ingest notes/todo.txt new": "notes/todo.txt is no list of videos",
    "ingest table.csv notes": "notes is not empty and no corpus",
    "ingest table.csv new --pairs nowhere.csv": "nowhere.csv does not exist",
    "ingest table.csv vectors": "vectors holds vectors, expected corpus",
    "inspect nowhere": "nowhere is not a corpus folder",
    "inspect vectors": "vectors holds vectors, expected corpus",
    "inspect damaged": "manifest.json is not JSON",
    "inspect odd[/bold]name": "odd[/bold]name is not a corpus folder",
    "pretrain nowhere run": "nowhere is not a corpus folder",
    "pretrain corpus run --recipe bse": "did you mean 'base'?",
    "pretrain corpus run --recipe bad.toml": "bad.toml is not TOML",
    "pretrain corpus run --set pretrain.epoch=3": "did you mean pretrain.epochs?",
    "pretrain corpus run --set pretrain.epochs=0": "pretrain.epochs: ",
    "pretrain corpus run --set epochs": "expected section.key=value",
    "pretrain corpus run --seed -1": "seed: ",
    "finetune corpus run": "corpus has no scored pairs",
    "finetune corpus run --from nowhere": "nowhere is no checkpoint and no run",
    "finetune corpus run --from model --size tiny": "--from brings its own",
    "embed nowhere corpus new": "nowhere is no checkpoint and no run",
    "embed model nowhere new": "nowhere is not a corpus folder",
    "embed model corpus few": "give a new folder",
    "evaluate vectors --corpus nowhere": "nowhere is not a corpus folder",
    "evaluate corpus --corpus corpus": "corpus holds corpus, expected vectors",
    "evaluate vectors --corpus corpus": "no pair to measure on: 0 pairs",
    "evaluate few --corpus paired": "no pair to measure on: 1 pairs, 1 in the clean validation",
    "evaluate --corpus corpus": "give at least one folder of vectors",
    "fuse --out new": "give at least one folder of vectors",
    "fuse vectors nowhere --out new": "nowhere is not a vectors folder",
    "map nowhere": "nowhere is not a vectors folder",
    "map vectors --points 0": "points 0: expected 1 or more",
    "map vectors --out map.gif": "map.gif: a map is written as .png or .html",
    "import-vectors nowhere.npy new": "nowhere.npy is not there",
    "import-vectors table.csv new": "vectors are read from .npy",
    "export-vectors vectors table.csv --to numpy": "table.csv is there already",
    "export-vectors vectors new --to fiftyone": "give --corpus",
    "export-vectors nowhere new --to numpy": "nowhere is not a vectors folder",
    "fuse vectors --weights 1 2 --out new": "2 weights for 1 models",
    "fuse vectors --size 0 --out new": "size 0",
    "search nowhere --id 1000": "nowhere is not a vectors folder",
    "search corpus --id 1000": "corpus holds corpus, expected vectors",
    "search vectors --id nobody": "no vector for video 'nobody'",
    "search vectors": "nothing to look for: give --id, --title, --file or --words",
    "search vectors --id 1000 --words sea": "--words looks in titles",
    "search vectors --id 1000 -k 0": "-k 0: expected 1 or more",
    "search few --title sea": "titles cannot be encoded",
    "search vectors --id 1000 --corpus nowhere": "nowhere is not a corpus folder",
    "inspect notes/todo.txt/deeper": "",
}


def check_error(status: object, out: str, errors: str, said: str) -> None:
    assert status == 1
    assert "Traceback" not in errors
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert out == ""


def test_a_table_without_an_id_is_an_error(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        cli.main(["ingest", "table.csv", str(tmp_path / "new")])
    captured = capsys.readouterr()
    check_error(caught.value.code, captured.out, captured.err, "has no column 'id' or 'file'")


@pytest.mark.parametrize("command", ERRORS)
def test_an_error_is_one_line(folder, command, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        cli.main(command.split())
    captured = capsys.readouterr()
    check_error(caught.value.code, captured.out, captured.err, ERRORS[command])
    if "run" not in command:
        assert sorted(folder.rglob("*")) == before


def test_an_empty_title_is_an_error(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for title in ("", "  "):
        with pytest.raises(SystemExit) as caught:
            cli.main(["search", "vectors", "--title", title])
        captured = capsys.readouterr()
        check_error(caught.value.code, captured.out, captured.err, "--title is empty")


def test_several_lines_of_an_error_become_one(monkeypatch, capsys):
    def fail(_: object) -> None:
        raise cli.VidvecError("first\nsecond [bold]third[/] :cat:")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: first second [bold]third[/] :cat:\n"


def test_an_interruption_says_that_it_can_go_on(monkeypatch, capsys):
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 130
    assert "the same command carries on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ingest empty new", "nothing to ingest in empty"),
        ("search vectors --id nobody", "no vector for video 'nobody'"),
    ],
)
def test_errors_of_a_real_process(folder, command, said):
    done = vidvec(folder, *command.split())
    check_error(done.returncode, done.stdout, done.stderr, said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("nonsense", "nonsense"),
        ("embed model", "CORPUS"),
        ("search vectors -k many --id 1000", "many"),
        ("search vectors --idd 1000", "--idd"),
        ("evaluate vectors --corpus corpus --split dirty", "dirty"),
        ("fuse vectors", "--out"),
    ],
)
def test_a_command_line_that_cannot_be_read(folder, command, said, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        cli.main(command.split())
    assert caught.value.code not in (0, None)
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert "Traceback" not in captured.err + captured.out


def test_names_with_brackets_are_printed_as_they_are(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        cli.main(["embed", "model", "corpus", "odd[/bold]name/:cat:"])
    assert caught.value.code in (0, None)
    assert capsys.readouterr().out == "odd[/bold]name/:cat:: 12 vectors\n"


def test_json_has_no_nan(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    command = ["evaluate", "vectors", "--corpus", "paired", "--split", "all", "--json"]
    with pytest.raises(SystemExit):
        cli.main(command)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    table = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert table["vectors"]["spearman"]["value"] is None
    assert table["vectors"]["mse"]["value"] >= 0
