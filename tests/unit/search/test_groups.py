"""Groups of a folder of vectors: kept on disk, without videos that are gone; the commands."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from vidvec.cli import app, main
from vidvec.data.corpus import Corpus
from vidvec.data.csv_files import harmless
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError
from vidvec.search import groups as module
from vidvec.search.building import build_index
from vidvec.search.calibrate import Calibration
from vidvec.search.dedup import find_groups
from vidvec.search.dedup_page import to_html
from vidvec.search.engine import SearchIndex
from vidvec.search.groups import LiveVectors, default_threshold, groups_of, threshold_for
from vidvec.search.types import IndexedVideo

HOSTILE = "</p><script>alert('1')</script> & \"两\" \x1b[31m"


def jpeg() -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def write_vectors(path: Path, ids: list[str], matrix: np.ndarray, corpus: Path) -> Path:
    made_by = {"stage": "embed", "checkpoint": "c", "weights": "w", "corpus": str(corpus)}
    writer = VectorWriter(path, matrix.shape[1], {"normalised": False, "made_by": made_by})
    writer.append(ids, matrix.astype(np.float32))
    writer.finish()
    return path


@pytest.fixture
def corpus(tmp_path) -> Path:
    videos = made_videos(40)
    videos[0] = replace(videos[0], title=HOSTILE, thumbnails=(jpeg(),), file="/clips/<a>,b.mp4")
    return write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 200)).path


@pytest.fixture
def vectors(tmp_path, corpus) -> Path:
    """Videos 0, 1, 2 are copies, as are 10 and 11; the others are far from one another."""
    matrix = np.random.default_rng(0).normal(size=(40, 32))
    matrix[1], matrix[2] = (matrix[0] + 0.1 * matrix[5 + k] for k in (0, 1))
    matrix[11] = matrix[10] + 0.05 * matrix[20]
    return write_vectors(tmp_path / "vectors", Corpus(corpus).ids, matrix, corpus)


def names(groups) -> list[list[str]]:
    return [sorted(hit.id for hit in group.members) for group in groups]


WANTED = [["1000", "1001", "1002"], ["1010", "1011"]]


def mark_gone(corpus: Path, rows: list[int]) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text("utf-8"))
    manifest["gone"] = [[row, 1] for row in rows]
    (corpus / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def calibration(vectors: Path, above: float) -> Calibration:
    """800 pairs, similar from a cosine on, saved beside the vectors."""
    cosines = np.linspace(0, 1, 800)
    stamp = module.vectors_stamp(Vectors(vectors))
    found = Calibration.fit(cosines, (cosines >= above).astype(float), positive=1, stamp=stamp)
    found.save(vectors)
    return found


def test_groups_are_found_once_and_then_read(vectors, monkeypatch):
    opened = Vectors(vectors)
    found = groups_of(vectors, 0.9)
    assert found == find_groups(opened.ids, opened.matrix, 0.9)
    assert names(found) == WANTED

    def never(*_, **__):
        raise AssertionError("found anew")

    monkeypatch.setattr(module, "find_groups", never)
    assert groups_of(vectors, 0.9) == found
    with pytest.raises(AssertionError, match="found anew"):
        groups_of(vectors, 0.99)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kind": "groups"}', '{"kind": 1, "stamp": 2}']
)
def test_a_damaged_file_of_groups_is_found_anew(vectors, content):
    found = groups_of(vectors, 0.9)
    (file,) = (vectors / "groups").glob("*.json")
    file.write_text(content, "utf-8")
    assert groups_of(vectors, 0.9) == found
    assert json.loads(file.read_text("utf-8"))["threshold"] == 0.9


def test_gone_videos_are_left_out_and_old_groups_removed(vectors, corpus):
    groups_of(vectors, 0.9)
    assert LiveVectors(vectors).read()[2] == 0
    mark_gone(corpus, [1, 11, 30])
    assert LiveVectors(vectors).read()[2] == 3
    assert names(groups_of(vectors, 0.9)) == [["1000", "1002"]]
    assert len(list((vectors / "groups").glob("*.json"))) == 1


def test_what_was_added_to_the_index_and_deleted_from_it_counts(vectors):
    build_index(vectors)
    assert names(groups_of(vectors, 0.9)) == WANTED
    opened = Vectors(vectors)
    with SearchIndex.open(vectors, writable=True) as index:
        index.delete(["1011", "1002"])
        assert names(groups_of(vectors, 0.9)) == [["1000", "1001"]]
        copy = opened.matrix[[30]] * 2
        index.add(["new"], copy, [IndexedVideo("new")])
        assert names(groups_of(vectors, 0.9)) == [["1000", "1001"], ["1030", "new"]]
    # An index that cannot be used is passed over.
    (vectors / "index" / "records.sqlite").write_bytes(b"no database")
    assert names(groups_of(vectors, 0.9)) == WANTED


def test_the_threshold_is_the_calibrations_where_there_is_one(vectors):
    assert default_threshold(vectors) == 0.9
    with pytest.raises(UsageError, match="has no calibration, which says"):
        threshold_for(vectors, 0.99)
    found = calibration(vectors, 0.4).threshold(0.99)
    assert found.cosine is not None
    assert 0.35 < found.cosine <= 0.401
    assert default_threshold(vectors) == found.cosine == threshold_for(vectors, 0.99)
    with pytest.raises(UsageError, match=r"no threshold reaches 0\.9999 precision"):
        threshold_for(vectors, 0.9999)
    (vectors / "calibration.json").write_text("{", "utf-8")
    assert default_threshold(vectors) == 0.9
    with pytest.raises(FormatError, match="not JSON"):
        threshold_for(vectors, 0.99)


class Seen(HTMLParser):
    """What a page says and holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_page_has_all_and_escapes_titles(vectors, corpus):
    ids, matrix, _ = LiveVectors(vectors).read()
    found = module.deduplicate(ids, matrix, 0.9)
    seen = Seen(to_html("<vectors>", found, Corpus(corpus)))
    assert "script" not in seen.tags
    assert HOSTILE[4:30] in seen.text
    assert all(video in seen.text for group in WANTED for video in group)
    assert seen.tags.count("article") == 5
    assert seen.tags.count("img") == 1
    assert "Near duplicates in <vectors>" in seen.text
    assert seen.text.count("represents the group") == 2
    # Without a corpus, and with less room.
    seen = Seen(to_html("v", found, None, most_groups=1))
    assert "1000" in seen.text
    assert "The 1 largest of 2 groups are shown" in seen.text
    seen = Seen(to_html("v", found, Corpus(corpus), most_pictures=10))
    assert "1 videos are shown without pictures" in seen.text
    assert "img" not in seen.tags


