"""Rates, places and sizes: by hand and by a clock that stands still."""

from __future__ import annotations

import multiprocessing
import re

import pytest

from tests.unit.search.server.loops import finished
from vidvec.search.server.failures import ApiError
from vidvec.search.server.limits import BodyTooLarge, Gate, RateLimiter, counted, create_rates


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_burst_and_fills_at_its_rate(tmp_path):
    clock = Clock()
    rates = RateLimiter(tmp_path, 4, 8, clock)
    assert [rates.take("a") for _ in range(8)] == [0] * 8
    assert rates.take("a") == pytest.approx(0.25)
    assert rates.take("a") == pytest.approx(0.25)  # a refusal takes nothing
    clock.now += 0.25
    assert rates.take("a") == 0
    assert rates.take("a", 0.5) == pytest.approx(0.125)
    clock.now += 100
    assert [rates.take("a") for _ in range(9)][-2:] == [0, pytest.approx(0.25)]


def test_clients_have_buckets_of_their_own(tmp_path):
    rates = RateLimiter(tmp_path, 1, 1, Clock())
    assert [rates.take(f"10.0.0.{n}") for n in range(3)] == [0] * 3
    assert all(rates.take(f"10.0.0.{n}") > 0 for n in range(3))


def test_without_a_rate_nothing_is_limited(tmp_path):
    rates = RateLimiter(tmp_path, 0, 1)
    assert {rates.take("a") for _ in range(1_000)} == {0}
    assert list(tmp_path.iterdir()) == []


def take_many(folder, count, granted) -> None:
    rates = RateLimiter(folder, 1e-9, 300)
    granted.put(sum(rates.take("a") == 0 for _ in range(count)))


def test_processes_share_a_bucket(tmp_path):
    create_rates(tmp_path)
    context = multiprocessing.get_context("spawn")
    granted = context.Queue()
    workers = [context.Process(target=take_many, args=(tmp_path, 250, granted)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert sum(granted.get(timeout=120) for _ in workers) == 300
    for worker in workers:
        worker.join()


def test_a_gate_lets_in_so_many():
    gate = Gate(2, "requests")
    with gate.entered(), gate.entered():
        with (
            pytest.raises(ApiError, match="2 requests are being worked on") as caught,
            gate.entered(),
        ):
            pass
        assert caught.value.status == 503
        assert caught.value.headers == {"Retry-After": "1"}
        assert gate.inside == 2
    assert gate.inside == 0
    with pytest.raises(ValueError, match="odd"), gate.entered():
        raise ValueError("odd")
    assert gate.inside == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.01, "1"), (0.5, "1"), (1, "1"), (2.6, "3"), (0, None)]
)
def test_retry_after_is_whole_seconds_and_never_too_soon(seconds, said):
    headers = ApiError("busy", "…", retry_after=seconds).headers
    assert headers.get("Retry-After") == said


def body(*parts: bytes):
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

    async def receive():
        return messages.pop(0)

    return receive


def taken(receive, times: int) -> list[bytes]:
    async def run() -> list[bytes]:
        return [(await receive())["body"] for _ in range(times)]

    return finished(run())


def test_a_body_is_counted_as_it_comes():
    assert taken(counted(body(b"abc", b"", b"de"), 5, None), 3) == [b"abc", b"", b"de"]
    with pytest.raises(BodyTooLarge, match=re.escape("more than 5 bytes")):
        taken(counted(body(b"abc", b"def"), 5, b"3"), 2)  # its head lied


def test_a_body_whose_head_says_too_much_is_not_read():
    with pytest.raises(BodyTooLarge):
        counted(body(), 5, b"6")
    assert taken(counted(body(b"abc"), 5, b"many"), 1) == [b"abc"]
