"""Downloads: what comes is whole, limited in size and time, and from nowhere it should not be."""

from __future__ import annotations

import errno
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.unit.data import serving
from tests.unit.data.serving import CONTENT, serve
from vidvec.data import addresses
from vidvec.data.addresses import is_public, is_url, parse_url
from vidvec.data.fetch import Fetcher, FetchOptions
from vidvec.errors import BadRecord

QUICK = {"private": True, "pause_seconds": 0.01, "seconds": 20.0}


def fetch(url: str, path: Path, **options: object) -> bytes:
    Fetcher(FetchOptions(**{**QUICK, **options})).fetch(url, path)  # type: ignore[arg-type]
    return path.read_bytes()


def problem(url: str, path: Path, **options: object) -> BadRecord:
    with pytest.raises(BadRecord) as caught:
        fetch(url, path, **options)
    assert not path.exists()
    return caught.value


def test_what_comes_is_what_is_there(tmp_path):
    with serve(video=serving.whole(), empty=serving.whole(b"")) as server:
        assert fetch(server.url("/video"), tmp_path / "a") == CONTENT
        assert fetch(server.url("/empty"), tmp_path / "b") == b""
        assert server.asked == {"/video": 1, "/empty": 1}


def test_letters_that_a_url_may_not_have_are_escaped(tmp_path):
    with serve() as server:
        server.answers["/%E7%8C%AB%20a.mp4?q=%C3%A9"] = serving.whole()
        assert fetch(server.url("/猫 a.mp4?q=é"), tmp_path / "a") == CONTENT


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429])
def test_a_server_that_fails_is_asked_again(tmp_path, status):
    with serve(video=serving.failing(2, status, serving.whole())) as server:
        assert fetch(server.url("/video"), tmp_path / "a") == CONTENT
        assert server.asked["/video"] == 3


def test_a_server_that_keeps_failing_is_given_up(tmp_path):
    with serve(video=serving.failing(99, 503, serving.whole())) as server:
        error = problem(server.url("/video"), tmp_path / "a", attempts=3)
        assert error.reason == "fetch-failed"
        assert "503 Service Unavailable (tried 3 times)" in error.detail
        assert server.asked["/video"] == 3


def test_a_server_says_how_long_to_wait(tmp_path):
    busy = serving.failing(1, 429, serving.whole(), Retry_After=1)
    with serve(video=busy) as server:
        start = time.monotonic()
        assert fetch(server.url("/video"), tmp_path / "a") == CONTENT
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(tmp_path, status):
    with serve(video=serving.failing(99, status, serving.whole())) as server:
        error = problem(server.url("/video"), tmp_path / "a")
        assert (error.reason, str(status) in error.detail) == ("fetch-failed", True)
        assert server.asked["/video"] == 1


def test_a_cut_connection_is_carried_on_where_it_was_cut(tmp_path):
    with serve(video=serving.cut_at(100_000)) as server:
        assert fetch(server.url("/video"), tmp_path / "a") == CONTENT
        assert server.ranges == ["", "bytes=100000-"]


@pytest.mark.parametrize("how", ["no validator", "weak validator", "no ranges"])
def test_halves_that_may_not_fit_are_not_joined(tmp_path, how):
    tag = {"no validator": "", "weak validator": 'W/"one"'}.get(how, '"one"')
    answer = serving.cut_at(100_000, tag=tag, ranges=how != "no ranges")
    with serve(video=answer) as server:
        assert fetch(server.url("/video"), tmp_path / "a") == CONTENT
        assert server.ranges[1] == ("bytes=100000-" if how == "no ranges" else "")


def test_a_server_that_carries_on_elsewhere_is_asked_for_all(tmp_path):
    def answer(request):
        if request.headers.get("Range"):
            request.head(206, Content_Range="bytes 7-9/10", Content_Length=3)
            request.wfile.write(b"abc")
        else:
            serving.cut_at(100_000)(request)

    with serve(video=answer) as server:
        assert fetch(server.url("/video"), tmp_path / "a") == CONTENT
        assert server.ranges == ["", "bytes=100000-", ""]


