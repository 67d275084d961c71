"""Searching in a real browser, against what the API answers to the same question."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.making import MARKUP, RIGHT_TO_LEFT
from tests.unit.search.clips import scene
from vidvec.data.corpus import Corpus

pytestmark = pytest.mark.slow

DROP = """([bytes, name, type]) => {
    const data = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([data], name, { type }));
    const target = document.querySelector("main");
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        target.dispatchEvent(new DragEvent(kind, options));
    }
}"""
PASTE = """([bytes, name, type]) => {
    const data = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([data], name, { type }));
    const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
}"""


def ask(server, **body) -> list[dict]:
    answer = server.http.post("/api/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


def shown(page: Page) -> list[str]:
    """Ids of the cards, in their order."""
    return page.locator(".results .card").evaluate_all("cards => cards.map((c) => c.dataset.id)")


def settle(page: Page) -> None:
    """Waits until hits are those of what is asked."""
    expect(page.locator(".results .head h2")).to_be_visible()
    expect(page.locator(".results[aria-busy]")).to_have_count(0, timeout=60_000)


def type_search(page: Page, words: str) -> None:
    page.get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")
    expect(page).to_have_title(f"{words} · vidvec")
    settle(page)


def clip_of(made: Path) -> Path:
    """File of a video that can be read."""
    lines = (made / "source" / "meta.jsonl").read_text("utf-8").splitlines()
    files = {row["id"]: row["file"] for row in map(json.loads, lines)}
    first = next(each for each in Corpus(made / "corpus").ids if files[each].endswith(".mp4"))
    return made / "source" / files[first]


def test_words_find_what_the_api_finds(watched, server):
    page = watched.open()
    type_search(page, "a boat on the sea")
    expected = ask(server, text="a boat on the sea", k=20)
    assert shown(page) == [hit["id"] for hit in expected]
    first = page.locator(".results .card").first
    expect(first.locator(".score")).to_contain_text(f"{expected[0]['cosine']:.2f}")
    expect(first.locator(".chance")).to_contain_text(f"{round(100 * expected[0]['probability'])}")
    assert "text=a+boat+on+the+sea" in page.url
    expect(page.locator("#said")).to_have_text("20 videos")
    pictures = first.locator("img")
    assert pictures.first.evaluate("(img) => img.complete && img.naturalWidth") > 0


def test_the_address_holds_the_search(watched, server):
    page = watched.open("#/search?text=a+dog&tag=slow")
    expected = ask(server, text="a dog", k=20, filter={"tags": ["slow"]})
    assert shown(page) == [hit["id"] for hit in expected]
    expect(page.get_by_role("searchbox")).to_have_value("a dog")
    type_search(page, "a cat")
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("a cat")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("a dog")
    settle(page)
    assert shown(page) == [hit["id"] for hit in expected]


def test_back_is_where_one_was(watched):
    page = watched.open("#/search?text=a+dog")
    card = page.locator(".results .open").nth(14)
    card.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    place = page.evaluate("scrollY")
    assert place > 300
    card.click()
    expect(page.locator(".video-head")).to_be_visible()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(page.locator(".results .card")).to_have_count(20)
    page.wait_for_function("(place) => Math.abs(scrollY - place) < 3", arg=place)


def test_titles_only(watched, server):
    title = ask(server, text="cat", k=1)[0]["title"]
    page = watched.open()
    page.get_by_label("In titles only").check()
    type_search(page, title)
    expected = ask(server, text=title, words=True, k=20)
    assert shown(page) == [hit["id"] for hit in expected]
    expect(page.locator(".results .card").first.locator(".title")).to_have_text(title)
    expect(page.locator(".chance")).to_have_count(0)


def test_more_hits_on_demand(watched, server):
    page = watched.open("#/search?text=night")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".results .card")).to_have_count(40)
    assert shown(page) == [hit["id"] for hit in ask(server, text="night", k=40)]


def test_nothing_found_says_so(watched):
    page = watched.open("#/search?text=zzzzqqqq&words=1")
    expect(page.get_by_role("heading", name="Nothing was found")).to_be_visible()


def test_why_agrees_with_the_api_in_figures_and_words(watched, server):
    page = watched.open("#/search?text=a+boat+on+the+sea")
    expected = ask(server, text="a boat on the sea", k=20, explain=True)[0]
    block = page.locator(".results .card").first.locator(".why")
    for name, value in expected["why"]["alone"].items():
        row = block.locator(".bar", has=page.locator(".name", has_text=name))
        expect(row.locator(".value")).to_have_text(f"{value:.2f}".replace("-", "\u2212"))
        width = row.locator(".filled").evaluate("(bar) => bar.style.width")
        assert float(width.rstrip("%")) == pytest.approx(100 * min(1, max(0, value)), abs=0.06)
        lost = -expected["why"]["lost"][name]
        sign = "" if abs(lost) < 0.005 else "\u2212" if lost < 0 else "+"
        expect(row.locator(".note")).to_have_text(f"{sign}{abs(lost):.2f}")
    assert block.locator(".words").inner_text().endswith(".")
    page.get_by_label("Why").uncheck()
    expect(block).to_be_hidden()
    page.reload()
    settle(page)
    expect(page.get_by_label("Why")).not_to_be_checked()


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ({"title": 0.2, "frames": 0.15}, "Title and frames agree."),
        ({"title": 0.2, "frames": 0.01}, "Mostly the title."),
        ({"title": 0.2, "frames": -0.1}, "Mostly the title; the frames fit less well."),
        ({"title": 0.0, "frames": 0.01}, "Frames and title fit alike, each by itself."),
        ({"title": 0.0, "frames": -0.3}, "The frames fit less well."),
    ],
)
def test_the_sentence_of_why(watched, lost, words):
    page = watched.open()
    told = page.evaluate(
        "async (lost) => (await import('/page/why.js')).inWords(lost, Object.keys(lost))", lost
    )
    assert told == words


def test_a_tag_becomes_a_filter(watched, server):
    page = watched.open("#/search?text=a+dog")
    tag = page.locator(".results .card button.tag").first
    name = tag.inner_text()
    tag.click()
    expect(page.locator(".chips .chip")).to_have_text([re.compile(re.escape(name))])
    settle(page)
    expected = ask(server, text="a dog", k=20, filter={"tags": [name]})
    assert shown(page) == [hit["id"] for hit in expected]
    assert all(name in hit["tags"] for hit in expected)
    box = page.get_by_role("group", name="Tags").get_by_role("checkbox", name=name).first
    expect(box).to_be_checked()
    page.get_by_role("button", name=f"Remove: {name}").click()
    expect(page.locator(".results .card")).to_have_count(20)


def test_filters_of_the_side(watched, server):
    page = watched.open("#/search?text=a+dog")
    facets = server.http.get("/api/v1/facets").json()
    counts = page.locator(".facet").first.locator(".count").all_inner_texts()
    assert counts == [str(each["count"]) for each in facets["tags"][: len(counts)]]
    page.get_by_role("group", name="Languages").get_by_role("checkbox", name="Chinese").click()
    expect(page.locator(".chips .chip")).to_have_text([re.compile("Chinese")])
    page.get_by_label("at most").fill("6")
    page.get_by_label("at most").blur()
    page.get_by_role("group", name="Date").get_by_label("from").fill("2021-03-01")
    expect(page.locator(".chips .chip")).to_have_count(3)
    settle(page)
    asked = {"languages": ["zh"], "max_seconds": 6, "after": "2021-03-01"}
    expected = ask(server, text="a dog", k=20, filter=asked)
    assert expected
    assert shown(page) == [hit["id"] for hit in expected]
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".results .card")).to_have_count(20)


def test_more_and_less_like_a_video(watched, server):
    page = watched.open("#/search?text=a+dog")
    first, second = shown(page)[:2]
    page.locator(".results .card").first.get_by_role("button", name="More like this").click()
    expect(page.locator(".chips .chip.like")).to_have_count(1)
    settle(page)
    assert shown(page) == [hit["id"] for hit in ask(server, text="a dog", ids=[first], k=20)]
    other = page.locator(f".card[data-id='{second}']")
    other.get_by_role("button", name="Unlike this").click()
    expect(page.locator(".chips .chip.unlike")).to_have_count(1)
    settle(page)
    expected = ask(server, text="a dog", ids=[first], unlike_ids=[second], k=20)
    assert shown(page) == [hit["id"] for hit in expected]


def by_file(server, path: Path, **form) -> list[dict]:
    with path.open("rb") as file:
        answer = server.http.post("/api/v1/search/upload", files={"file": file}, data=form)
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


def test_a_video_is_handed_over(watched, server, made):
    path = clip_of(made)
    page = watched.open()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="File").click()
    chooser.value.set_files(path)
    expect(page.locator(".results .head h2")).to_contain_text("20 videos", timeout=60_000)
    assert shown(page) == [hit["id"] for hit in by_file(server, path, k="20")]
    chip = page.locator(".chips .chip.example")
    expect(chip).to_contain_text(path.name)
    seen = re.compile("^data:image/jpeg;base64,")
    expect(chip.locator(".cell:not(.spare) img")).to_have_attribute("src", seen)
    expect(page.locator(".results .why").first).to_be_visible()
    # Words besides.
    type_search(page, "a dog")
    assert shown(page) == [hit["id"] for hit in by_file(server, path, k="20", text="a dog")]
    # After the page is loaded again the file is not there any more.
    page.reload()
    expect(page.get_by_role("heading", name=re.compile("handed over again"))).to_be_visible()


@pytest.mark.parametrize("way", [DROP, PASTE], ids=["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(watched, server, tmp_path, way):
    path = tmp_path / "picture.png"
    assert cv2.imwrite(str(path), scene(3))
    page = watched.open()
    data = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(way, [data, "picture.png", "image/png"])
    expect(page.locator(".results .head h2")).to_contain_text("20 videos", timeout=60_000)
    assert shown(page) == [hit["id"] for hit in by_file(server, path, k="20")]
    assert page.locator("html.dropping").count() == 0


def test_strange_titles_are_text(watched):
    page = watched.open("#/search?text=img&words=1")
    title = page.locator(".results .title").first
    expect(title).to_have_text(MARKUP)
    assert title.locator("*").count() == 0
    assert page.title() == "img · vidvec"
    page = watched.open(f"#/search?text={RIGHT_TO_LEFT}&words=1")
    title = page.locator(".results .title").first
    expect(title).to_have_text(RIGHT_TO_LEFT)
    assert title.evaluate("(each) => getComputedStyle(each).direction") == "rtl"
