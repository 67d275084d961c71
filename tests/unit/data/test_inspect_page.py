"""The page against what it must show and must not let in: parsed as a browser would."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.unit.data.looked import HOSTILE, Page, jpeg, made_videos, write_corpus
from vidvec.data import html
from vidvec.data.duplicates import Duplicates, Group
from vidvec.data.inspect import summarise
from vidvec.data.inspect_page import GROUPS, OF_A_GROUP, PICTURES_A_VIDEO, to_html
from vidvec.records import Reject, Video


def test_page_shows_the_sample_and_fetches_nothing(tmp_path: Path) -> None:
    videos = made_videos(20)
    corpus = write_corpus(tmp_path / "corpus", videos)
    summary = summarise(corpus)
    page = Page(to_html(corpus, summary, [2, 3, 7]))
    shown = [2, 3, 7, *summary.longest, *summary.shortest]
    assert page.tags["article"] == len(shown)
    assert page.tags["img"] == sum(len(videos[row].thumbnails) for row in shown)
    own = re.compile(r"data:image/jpeg;base64,|#[a-z-]+$")
    assert all(own.match(link) for link in page.links)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    for row in (2, 3, 7):
        assert videos[row].title in page.text
    assert "Not looked for in frames" in page.text


def test_sections_are_linked_and_headings_in_order(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    text = to_html(corpus, summarise(corpus), [2])
    links = re.findall(r'href="#([a-z-]+)"', text)
    assert len(links) == 8
    assert re.findall(r'<h2 id="([a-z-]+)"', text) == links
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    # A strip says what it shows; its pictures alone say nothing to one who does not see them.
    assert text.count('role="img" aria-label="Pictures of') == text.count('class="strip" role')
    assert all('alt=""' in tag for tag in re.findall(r"<img[^>]*>", text))
    assert '<html lang="en">' in text
    assert "prefers-color-scheme: dark" in text


def made_duplicates(groups: int) -> Duplicates:
    near = tuple(Group((row, row + 1, row + 2, row + 3), 0.8765) for row in range(groups))
    return Duplicates(20, (Group((0, 1), 1.0),), near, (5, 6), 0.8, 99, 7, False)


def test_groups_of_duplicates(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    summary = summarise(corpus)
    plain = Page(to_html(corpus, summary, []))
    page = Page(to_html(corpus, summary, [], made_duplicates(GROUPS + 2)))
    assert page.tags["article"] - plain.tags["article"] == 2 + OF_A_GROUP * GROUPS + 2
    for said in (
        "Exact duplicates: 1 groups, 2 videos",
        f"Near duplicates: {GROUPS + 2} groups, {4 * (GROUPS + 2)} videos",
        "4 videos, similarity 0.88 or more",
        "and 2 more groups",
        "99 pairs were compared frame by frame, 7 candidates were not",
        "Frames all alike: 2 videos",
    ):
        assert said in page.text


def test_the_page_has_only_so_many_pictures(tmp_path: Path) -> None:
    many = tuple(jpeg(10 * shade) for shade in range(20))
    videos = [Video(id=str(place), title="a", thumbnails=many) for place in range(12)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    summary = summarise(corpus)
    whole = Page(to_html(corpus, summary, range(12)))
    assert whole.tags["img"] == 12 * PICTURES_A_VIDEO
    assert "without pictures" not in whole.text
    room = 5 * PICTURES_A_VIDEO * max(map(len, many))
    less = Page(to_html(corpus, summary, range(12), most_pictures=room))
    assert 5 * PICTURES_A_VIDEO <= less.tags["img"] < 8 * PICTURES_A_VIDEO
    left = 12 - less.tags["img"] // PICTURES_A_VIDEO
    assert f"{left} videos are shown without pictures" in less.text


def test_page_escapes_what_users_wrote(tmp_path: Path) -> None:
    video = Video(id=f"id{HOSTILE}", title=HOSTILE, tags=(HOSTILE,), category=HOSTILE, language='"')
    rejects = [Reject(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    corpus = write_corpus(tmp_path / "<b>corpus", [video], rejects=rejects, shards=1)
    text = to_html(corpus, summarise(corpus), [0])
    page = Page(text)
    assert not re.search(r"<script|<img src=http|<b>corpus", text)
    assert page.tags["script"] == 0
    assert all(re.fullmatch(r"#[a-z-]+", link) for link in page.links)
    assert page.text.count(HOSTILE) >= 6


def test_element_escapes_text_and_attributes_but_not_markup() -> None:
    inner = html.element("b", "a < b", title='say "x"')
    assert inner == '<b title="say &quot;x&quot;">a &lt; b</b>'
    assert html.element("p", inner, " & c", class_="soft", lang=None) == (
        f'<p class="soft">{inner} &amp; c</p>'
    )
    assert html.element("img", src="x") == '<img src="x">'


def test_film_strip_spreads_its_pictures() -> None:
    strip = html.film_strip([jpeg(10 * i) for i in range(20)], "twenty", limit=4)
    assert strip.count("<img") == 4
    assert 'aria-label="twenty"' in strip
    assert html.film_strip([jpeg(0)] * 3, "three").count("<img") == 3


def columns(markup: str) -> list[tuple[float, float]]:
    """Left edge and height of each column of a histogram."""
    svg = ET.fromstring(markup).find("svg")  # noqa: S314 - our own output
    assert svg is not None
    return [(float(r.get("x", "")), float(r.get("height", ""))) for r in svg.iter("rect")]


def test_histogram_columns_are_in_proportion() -> None:
    found = columns(html.histogram("Frames", "of 7", [("0–1", 1), ("2–3", 4), ("4", 0), ("5+", 2)]))
    heights = [height for _, height in found]
    assert heights[1] == 104
    assert heights == [pytest.approx(26), 104, 0, pytest.approx(52)]
    assert np.diff([left for left, _ in found]) == pytest.approx([90, 90, 90])


def test_a_column_of_few_is_still_seen() -> None:
    assert columns(html.histogram("a", "", [("1", 100_000), ("2", 1)]))[1][1] >= 1


def test_labels_of_a_histogram_do_not_run_into_one_another() -> None:
    for count, label in ((4, "1–2"), (13, "1,000–1,999"), (40, "7")):
        markup = html.histogram("a", "", [(label, place) for place in range(count)])
        shown = re.findall(rf'<text x="([\d.]+)"[^>]*>{label}</text>', markup)
        places = [float(x) for x in shown]
        assert 1 <= len(places) <= count
        assert all(gap >= 7 * len(label) for gap in np.diff(places))


def test_histogram_of_nothing_says_so() -> None:
    assert "<svg" not in html.histogram("Speech", "none known", [])
