"""A video's page, duplicates, pairs and the map, against what the API answers."""

from __future__ import annotations

import csv
import io
import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.making import FORMULA_ID

pytestmark = pytest.mark.slow

THRESHOLD = 0.9


def got(server, path: str, **params) -> dict:
    answer = server.http.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_video_and_its_neighbours(watched, server):
    page = watched.open("#/search?text=a+dog")
    page.locator(".results .open").first.click()
    video_id = re.search(r"id=([^&]+)", page.url).group(1)
    video = got(server, "video", id=video_id)
    expect(page.locator("h1")).to_have_text(video["title"])
    facts = page.locator(".facts-list")
    for value in (video["id"], video["category"], video["date"]):
        expect(facts).to_contain_text(value)
    expect(page.locator(".film.whole img")).to_have_count(video["pictures"])
    assert page.locator(".video-head .tag").all_inner_texts() == video["tags"]
    expected = got(server, "video/neighbours", id=video_id, k=12)["hits"]
    expect(page.locator(".cards .card[data-id]")).to_have_count(12)
    cards = page.locator(".cards .card").evaluate_all("all => all.map((c) => c.dataset.id)")
    assert cards == [hit["id"] for hit in expected]
    expect(page.locator(".cards .why").first).to_be_visible()
    page.get_by_role("button", name="Search for more like this").click()
    expect(page.locator(".chips .chip.like")).to_contain_text(video["title"])


def members(page: Page) -> list[list[str]]:
    """Ids of each group."""
    return page.locator(".group").evaluate_all(
        "all => all.map((g) => [...g.querySelectorAll('.member')].map((m) => m.dataset.id))"
    )


def exported(page: Page) -> list[list[str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    text = download.value.path().read_bytes().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


def test_duplicates_are_decided_on_and_exported(watched, server):
    page = watched.open(f"#/duplicates?threshold={THRESHOLD}")
    groups = got(server, "groups", threshold=THRESHOLD, limit=200)["groups"]
    ids = [[hit["id"] for hit in group["members"]] for group in groups]
    assert members(page) == ids[:20]
    assert any(FORMULA_ID in some for some in ids)
    kept = page.locator(".member:not(.dropped)").evaluate_all("all => all.map((m) => m.dataset.id)")
    assert kept == [group["representative"]["id"] for group in groups[:20]]
    # The second one is kept, the first one dropped: by mouse and by keyboard.
    first, second = ids[0][:2]
    page.locator(f".member[data-id='{second}']").get_by_role("button", name="Keep").click()
    page.locator(f".member[data-id='{second}'] a").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(f".member[data-id='{first}'] a")).to_be_focused()
    page.keyboard.press("d")
    expect(page.locator(f".member[data-id='{first}']")).to_have_class(re.compile("dropped"))
    page.reload()
    expect(page.locator(f".member[data-id='{first}']")).to_have_class(re.compile("dropped"))
    changed = {first: "drop", second: "keep"}
    rows = exported(page)
    assert rows[0] == ["id", "group", "decision", "representative"]
    expected = []
    for number, group in enumerate(groups, 1):
        stands = group["representative"]["id"]
        for hit in group["members"]:
            usual = "keep" if hit["id"] == stands else "drop"
            decision = changed.get(hit["id"], usual)
            expected.append([safe(hit["id"]), str(number), decision, safe(stands)])
    assert rows[1:] == expected
    assert f"'{FORMULA_ID}" in {row[0] for row in rows}
    page.get_by_role("button", name="Forget decisions").click()
    expect(page.locator(f".member[data-id='{first}']")).not_to_have_class(re.compile("dropped"))


def safe(text: str) -> str:
    return f"'{text}" if text[0] in "=+-@" else text


def test_cells_of_the_table_are_no_formulas(watched):
    page = watched.open()
    cells = page.evaluate(
        """async (values) => {
            const { csvCell } = await import("/page/decisions.js");
            return values.map(csvCell);
        }""",
        ["plain", "=1", "+1", "-x", "@x", "\t=1", "a,b", 'a"b', '=a"b', "a\nb", 7],
    )
    assert cells == [
        *["plain", "'=1", "'+1", "'-x", "'@x", "'\t=1"],
        *['"a,b"', '"a""b"', '"\'=a""b"', '"a\nb"', "7"],
    ]


def test_arrows_go_from_group_to_group(watched):
    page = watched.open(f"#/duplicates?threshold={THRESHOLD}")
    groups = members(page)
    assert len(groups) > 1
    page.locator(".member a").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f".member[data-id='{groups[1][0]}'] a")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    expect(page.locator(f".member[data-id='{groups[0][1]}'] a")).to_be_focused()