def test_a_large_group_is_folded_but_whole():
    ids = [f"copy{number}" for number in range(30)]
    found = module.deduplicate(ids, np.ones((30, 4), np.float32), 0.9)
    seen = Seen(to_html("v", found))
    assert (seen.tags.count("article"), seen.tags.count("details")) == (12, 1)
    assert all(video in seen.text for video in ids)
    assert "No two videos" in to_html("v", module.deduplicate([], np.zeros((0, 4)), 0.9))


def test_dedup_from_the_command_line(vectors, corpus, tmp_path, capsys):
    table, page = tmp_path / "out" / "groups.csv", tmp_path / "out" / "groups.html"
    app(
        ["dedup", str(vectors), "--csv", str(table), "--html", str(page)],
        result_action="return_value",
    )
    printed = capsys.readouterr().out
    assert "40 videos compared, at a cosine of 0.9 or more: 2 groups, 3 videos that" in printed
    assert "\x1b[31m" not in printed
    assert "0.9 is the default: what a cosine means differs from model to model" in printed
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["group", "id", "cosine", "representative", "title", "file"]
    assert [row["group"] for row in rows] == ["1", "1", "1", "2", "2"]
    groups = {number: {row["id"] for row in rows if row["group"] == number} for number in "12"}
    assert [sorted(groups[number]) for number in "12"] == WANTED
    (first,) = [row for row in rows if row["id"] == "1000"]
    assert (first["title"], first["file"]) == (HOSTILE, "/clips/<a>,b.mp4")
    assert rows[0]["id"] == rows[0]["representative"]
    assert rows[0]["cosine"] == "1.000000"
    assert Seen(page.read_text("utf-8")).tags.count("article") == 5

    app(["dedup", str(vectors), "--threshold", "0.99", "--json"], result_action="return_value")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["threshold"], facts["compared"], facts["gone"]) == (0.99, 40, 0)
    opened = Vectors(vectors)
    wanted = find_groups(opened.ids, opened.matrix, 0.99)
    assert [group["representative"] for group in facts["groups"]] == [
        group.representative for group in wanted
    ]
    mark_gone(corpus, [0])
    app(["dedup", str(vectors)], result_action="return_value")
    assert "1 videos that are gone from the source are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "1.5"], "cosine above 0 and up to 1"),
        (["--threshold", "0.9", "--precision", "0.9"], "either --threshold or --precision"),
        (["--precision", "0.9"], "has no calibration"),
    ],
)
def test_what_dedup_cannot_do_is_said(vectors, options, said, capsys):
    with pytest.raises(SystemExit):
        main(["dedup", str(vectors), *options])
    assert said in capsys.readouterr().err


