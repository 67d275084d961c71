"""One search from question to answer, and the command around it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.corpora import made_videos, write_corpus
from tests.models import write_checkpoint
from tests.unit.search.clips import COUNT, made, scene
from vidvec import cli
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import BadRecord, UsageError
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.explain import explain
from vidvec.search.find import Question, find, nearest_ids
from vidvec.search.in_memory import InMemoryIndex, passes
from vidvec.search.query import QueryEncoder, combine, like_and_unlike
from vidvec.search.types import Filter, IndexedVideo

DATES = ["2021-05-03", "2021-05-03T10:00:00+00:00", "2022-01-01", ""]


def film_like(video, number: int):
    """A made video with what filters ask for."""
    return replace(
        video,
        language=("zh-Hant", "zh", "en", "")[number % 4],
        duration_seconds=None if number % 5 == 0 else float(number),
        date=DATES[number % 4],
    )


VIDEOS = [film_like(video, number) for number, video in enumerate(made_videos(60))]


ANY = Filter()


def run(*arguments: object) -> None:
    cli.app([str(each) for each in arguments], result_action="return_value")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("find")
    corpus = write_corpus(root / "corpus", VIDEOS)
    write_checkpoint(root / "model", corpus)
    embed(root / "model", root / "corpus", root / "vectors")
    build_index(root / "vectors")
    return root


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    root = made(tmp_path_factory.mktemp("filmed"))
    build_index(root / "vectors")
    return root


def no_build(vectors: Path) -> None:
    raise AssertionError(f"{vectors} has an index")


def unwritable(vectors: Path) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(vectors))


def bare(root: Path, tmp_path: Path) -> Path:
    """The vectors without their index."""
    return shutil.copytree(
        root / "vectors", tmp_path / "bare", ignore=shutil.ignore_patterns("index", ".index.lock")
    )


def ranked(root: Path, query: np.ndarray, left_out: set[str], asked: Filter = ANY) -> list[str]:
    """Ids by falling cosine, by plain NumPy."""
    vectors = Vectors(root / "vectors")
    allowed = {video.id for video in VIDEOS if passes(known(video), asked)} - left_out
    order = np.argsort(-(vectors.matrix @ query), kind="stable")
    return [vectors.ids[row] for row in order if vectors.ids[row] in allowed]


def known(video) -> IndexedVideo:
    return IndexedVideo(
        video.id,
        video.title,
        tuple(video.tags or ()),
        video.category,
        video.language,
        video.duration_seconds,
        video.date,
    )


def ids_of(answer) -> list[str]:
    return [hit.id for hit in answer.hits]


def test_each_kind_of_question_and_several_together(root):
    matrix, encoder = Vectors(root / "vectors").matrix, Encoder.load(root / "model")
    [words] = encoder.encode(["sea waves 海"])
    cases = {
        Question(ids=("1004",)): (matrix[4], {"1004"}),
        Question(title="sea waves 海"): (words, set()),
        Question(ids=("1004", "1010")): (combine(matrix[[4, 10]]), {"1004", "1010"}),
        Question(ids=("1004",), title="sea waves 海"): (
            combine(np.stack([matrix[4], words])),
            {"1004"},
        ),
        Question(ids=("1004",), unlike_ids=("1030", "1031")): (
            like_and_unlike(matrix[[4]], matrix[[30, 31]]),
            {"1004", "1030", "1031"},
        ),
    }
    for question, (query, left_out) in cases.items():
        answer = find(root / "vectors", question, no_build)
        assert ids_of(answer) == ranked(root, query, left_out)[:10], question
        assert answer.videos[answer.hits[0].id].title == VIDEOS[int(answer.hits[0].id) - 1000].title
        assert (answer.why, answer.left_out, answer.in_memory) == (None, 0, False)


FILTERS = [
    Filter(tags=("topic0",)),
    Filter(tags=("topic1", "city")),
    Filter(categories=("2", "3")),
    Filter(languages=("zh",)),
    Filter(languages=("ZH-hant", "en")),
    Filter(min_seconds=12, max_seconds=33),
    Filter(after="2021-05-03"),
    Filter(after="2021-05-03T09:00:00Z", before="2022-01-01"),
    Filter(before="2021-05-04", categories=("1",), min_seconds=3),
    Filter(tags=("nobody has it",)),
]


@pytest.mark.parametrize("asked", FILTERS)
def test_filters_with_an_index_and_without(root, tmp_path, asked):
    query = Vectors(root / "vectors").matrix[4]
    expected = ranked(root, query, {"1004"}, asked)
    question = Question(ids=("1004",), filter=asked, k=60)
    assert ids_of(find(root / "vectors", question, no_build)) == expected
    answer = find(bare(root, tmp_path), question, unwritable)
    assert answer.in_memory
    assert ids_of(answer) == expected
    for each in expected:
        assert answer.videos[each].title == VIDEOS[int(each) - 1000].title


def test_the_index_is_made_where_there_is_none(root, tmp_path):
    vectors, made_of = bare(root, tmp_path), []

    def build(folder: Path) -> None:
        made_of.append(folder)
        build_index(folder)

    for _ in range(2):
        answer = find(vectors, Question(ids=("1004",)), build)
        assert not answer.in_memory
    assert made_of == [vectors]
    other = shutil.copytree(root / "vectors", tmp_path / "b", ignore=shutil.ignore_patterns("ind*"))

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with pytest.raises(OSError, match="the disk is broken"):
        find(other, Question(ids=("1004",)), fail)


def test_words_in_titles(root, tmp_path):
    answer = find(root / "vectors", Question(words="waves", k=60), no_build)
    assert set(ids_of(answer)) == {video.id for video in VIDEOS if "waves" in video.title}
    asked = Filter(categories=("1",))
    assert find(root / "vectors", Question(words="waves", filter=asked), no_build).hits == []
    with pytest.raises(UsageError, match="none can be written in"):
        find(bare(root, tmp_path), Question(words="waves"), unwritable)


def test_files_and_pictures(filmed, tmp_path):
    for number in (0, COUNT - 1):
        clip = filmed / "clips" / f"clip{number}.mp4"
        answer = find(filmed / "vectors", Question(files=(clip,), k=3), no_build)
        assert answer.hits[0].id == f"clip{number}"
        assert answer.hits[0].cosine == pytest.approx(1, abs=1e-5)
        picture = tmp_path / f"{number}.png"
        cv2.imwrite(str(picture), scene(number, 0.5)[:, :, ::-1])
        answer = find(filmed / "vectors", Question(files=(picture, clip), k=1), no_build)
        assert ids_of(answer) == [f"clip{number}"]


def test_why(filmed):
    corpus = Corpus(filmed / "corpus")
    question = Question(title="a clip", why=True, k=4)
    answer = find(filmed / "vectors", question, no_build)
    with QueryEncoder.load(filmed / "vectors") as encoder:
        expected = explain(encoder, corpus, encoder.titles(["a clip"])[0], ids_of(answer))
    assert answer.why is not None
    for found, each in zip(answer.why, expected, strict=True):
        assert dict(found.alone) == pytest.approx(dict(each.alone), abs=1e-6)
    gone = shutil.copytree(filmed / "vectors", filmed / "copied")
    (filmed / "corpus" / "manifest.json").rename(filmed / "hidden")
    try:
        with pytest.raises(UsageError, match=r"the corpus of .* is gone"):
            find(gone, question, no_build)
    finally:
        (filmed / "hidden").rename(filmed / "corpus" / "manifest.json")


def test_another_corpus_says_what_is_shown(root, tmp_path):
    other = [replace(video, title=f"another {video.id}") for video in VIDEOS]
    corpus = write_corpus(tmp_path / "other", other)
    answer = find(root / "vectors", Question(ids=("1004",)), no_build, corpus=corpus.path)
    assert all(video.title == f"another {key}" for key, video in answer.videos.items())


def test_an_index_of_which_everything_was_deleted(root, tmp_path):
    vectors = shutil.copytree(root / "vectors", tmp_path / "v")
    with SearchIndex.open(vectors, writable=True) as index:
        index.delete(index.ids[1:])
    assert find(vectors, Question(title="sea"), no_build).hits[0].id == "1000"
    with SearchIndex.open(vectors, writable=True) as index:
        index.delete(index.ids)
    assert find(vectors, Question(title="sea", why=True), no_build).hits == []
    with pytest.raises(UsageError, match="no vector for video '1000'"):
        find(vectors, Question(ids=("1000",)), no_build)


def test_vectors_from_elsewhere_are_searched_by_id(tmp_path):
    facts = {"normalised": False, "made_by": {"stage": "import"}}
    writer = VectorWriter(tmp_path / "v", 3, facts)
    writer.append(["../a", "b", "c"], np.array([[1, 0, 0], [3, 1, 0], [0, 0, 2]], np.float32))
    writer.finish()
    answer = find(tmp_path / "v", Question(ids=("../a",)), build_index)
    assert ids_of(answer) == ["b", "c"]
    with pytest.raises(UsageError, match="imported from elsewhere"):
        find(tmp_path / "v", Question(title="sea"), no_build)


def test_ids_that_may_have_been_meant():
    ids = [str(number) for number in range(100_000, 160_000)]
    assert nearest_ids("12345", ids)
    assert "123456" in nearest_ids("12345x6", ids)
    assert nearest_ids("nothing alike", ids) == []
    assert nearest_ids("clip-1", ["clip_1", "other"]) == ["clip_1"]


BAD = {
    "": "nothing to look for: give --id, --title, --file or --words",
    "--unlike-id 1004": "nothing to look for",
    "--id 1004 -k 0": "-k 0: expected 1 or more",
    "--id 10040": "no vector for video '10040' in vectors; did you mean '1040' or '1004'",
    "--id ../../etc/passwd": "no vector for video '../../etc/passwd'",
    "--id 1004 --unlike-id nobody": "no vector for video 'nobody'",
    "--title sea --after yesterday": "--after: date is 'yesterday', expected one such as",
    "--title sea --before 2021-13-01": "--before: date is '2021-13-01'",
    "--title sea --after 2022-01-01 --before 2021-01-01": "nothing is both",
    "--title sea --min-seconds 9 --max-seconds 3": "--min-seconds 9 is above --max-seconds 3",
    "--title sea --min-seconds nan": "--min-seconds nan: expected 0 or more",
    "--title sea --max-seconds=-1": "--max-seconds -1: expected 0 or more",
    "--words sea --id 1004": "--words looks in titles",
    "--words sea --explain": "--words looks in titles",
    "--file nowhere.mp4": "frames of made",
    "--id 1004 --corpus nowhere": "nowhere is not a corpus folder",
}


@pytest.mark.parametrize("options", BAD)
def test_a_bad_question_is_one_line_and_changes_nothing(
    root, tmp_path, monkeypatch, capsys, options
):
    shutil.copytree(bare(root, tmp_path), tmp_path / "vectors")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", "vectors", *options.split()])
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    [line] = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    assert BAD[options] in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("a" * 1_000_000, "1,000,000 characters, at most 10,000"),
        ("a\udcff", "not Unicode"),
    ],
)
def test_text_that_cannot_be_looked_for(root, text, said):
    for question in (Question(title=text), Question(words=text)):
        with pytest.raises(UsageError, match=said):
            find(root / "vectors", question, no_build)
    if text == "a\udcff":
        with pytest.raises(UsageError, match="no vector for video"):
            find(root / "vectors", Question(ids=(text,)), no_build)


def test_a_bad_file_is_one_line(filmed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bomb.mp4", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(20_000_000))
    for name, reason in {"bomb.mp4": "not-a-video", "no.mp4": "missing-file"}.items():
        with pytest.raises(SystemExit):
            cli.main(["search", str(filmed / "vectors"), "--file", name])
        [line] = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {reason}: {name} ")
    with pytest.raises(BadRecord):
        find(filmed / "vectors", Question(files=(Path("bomb.mp4"),)), no_build)


def test_the_command_prints_hits_with_what_is_known(root, capsys):
    run("search", root / "vectors", "--id", "1004", "-k", "3", "--explain")
    shown = capsys.readouterr().out
    answer = find(root / "vectors", Question(ids=("1004",), k=3, why=True), no_build)
    assert answer.why is not None
    for hit, why in zip(answer.hits, answer.why, strict=True):
        assert hit.id in shown
        assert f"{hit.cosine:.4f}" in shown
        for value in why.alone.values():
            assert f"{value:.3f}" in shown
    assert "frames" in shown


def test_the_command_as_json(root, tmp_path, capsys):
    arguments = ["--title", "sea", "-k", "4", "--tag", "topic0", "--explain", "--json"]
    vectors = bare(root, tmp_path)
    run("search", vectors, *arguments)
    printed = capsys.readouterr()
    assert "made the index of 60 videos" in printed.err
    rows = json.loads(printed.out)
    answer = find(
        vectors, Question(title="sea", k=4, filter=Filter(tags=("topic0",)), why=True), no_build
    )
    assert [row["id"] for row in rows] == ids_of(answer)
    for row in rows:
        video = VIDEOS[int(row["id"]) - 1000]
        assert row["title"] == video.title
        assert row["tags"] == list(video.tags or ())
        assert row["duration_seconds"] == video.duration_seconds
        assert row["date"] == video.date
        assert set(row["why"]) == {"alone", "lost"}
    run("search", vectors, "--words", "sea", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(row["score"] >= 0 and "cosine" not in row for row in rows)


def test_the_index_in_memory_is_that_of_vectors(root):
    vectors = Vectors(root / "vectors")
    index = InMemoryIndex(vectors, None)
    assert len(index) == 60
    assert index.videos(["1004"]) == [IndexedVideo("1004")]
    assert np.array_equal(index.vectors_of(["1004", "1000"]), vectors.matrix[[4, 0]])
    hits = index.search(vectors.matrix[:2], 3, without=[{"1000"}, set()])
    assert hits[0][0].id != "1000"
    assert hits[1][0].id == "1001"