def test_the_threshold_chooses_the_groups(watched, server):
    page = watched.open(f"#/duplicates?threshold={THRESHOLD}")
    page.locator("#threshold").fill("0.97")
    expect(page).to_have_url(re.compile(r"threshold=0\.97$"))
    found = got(server, "groups", threshold=0.97)
    expect(page.locator(".groups[aria-busy]")).to_have_count(0)
    if found["total"]:
        expect(page.locator(".group")).to_have_count(min(20, found["total"]))
    assert members(page) == [[hit["id"] for hit in each["members"]] for each in found["groups"]]
    page.locator("#threshold").fill("1")
    expect(page.get_by_role("heading", name="No duplicates at this threshold")).to_be_visible()


def test_the_worst_pairs_side_by_side(watched, server):
    page = watched.open("#/pairs?split=all")
    answer = got(server, "pairs", split="all", limit=10)
    expect(page.locator(".pair")).to_have_count(10)
    expect(page.locator(".summary")).to_contain_text(f"Spearman {answer['spearman']:.3f}")
    for place, pair in enumerate(answer["pairs"][:3]):
        article = page.locator(".pair").nth(place)
        titles = [pair[side]["title"] for side in ("video_1", "video_2")]
        shown = article.locator(".title").all_inner_texts()
        for title, text in zip(titles, shown, strict=True):
            assert text == title or (not title and text.startswith("no title"))
        figures = article.locator(".scores-list b").all_inner_texts()
        cosine = f"{pair['cosine']:.2f}".replace("-", "\u2212")
        assert figures[:2] == [f"{pair['score']:.2f}", cosine]
        marks = article.locator(".mark").evaluate_all("all => all.map((m) => m.style.left)")
        ranks = [pair["score_rank"], pair["cosine_rank"]]
        assert [float(mark.rstrip("%")) for mark in marks] == pytest.approx(
            [100 * rank for rank in ranks], abs=0.01
        )
        names = article.locator(".why .name").all_inner_texts()
        values = article.locator(".why .value").all_inner_texts()
        assert names == sorted(pair["why"])
        for name, value in zip(names, values, strict=True):
            number = float(value.replace("\u2212", "-"))
            assert number == pytest.approx(pair["why"][name], abs=0.0051)
        word = "People" if pair["score_rank"] > pair["cosine_rank"] else "The vectors"
        expect(article.locator("h2")).to_contain_text(f"{word} find them more alike")


def test_pages_and_splits_of_pairs(watched, server):
    page = watched.open("#/pairs?split=all")
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".pair .place").first).to_have_text("11")
    expected = got(server, "pairs", split="all", limit=10, offset=10)["pairs"]
    links = page.locator(".pair .open").evaluate_all("all => all.map((a) => a.hash)")
    assert links[0].endswith(expected[0]["video_1"]["id"])
    page.get_by_label("Pairs", exact=True).select_option("clean")
    total = got(server, "pairs", split="clean", limit=1)["total"]
    expect(page.locator(".summary")).to_contain_text(f"{total} pair")
    assert "split=clean" in page.url


