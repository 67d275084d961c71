"""What a server refuses: each time one clear 4xx, and it goes on as if nothing had been."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import COUNT, Server
from tests.unit.search.clips import film

pytestmark = pytest.mark.slow
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def _undisturbed(server: Server) -> Iterator[None]:
    """Whatever was asked, the server answers as before, and has said nothing of a failure."""
    yield
    found = server.http.post("/api/v1/search", json={"text": "sea", "ids": ["clip0"], "k": 20})
    assert found.status_code == 200
    assert len(found.json()["hits"]) == COUNT - 1
    assert not [line for line in server.log() if line["level"] == "error"]


def refused(response: httpx.Response, status: int, code: str, says: str = "") -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code, error
    assert says in error["message"], error
    assert len(error["message"]) < 1_000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "nothing to look for"),
        ({"ids": []}, "nothing to look for"),
        ({"text": ""}, "text:"),
        ({"text": " \n\t"}, "text:"),
        ({"text": None}, "nothing to look for"),
        ({"text": 7}, "text:"),
        ({"text": "a" * 10_001}, "at most 10000 characters"),
        ({"text": "a" * 1_000_000}, "at most 10000 characters"),
        ({"query": "sea"}, "query: there is no such field"),
        ({"text": "sea", "k": 0}, "k:"),
        ({"text": "sea", "k": 101}, "k:"),
        ({"text": "sea", "k": "many"}, "k:"),
        ({"text": "sea", "k": 1.5}, "k:"),
        ({"text": "sea", "k": True}, "k:"),
        ({"text": "sea", "k": "5"}, "k:"),
        ({"text": "sea", "explain": "yes"}, "explain:"),
        ({"text": "sea", "filter": {"max_seconds": False}}, "filter.max_seconds:"),
        ({"text": "sea", "filter": []}, "filter:"),
        ({"ids": ["clip0"] * 101}, "ids:"),
        ({"ids": [""]}, "ids.0:"),
        ({"ids": "clip0"}, "ids:"),
        ({"ids": ["clip0"], "words": True}, "words"),
        ({"text": "sea", "filter": {"tag": ["x"]}}, "filter.tag: there is no such field"),
        ({"text": "sea", "filter": {"after": "yesterday"}}, "filter.after:"),
        ({"text": "sea", "filter": {"min_seconds": -1}}, "filter.min_seconds:"),
        ({"text": "sea", "filter": {"tags": ["x"] * 101}}, "filter.tags:"),
    ],
)
def test_a_search_that_says_nothing_or_too_much(server, body, says):
    refused(server.http.post("/api/v1/search", json=body), 422, "bad-request", says)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"text": "sea", "k": NaN}',
        b'{"text": "sea", "filter": {"min_seconds": Infinity}}',
        b'{"text": "sea", "filter": {"min_seconds": 1e999}}',
        b'{"text": "\\ud800"}',
        b'{"text": "sea", "k": ' + b"9" * 4000 + b"}",
    ],
)
def test_a_body_that_is_none(server, body):
    refused(server.http.post("/api/v1/search", content=body, headers=JSON), 422, "bad-request")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"filter":' * 100_000,
        b'{"text": "\xff"}',
        b'{"text": "sea", "k": ' + b"9" * 10_000 + b"}",
    ],
)
def test_a_body_that_cannot_be_read(server, body):
    response = server.http.post("/api/v1/search", content=body, headers=JSON)
    refused(response, 400, "bad-request", "parsing the body")


def test_a_body_that_is_not_json_by_its_type(server):
    response = server.http.post("/api/v1/search", content=b'{"text": "sea"}')
    refused(response, 422, "bad-request")


def test_three_megabytes_of_text(server):
    body = json.dumps({"text": "a" * 3_000_000}).encode()
    response = server.http.post("/api/v1/search", content=body, headers=JSON)
    refused(response, 413, "too-large", "2,097,152 bytes")
    parts = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    chunked = server.http.post("/api/v1/search", content=parts, headers=JSON)
    assert "content-length" not in chunked.request.headers
    refused(chunked, 413, "too-large", "2,097,152 bytes")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("search", {"ids": ["none"]}),
        ("search", {"ids": ["clip0"], "unlike_ids": ["none"]}),
        ("similar", {"ids": ["clip0", "none"]}),
    ],
)
def test_an_id_that_is_not_there(server, path, body):
    refused(server.http.post(f"/api/v1/{path}", json=body), 404, "unknown-id", "'none'")


@pytest.mark.parametrize("path", ["video", "video/neighbours", "picture"])
@pytest.mark.parametrize("video", ["none", "../../etc/passwd", "clip0\0", "' OR 1=1 --", "%00"])
def test_a_video_that_is_not_there(server, path, video):
    response = server.http.get(f"/api/v1/{path}", params={"id": video})
    refused(response, 404, "unknown-id", "no video")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("video", {}),
        ("video", {"id": ""}),
        ("video", {"id": "clip0", "ids": "clip0"}),
        ("video", {"id": "a" * 1_001}),
        ("video/neighbours", {"id": "clip0", "k": 0}),
        ("video/neighbours", {"id": "clip0", "explain": "perhaps"}),
        ("picture", {"id": "clip0", "n": -1}),
        ("picture", {"id": "clip0", "n": 10**30}),
        ("facets", {"tag": "x"}),
        ("facets", {"min_seconds": "nan"}),
        ("facets", {"before": "2021-13-45"}),
        ("groups", {"threshold": 0}),
        ("groups", {"threshold": 1.5}),
        ("groups", {"threshold": "nan"}),
        ("groups", {"offset": -1}),
        ("groups", {"limit": 201}),
        ("pairs", {"split": "test"}),
        ("pairs", {"offset": 10**12}),
        ("pairs", {"limit": [3, 4]}),
        ("facets", {"max_seconds": ["1", "2"], "tags": ["a", "b"]}),
    ],
)
def test_a_query_that_cannot_be_used(server, path, params):
    refused(server.http.get(f"/api/v1/{path}", params=params), 422, "bad-request")


def test_id_that_is_not_utf8(server):
    response = server.http.get("/api/v1/video?id=%ff%fe")
    refused(response, 404, "unknown-id")


@pytest.mark.parametrize("body", [{"texts": []}, {"texts": ["a"] * 257}, {"texts": ["a" * 10_001]}])
def test_texts_that_are_too_many_or_long(server, body):
    refused(server.http.post("/api/v1/embed", json=body), 422, "bad-request", "texts")


def zip_bomb() -> bytes:
    """A small archive of 256 MiB of zeros."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**28))
    return packed.getvalue()


