"""A scorecard of real files: altered copies made, kept, looked for; and its page in a browser."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.e2e.page.making import chromium, opened_browser
from tests.models import write_checkpoint
from vidvec import Corpus, IngestOptions, ingest
from vidvec.cli import app
from vidvec.demo.render import make_videos
from vidvec.embed.embedder import embed
from vidvec.search.scorecard.build import HTML, JSON
from vidvec.search.scorecard.figures import Scorecard

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Rendered clips, their corpus, and the vectors of two untrained models."""
    root = tmp_path_factory.mktemp("scorecard")
    make_videos(root / "source", videos=20, pairs=50, seed=4)
    pairs = (root / "source" / "pairs.tsv",)
    ingest(root / "source", root / "corpus", IngestOptions(pairs=pairs, audio="none"))
    corpus = Corpus(root / "corpus")
    for seed, name in enumerate(("one", "two")):
        write_checkpoint(root / f"model-{name}", corpus, seed=seed)
        embed(root / f"model-{name}", root / "corpus", root / name)
    return root


def card_of(made: Path, name: str, *more: str) -> Scorecard:
    out = made / f"card-{name}"
    where = ["--corpus", str(made / "corpus"), "--split", "all", "--altered", str(made / "altered")]
    arguments = ["evaluate", str(made / name), *where, "--scorecard", str(out), "--copies", "2"]
    app([*arguments, *more], result_action="return_value")
    return Scorecard.load(out / JSON)


def test_copies_are_made_once_and_a_file_that_is_broken_costs_no_other(made, capsys):
    first = card_of(made, "one")
    files = {path: path.stat().st_mtime_ns for path in (made / "altered").glob("*.mp4")}
    assert len(files) == 2 * 8
    rows = first.sections["copies"].rows
    assert rows["crop"].count == 2
    assert rows["all"].count == 16
    # Untrained, but frames in speed and sepia are nearly those of the original.
    assert rows["speed"].figures["micro_ap"].value > 0.5
    assert rows["all"].figures["micro_ap"].low < rows["all"].figures["micro_ap"].value
    assert first.sections["ablation"].rows["everything"].figures["spearman"].value == pytest.approx(
        first.sections["agreement"].rows["spearman"].figures["over_pairs"].value, abs=1e-6
    )

    # Break one of the two videos: its copies are there, but they are of another file.
    noted = json.loads((made / "altered" / "manifest.json").read_text("utf-8"))["copies"]
    broken = next(row["of"] for row in noted)
    corpus = Corpus(made / "corpus")
    Path(corpus.video(corpus.row(broken)).file).write_bytes(b"no video")
    second = card_of(made, "two", "--against", str(made / "one"))
    section = second.sections["copies"]
    assert section.rows["all"].count == 8
    assert sum(section.facts["failed"].values()) == 1
    assert "Could not be altered or read: 1 " in " ".join(section.notes)
    assert section.rows["all"].figures["micro_ap"].difference is not None
    assert {path: path.stat().st_mtime_ns for path in files} == files
    printed = capsys.readouterr().out
    assert "µAP" in printed
    assert f"wrote {made / 'card-two' / HTML}" in printed.replace("\n", "")


@pytest.mark.skipif(chromium() is None, reason="no chromium here")
def test_the_page_is_whole_in_light_and_dark(made):
    if not (made / "card-one" / HTML).is_file():
        card_of(made, "one")
    # A browser that other tests have open keeps an event loop in this thread.
    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(look_at, made).result()


def look_at(made: Path) -> None:
    with opened_browser() as browser:
        context = browser.new_context(bypass_csp=True)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((made / "card-one" / HTML).as_uri())
        pictures = page.locator(".samples img")
        assert pictures.count() == 8
        assert page.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
        colours = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            found = Axe().run(page).response["violations"]
            serious = [each for each in found if each["impact"] in {"serious", "critical"}]
            assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], scheme
        assert len(colours) == 2
        # Narrow, as on a telephone: tables scroll, the page does not.
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
