"""A real Milvus in place of a folder's index: the same answers, generations, kills, the server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.milvus_server import milvus
from tests.models import write_checkpoint
from tests.serving import serving
from tests.unit.search.indexed import (
    assert_nearest,
    clustered,
    corpus_with,
    videos,
    write_vectors,
)
from vidvec.cli import main
from vidvec.embed.embedder import embed
from vidvec.errors import FormatError, ServerError, UsageError
from vidvec.search.cluster import filling
from vidvec.search.cluster.address import parse
from vidvec.search.cluster.connection import connect
from vidvec.search.cluster.engine import ClusterIndex
from vidvec.search.cluster.filling import fill
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.find import Question, find
from vidvec.search.interface import Index, open_index
from vidvec.search.types import Filter, IndexedVideo

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

COUNT, WIDTH = 600, 16
ODD = ['it\'s "quoted" \\ and 🎬', "海/边 #1", "tab\there"]
FILTERS = [
    Filter(tags=("sea",)),
    Filter(tags=("sea", "海"), min_seconds=10, max_seconds=60),
    Filter(categories=("nature", "")),
    Filter(languages=("zh",)),
    Filter(languages=("EN", "zh-hant"), max_seconds=80.5),
    Filter(after="2021-05-03", before="2024-01-01"),
    Filter(before="1970-01-01T00:00:00Z"),
    Filter(tags=('no "such\\ tag',)),
]
WORDS = [
    "帆船",
    "海边的帆船",
    "dog beach",
    "strand übung",
    "边",
    '"hello"',
    "100%_",
    "nowhere",
    "at",
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[str]:
    with milvus(tmp_path_factory.mktemp("milvus")) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Vectors with ties, one zero and one NaN, with and without what is known of them."""
    place = tmp_path_factory.mktemp("vectors")
    corpus = corpus_with(place / "corpus", videos(COUNT))
    ids = [f"v{number}" for number in range(COUNT)] + ODD
    vectors = clustered(len(ids), WIDTH)
    vectors[7], vectors[9] = 0, np.nan
    vectors[100:140] = vectors[100]
    return write_vectors(place / "vectors", ids, vectors, corpus.path)


@pytest.fixture(scope="module")
def address(cluster, folder) -> str:
    """Filled with them."""
    address = f"{cluster}/alike"
    report = fill(folder, address)
    assert (report.videos, report.kind, report.written) == (COUNT + len(ODD) - 1, "exact", True)
    assert report.refused == {"its vector holds NaN or infinity": 1}
    assert report.named == ("v9",)
    assert not fill(folder, address).written
    return address


@pytest.fixture
def pair(address, folder) -> Iterator[tuple[Index, Index]]:
    build_index(folder)
    with SearchIndex.open(folder) as own, ClusterIndex.open(address) as other:
        yield own, other


def same(found, expected) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [hit.id for hit in mine] == [hit.id for hit in theirs]
        cosines = [hit.cosine for hit in theirs]
        assert [hit.cosine for hit in mine] == pytest.approx(cosines, abs=2e-6)


def test_a_cluster_answers_what_the_folder_answers(pair):
    own, other = pair
    queries = clustered(6, WIDTH, seed=0) + 0.1
    without = [{"v1", "v2"}, set(), {"v3"}, {"not there"}, set(), set()]
    same(other.search(queries, 10), own.search(queries, 10))
    same(other.search(queries, 300, without=without), own.search(queries, 300, without=without))
    for asked in FILTERS:
        same(other.search(queries, 5, filter=asked), own.search(queries, 5, filter=asked))
        assert other.facets(asked) == own.facets(asked)
    tied = own.vectors_of(["v120"])
    same(other.search(tied, 7), own.search(tied, 7))
    assert other.search(np.zeros((1, WIDTH), "f4"), 3) == [[]]
    same(other.like([*ODD, "v5"], 4), own.like([*ODD, "v5"], 4))
    for text in WORDS:
        same([other.words(text, 20)], [own.words(text, 20)])
        asked = FILTERS[0]
        same([other.words(text, 3, filter=asked)], [own.words(text, 3, filter=asked)])


def test_a_cluster_knows_what_the_folder_knows(pair):
    own, other = pair
    assert len(other) == len(own) == COUNT + len(ODD) - 1
    assert other.ids == own.ids
    assert other.videos([*ODD, "v3"]) == own.videos([*ODD, "v3"])
    for each in pair:
        assert ("v3" in each, "v9" in each, 5 in each) == (True, False, False)
    assert "\ud800" not in other
    (ids, matrix), (others, theirs) = own.matrix(), other.matrix()
    assert ids == others
    assert np.allclose(matrix, theirs, atol=1e-6)
    assert other.facets(top=2) == own.facets(top=2)
    with pytest.raises(UsageError, match="no video 'gone'"):
        other.vectors_of(["v1", "gone"])


