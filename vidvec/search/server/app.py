"""The application: routes, what every request passes, what is opened and closed with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from vidvec import __version__
from vidvec.search.server import failures
from vidvec.search.server.config import ServerConfig
from vidvec.search.server.limits import RateLimiter
from vidvec.search.server.metrics import Metrics
from vidvec.search.server.middleware import Guard, Observe
from vidvec.search.server.routes import browse, page, search, shards, system, uploads, videos
from vidvec.search.server.state import State

LOG = logging.getLogger("vidvec.server")
DESCRIPTION = """Search in one vector per video: by words, by videos, by files.

Errors are `{"error": {"code", "message", "hint"}}`. Where the server was started with an API key,
everything but the page, `/healthz` and `/readyz` asks for it, as `Authorization: Bearer KEY` or
`X-API-Key: KEY`. Every answer carries `X-Request-ID`: the request's own, or a new one.
"""


def create_app(config: ServerConfig) -> FastAPI:
    """The application that serves a folder of vectors which has an index.

    Args:
        config: What to serve, and its limits.

    Raises:
        UsageError: A setting is out of range.
    """
    config.check()
    metrics = Metrics()
    scratch = tempfile.TemporaryDirectory(prefix="vidvec-") if config.scratch is None else None
    folder = Path(scratch.name) if scratch is not None else Path(str(config.scratch))
    rates = RateLimiter(folder, config.requests_a_second, config.burst)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = State(config, metrics, folder)
        app.state.vidvec = state
        state.model.start()
        watching = asyncio.create_task(_watch(app, config, metrics, folder))
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            app.state.vidvec.close()
            if scratch is not None:
                scratch.cleanup()

    app = FastAPI(
        title="vidvec",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    failures.install(app)
    for module in (search, uploads, videos, browse, shards, system):
        app.include_router(module.router)
    page.install(app)
    # The last is the outermost.
    app.add_middleware(Guard, config=config, metrics=metrics, rates=rates)
    app.add_middleware(Observe, metrics=metrics, log_queries=config.log_queries)
    return app


async def _watch(app: FastAPI, config: ServerConfig, metrics: Metrics, folder: Path) -> None:
    """Takes in changes of the index, the corpus and what lies beside them, as they come."""
    while True:
        await asyncio.sleep(config.refresh_seconds)
        state: State = app.state.vidvec
        try:
            await asyncio.to_thread(state.refresh)
            if await asyncio.to_thread(state.is_superseded):
                await _go_over(app, config, metrics, folder)
        except Exception:  # a change that cannot be taken in: what was there is served on
            LOG.exception("what has changed on disk cannot be taken in")


async def _go_over(app: FastAPI, config: ServerConfig, metrics: Metrics, folder: Path) -> None:
    """Answers from the vectors that a cluster searches by now, once their model is there.

    Until then, and for requests that have begun, the vectors before are searched with their own.
    """
    former: State = app.state.vidvec
    state = await asyncio.to_thread(State, config, metrics, folder)
    state.model.start()
    while not state.model.settled:
        await asyncio.sleep(0.1)
    app.state.vidvec = state
    LOG.info("went over to %s, %d videos", state.config.folder, state.videos)
    loop = asyncio.get_running_loop()
    loop.call_later(config.timeout_seconds, former.close)
