"""What tests of the page share: a folder, a server, a browser, a page that is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.page.making import Watched, chromium, context_of, made_folder, opened_browser
from tests.serving import Server, serving

VIDEOS = 48
QUICK = ("pretrain.epochs=6", "finetune.epochs=6", "pretrain.batch_size=16")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered videos, corpus, model, vectors, calibration, map."""
    return made_folder(tmp_path_factory.mktemp("page"), VIDEOS, *QUICK)


@pytest.fixture(scope="session")
def server(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings."""
    with serving(made / "vectors", tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if chromium() is None:
        pytest.skip("no chromium here: install it, or set VIDVEC_CHROMIUM to one")
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def watch(browser: Browser, server: Server) -> Iterator[Callable[..., Watched]]:
    """Makes watched pages; in the end nothing in them went wrong but what the test took out."""
    made: list[Watched] = []

    def make(url: str = server.url, **options: object) -> Watched:
        context = context_of(browser, **options)
        context.set_default_timeout(20_000)
        made.append(Watched(context.new_page(), url))
        return made[-1]

    yield make
    for each in made:
        each.page.context.close()
        assert each.console == []
        assert each.foreign == []
        assert each.refused == []


@pytest.fixture
def watched(watch: Callable[..., Watched]) -> Watched:
    """A page of a usual reader."""
    return watch()
