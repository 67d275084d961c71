"""``vidvec serve`` as a process: every route against what the Python API answers."""

from __future__ import annotations

import base64
import json
import re

import cv2
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import COUNT, Server
from tests.unit.search.clips import scene
from vidvec import __version__
from vidvec.data.corpus import Corpus
from vidvec.search.calibrate import Calibration
from vidvec.search.explain import explain
from vidvec.search.groups import groups_of
from vidvec.search.map import load_map
from vidvec.search.query import combine, like_and_unlike
from vidvec.search.types import Filter
from vidvec.search.worst import worst_pairs

pytestmark = pytest.mark.slow


def asked(server: Server, path: str, body: dict) -> dict:
    response = server.http.post(f"/api/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def got(server: Server, path: str, **params) -> dict:
    response = server.http.get(f"/api/v1/{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def same(hits: list[dict], expected: list) -> None:
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    cosines = [hit.cosine for hit in expected]
    assert [hit["cosine"] for hit in hits] == pytest.approx(cosines, abs=1e-5)


def error(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    found = response.json()["error"]
    assert set(found) == {"code", "message", "hint"}
    assert found["code"] == code
    return found["message"]


def test_info_says_what_is_there(server):
    info = got(server, "info")
    assert info["name"] == "vectors"
    assert info["version"] == __version__
    assert (info["videos"], info["dimension"], info["kind"]) == (COUNT, 16, "exact")
    assert info["model"] == "model"
    assert info["modalities"] == ["frames", "title"]
    can = ["text", "upload", "why", "probability", "map", "pairs", "groups", "pictures"]
    assert info["can"] == dict.fromkeys(can, True)
    assert info["limits"] == {"k": 100, "upload_bytes": 200 * 2**20, "text_chars": 10_000}


def test_health_and_readiness(server):
    assert server.http.get("/healthz").json() == {"status": "ok", "shards": None}
    ready = {"status": "ready", "videos": COUNT, "shards": None}
    assert server.http.get("/readyz").json() == ready


def test_words_are_looked_for_by_vectors(server, index, encoder):
    found = asked(server, "search", {"text": "sea waves", "k": 5})
    same(found["hits"], index.search(encoder.titles(["sea waves"]), 5)[0])
    assert found["generation"] == index.generation
    assert found["took_ms"] > 0


def test_a_hit_says_what_is_known_of_the_video(server, served, index):
    hit = asked(server, "search", {"ids": ["clip0"], "k": 1})["hits"][0]
    [[expected]] = index.like(["clip0"], 1)
    known = Corpus(served / "corpus").video(Corpus(served / "corpus").row(expected.id))
    calibration = Calibration.load(served / "vectors")
    assert hit == {
        "id": expected.id,
        "title": known.title,
        "tags": list(known.tags),
        "category": known.category,
        "language": known.language,
        "duration_seconds": known.duration_seconds,
        "date": known.date,
        "pictures": len(
            Corpus(served / "corpus").thumbnails(Corpus(served / "corpus").row(known.id))
        ),
        "cosine": pytest.approx(expected.cosine, abs=1e-6),
        "probability": pytest.approx(calibration.probability([expected.cosine])[0], abs=1e-6),
        "why": None,
    }


def test_words_and_videos_together_and_unlike_others(server, index, encoder):
    body = {"text": "sea", "ids": ["clip1", "clip2"], "unlike_ids": ["clip3"], "k": 20}
    found = asked(server, "search", body)["hits"]
    like = np.concatenate([index.vectors_of(["clip1", "clip2"]), encoder.titles(["sea"])])
    query = like_and_unlike(like, index.vectors_of(["clip3"]))
    without = [("clip1", "clip2", "clip3")]
    same(found, index.search(query[None], 20, without=without)[0])
    assert len(found) == COUNT - 3


@pytest.mark.parametrize(
    ("asked_filter", "passes"),
    [
        ({"tags": ["topic0", "even"]}, lambda n: n % 3 == 0 and n % 2 == 0),
        ({"categories": ["c1", "c2"]}, lambda n: n % 3),
        ({"languages": ["zh"]}, lambda n: n % 2),
        ({"after": "2021-05-03", "before": "2021-05-05"}, lambda n: n in (2, 3)),
        ({"max_seconds": 0.5}, lambda n: False),
    ],
)
def test_filters(server, index, asked_filter, passes):
    found = asked(server, "search", {"ids": ["clip0"], "filter": asked_filter})["hits"]
    assert {hit["id"] for hit in found} == {f"clip{n}" for n in range(1, COUNT) if passes(n)}
    lists = {name: tuple(v) if isinstance(v, list) else v for name, v in asked_filter.items()}
    same(found, index.like(["clip0"], 20, filter=Filter(**lists))[0])
    counts = got(server, "facets", **asked_filter)
    assert counts["videos"] == len([n for n in range(COUNT) if passes(n)])


def test_words_of_titles(server, index):
    found = asked(server, "search", {"text": "forest", "words": True})["hits"]
    same(found, index.words("forest", 20))
    assert {hit["id"] for hit in found} == {"clip2", "clip5", "clip8", "clip11"}
    assert all(hit["probability"] is None for hit in found)


def test_why(server, served, index, encoder):
    found = asked(server, "search", {"text": "sea", "k": 3, "explain": True})["hits"]
    query = encoder.titles(["sea"])[0]
    expected = explain(encoder, Corpus(served / "corpus"), query, [hit["id"] for hit in found])
    for hit, why in zip(found, expected, strict=True):
        assert hit["why"]["alone"] == pytest.approx(dict(why.alone), abs=1e-5)
        assert hit["why"]["lost"] == pytest.approx(dict(why.lost), abs=1e-5)
        assert set(hit["why"]["alone"]) == {"frames", "title"}


def test_a_file_is_looked_for(server, served, index, encoder):
    clip = served / "clips" / "clip4.mp4"
    with clip.open("rb") as file:
        response = server.http.post(
            "/api/v1/search/upload",
            files={"file": ("../../etc/odd name.MP4", file)},
            data={"k": 3, "filter": json.dumps({"tags": ["even"]}), "explain": "true"},
        )
    assert response.status_code == 200, response.text
    found = response.json()
    video = encoder.read(clip)
    query = encoder.videos([video])
    same(found["hits"], index.search(query, 3, filter=Filter(tags=("even",)))[0])
    assert found["hits"][0]["why"]["alone"]["frames"]
    assert found["query"]["duration_seconds"] == pytest.approx(1.5, abs=0.11)
    pictures = [each.removeprefix("data:image/jpeg;base64,") for each in found["query"]["pictures"]]
    assert [base64.b64decode(each) for each in pictures] == list(video.thumbnails)


def test_a_picture_with_words_is_looked_for(server, index, encoder, tmp_path):
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), scene(3)[:, :, ::-1])
    with path.open("rb") as file:
        response = server.http.post(
            "/api/v1/search/upload", files={"file": file}, data={"text": "forest", "k": "4"}
        )
    vectors = [*encoder.videos([encoder.read(path)]), *encoder.titles(["forest"])]
    same(response.json()["hits"], index.search(combine(np.array(vectors))[None], 4)[0])


def test_neighbours_of_many(server, index):
    ids = ["clip3", "clip0", "clip3"]
    found = asked(server, "similar", {"ids": ids, "k": 2, "filter": {"tags": ["odd"]}})["results"]
    assert [each["id"] for each in found] == ids
    expected = index.like(ids, 2, filter=Filter(tags=("odd",)))
    for each, hits in zip(found, expected, strict=True):
        same(each["hits"], hits)


def test_vectors_of_texts_and_files(server, served, encoder):
    texts = ["sea waves", "", "城市"]
    found = asked(server, "embed", {"texts": texts})
    assert found["dimension"] == 16
    assert np.array(found["vectors"]) == pytest.approx(encoder.titles(texts), abs=1e-5)
    clip = served / "clips" / "clip1.mp4"
    with clip.open("rb") as file:
        response = server.http.post(
            "/api/v1/embed/upload", files={"file": file}, data={"title": "city"}
        )
    expected = encoder.videos([encoder.read(clip, title="city")])
    assert np.array(response.json()["vectors"]) == pytest.approx(expected, abs=1e-5)


def test_a_video_and_its_neighbours(server, index):
    video = got(server, "video", id="clip5")
    assert (video["id"], video["category"], video["date"]) == ("clip5", "c2", "2021-05-06")
    found = got(server, "video/neighbours", id="clip5", k=3, explain=True)["hits"]
    same(found, index.like(["clip5"], 3)[0])
    assert found[0]["why"]["lost"]


def test_pictures(server, served):
    corpus = Corpus(served / "corpus")
    pictures = corpus.thumbnails(corpus.row("clip2"))
    assert got(server, "video", id="clip2")["pictures"] == len(pictures) > 0
    for number, expected in enumerate(pictures):
        response = server.http.get("/api/v1/picture", params={"id": "clip2", "n": number})
        assert response.headers["content-type"] == "image/jpeg"
        assert response.content == expected
    tag = response.headers["etag"]
    again = server.http.get(response.request.url, headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    more = server.http.get("/api/v1/picture", params={"id": "clip2", "n": len(pictures)})
    assert "pictures, none of number" in error(more, 404, "not-available")


def test_facets(server):
    found = got(server, "facets")
    assert found["videos"] == COUNT
    assert {each["value"]: each["count"] for each in found["tags"]} == {
        **{f"topic{n}": 4 for n in range(3)},
        "odd": 6,
        "even": 6,
    }
    assert found["languages"] == [{"value": "en", "count": 6}, {"value": "zh-Hant", "count": 6}]


def test_groups(server, served):
    for threshold in (0.5, 0.95, None):
        asked_for = {} if threshold is None else {"threshold": threshold}
        found = got(server, "groups", **asked_for)
        expected = groups_of(served / "vectors", threshold)
        assert found["total"] == len(expected)
        for group, each in zip(found["groups"], expected, strict=True):
            assert group["representative"]["id"] == each.representative
            same(group["members"], list(each.members))
    some = got(server, "groups", threshold=0.5, offset=1, limit=1)
    assert some["groups"] == got(server, "groups", threshold=0.5)["groups"][1:2]
    assert some["threshold"] == 0.5


def test_pairs(server, served, encoder):
    found = got(server, "pairs", split="all", offset=2, limit=3)
    corpus = Corpus(served / "corpus")
    expected = worst_pairs(served / "vectors", corpus, "all", offset=2, limit=3, encoder=encoder)
    assert found["total"] == expected.total == COUNT * (COUNT - 1) // 2
    assert found["spearman"] == pytest.approx(expected.spearman, abs=1e-9)
    for pair, each in zip(found["pairs"], expected.pairs, strict=True):
        assert (pair["video_1"]["id"], pair["video_2"]["id"]) == (each.id_1, each.id_2)
        for name in ("score", "cosine", "score_rank", "cosine_rank", "gap"):
            assert pair[name] == pytest.approx(getattr(each, name), abs=1e-6)
        assert pair["why"] == pytest.approx(dict(each.why), abs=1e-5)
    assert got(server, "pairs", split="all", explain=False)["pairs"][0]["why"] is None


def test_the_map(server, served):
    found = got(server, "map")
    assert found == load_map(served / "vectors").document()
    assert sorted(point[0] for point in found["points"]) == sorted(f"clip{n}" for n in range(COUNT))


def test_metrics_count_requests(server):
    def counted() -> tuple[dict, dict]:
        requests, other = {}, {}
        for family in text_string_to_metric_families(server.http.get("/metrics").text):
            for sample in family.samples:
                labels = sample.labels
                if sample.name == "vidvec_requests_total":
                    requests[labels["method"], labels["route"], labels["status"]] = sample.value
                elif not labels:
                    other[sample.name] = sample.value
        return requests, other

    before, _ = counted()
    for _ in range(3):
        got(server, "video", id="clip0")
    server.http.get("/api/v1/video", params={"id": "none"})
    server.http.get("/no/such/path")
    after, other = counted()
    grown = {key: after[key] - before.get(key, 0) for key in after}
    assert grown["GET", "/api/v1/video", "200"] == 3
    assert grown["GET", "/api/v1/video", "404"] == 1
    assert grown["GET", "unmatched", "404"] == 1
    assert other["vidvec_index_videos"] == COUNT
    assert other["vidvec_requests_in_flight"] == 1  # this one


def test_a_request_is_logged_without_what_was_looked_for(server):
    wanted = "a very private question"
    response = server.http.post(
        "/api/v1/search", json={"text": wanted}, headers={"X-Request-ID": "mine-1"}
    )
    assert response.headers["x-request-id"] == "mine-1"
    line = server.logged("mine-1")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/search", 200)
    assert line["ms"] > 0
    answered = server.http.get("/api/v1/video", params={"id": "private"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", answered)
    server.logged(answered)
    assert "private" not in server.errors.read_text("utf-8")


def test_a_request_id_of_strange_signs_is_replaced(server):
    response = server.http.get("/healthz", headers={"X-Request-ID": "a b\tc"})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_the_page_and_what_browsers_may_do_with_it(server):
    response = server.http.get("/")
    if response.status_code == 200:
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["cache-control"] == "no-cache"
        again = server.http.get("/", headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == policy
    else:
        assert "There is no page" in response.text
    for path in ("/page/../../engine.py", "/page/%2e%2e/%2e%2e/engine.py", "/page//etc/passwd"):
        outside = httpx.Client(base_url=server.url).request("GET", httpx.URL(server.url + path))
        assert outside.status_code == 404