def test_calibrate_from_the_command_line(vectors, corpus, capsys):
    command = ["calibrate", str(vectors), "--split", "all", "--positive", "0.8"]
    app([*command, "--precision", "0.9"], result_action="return_value")
    printed = capsys.readouterr().out
    pairs = Corpus(corpus).pairs()
    similar = sum(pair.score >= 0.8 for pair in pairs)
    assert f"{len(pairs)} pairs (all), {similar} similar: score 0.8 or more" in printed
    assert "no threshold reaches 0.9 precision with these pairs" in printed
    assert f"wrote {vectors / 'calibration.json'}" in printed
    assert "logistic, taken" in printed
    loaded = Calibration.load(vectors)
    assert loaded is not None
    assert loaded.similar == similar
    app([*command, "--json"], result_action="return_value")
    facts = json.loads(capsys.readouterr().out)
    assert [each["asked"] for each in facts["thresholds"]] == [0.9, 0.95, 0.99]
    assert facts["qualities"][facts["method"]]["log_loss"] == pytest.approx(
        loaded.qualities[loaded.method].log_loss
    )


def test_calibrate_with_a_file_then_dedup_by_precision(vectors, tmp_path, capsys):
    opened = Vectors(vectors)
    unit = opened.matrix / np.linalg.norm(opened.matrix, axis=1, keepdims=True)
    random = np.random.default_rng(0)
    lines = ["id_1\tid_2\tscore", "1000\t\t1"]
    for _ in range(600):
        one, other = random.choice(40, 2, replace=False)
        score = 4 * float(unit[one] @ unit[other] > 0.1)
        lines.append(f"{opened.ids[one]}\t{opened.ids[other]}\t{score}")
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(lines), "utf-8")
    main_arguments = ["calibrate", str(vectors), "--pairs", str(file), "--precision", "0.95"]
    app(main_arguments, result_action="return_value")
    printed = capsys.readouterr()
    assert "600 pairs (all)" in printed.out
    assert "score 3 or more" in printed.out
    assert "= similar at 0.95 precision" in printed.out
    assert "1 no-id; pairs.tsv:2" in printed.err
    app(["dedup", str(vectors), "--precision", "0.95", "--json"], result_action="return_value")
    facts = json.loads(capsys.readouterr().out)
    loaded = Calibration.load(vectors)
    assert loaded is not None
    assert facts["threshold"] == loaded.threshold(0.95).cosine
    assert 0.05 < facts["threshold"] < 0.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "95"], "--precision 95: expected above 0 and below 1"),
        (["--pairs", "nowhere.tsv"], "nowhere.tsv does not exist"),
        (["--positive", "7"], "0 are similar (score 7 or more)"),
    ],
)
def test_what_calibrate_cannot_do_is_said(vectors, options, said, capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", str(vectors), *options])
    assert said in capsys.readouterr().err
    assert not (vectors / "calibration.json").exists()


def test_without_corpus_or_pairs_calibrate_says_what_to_give(vectors, corpus, capsys):
    (corpus / "pairs.parquet").unlink()
    with pytest.raises(SystemExit):
        main(["calibrate", str(vectors)])
    assert "has no scored pairs: give --pairs FILE" in capsys.readouterr().err
    (corpus / "manifest.json").unlink()
    with pytest.raises(SystemExit):
        main(["calibrate", str(vectors)])
    assert "is not there: give --corpus, or --pairs FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("title", "written"),
    [("=1+1", "'=1+1"), ("@home", "'@home"), ("\t=1", "'\t=1"), ("a=b", "a=b"), ("", "")],
)
def test_a_title_is_no_formula(title, written):
    assert harmless(title) == written