def test_what_cannot_be_asked_is_refused(pair):
    _, other = pair
    for queries, k, words in [
        (np.zeros((1, 3), "f4"), 1, "shape"),
        (np.full((1, WIDTH), np.nan, "f4"), 1, "NaN"),
        (np.ones((1, WIDTH), "f4"), 0, "k is 0"),
        (np.ones((1, WIDTH), "f4"), 20_000, "k is 20000"),
    ]:
        with pytest.raises(UsageError, match=words):
            other.search(queries, k)
    with pytest.raises(UsageError, match="filter after"):
        other.search(np.ones((1, WIDTH), "f4"), 1, filter=Filter(after="soon"))
    with pytest.raises(UsageError, match="empty"):
        other.words("  ", 1)


def test_lists_of_two_shards_find_what_is_nearest_and_what_is_written(cluster, tmp_path):
    ids, vectors = [f"v{n}" for n in range(3_000)], clustered(3_000, WIDTH, seed=5)
    plain = write_vectors(tmp_path / "vectors", ids, vectors)
    report = fill(plain, f"{cluster}/writes", kind="ivf-sq8", shards=2)
    assert report.kind == "ivf-sq8"
    with ClusterIndex.open(f"{cluster}/writes") as index:
        for query, hits in zip(vectors[:20], index.search(vectors[:20], 10), strict=True):
            assert_nearest(hits, ids, vectors, query, 10)
    with pytest.raises(UsageError, match="no kind 'float16'"):
        fill(plain, f"{cluster}/writes", kind="float16")
    build_index(plain)
    changed = clustered(3, WIDTH, seed=4)
    names = ["v3", ODD[0], "new"]
    described = [IndexedVideo(name, f"title of {name}", ("t",)) for name in names]
    with (
        SearchIndex.open(plain, writable=True) as own,
        closing(open_index(f"{cluster}/writes")) as other,
    ):
        before = other.generation
        for each in (own, other):
            each.add(names, changed, described)
            assert each.delete(["v8", "v9", "nobody"]) == 2
        assert other.generation > before
        same(other.search(changed, 10), own.search(changed, 10))
        assert other.videos(names) == described
        assert (len(other), other.ids) == (len(own), own.ids)
        with pytest.raises(UsageError, match="NaN"):
            other.add(["x"], np.full((1, WIDTH), np.nan), [IndexedVideo("x")])
        with pytest.raises(UsageError, match="its id has 600 bytes"):
            other.add(["x" * 600], changed[:1], [IndexedVideo("x" * 600)])


def test_another_models_vectors_take_over_without_a_gap_and_back(cluster, tmp_path, capsys):
    address, place = f"{cluster}/rolling", parse(f"{cluster}/rolling")
    ids = [f"v{n}" for n in range(40)]
    for number, width in enumerate((WIDTH, 8)):
        write_vectors(tmp_path / f"{number}", ids, clustered(40, width, seed=number))
    first = fill(tmp_path / "0", address)
    assert first.previous is None
    with pytest.raises(SystemExit):
        run(["index", "--to", address, "--roll-back"])
    assert "no generation before" in capsys.readouterr().err
    client = connect(place)
    for left in ("rolling_g0123456789abcdef", "rolling_other"):
        client.create_collection(left, dimension=4)
    client.close()
    pinned = ClusterIndex.open(address, pinned=True)
    seen, failures, stop = set(), [], threading.Event()

    def ask() -> None:
        with ClusterIndex.open(address) as index:
            while not stop.is_set():
                try:
                    index.refresh()
                    seen.add((index.dimension, len(index.search(index.vectors_of(["v1"]), 3)[0])))
                except Exception as error:
                    failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        second = fill(tmp_path / "1", address)
        time.sleep(1.5)
    finally:
        stop.set()
        thread.join()
    # A search in which the other model's vectors came may fail for its width, as it has to.
    assert all(isinstance(error, UsageError) for error in failures)
    assert len(failures) <= 1
    assert seen == {(WIDTH, 3), (8, 3)}
    assert second.previous == first.collection
    with pinned:
        assert pinned.reader.newer() == second.collection
        assert pinned.search(pinned.vectors_of(["v1"]), 3)[0][0].id == "v1"
    run(["index", "--to", address, "--roll-back"])
    assert "searched is" in capsys.readouterr().out
    client = connect(place)
    left = {one for one in client.list_collections() if one.startswith("rolling")}
    client.close()
    assert left == {first.collection, second.collection, "rolling_other"}
    with ClusterIndex.open(address) as index:
        assert index.dimension == WIDTH


