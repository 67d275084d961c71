"""Film strips that play, the keyboard, languages, colours, narrow screens, accessibility."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from vidvec.search.server.routes.page import FOLDER

pytestmark = pytest.mark.slow

VIEWS = {
    "start": "",
    "search": "#/search?text=a+dog&tag=slow",
    "video": "#/video?id={id}",
    "duplicates": "#/duplicates?threshold=0.9",
    "pairs": "#/pairs?split=all",
    "map": "#/map",
    "nowhere": "#/nowhere",
    "failed": "#/video?id=nobody",
}
CHINESE = re.compile("[\u4e00-\u9fff]")


def address(server, view: str) -> str:
    """Where a view is, with a video that there is."""
    hits = server.http.post("/api/v1/search", json={"text": "a dog", "k": 1}).json()["hits"]
    return VIEWS[view].format(id=hits[0]["id"])


def lit(page: Page, film: str) -> list[int]:
    """Places of the lit pictures of a strip."""
    cells = f"{film} .cell"
    return page.locator(cells).evaluate_all(
        "cells => cells.flatMap((cell, n) => cell.classList.contains('lit') ? [n] : [])"
    )


FILM = ".results li:first-child .film"
PLAYING = f"{FILM}.playing"
MOVES = f"""(before) => {{
    const cells = [...document.querySelectorAll("{PLAYING} .cell")];
    return cells.findIndex((cell) => cell.classList.contains("lit")) > before;
}}"""


def test_a_strip_plays_under_the_pointer(watched):
    page = watched.open("#/search?text=a+dog")
    assert page.locator(PLAYING).count() == 0
    assert page.locator(f"{FILM} .cell:visible").count() == 3
    page.locator(FILM).hover()
    expect(page.locator(PLAYING)).to_have_count(1)
    page.wait_for_function(MOVES, arg=0)
    page.wait_for_function(MOVES, arg=1)
    # Every picture of the video is there, and the one that is lit is in the middle.
    assert page.locator(f"{PLAYING} img").evaluate_all(
        "imgs => imgs.every((img) => img.getAttribute('src'))"
    )
    page.mouse.move(2, 2)
    expect(page.locator(PLAYING)).to_have_count(0)


def test_a_strip_plays_for_the_keyboard_and_steps(watched):
    page = watched.open("#/search?text=a+dog")
    page.locator(".results .open").first.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.locator(PLAYING)).to_have_count(1)
    page.keyboard.press("ArrowRight")
    before = lit(page, FILM)
    page.keyboard.press("ArrowRight")
    count = page.locator(f"{FILM} .cell").count()
    assert lit(page, FILM) == [(before[0] + 1) % count]
    page.keyboard.press("Tab")
    expect(page.locator(PLAYING)).to_have_count(0)


def test_who_wants_no_motion_gets_none(watch):
    page = watch(reduced_motion="reduce").open("#/search?text=a+dog")
    page.locator(".results .card").first.locator(".open").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    page.wait_for_timeout(700)
    assert page.locator(PLAYING).count() == 0
    page.keyboard.press("ArrowRight")
    assert lit(page, FILM) == [1]
    page.wait_for_timeout(700)
    assert lit(page, FILM) == [1]


def test_by_keyboard_alone(watched):
    page = watched.open()
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("a dog/cat")
    page.keyboard.press("Enter")
    expect(page.locator(".results .card")).to_have_count(20)
    expect(page.get_by_role("searchbox")).to_have_value("a dog/cat")
    card = page.locator(".results .card .open").first
    for _ in range(60):
        page.keyboard.press("Tab")
        if card.evaluate("(each) => each === document.activeElement"):
            break
    expect(card).to_be_focused()
    assert card.evaluate("(each) => getComputedStyle(each).outlineStyle") == "solid"
    title = card.locator(".title").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(title)
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_a_filter_keeps_the_keyboard_where_it_is(watched):
    page = watched.open("#/search?text=a+dog")
    box = page.get_by_role("group", name="Languages").get_by_role("checkbox").first
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator(".chips .chip")).to_have_count(1)
    expect(box).to_be_focused()
    expect(box).to_be_checked()


def test_chinese_by_choice_and_by_preference(watch):
    watched = watch()
    page = watched.open("#/search?text=a+dog")
    page.get_by_label("Language").select_option("zh")
    expect(page.locator("nav a").first).to_have_text("搜索")
    expect(page.locator(".results .head h2")).to_contain_text("20 个视频")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    page.reload()
    expect(page.locator("nav a").first).to_have_text("搜索")
    page = watch(locale="zh-CN").open()
    expect(page.get_by_role("button", name="搜索")).to_be_visible()


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "failed"])
def test_every_label_is_chinese(watch, server, view):
    page = watch(locale="zh-CN").open(address(server, view))
    said = page.locator("main").evaluate(
        """(main) => [...main.querySelectorAll("h1, h2, button, label, legend, summary, dt, .lead")]
            .filter((each) => !each.closest(".open, .tag, .facet label, .chip, .themes, .pair"))
            .filter((each) => !each.classList.contains("title"))
            .map((each) => (each.getAttribute("aria-label") ?? each.textContent).trim())
            .filter((text) => /[A-Za-z]{3,}/.test(text))"""
    )
    known = {"CSV", "MiB"}
    for text in said:
        assert CHINESE.search(text), text
        words = set(re.findall("[A-Za-z]{3,}", text)) - known
        assert len(words) <= 8, text


def test_both_languages_say_the_same_things(watched):
    page = watched.open()
    words = page.evaluate(
        """async () => Object.fromEntries(await Promise.all(["en", "zh"].map(async (name) =>
            [name, (await import(`/page/words-${name}.js`)).default])))"""
    )
    assert words["en"].keys() == words["zh"].keys()

    def holes(text) -> set[str]:
        texts = text.values() if isinstance(text, dict) else [text]
        return set(re.findall(r"\{(\w+)\}", " ".join(texts)))

    for key, text in words["en"].items():
        assert holes(words["zh"][key]) == holes(text), key
        assert CHINESE.search(str(words["zh"][key])) or not re.search(
            "[A-Za-z]{4,}", re.sub(r"\{\w+\}", "", str(text))
        ), key
    used = {
        key
        for path in Path(FOLDER).glob("*.js")
        for key in re.findall(r'\bt\("([\w.-]+)"', path.read_text("utf-8"))
    }
    assert len(used) > 80
    assert used <= words["en"].keys()


def background(page: Page) -> int:
    """How light the page is, 0…765."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_light_and_dark(watch):
    page = watch(color_scheme="dark").open()
    assert background(page) < 150
    switch = page.get_by_role("button", name=re.compile("^Colours"))
    switch.click()
    assert background(page) > 600
    page.reload()
    assert background(page) > 600
    page.get_by_role("button", name=re.compile("^Colours")).click()
    assert background(page) < 150


