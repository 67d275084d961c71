"""The client against the server and the Python API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import COUNT
from tests.unit.search.clips import film
from vidvec.errors import BadRecord, ServerError, UsageError
from vidvec.search.client import Client
from vidvec.search.groups import groups_of
from vidvec.search.map import load_map
from vidvec.search.types import Filter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_the_client_gives_what_the_server_has(client, served, index, encoder):
    assert client.ready()
    info = client.info()
    assert info.videos == COUNT
    assert info.can["upload"]
    same_ids = [hit.id for hit in index.search(encoder.titles(["sea"]), 4)[0]]
    hits = client.search("sea", k=4, explain=True)
    assert [hit.id for hit in hits] == same_ids
    assert hits[0].why is not None
    assert set(hits[0].why.alone) == {"frames", "title"}
    assert 0 <= hits[0].probability <= 1
    known = index.videos(same_ids)
    assert [hit.video.title for hit in hits] == [video.title for video in known]
    assert [hit.video.tags for hit in hits] == [video.tags for video in known]
    clip = served / "clips" / "clip7.mp4"
    tagged = client.search_file(clip, k=2, filter=Filter(tags=("odd",)))
    assert [hit.id for hit in tagged] == [
        hit.id
        for hit in index.search(
            encoder.videos([encoder.read(clip)]), 2, filter=Filter(tags=("odd",))
        )[0]
    ]
    found = client.similar(["clip1", "clip2"], k=1)
    assert {name: [hit.id for hit in hits] for name, hits in found.items()} == {
        name: [hit.id for hit in index.like([name], 1)[0]] for name in ("clip1", "clip2")
    }
    assert client.embed(["sea"]) == pytest.approx(encoder.titles(["sea"]), abs=1e-5)

    assert client.embed_file(clip).shape == (16,)
    assert client.video("clip3").date == "2021-05-04"
    assert client.neighbours("clip3", k=1)[0].id == index.like(["clip3"], 1)[0][0].id
    assert client.picture("clip3", 0)[:2] == b"\xff\xd8"
    assert client.facets(Filter(categories=("c1",))).tags == {"topic1": 4, "even": 2, "odd": 2}
    groups = list(client.groups(0.5))
    assert [group.members[0].id for group in groups] == [
        group.representative for group in groups_of(served / "vectors", 0.5)
    ]
    assert client.map() == load_map(served / "vectors").document()
    pairs = list(client.pairs("all"))
    assert len(pairs) == COUNT * (COUNT - 1) // 2
    assert [pair.gap for pair in pairs] == sorted((pair.gap for pair in pairs), reverse=True)


def test_the_client_raises_what_the_server_says(client, tmp_path):
    with pytest.raises(UsageError, match="no video 'none' here: ids are told"):
        client.video("none")
    with pytest.raises(UsageError, match="nothing to look for"):
        client.search()
    (tmp_path / "cut.mp4").write_bytes(film(tmp_path / "whole.mp4", 1).read_bytes()[:900])
    with pytest.raises(BadRecord) as caught:
        client.search_file(tmp_path / "cut.mp4")
    assert caught.value.reason in ("truncated-video", "damaged-video", "not-a-video")
    with pytest.raises(UsageError, match="cannot be read"):
        client.search_file(tmp_path / "nowhere.mp4")
    with (
        Client("http://127.0.0.1:9", retries=0) as nobody,
        pytest.raises(ServerError, match="no answer from") as unreachable,
    ):
        nobody.info()
    assert unreachable.value.code == "unreachable"
