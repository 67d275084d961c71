"""Pictures of the page for the documentation: ``python -m tests.e2e.page.screenshots DEMO OUT``.

DEMO is the folder of ``vidvec demo``, which is made where it is not there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2
import httpx
from playwright.sync_api import Page

from tests.e2e.page.making import Watched, context_of, opened_browser
from tests.serving import serving
from vidvec.data.corpus import Corpus
from vidvec.demo.run import run_demo
from vidvec.embed.vectors import Vectors
from vidvec.search.calibrate import calibrate
from vidvec.search.map import make_map

MOST_BYTES = 400_000
QUERY = "a sailboat on the sea"


def search(page: Page) -> None:
    page.wait_for_selector(".results .why .bar")
    page.locator(".results .open").nth(1).hover()
    page.wait_for_timeout(800)


def duplicates(page: Page) -> None:
    page.locator(".member .decide .keep").nth(3).click()
    page.mouse.move(2, 2)


def still(page: Page) -> None:
    page.mouse.move(2, 2)


def map_(page: Page) -> None:
    """Points at the video in the middle of the map."""
    page.locator(".stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("-")
    page.wait_for_selector(".map-card .film.playing")
    page.wait_for_timeout(800)


VIEWS = {
    "search": (f"#/search?text={QUERY.replace(' ', '+')}", search),
    "duplicates": ("#/duplicates?threshold=0.97", duplicates),
    "pairs": ("#/pairs", still),
    "map": ("#/map", map_),
}


def ready(demo: Path) -> Path:
    """The fused vectors of a demo, with what the page can show of them."""
    vectors = demo / "vectors" / "fused"
    if not (vectors / "manifest.json").is_file():
        run_demo(demo)
    calibrate(Vectors(vectors), Corpus(demo / "corpus").pairs()).save(vectors)
    make_map(vectors)
    return vectors


def take(url: str, out: Path) -> None:
    """Writes ``page-VIEW.png`` for each view."""
    out.mkdir(parents=True, exist_ok=True)
    # The first answer takes longer than those that come after it, and would be in the picture.
    httpx.post(f"{url}/api/v1/search", json={"text": QUERY, "explain": True}, timeout=60)
    with opened_browser() as browser:
        for name, (address, act) in VIEWS.items():
            context = context_of(browser, viewport={"width": 1280, "height": 800})
            page = Watched(context.new_page(), url).open(address)
            act(page)
            page.wait_for_timeout(300)
            path = out / f"page-{name}.png"
            page.screenshot(path=path)
            context.close()
            print(path, smaller(path), "bytes")


def smaller(path: Path) -> int:
    """Packs a picture as tightly as PNG can; its bytes."""
    picture = cv2.imread(str(path))
    assert picture is not None
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{path}: {size} bytes"
    return size


def main(demo: str, out: str) -> None:
    """Serves the demo's vectors and takes the pictures."""
    vectors = ready(Path(demo))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(vectors, Path(folder), "--corpus", Path(demo) / "corpus") as server,
    ):
        take(server.url, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