@pytest.mark.parametrize("view", VIEWS)
def test_a_narrow_screen_needs_no_sideways_scrolling(watch, server, view):
    watched = watch(viewport={"width": 360, "height": 740})
    page = watched.open(address(server, view))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    outside = page.locator("main button, main a, main input, #top a, #top button").evaluate_all(
        """(all) => all.filter((each) => each.checkVisibility() && !each.closest(".unseen, .film"))
            .filter((each) => !each.classList.contains("unseen"))
            .map((each) => [each.outerHTML.slice(0, 80), each.getBoundingClientRect()])
            .filter(([, box]) => box.width > 0 && (box.left < -1 || box.right > 361))
            .map(([text]) => text)"""
    )
    assert outside == []
    forgive(watched, view)


def forgive(watched, view: str) -> None:
    """Takes out the answer that a view that fails is about."""
    if view == "failed":
        assert {status for _, status in watched.refused} == {404}
        watched.refused.clear()


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(watched, server, view):
    page = watched.open(address(server, view))
    colours = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(150)
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], [node["html"][:120] for node in each["nodes"]])
            for each in found
            if each["impact"] in {"serious", "critical"}
        ]
        assert serious == [], scheme
    assert len(colours) == 2
    forgive(watched, view)


def test_axe_would_find_something(watched):
    page = watched.open()
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    found = {each["id"]: each["impact"] for each in Axe().run(page).response["violations"]}
    assert found["button-name"] == "critical"