def run(arguments: list[str]) -> None:
    """A command, which raises ``SystemExit`` where it fails."""
    try:
        main(arguments)
    except SystemExit as status:
        if status.code:
            raise


SLOW = """
import sys, time
from pathlib import Path
from vidvec.search.cluster import filling
filling.BATCH = 10
def shown(done, total, what):
    print(done, flush=True)
    time.sleep(0.05)
filling.fill(Path(sys.argv[1]), sys.argv[2], progress=shown)
"""


def test_a_killed_run_goes_on_where_it_was(cluster, tmp_path, monkeypatch):
    address, ids = f"{cluster}/killed", [f"v{n}" for n in range(300)]
    vectors = clustered(300, WIDTH, seed=8)
    plain = write_vectors(tmp_path / "vectors", ids, vectors)
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(plain), address], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while int(child.stdout.readline()) < 100:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(UsageError, match="there is no killed"):
        ClusterIndex.open(address)
    monkeypatch.setattr(filling, "BATCH", 10)
    report = fill(plain, address)
    assert 100 <= report.resumed < 300
    with ClusterIndex.open(address) as index:
        assert index.ids == ids
        assert np.allclose(index.matrix()[1], vectors / np.linalg.norm(vectors, axis=1)[:, None])


def test_what_is_not_ours_is_left_alone(cluster, tmp_path):
    client = connect(parse(cluster))
    client.create_collection("foreign", dimension=4)
    client.close()
    plain = write_vectors(tmp_path / "vectors", ["a"], np.ones((1, 4), "f4"))
    with pytest.raises(UsageError, match="is a collection of its own"):
        fill(plain, f"{cluster}/foreign")
    with pytest.raises(UsageError, match="there is no nothing in"):
        ClusterIndex.open(f"{cluster}/nothing")
    client = connect(parse(cluster))
    client.create_alias("foreign", "theirs")
    client.close()
    with pytest.raises(FormatError, match="vidvec did not make"):
        ClusterIndex.open(f"{cluster}/theirs")


def test_commands_and_server_ask_a_cluster(cluster, tmp_path, capsys):
    corpus = corpus_with(tmp_path / "corpus", videos(30))
    for number in range(2):
        write_checkpoint(tmp_path / f"model{number}", corpus, seed=number)
        embed(tmp_path / f"model{number}", corpus.path, tmp_path / f"vectors{number}")
    address = f"{cluster}/served"
    run(["index", str(tmp_path / "vectors0"), "--to", address])
    build_index(tmp_path / "vectors0")
    answers = []
    for place in ([str(tmp_path / "vectors0")], ["--index", address]):
        for asked in (["--id", "v3"], ["--title", "dog"], ["--words", "帆船", "--tag", "sea"]):
            capsys.readouterr()
            run(["search", *place, *asked, "--json"])
            answers.append([row["id"] for row in json.loads(capsys.readouterr().out)])
    assert answers[:3] == answers[3:]
    with serving(None, tmp_path, "--index", address) as server:
        body = {"text": "dog", "k": 5}
        old = server.http.post("/api/v1/search", json=body).json()["hits"]
        assert [hit["id"] for hit in old] == answers[1][:5]
        assert server.http.get("/api/v1/groups").status_code == 200
        fill(tmp_path / "vectors1", address)
        with ClusterIndex.open(address) as index:
            assert index.reader.held.vectors == str(tmp_path / "vectors1")
        for _ in range(200):
            response = server.http.post("/api/v1/search", json=body)
            assert response.status_code == 200
            new = response.json()["hits"]
            info = server.http.get("/api/v1/info")
            assert info.status_code == 200, info.text
            if info.json()["model"] == "model1":
                break
            time.sleep(0.1)
        new = server.http.post("/api/v1/search", json=body).json()["hits"]
        capsys.readouterr()
        run(["search", "--index", address, "--title", "dog", "-k", "5", "--json"])
        assert [hit["id"] for hit in new] == [r["id"] for r in json.loads(capsys.readouterr().out)]
    with pytest.raises(UsageError, match="another model"):
        find(tmp_path / "vectors0", Question(ids=("v1",)), lambda _: None, index=address)


def test_a_cluster_that_does_not_answer_is_named(tmp_path, monkeypatch):
    plain = write_vectors(tmp_path / "vectors", ["a"], np.ones((1, 4), "f4"))
    monkeypatch.setattr("vidvec.search.cluster.connection.SECONDS", 1.0)
    with pytest.raises(ServerError, match=r"http://127.0.0.1:1 .*is the cluster running"):
        fill(plain, "http://127.0.0.1:1/vidvec")
