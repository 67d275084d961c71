"""Keys, limits of rate, size and time, overload."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import COUNT, Server, answered, code, head, hits, serving
from vidvec.errors import ServerError
from vidvec.search.client import Client

pytestmark = pytest.mark.slow
KEY = "a key: with signs!"


@pytest.fixture(scope="module")
def strict(served, tmp_path_factory) -> Iterator[Server]:
    """A server with a key and small limits."""
    options = ["--rate", 20, "--timeout", 2, "--max-upload-mb", 0.1, "--log-queries"]
    folder = tmp_path_factory.mktemp("strict")
    with serving(served / "vectors", folder, *options, VIDVEC_API_KEY=KEY) as server:
        yield server


def test_what_is_open_and_what_asks_for_the_key(strict):
    for path in ("/healthz", "/readyz", "/", "/page/none"):
        assert strict.http.get(path).status_code in (200, 404), path
    closed = [
        *["/api/v1/info", "/api/v1/picture?id=clip0", "/metrics", "/openapi.json"],
        *["/api/v1/facets", "/api/none", "/api/v1/map"],
    ]
    for path in closed:
        response = strict.http.get(path)
        assert (response.status_code, code(response)) == (401, "unauthorised"), path
        assert response.headers["www-authenticate"] == "Bearer"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer  {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
        ({"X-API-Key": KEY + "x"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": KEY}, 401),
        ({"X-API-Key": "é".encode()}, 401),
    ],
)
def test_keys(strict, headers, status):
    time.sleep(0.2)
    assert strict.http.get("/api/v1/info", headers=headers).status_code == status


def test_the_key_is_not_in_the_log(strict):
    strict.http.get("/api/v1/info", headers={"X-API-Key": KEY})
    assert KEY not in strict.errors.read_text("utf-8")


def test_what_is_looked_for_is_logged_where_that_is_asked_for(strict):
    headers = {"X-API-Key": KEY, "X-Request-ID": "asked"}
    strict.http.post("/api/v1/search", json={"text": "sea"}, headers=headers)
    assert strict.logged("asked")["text"] == "sea"


def test_the_client_with_and_without_the_key(strict):
    with Client(strict.url, api_key=KEY) as client:
        assert client.info().videos == COUNT
    with (
        Client(strict.url) as client,
        pytest.raises(ServerError, match="the API key is missing") as caught,
    ):
        client.info()
    assert (caught.value.code, caught.value.status) == ("unauthorised", 401)


def test_a_client_that_asks_too_often(strict):
    time.sleep(2.5)  # a full bucket: 40 at once, then 20 a second
    headers = {"X-API-Key": KEY}
    began = time.monotonic()
    answers = [strict.http.get("/api/v1/facets", headers=headers) for _ in range(120)]
    took = time.monotonic() - began
    good = sum(answer.status_code == 200 for answer in answers)
    late = [answer for answer in answers if answer.status_code == 429]
    assert good + len(late) == 120
    assert good <= 40 + 20 * took + 1
    if took < 3:
        assert late
    for answer in late:
        assert code(answer) == "too-many-requests"
        assert int(answer.headers["retry-after"]) >= 1
    assert strict.http.get("/healthz").status_code == 200
    with Client(strict.url, api_key=KEY) as client:  # waits as long as it is told
        assert client.info().videos == COUNT


def test_a_file_that_is_too_large(strict):
    time.sleep(1.5)
    headers = {"X-API-Key": KEY}
    for size, status in ((150_000, 413), (3_000_000, 413), (1_000, 422)):
        response = strict.http.post(
            "/api/v1/search/upload", files={"file": ("a.mp4", bytes(size))}, headers=headers
        )
        assert response.status_code == status
        assert code(response) == ("too-large" if status == 413 else "bad-video")


def test_a_request_that_does_not_end_is_given_up(strict):
    time.sleep(1)
    with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
        connection.sendall(head("/api/v1/search", 100, key=KEY) + b'{"text"')
        began = time.monotonic()
        status, body = answered(connection)
    assert status == 503
    assert json.loads(body)["error"]["code"] == "timed-out"
    assert 1.5 < time.monotonic() - began < 20


def test_more_requests_than_fit_are_told_to_come_back(server):
    """Requests whose bodies have not come hold all places; another one is refused at once."""
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(40):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            held.append(stack.enter_context(connection))
            connection.sendall(head("/api/v1/search", 15) + b'{"text"')
        until_inside(server, 32)
        response = server.http.get("/api/v1/info")
        assert response.status_code == 503
        assert code(response) == "busy"
        assert response.headers["retry-after"] == "1"
        assert server.http.get("/healthz").status_code == 200
        statuses = []
        for connection in held:  # and those that were let in are answered
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b': "sea"}')
            statuses.append(answered(connection)[0])
        assert statuses.count(200) == 32
        assert statuses.count(503) == 8
    assert server.http.get("/api/v1/info").status_code == 200


def until_inside(server: Server, count: int) -> None:
    """Waits until so many requests are worked on, besides the one that asks."""
    for _ in range(400):
        if f"vidvec_requests_in_flight {count + 1}.0" in server.http.get("/metrics").text:
            return
        time.sleep(0.05)
    raise AssertionError(f"never {count} requests inside")


def test_uploads_do_not_take_the_places_of_searches(server):
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            stack.enter_context(connection)
            connection.sendall(
                head("/api/v1/search/upload", 10**6, "multipart/form-data; boundary=x")
            )
        until_inside(server, 4)
        response = server.http.post("/api/v1/search/upload", files={"file": b"abc"})
        assert (response.status_code, code(response)) == (503, "busy")
        assert server.http.post("/api/v1/search", json={"text": "sea"}).status_code == 200


def test_words_are_encoded_together(server):
    """Many threads at once: all are answered alike, in fewer runs of the model."""

    def batches() -> tuple[float, float]:
        found = {}
        for family in text_string_to_metric_families(server.http.get("/metrics").text):
            found |= {sample.name: sample.value for sample in family.samples if not sample.labels}
        return found["vidvec_text_batch_size_count"], found["vidvec_text_batch_size_sum"]

    texts = [f"sea {number}" for number in range(8)] * 3
    body = {"text": "", "k": 3}
    alone = {t: hits(server.http, {**body, "text": t}) for t in set(texts)}
    before = batches()
    found: list[tuple[str, list]] = []

    def ask(text: str) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            found.append((text, hits(http, {**body, "text": text})))

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs, encoded = (after - then for after, then in zip(batches(), before, strict=True))
    assert encoded == len(texts)
    assert runs <= len(texts)
    for text, each in found:
        assert [video for video, _ in each] == [video for video, _ in alone[text]]
        cosines = [cosine for _, cosine in each]
        assert cosines == pytest.approx([cosine for _, cosine in alone[text]], abs=1e-5)
