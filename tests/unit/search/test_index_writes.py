"""Writes to an index while it is searched; what becomes of its files."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.search.indexed import assert_nearest, clustered, write_vectors
from vidvec.errors import FormatError, UsageError
from vidvec.search import engine
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.types import Filter, IndexedVideo

COUNT, WIDTH = 1_500, 16
IDS = [f"v{number}" for number in range(COUNT)]
VECTORS = clustered(COUNT, WIDTH)
OTHERS = clustered(400, WIDTH, seed=3)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_vectors(tmp_path / "vectors", IDS, VECTORS)


def faiss_file(folder: Path) -> Path:
    (found,) = (folder / "index").glob("*.faiss")
    return found


def put(index: SearchIndex, ids: list[str], vectors: np.ndarray, **facts: object) -> None:
    index.add(ids, vectors, [IndexedVideo(video, **facts) for video in ids])


@pytest.mark.parametrize("kind", ["exact", "int8", "binary", "ivf-sq8", "ivf-sq4"])
def test_what_is_written_is_found_at_once_by_other_readers(folder, kind):
    build_index(folder, kind=kind)
    with SearchIndex.open(folder, writable=True) as writer, SearchIndex.open(folder) as reader:
        before = reader.generation
        put(writer, ["new", "v3"], OTHERS[:2], title="帆船", tags=("sea",))
        for index in (writer, reader):
            assert index.search(OTHERS[:1], 1)[0][0].id == "new"
            hit = index.search(OTHERS[1:2], 1)[0][0]
            assert (hit.id, hit.cosine) == ("v3", pytest.approx(1, abs=1e-6))
            assert "v3" not in [one.id for one in index.search(VECTORS[3:4], 1, exact=True)[0]]
            assert {one.id for one in index.words("帆船", 9)} == {"new", "v3"}
            assert {one.id for one in index.search(OTHERS[:1], 9, filter=Filter(tags=("sea",)))[0]}
        assert reader.generation > before
        assert len(reader) == COUNT + 1
        assert writer.delete(["new", "v3", "v5", "unknown", "v5"]) == 3
        for index in (writer, reader):
            found = {one.id for one in index.search(OTHERS[:1], COUNT)[0]}
            assert found == set(IDS) - {"v3", "v5"}
            assert index.words("帆船", 9) == []
            assert index.facets().tags == ()
            assert "v5" not in index
        generation = writer.generation
        assert writer.delete(["v5"]) == 0
        assert writer.generation == generation


def test_many_deletes_leave_the_others_findable(folder):
    for kind in ("exact", "ivf-sq8"):
        build_index(folder, kind=kind, restart=True)
        with SearchIndex.open(folder, writable=True) as index:
            order = [hit.id for hit in index.search(VECTORS[:1], 1_000, exact=True)[0]]
            index.delete(order[:700])
            left = [video for video in IDS if video not in set(order[:700])]
            rows = [IDS.index(video) for video in left]
            for k in (1, 10, 900):
                hits = index.search(VECTORS[:1], k)[0]
                assert len(hits) == min(k, len(left))
                if kind == "exact":
                    assert_nearest(hits, left, VECTORS[rows], VECTORS[0], k)


def test_added_vectors_are_folded_into_the_faiss_file(folder, monkeypatch):
    monkeypatch.setattr(engine, "FOLD_AT", 100)
    build_index(folder, kind="exact")
    first = faiss_file(folder)
    with SearchIndex.open(folder, writable=True) as writer, SearchIndex.open(folder) as reader:
        put(writer, [f"w{number}" for number in range(60)], OTHERS[:60])
        writer.delete(["v9", "w3"])
        assert faiss_file(folder) == first
        put(writer, [f"w{number}" for number in range(60, 160)], OTHERS[60:160])
        assert faiss_file(folder) != first
        assert not len(writer._view.fresh)
        ids = [video for video in IDS if video != "v9"]
        ids += [f"w{number}" for number in range(160) if number != 3]
        vectors = np.concatenate([np.delete(VECTORS, 9, 0), np.delete(OTHERS[:160], 3, 0)])
        for index in (reader, writer):
            for query, hits in zip(OTHERS, index.search(OTHERS, 10), strict=True):
                assert_nearest(hits, ids, vectors, query, 10)
    assert not build_index(folder).written


def test_more_rows_than_are_kept_in_memory_are_read_at_each_search(folder, monkeypatch):
    monkeypatch.setattr("vidvec.search.view.KEPT_ROWS", 50)
    build_index(folder, kind="ivf-sq8")
    ids = [f"w{number}" for number in range(120)]
    with SearchIndex.open(folder, writable=True) as index:
        for start in range(0, 120, 40):
            put(index, ids[start : start + 40], OTHERS[start : start + 40])
        index.delete(["w7"])
        found = index.search(OTHERS[:120], 1)
        assert [hits[0].id for hits in found if hits[0].id != "w7"][:7] == ids[:7]
        assert found[7][0].id != "w7"
        assert [hits[0].id for hits in found[8:]] == ids[8:]


@pytest.mark.parametrize("harm", ["lost", "cut", "other", "one bit"])
def test_a_bad_faiss_file_is_made_anew_with_a_word(folder, harm, caplog):
    build_index(folder, kind="float16")
    with SearchIndex.open(folder, writable=True) as index:
        put(index, ["new"], OTHERS[:1])
        wanted = index.search(VECTORS[:20], 5)
    path = faiss_file(folder)
    content = bytearray(path.read_bytes())
    if harm == "lost":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[:-100])
    elif harm == "other":
        path.write_bytes(b"something else")
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with SearchIndex.open(folder) as index:
        assert "it is made anew" in caplog.text
        assert str(path) in caplog.text
        assert index.search(VECTORS[:20], 5) == wanted
        assert index.search(OTHERS[:1], 1)[0][0].id == "new"
    caplog.clear()
    with SearchIndex.open(folder):
        assert caplog.text == ""


def test_a_damaged_or_missing_file_of_records_is_one_line(folder):
    build_index(folder)
    records = folder / "index" / "records.sqlite"
    content = records.read_bytes()
    for bad in (b"no database at all" * 999, content[:4096] + b"x" * 4096 * 3 + content[16384:]):
        records.write_bytes(bad)
        with pytest.raises(FormatError, match=r"records.sqlite.* --restart makes it anew"):
            SearchIndex.open(folder).words("abc", 3)
    records.unlink()
    with pytest.raises(FormatError, match=r"records.sqlite is missing: .*--restart"):
        SearchIndex.open(folder)
    assert build_index(folder, restart=True).videos == COUNT
    SearchIndex.open(folder).close()


def test_an_index_of_another_version_says_what_to_run(folder):
    build_index(folder)
    path = folder / "index" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    for key, version in (("index_version", 0), ("index_version", 2), ("format_version", 0)):
        path.write_text(json.dumps({**manifest, key: version}), "utf-8")
        for use in (SearchIndex.open, build_index):
            with pytest.raises(FormatError, match=rf"version {version}.* vidvec index .*--restart"):
                use(folder)
    assert build_index(folder, restart=True).written
    SearchIndex.open(folder).close()


def test_vectors_that_changed_are_not_searched_by_the_old_index(folder):
    build_index(folder)
    write_vectors(folder, IDS, clustered(COUNT, WIDTH, seed=9))
    with pytest.raises(UsageError, match="have changed since their index was made: run vidvec"):
        SearchIndex.open(folder)
    build_index(folder)
    SearchIndex.open(folder).close()
    write_vectors(folder, IDS, clustered(COUNT, WIDTH + 1))
    with pytest.raises(UsageError, match="vectors of 17 numbers, its index those of 16"):
        SearchIndex.open(folder)
    with pytest.raises(UsageError, match="vectors of 17 numbers, its index those of 16"):
        build_index(folder)


@pytest.mark.parametrize(
    ("ids", "vectors", "videos", "message"),
    [
        (["a", "a"], np.ones((2, WIDTH)), ["a", "a"], "'a' comes twice"),
        (["a"], np.ones((1, WIDTH + 1)), ["a"], "have 17 numbers"),
        (["a"], np.full((1, WIDTH), np.nan), ["a"], "NaN or infinity"),
        (["a"], np.ones((1, WIDTH)), ["b"], "'a' comes with what is known of 'b'"),
        (["a"], np.ones((2, WIDTH)), ["a"], "1 ids, 2 vectors and 1 videos"),
        ([""], np.ones((1, WIDTH)), [""], "an id is ''"),
        (["\ud800"], np.ones((1, WIDTH)), ["\ud800"], "not Unicode"),
    ],
)
def test_a_write_that_cannot_be_leaves_everything(folder, ids, vectors, videos, message):
    build_index(folder)
    with SearchIndex.open(folder, writable=True) as index:
        before = index.generation
        with pytest.raises(UsageError, match=message):
            index.add(ids, vectors, [IndexedVideo(video) for video in videos])
        with pytest.raises(UsageError, match="video 'v0': date is"):
            put(index, ["v0", "b"], OTHERS[:2], date="tomorrow")
        assert (index.generation, index.ids) == (before, IDS)
        assert index.search(VECTORS[:1], 1)[0][0].id == "v0"


def test_acknowledged_writes_are_synced(folder):
    build_index(folder)
    with SearchIndex.open(folder, writable=True) as index:
        connection = index._store.connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class Writes(RuleBasedStateMachine):
    """Writes in any order, held against a dict."""

    @initialize(kind=st.sampled_from(["exact", "ivf-sq8"]))
    def begin(self, kind):
        self.place = tempfile.TemporaryDirectory()
        self.folder = write_vectors(Path(self.place.name) / "v", IDS, VECTORS)
        build_index(self.folder, kind=kind)
        self.index = SearchIndex.open(self.folder, writable=True)
        self.reader = SearchIndex.open(self.folder)
        self.held = dict(zip(IDS, VECTORS, strict=True))
        self.random = np.random.default_rng(0)

    @rule(numbers=st.sets(st.integers(0, COUNT + 20), min_size=1, max_size=6))
    def add(self, numbers):
        ids = [f"v{number}" for number in sorted(numbers)]
        vectors = self.random.standard_normal((len(ids), WIDTH)).astype(np.float32)
        put(self.index, ids, vectors)
        self.held |= dict(zip(ids, vectors, strict=True))

    @rule(numbers=st.sets(st.integers(0, COUNT + 20), min_size=1, max_size=6))
    def delete(self, numbers):
        ids = {f"v{number}" for number in numbers}
        assert self.index.delete(ids) == len(ids & set(self.held))
        for video in ids:
            self.held.pop(video, None)

    @rule()
    def build(self):
        build_index(self.folder)

    @invariant()
    def is_what_was_written(self):
        if not hasattr(self, "held"):
            return
        ids = list(self.held)
        matrix = np.stack([self.held[video] for video in ids])
        query = self.random.standard_normal(WIDTH).astype(np.float32)
        for index in (self.index, self.reader):
            assert_nearest(index.search(query[None], 7, exact=True)[0], ids, matrix, query, 7)
            own = matrix[-1]  # lists that are looked into have the vector itself
            assert index.search(own[None], 1)[0][0].cosine == pytest.approx(1, abs=1e-5)
        assert len(self.reader) == len(ids)

    def teardown(self):
        if hasattr(self, "index"):
            self.index.close()
            self.reader.close()
            self.place.cleanup()


TestWrites = pytest.mark.slow(Writes.TestCase)
TestWrites.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)


def test_titles_and_tags_stay_whole_through_writes(folder):
    build_index(folder)
    with SearchIndex.open(folder, writable=True) as index:
        for number in range(30):
            put(index, ["v1", "x"], OTHERS[:2], title=f"Titel {number}", tags=(f"t{number % 3}",))
        index.delete(["x"])
        assert [hit.id for hit in index.words("titel 29", 5)] == ["v1"]
        assert index.words("titel 28", 5) == []
        assert index.facets().tags == (("t2", 1),)
    with sqlite3.connect(folder / "index" / "records.sqlite") as connection:
        connection.execute("INSERT INTO titles (titles, rank) VALUES ('integrity-check', 1)")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