@pytest.mark.parametrize("path", ["search/upload", "embed/upload"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.mp4", zip_bomb),
        ("../../../etc/passwd", lambda: b"root:x:0:0"),
        ("/tmp/x.mp4", lambda: b"\0" * 10_000),  # noqa: S108 - only a name
        ("a\0b.mp4", lambda: b"abc"),
        ("text.mp4", lambda: b"no video at all\n" * 100),
        ("playlist.m3u8", lambda: b"#EXTM3U\nfile:///etc/passwd\n"),
        ("list.ffconcat", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("picture.jpg", lambda: b"\xff\xd8\xff\xe0" + b"\0" * 100),
    ],
)
def test_a_file_that_is_no_video(server, path, name, content):
    response = server.http.post(f"/api/v1/{path}", files={"file": (name, content())})
    refused(response, 422, "bad-video")
    assert "/uploads/" not in response.text
    assert "passwd" not in response.text


def test_an_empty_file(server):
    response = server.http.post("/api/v1/search/upload", files={"file": ("a.mp4", b"")})
    refused(response, 422, "bad-video", "empty-file")


def test_a_video_that_is_cut_off(server, tmp_path):
    whole = film(tmp_path / "whole.mp4", 2).read_bytes()
    response = server.http.post(
        "/api/v1/search/upload", files={"file": ("cut.mp4", whole[: len(whole) // 2])}
    )
    refused(response, 422, "bad-video")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"k": "0"}, 422),
        ({"filter": "{"}, 422),
        ({"filter": '{"tag": []}'}, 422),
        ({"filter": "[" * 50_000}, 422),
        ({"words": "true"}, 422),
        ({"text": "a" * 10_001}, 422),
        ({"text": "a" * 2**21}, 400),
    ],
)
def test_a_form_that_cannot_be_used(server, served, data, status):
    clip = (served / "clips" / "clip0.mp4").read_bytes()
    response = server.http.post("/api/v1/search/upload", files={"file": clip}, data=data)
    refused(response, status, "bad-request")


def test_a_form_without_a_file(server):
    for field in ({"data": {"k": "3"}}, {"files": {"movie": b"abc"}}, {"data": {"file": "abc"}}):
        refused(server.http.post("/api/v1/search/upload", **field), 422, "bad-request", "file")


def test_a_form_that_is_broken(server):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"--x\r\nnonsense", b"\0" * 1_000, b"--x--"):
        response = server.http.post("/api/v1/search/upload", content=body, headers=headers)
        assert response.status_code in (400, 422)
        assert response.json()["error"]["code"] == "bad-request"
    headers = {"Content-Type": "multipart/form-data"}
    response = server.http.post("/api/v1/search/upload", content=b"abc", headers=headers)
    refused(response, 400, "bad-request")


def test_nothing_that_was_handed_in_is_left(server):
    process = Path(f"/proc/{server.process.pid}/fd")
    folders = {Path(link.readlink()).parent for link in process.iterdir() if link.is_symlink()}
    scratch = [folder for folder in folders if folder.name.startswith("vidvec-serve-")]
    assert len(scratch) == 1
    assert list(scratch[0].glob("uploads/*")) == []


def test_other_methods_and_paths(server):
    refused(server.http.get("/api/v1/search"), 405, "method-not-allowed")
    refused(server.http.delete("/api/v1/video"), 405, "method-not-allowed")
    refused(server.http.get("/api/v2/search"), 404, "not-found")
    refused(server.http.get("/docs"), 404, "not-found")


def test_another_name_for_this_machine(server):
    """A page of another site whose name was turned to 127.0.0.1 must not read what is here."""
    response = server.http.get("/api/v1/info", headers={"Host": "evil.example:8000"})
    refused(response, 400, "bad-request", "evil.example")
    for name in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80", "127.0.0.2"):
        assert server.http.get("/api/v1/info", headers={"Host": name}).status_code == 200


def test_no_other_site_may_read_answers(server):
    response = server.http.get("/api/v1/info", headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
    asked = server.http.options(
        "/api/v1/search",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert asked.status_code == 405


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02", b"GET /\0 HTTP/1.1"],
)
def test_what_is_not_http(server, sent):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
