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
from vidvec.search.server.routes import browse, page, search, system, uploads, videos
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
        watching = asyncio.create_task(_watch(state, config.refresh_seconds))
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            state.close()
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
    for module in (search, uploads, videos, browse, system):
        app.include_router(module.router)
    page.install(app)
    # The last is the outermost.
    app.add_middleware(Guard, config=config, metrics=metrics, rates=rates)
    app.add_middleware(Observe, metrics=metrics, log_queries=config.log_queries)
    return app


async def _watch(state: State, seconds: float) -> None:
    """Takes in changes of the index, the corpus and what lies beside them, as they come."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(state.refresh)
        except Exception:  # a change that cannot be taken in: what was there is served on
            LOG.exception("what has changed on disk cannot be taken in")