def test_a_length_that_is_a_lie(tmp_path):
    """Too long: the rest is missing. Too short: what is beyond is not taken."""
    with serve(long=serving.cut_at(50, tag="", times=99), short=serving.whole()) as server:
        error = problem(server.url("/long"), tmp_path / "a", attempts=2)
        assert error.reason == "fetch-failed"
        assert f"ended {len(CONTENT) - 50:,} bytes early" in error.detail

        def short(request):
            request.head(200, Content_Length=10)
            request.wfile.write(CONTENT)

        server.answers["/short"] = short
        assert fetch(server.url("/short"), tmp_path / "b") == CONTENT[:10]


def test_what_is_too_large_by_its_length_is_not_begun(tmp_path):
    with serve(video=serving.whole()) as server:
        error = problem(server.url("/video"), tmp_path / "a", max_bytes=len(CONTENT) - 1)
        assert error.reason == "too-large"
        assert f"{len(CONTENT):,} bytes" in error.detail
        assert fetch(server.url("/video"), tmp_path / "a", max_bytes=len(CONTENT)) == CONTENT


def test_a_body_without_an_end(tmp_path):
    with serve(video=serving.endless) as server:
        assert problem(server.url("/video"), tmp_path / "a", max_bytes=10**6).reason == "too-large"


@pytest.mark.parametrize("slow", ["dripping", "dripping_headers", "silent"])
def test_what_comes_too_slowly(tmp_path, slow):
    with serve(video=getattr(serving, slow)) as server:
        start = time.monotonic()
        error = problem(server.url("/video"), tmp_path / "a", seconds=0.3)
        assert error.reason == "timeout"
        assert "--fetch-seconds" in error.detail
        assert time.monotonic() - start < 4


def test_pauses_count_as_time(tmp_path):
    with serve(video=serving.failing(99, 503, serving.whole(), Retry_After=20)) as server:
        start = time.monotonic()
        assert problem(server.url("/video"), tmp_path / "a", seconds=2.0).reason == "fetch-failed"
        assert time.monotonic() - start < 1


def test_redirects_are_followed_so_far(tmp_path):
    with serve(a=serving.moved("/b", 301), b=serving.moved("c", 307), c=serving.whole()) as server:
        server.answers["/round"] = serving.moved("/round")
        assert fetch(server.url("/a"), tmp_path / "a") == CONTENT
        error = problem(server.url("/round"), tmp_path / "b", redirects=3)
        assert "more than 3 redirects" in error.detail
        assert server.asked["/round"] == 4


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_a_redirect_to_something_else(tmp_path, to):
    with serve(video=serving.moved(to)) as server:
        assert problem(server.url("/video"), tmp_path / "a").reason == "bad-url"


