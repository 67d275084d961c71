"""A folder, a Milvus and a vidvec server searched as one: the whole's answers, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.e2e.page.making import Watched, chromium, context_of, opened_browser
from tests.milvus_server import milvus
from tests.models import write_checkpoint
from tests.serving import Server, serving
from tests.unit.search.indexed import clustered, corpus_with, videos, write_vectors
from vidvec.cli import main
from vidvec.embed.embedder import embed
from vidvec.errors import ServerError, UsageError
from vidvec.search.client import Client
from vidvec.search.cluster.filling import fill
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.interface import open_index
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.sharded.layout import FILE, shard_of
from vidvec.search.sharded.splitting import split
from vidvec.search.types import Filter, IndexedVideo

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

COUNT = 240
FILTERS = [
    Filter(),
    Filter(tags=("sea",), min_seconds=10),
    Filter(languages=("zh",)),
    Filter(after="2021-05-03", before="2024-01-01"),
]
WORDS = ["帆船", "dog beach", "strand übung", "边", '"hello"', "nowhere"]
SECONDS = 5.0


@dataclass
class Mix:
    """Shards of all kinds.

    Attributes:
        whole: Folder of all vectors, with an index.
        file: Lists the shards.
        folders: Of each shard's vectors; the first is searched as a folder.
        milvus: Address of the second.
    """

    whole: Path
    file: Path
    folders: list[Path]
    milvus: str

    def write(self, port: int) -> None:
        """The file of shards, with the third at a server on this machine."""
        places = [f'folder = "{self.folders[0].name}"', f'cluster = "{self.milvus}"']
        places.append(f'server = "http://127.0.0.1:{port}"\nname = "far"')
        head = f'placing = "hash"\ntimeout_seconds = {SECONDS}\nretry_seconds = 0.5\n'
        self.file.write_text(head + "".join(f"[[shard]]\n{each}\n" for each in places))


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> Iterator[Mix]:
    place = tmp_path_factory.mktemp("mix")
    corpus = corpus_with(place / "corpus", videos(COUNT))
    write_checkpoint(place / "model", corpus)
    embed(place / "model", corpus.path, place / "vectors")
    build_index(place / "vectors")
    file = split(place / "vectors", place / "shards", 3).file
    folders = [file.parent / f"shard-{number}" for number in range(3)]
    with milvus(tmp_path_factory.mktemp("milvus")) as url:
        fill(folders[1], f"{url}/part")
        yield Mix(place / "vectors", file.parent / "mix.toml", folders, f"{url}/part")


@pytest.fixture(scope="module")
def far(mix, tmp_path_factory) -> Iterator[Server]:
    """The third shard's server."""
    with serving(mix.folders[2], tmp_path_factory.mktemp("far")) as server:
        mix.write(server.port)
        yield server


def test_a_mix_answers_what_the_whole_answers(mix, far):
    with SearchIndex.open(mix.whole) as own, open_index(mix.file) as other:
        assert len(other) == len(own) == COUNT
        queries = own.vectors_of([f"v{number}" for number in range(0, COUNT, 5)])
        without = [{f"v{number}"} for number in range(len(queries))]
        for asked in FILTERS:
            found = other.search(queries, 12, filter=asked, without=without)
            same(found, own.search(queries, 12, filter=asked, without=without))
            assert found.missing is None
            assert other.facets(asked) == own.facets(asked)
            for text in WORDS:
                mine, theirs = other.words(text, 9, filter=asked), own.words(text, 9, filter=asked)
                same([mine], [theirs])
        ids = [f"v{number}" for number in range(30)]
        same(other.like(ids, 7), own.like(ids, 7))
        assert np.allclose(other.vectors_of(ids), own.vectors_of(ids), atol=1e-6)
        known = [(one.id, one.title, one.tags, one.date) for one in other.videos(ids)]
        assert known == [(one.id, one.title, one.tags, one.date) for one in own.videos(ids)]
        for wrong in (["nobody"], ["v1", "\ud800"]):
            with pytest.raises(UsageError):
                other.vectors_of(wrong)
        with pytest.raises(UsageError, match="values, expected"):
            other.facets(Filter(tags=tuple(map(str, range(1_001)))))
        # More than a server takes, and no reason to leave it out.
        with pytest.raises(UsageError):
            other.search(queries[:1], 3, filter=Filter(tags=("x" * 2_000,)))
        assert other.missing is None
        with pytest.raises(UsageError, match="k is 99999"):
            other.search(queries[:1], 99_999)


