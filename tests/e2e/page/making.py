"""What the page is tested and shown with: rendered videos, a model trained on them, a browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from vidvec.config import load_recipe
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.demo.render import make_videos
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.search.calibrate import calibrate
from vidvec.search.map import make_map
from vidvec.train.finetune import finetune
from vidvec.train.pretrain import pretrain

# What a page must show as the text that it is.
MARKUP = "<img src=x onerror=\"document.title='broken'\"><b>bold</b> & more"
RIGHT_TO_LEFT = "قطة على الشاطئ"
# What a spreadsheet would run.
FORMULA_ID = "=1+1"


def chromium() -> str | None:
    """A Chromium that is installed; ``None`` where there is none."""
    named = os.environ.get("VIDVEC_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """A headless Chromium."""
    # Root has no sandbox to go into.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        yield browser
        browser.close()


def render(source: Path, videos: int, seed: int, *, strange: bool) -> None:
    """Videos of the demo with dates; ``strange``: with titles and an id to stumble on."""
    make_videos(source, videos=videos, pairs=4 * videos, seed=seed, workers=1)
    table, pairs = source / "meta.jsonl", source / "pairs.tsv"
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    copies = _copies(source)
    for number, row in enumerate(rows):
        row["date"] = f"2021-{1 + number % 12:02d}-{1 + number % 28:02d}"
    if strange:
        originals = [row for row in rows if row["id"] not in copies]
        originals[0]["title"], originals[1]["title"] = MARKUP, RIGHT_TO_LEFT
        originals[1]["language"] = "ar"
        renamed = next(row for row in rows if row["id"] in copies)
        text = pairs.read_text("utf-8").replace(renamed["id"], FORMULA_ID)
        pairs.write_text(text, "utf-8")
        renamed["id"] = FORMULA_ID
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _copies(source: Path) -> set[str]:
    """Ids of altered copies whose files can be read."""
    latent = [
        json.loads(line) for line in (source / "latent.jsonl").read_text("utf-8").splitlines()
    ]
    return {row["id"] for row in latent if row["copy_of"] and not row["damage"]}


def made_folder(
    root: Path, videos: int, *settings: str, seed: int = 5, strange: bool = True
) -> Path:
    """Rendered videos in ``root/source``; corpus, model, vectors, calibration and map of them.

    Args:
        root: Where to.
        videos: How many.
        settings: Of the recipe.
        seed: Of the videos.
        strange: See ``render``.
    """
    render(root / "source", videos, seed, strange=strange)
    ingest(root / "source", root / "corpus", IngestOptions(pairs=(root / "source" / "pairs.tsv",)))
    recipe = load_recipe("demo/mean", list(settings))
    pretrain(root / "corpus", root / "pretrained", recipe)
    finetune(root / "corpus", root / "tuned", recipe, root / "pretrained")
    embed(root / "tuned", root / "corpus", root / "vectors")
    pairs = Corpus(root / "corpus").pairs()
    calibrate(Vectors(root / "vectors"), pairs, split="all").save(root / "vectors")
    make_map(root / "vectors")
    return root


@dataclass
class Watched:
    """A page, and what happened in it that should not.

    Attributes:
        page: It.
        url: Of the server.
        console: Errors and warnings of the console, and what scripts threw.
        foreign: Requests to elsewhere.
        refused: Addresses and statuses of answers that were errors.
    """

    page: Page
    url: str
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = self.page
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("console", self._listen)
        page.on("request", self._check)
        page.on("response", self._note)

    def _listen(self, message: Any) -> None:
        # Chromium's own line for an answer that is an error; those are in ``refused``.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.console.append(message.text)

    def _check(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.foreign.append(request.url)

    def _note(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append((response.url, response.status))

    def open(self, address: str = "", **wait: Any) -> Page:
        """Goes to an address behind the ``#`` and waits until nothing is on its way."""
        self.page.goto(f"{self.url}/{address}")
        self.page.wait_for_selector("main h1, main .note-box", state="attached", **wait)
        self.page.wait_for_load_state("networkidle")
        return self.page


def context_of(browser: Browser, **options: Any) -> BrowserContext:
    """A browser context of a wide, light, English reader; ``options`` say otherwise."""
    usual = {
        "viewport": {"width": 1360, "height": 860},
        "locale": "en-US",
        "color_scheme": "light",
    }
    return browser.new_context(**{**usual, **options})