def test_a_redirect_into_the_own_network(tmp_path, monkeypatch):
    """The server's own address passes for a public one here; where it points to does not."""
    real = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda one: one == "127.0.0.1" or real(one))
    with serve(video=serving.whole()) as server:
        assert fetch(server.url("/video"), tmp_path / "a", private=False) == CONTENT
        for host in ("127.0.0.2", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0"):  # noqa: S104
            server.answers["/moved"] = serving.moved(f"http://{host}:{server.server_port}/video")
            error = problem(server.url("/moved"), tmp_path / "b", private=False)
            assert error.reason == "bad-url"
            assert "--fetch-private" in error.detail
        assert server.asked["/video"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::1]"])
def test_loopback_by_any_name_is_refused(tmp_path, host):
    with serve(video=serving.whole()) as server:
        url = f"http://{host}:{server.server_port}/video"
        error = problem(url, tmp_path / "a", private=False)
        assert error.reason in ("bad-url", "fetch-failed")  # where the name is none here
        assert not server.asked


def test_a_name_is_resolved_once(tmp_path, monkeypatch):
    """A name that turns into another address behind the check does not matter."""
    real, seen = socket.getaddrinfo, []

    def turning(host, port, *more, **named):
        if host != "turning.example":
            return real(host, port, *more, **named)
        seen.append(host)
        return real("127.0.0.1" if len(seen) == 1 else "127.0.0.9", port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", turning)
    with serve(video=serving.whole()) as server:
        url = f"http://turning.example:{server.server_port}/video"
        assert fetch(url, tmp_path / "a") == CONTENT
        assert seen == ["turning.example"]


def test_a_host_of_which_one_address_is_private_is_refused(tmp_path, monkeypatch):
    def mixed(host, port, *more, **named):
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("93.184.216.34", port)), (*kind, ("192.168.0.5", port))]

    monkeypatch.setattr(socket, "getaddrinfo", mixed)
    error = problem("http://mixed.example/", tmp_path / "a", private=False)
    assert "192.168.0.5" in error.detail


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[("8.8.8.8", True), ("2001:4860:4860::8888", True), ("127.0.0.1", False)],
        *[("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("::1", False)],
        *[("169.254.169.254", False), ("0.0.0.0", False), ("fe80::1%eth0", False)],  # noqa: S104
        *[("fd00::1", False), ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True)],
        *[("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("2002:7f00:1::", False)],
        *[("224.0.0.1", False), ("ff02::1", False), ("100.64.0.1", False)],
        *[("255.255.255.255", False), ("240.0.0.1", False)],
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        *["file:///etc/passwd", "ftp://a/b", "http://", "http:///x", "https://a:b:c/", "//a/b"],
        *["http://a:99999/", "http://[::1/", "http://u:p@a/", "javascript:alert(1)", "a.mp4"],
        *["http://a b/", "http://\x00/", "http://" + "a" * 70 + ".b/"],
    ],
)
def test_what_is_no_url_to_fetch(url):
    with pytest.raises(BadRecord) as caught:
        parse_url(url)
    assert caught.value.reason == "bad-url"


def test_no_header_can_be_smuggled_in(tmp_path):
    with serve() as server:
        server.answers["/a%0D%0AX:1"] = serving.whole()
        path = parse_url(server.url("/a\r\nX: 1")).path
        assert "\r" not in path
        assert "\n" not in path
        assert " " not in path


@pytest.mark.parametrize(("text", "url"), [("https://a/b", True), ("hf://a", True), ("a/b", False)])
def test_what_looks_like_a_url(text, url):
    assert is_url(text) is url


@pytest.mark.parametrize(
    ("headers", "said"),
    [({"Content_Type": "text/html"}, "web page"), ({"Content_Encoding": "gzip"}, "as gzip")],
)
def test_what_is_no_video_file(tmp_path, headers, said):
    with serve(video=serving.whole(**headers)) as server:
        assert said in problem(server.url("/video"), tmp_path / "a").detail


def test_nobody_listens(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        error = problem(url, tmp_path / "a", attempts=2)
    assert error.reason == "fetch-failed"
    assert "ConnectionRefusedError" in error.detail


def test_a_certificate_that_nobody_vouches_for(tmp_path):
    """A server that speaks plain HTTP where TLS is expected fails, and is not taken as it is."""
    with serve(video=serving.whole()) as server:
        url = server.url("/video").replace("http:", "https:")
        assert problem(url, tmp_path / "a", attempts=1).reason == "fetch-failed"


@pytest.fixture
def certificate(tmp_path) -> Path:
    """Key and certificate of localhost, by localhost itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path / "localhost.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    options += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path)]
    done = subprocess.run(["openssl", "req", "-x509", *options], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + done.stdout)
    return path


def test_over_tls(tmp_path, monkeypatch, certificate):
    """The host's name is held against the certificate, though the connection goes to an address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serve(video=serving.cut_at(100_000)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://localhost:{server.server_port}/video"
        error = problem(url, tmp_path / "a")
        assert "the certificate is not valid" in error.detail
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(url, tmp_path / "a") == CONTENT
        assert server.ranges == ["", "bytes=100000-"]
        error = problem(url.replace("localhost", "127.0.0.1"), tmp_path / "b")
        assert "the certificate is not valid" in error.detail


def test_closing_ends_what_is_under_way(tmp_path):
    fetcher = Fetcher(FetchOptions(private=True, seconds=60))
    with serve(video=serving.dripping) as server:
        caught: list[BaseException] = []

        def run() -> None:
            try:
                fetcher.fetch(server.url("/video"), tmp_path / "a")
            except BadRecord as error:
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not server.asked:
            time.sleep(0.01)
        time.sleep(0.05)
        fetcher.close()
        thread.join(5)
        assert not thread.is_alive()
    assert [error.reason for error in caught] == ["fetch-failed"]
    assert not (tmp_path / "a").exists()


def test_a_disk_that_is_full_is_no_fault_of_the_server(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with serve(video=serving.whole()) as server, monkeypatch.context() as context:
        context.setattr(Path, "open", lambda *_: Full())
        with pytest.raises(OSError, match="No space left"):
            fetch(server.url("/video"), tmp_path / "a")
        assert server.asked["/video"] == 1
