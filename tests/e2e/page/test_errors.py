"""What a reader sees when something goes wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.page.making import Watched
from tests.serving import serving

pytestmark = pytest.mark.slow


def forget(watched: Watched, *statuses: int) -> None:
    """Takes out answers that were errors, if they are those that are expected."""
    assert {status for _, status in watched.refused} == set(statuses)
    watched.refused.clear()


def test_a_server_that_was_stopped(watch, made, tmp_path):
    with serving(made / "vectors", tmp_path) as server:
        watched = watch(server.url)
        page = watched.open("#/search?text=a+dog")
        server.stop()
        page.get_by_role("searchbox").fill("a cat")
        page.keyboard.press("Enter")
        box = page.locator(".note-box.failed")
        expect(box).to_contain_text("The server does not answer")
        expect(page.get_by_role("searchbox")).to_have_value("a cat")
        with serving(made / "vectors", tmp_path, "--port", server.port):
            box.get_by_role("button", name="Try again").click()
            expect(page.locator(".results .card")).to_have_count(20)
            expect(box).to_have_count(0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty-file"), (b"this is no video\n" * 50, "not-a-video")],
)
def test_a_file_that_cannot_be_read(watched, tmp_path, content, reason):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    page = watched.open()
    page.locator("input[type=file]").set_input_files(path)
    box = page.locator(".note-box.failed")
    expect(box).to_contain_text("This file cannot be read", timeout=60_000)
    assert box.get_attribute("role") == "alert"
    expect(box.locator(".detail")).to_contain_text(reason)
    page.get_by_role("button", name=re.compile("^Remove")).click()
    expect(box).to_have_count(0)
    forget(watched, 422)


def test_a_file_that_is_too_large_is_not_sent(watch, made, tmp_path):
    with serving(made / "vectors", tmp_path, "--max-upload-mb", 0.01) as server:
        watched = watch(server.url)
        page = watched.open()
        path = tmp_path / "large.mp4"
        path.write_bytes(bytes(50_000))
        page.locator("input[type=file]").set_input_files(path)
        box = page.locator(".note-box.failed")
        expect(box).to_contain_text("That is too large")
        expect(box).to_contain_text("49 KiB > 10 KiB")


def test_a_key_is_asked_for_once_and_used_for_pictures(watch, made, tmp_path):
    with serving(made / "vectors", tmp_path, "--api-key", "sesame") as server:
        watched = watch(server.url)
        watched.page.goto(f"{server.url}/#/search?text=a+dog")
        page = watched.page
        field = page.get_by_label("API key")
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("did not take that key")
        field.fill("sesame")
        page.keyboard.press("Enter")
        expect(page.locator(".results .card")).to_have_count(20)
        picture = page.locator(".results .card img").first
        expect(picture).to_have_attribute("src", re.compile("^blob:"))
        page.wait_for_function("document.querySelector('.results .card img').naturalWidth > 0")
        page.reload()
        expect(page.locator(".results .card")).to_have_count(20)
        forget(watched, 401)


def test_who_has_no_key_is_told(watch, made, tmp_path):
    with serving(made / "vectors", tmp_path, "--api-key", "sesame") as server:
        watched = watch(server.url)
        watched.page.goto(server.url)
        watched.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        box = watched.page.locator(".note-box.failed")
        expect(box).to_contain_text("The server wants a key")
        box.get_by_role("button", name="Try again").click()
        expect(watched.page.get_by_role("dialog")).to_be_visible()
        forget(watched, 401)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(429, "too-many-requests", "Too many requests"), (503, "busy", "The server is busy")],
)
def test_a_busy_server_says_when_to_go_on(watched, status, code, words):
    page = watched.open()
    body = {"error": {"code": code, "message": "32 requests wait", "hint": "ask again"}}
    page.route(
        "**/api/v1/search",
        lambda route: route.fulfill(status=status, json=body, headers={"Retry-After": "2"}),
    )
    page.get_by_role("searchbox").fill("a dog")
    page.keyboard.press("Enter")
    box = page.locator(".note-box.failed")
    expect(box).to_contain_text(words)
    expect(box).to_contain_text("32 requests wait")
    again = box.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    expect(box).to_contain_text(re.compile("in [12] second"))
    page.unroute("**/api/v1/search")
    expect(again).to_be_enabled()
    again.click()
    expect(page.locator(".results .card")).to_have_count(20)
    forget(watched, status)


def test_an_unknown_video(watched):
    page = watched.open("#/video?id=nobody")
    expect(page.locator(".note-box.failed")).to_contain_text("There is no such video")
    expect(page.locator(".note-box.failed")).to_contain_text("no video 'nobody' here")
    forget(watched, 404)


@pytest.mark.parametrize(
    "address", ["#/nowhere", "#/search?k=x&min=-3&after=yesterday&like=", "#/%"]
)
def test_an_address_that_makes_no_sense(watched, address):
    page = watched.open(address)
    expect(page.locator("main h1, main h2").first).to_be_attached()
    page.get_by_role("link", name="Search", exact=True).first.click()
    expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()


def test_what_a_server_lacks_is_said(watch, made, tmp_path):
    bare = tmp_path / "vectors"
    ignored = shutil.ignore_patterns("map.json", "calibration.json")
    shutil.copytree(made / "vectors", bare, ignore=ignored)
    with serving(bare, tmp_path) as server:
        page = watch(server.url).open("#/map")
        expect(page.get_by_role("heading", name="No map was made yet")).to_be_visible()
        page.goto(f"{server.url}/#/search?text=a+dog")
        expect(page.locator(".results .card")).to_have_count(20)
        expect(page.locator(".chance")).to_have_count(0)


def test_nothing_inline_nothing_from_elsewhere(server):
    answer = server.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style", answer.text)
    folder = Path(__file__).parents[3] / "vidvec" / "search" / "page"
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) < 400, path
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
        )
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