def point_of(page: Page, wanted: int) -> dict:
    """Where on the screen a point of the map is, by its place in the answer."""
    return page.evaluate(
        """async (wanted) => {
            const { points } = await (await fetch("/api/v1/map")).json();
            const stage = document.querySelector(".stage").getBoundingClientRect();
            const xs = points.map((p) => p[1]), ys = points.map((p) => -p[2]);
            const [left, right] = [Math.min(...xs), Math.max(...xs)];
            const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
            // Everything fits in, with a margin of 6 % on each side.
            const [width, height] = [stage.width - 2, stage.height - 2];
            const scale = Math.min(0.88 * width / (right - left), 0.88 * height / (bottom - top));
            const x = stage.left + 1 + width / 2 + (xs[wanted] - (left + right) / 2) * scale;
            const y = stage.top + 1 + height / 2 + (ys[wanted] - (top + bottom) / 2) * scale;
            return { x, y, id: points[wanted][0] };
        }""",
        wanted,
    )


def test_the_map_tells_and_opens_videos(watched, server):
    page = watched.open("#/map")
    answer = got(server, "map")
    expect(page.locator(".lead")).to_contain_text(f"{len(answer['points'])} videos")
    names = page.locator(".themes .name").all_inner_texts()
    assert names == [theme["name"] for theme in answer["themes"]]
    place = point_of(page, 0)
    page.mouse.move(place["x"], place["y"])
    title = got(server, "video", id=place["id"])["title"] or "no title"
    expect(page.locator(".map-card .title")).to_contain_text(title)
    expect(page.locator(".map-card .film.playing")).to_have_count(1)
    page.mouse.click(place["x"], place["y"])
    expect(page).to_have_url(re.compile(re.escape(f"id={place['id']}")))


def painted(page: Page) -> str:
    """What is on the canvas, after it was drawn."""
    page.wait_for_timeout(120)
    return page.locator("canvas").evaluate("(canvas) => canvas.toDataURL()")


def test_the_map_moves_by_wheel_drag_and_keyboard(watched):
    page = watched.open("#/map")
    whole = painted(page)
    box = page.locator(".stage").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    zoomed = painted(page)
    assert zoomed != whole
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 40, steps=4)
    page.mouse.up()
    assert painted(page) != zoomed
    assert "#/map" in page.url
    page.mouse.move(2, 2)
    page.locator(".stage").focus()
    page.keyboard.press("0")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".map-card")).to_be_visible()
    title = page.locator(".map-card .title").inner_text()
    expect(page.locator("#said")).to_contain_text(title)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(title)


def test_a_theme_is_shown_alone(watched, server):
    page = watched.open("#/map")
    whole = painted(page)
    theme = page.locator(".themes button").first
    theme.click()
    expect(theme).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile("theme=0$"))
    assert painted(page) != whole
    page.locator(".themes button").first.click()
    assert painted(page) == whole


def test_ten_thousand_points_are_drawn_in_time(watched):
    page = watched.open()
    milliseconds, near = page.evaluate(
        """async () => {
            const { Plane } = await import("/page/plane.js");
            const canvas = document.createElement("canvas");
            document.body.append(canvas);
            const points = Array.from({ length: 20000 }, (_, n) =>
                [`v${n}`, Math.cos(n) * Math.sqrt(n), Math.sin(n) * Math.sqrt(n), n % 20]);
            const plane = new Plane(canvas);
            plane.set(points, []);
            plane.resize(1000, 700);
            plane.paint();
            const began = performance.now();
            for (let n = 0; n < 10; n += 1) { plane.zoom(1.05); plane.paint(); }
            const milliseconds = (performance.now() - began) / 10;
            const near = [5, 4321, 19999].map((n) => plane.nearest(...plane.placeOf(n)));
            canvas.remove();
            return [milliseconds, near];
        }"""
    )
    print(f"20,000 points are drawn in {milliseconds:.1f} ms")
    assert near == [5, 4321, 19999]