def same(found, expected) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [hit.id for hit in mine] == [hit.id for hit in theirs]
        cosines = [hit.cosine for hit in theirs]
        assert [hit.cosine for hit in mine] == pytest.approx(cosines, abs=2e-6)


def test_writes_go_to_folder_and_milvus_and_a_server_refuses_them(mix, far):
    with ShardedIndex.open(mix.file, writable=True) as index:
        owned: dict[int, list[str]] = {0: [], 1: [], 2: []}
        for number in range(30):
            owned[shard_of(f"n{number}", 3)].append(f"n{number}")
        new = [*owned[0], *owned[1]]
        vectors = clustered(len(new), index.dimension)
        index.add(new, vectors, [IndexedVideo(each, "neu", ("made",)) for each in new])
        assert [hits[0].id for hits in index.search(vectors, 1)] == new
        assert index.facets(Filter(tags=("made",))).videos == len(new)
        with pytest.raises(UsageError, match="takes no writes"):
            index.add(owned[2][:1], vectors[:1], [IndexedVideo(owned[2][0])])
        assert index.delete(new) == len(new)
        assert len(index) == COUNT


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """A server that is there and does not answer."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def until(check: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.1)


def ask(server: Server, **body: object) -> dict:
    response = server.http.post("/api/v1/search", json={"text": "dog", "k": 60, **body})
    assert response.status_code == 200, response.text
    found: dict = response.json()
    return found


def test_what_is_left_is_served_while_shards_are_killed_and_come_back(mix, far, tmp_path, capsys):
    with ExitStack() as stack:
        port = far.port
        front = stack.enter_context(serving(None, tmp_path, "--index", mix.file))
        with SearchIndex.open(mix.folders[2]) as index:
            lost = set(index.ids)
        whole = ask(front)
        assert whole["missing"] is None
        left = [hit["id"] for hit in whole["hits"] if hit["id"] not in lost]
        assert len(left) < len(whole["hits"])
        assert front.http.get("/readyz").json()["shards"] == {"answering": 3, "all": 3}

        with stopped(far):  # it hangs: the first answers wait for it, the next do not
            began = time.monotonic()
            found = ask(front, k=61)
            assert time.monotonic() - began < 4 * SECONDS
            [shard] = found["missing"]["shards"]
            assert (shard["name"], found["missing"]["of"]) == ("far", 3)
            assert shard["reason"] in ("timed-out", "unreachable")
            assert found["missing"]["share"] == pytest.approx(len(lost) / COUNT)
            assert [hit["id"] for hit in found["hits"]][: len(left)] == left
            began = time.monotonic()
            assert ask(front)["missing"] is not None
            assert time.monotonic() - began < SECONDS / 2
        until(lambda: ask(front)["missing"] is None)

        far.process.kill()
        far.process.wait()
        until(lambda: ask(front)["missing"] is not None)
        incomplete(mix, front, lost, capsys)
        shown_on_the_page(front)

        # The folder's turn; then two are gone of three.
        away = mix.folders[0].rename(mix.folders[0].with_name("away"))
        until(lambda: len((ask(front)["missing"] or {"shards": []})["shards"]) == 2)
        assert {one["reason"] for one in ask(front)["missing"]["shards"]} <= {
            *("damaged", "unreachable", "timed-out")
        }
        away.rename(mix.folders[0])
        until(lambda: len(ask(front)["missing"]["shards"]) == 1)

        stack.enter_context(serving(mix.folders[2], tmp_path, "--port", port))
        until(lambda: ask(front)["missing"] is None)
        assert ask(front)["hits"] == whole["hits"]
        assert front.http.get("/readyz").json()["status"] == "ready"
        until(lambda: 'vidvec_shard_up{shard="far"} 1.0' in front.http.get("/metrics").text)
        text = front.http.get("/metrics").text
        assert 'vidvec_shard_failures_total{reason="unreachable",shard="far"}' in text
        assert 'vidvec_shard_seconds_count{shard="far"}' in text


def incomplete(mix: Mix, front: Server, lost: set[str], capsys: pytest.CaptureFixture) -> None:
    """What server, client and command say while a shard is down."""
    ready = front.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "incomplete")
    assert front.http.get("/healthz").json()["shards"] == {"answering": 2, "all": 3}
    until(lambda: 'vidvec_shard_up{shard="far"} 0.0' in front.http.get("/metrics").text)
    away = min(lost)
    there = next(f"v{number}" for number in range(COUNT) if f"v{number}" not in lost)
    for path in ("/api/v1/video", "/api/v1/video/neighbours"):
        assert front.http.get(path, params={"id": away}).status_code == 503
        assert front.http.get(path, params={"id": there}).status_code == 200
    assert front.http.get("/api/v1/groups").status_code == 503
    with Client(front.url, retries=0) as client:
        found = client.search("dog", k=3)
        assert found.missing is not None
        assert [one.name for one in found.missing.shards] == ["far"]
        assert client.facets().missing == client.similar([there])[there].missing
        with pytest.raises(ServerError, match="no shard that answers"):
            client.search(ids=[away])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["search", "--index", str(mix.file), "--title", "dog", "-k", "3", "--json"])
    assert left.value.code == 3
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [hit["id"] for hit in told["hits"]] == [one.id for one in found]
    assert [one["name"] for one in told["missing"]["shards"]] == ["far"]
    assert "incomplete: 1 of 3 shards did not answer" in said.err


def shown_on_the_page(front: Server) -> None:
    """The notice that some is missing, in both languages, in a real browser."""
    if chromium() is None:
        return
    with opened_browser() as browser:
        for locale, words in (("en-GB", "not complete"), ("zh-CN", "不完整")):
            context = context_of(browser, locale=locale)
            watched = Watched(context.new_page(), front.url)
            page = watched.open("#/search?text=dog")
            notice = page.locator(".missing")
            notice.wait_for()
            assert words in notice.inner_text()
            assert "far" in notice.inner_text()
            assert page.locator(".card[data-id]").count() > 0
            found = Axe().run(page, context=".missing").response["violations"]
            assert [one["id"] for one in found] == []
            assert watched.console == []
            context.close()


def test_without_any_shard_the_server_says_so(mix, far, tmp_path):
    """In the file are two places where nothing is, and one folder, which goes."""
    folder = split(mix.whole, tmp_path / "shards", 1).file.parent
    file = folder / "lost.toml"
    nowhere = "".join(f'[[shard]]\nserver = "http://127.0.0.1:{port}"\n' for port in (1, 2))
    file.write_text(
        f'timeout_seconds = 1\nretry_seconds = 0.2\n{nowhere}[[shard]]\nfolder="shard-0"'
    )
    with serving(mix.whole, tmp_path, "--index", file) as front:
        found = ask(front)
        assert (len(found["missing"]["shards"]), found["missing"]["share"]) == (2, None)
        away = (folder / "shard-0").rename(folder / "away")
        until(lambda: front.http.get("/readyz").status_code == 503)
        response = front.http.post("/api/v1/search", json={"text": "dog"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unreachable")
        assert "Retry-After" in response.headers
        away.rename(folder / "shard-0")
        until(lambda: front.http.get("/readyz").status_code == 200)
        assert ask(front)["hits"] == found["hits"]
        # Another list takes over without a start.
        file.write_text('[[shard]]\nfolder = "shard-0"\n')
        until(lambda: ask(front)["missing"] is None)
        assert ask(front)["hits"] == found["hits"]


WRITER = """
import sys
import numpy as np
from pathlib import Path
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.types import IndexedVideo
with ShardedIndex.open(Path(sys.argv[1]), writable=True) as index:
    for number in range(10**9):
        ids = [f"w{number}.{part}" for part in range(4)]
        vectors = np.random.default_rng(number).standard_normal((4, 16)).astype("f4")
        index.add(ids, vectors, [IndexedVideo(each) for each in ids])
        print(number, flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(tmp_path):
    plain = write_vectors(tmp_path / "vectors", ["a", "b"], clustered(2, 16))
    file = split(plain, tmp_path / "shards", 3).file
    assert file.name == FILE
    words = [sys.executable, "-c", WRITER, str(file)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(25)]
    process.kill()
    acknowledged += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    with open_index(file) as index:
        for line in acknowledged:
            ids = [f"w{int(line)}.{part}" for part in range(4)]
            wanted = np.random.default_rng(int(line)).standard_normal((4, 16)).astype("f4")
            wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
            assert np.allclose(index.vectors_of(ids), wanted, atol=1e-6)
            assert [hits[0].id for hits in index.search(wanted, 1)] == ids
