"""The model that made the vectors, loaded behind the server's back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from vidvec.embed.vectors import origin
from vidvec.errors import VidvecError
from vidvec.search.query import QueryEncoder
from vidvec.search.server.config import ServerConfig
from vidvec.search.server.failures import ApiError
from vidvec.storage import read_manifest

LOG = logging.getLogger("vidvec.server")


class Model:
    """A ``QueryEncoder`` that may not be there yet, or not at all.

    Args:
        load: Makes it.
        vectors: That it made.

    Attributes:
        settled: Whether it is there, or known not to be.
    """

    def __init__(self, load: Callable[[], QueryEncoder], vectors: Path) -> None:
        self._load, self._vectors = load, vectors
        self._lock = threading.Lock()
        self._encoder: QueryEncoder | None = None
        self._why_not = ""
        self.settled = False

    def start(self) -> None:
        """Begins to load it, anew where it is there, in a thread of its own."""
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def _run(self) -> None:
        with self._lock:
            former = self._encoder
            try:
                self._encoder, self._why_not = self._load(), ""
                LOG.info("model loaded")
            except VidvecError as error:
                self._encoder, self._why_not = None, str(error)
                LOG.warning("no model: %s", error)
            except Exception as error:
                self._encoder, self._why_not = None, f"the model cannot be loaded ({error})"
                LOG.exception("the model cannot be loaded")
            self.settled = True
        if former is not None:
            former.close()

    @property
    def name(self) -> str:
        """Names of the folders of what made the vectors."""
        made_by = origin(read_manifest(self._vectors, "vectors")["made_by"])
        made = made_by.get("members") or [made_by.get("checkpoint", made_by["stage"])]
        return " + ".join(Path(each).name for each in made)

    @property
    def encoder(self) -> QueryEncoder | None:
        """The encoder where it is there."""
        return self._encoder

    def required(self) -> QueryEncoder:
        """The encoder.

        Raises:
            ApiError: It is not there yet (``busy``), or there is none (``not-available``).
        """
        if self._encoder is not None:
            return self._encoder
        if not self.settled:
            raise ApiError(
                "busy", "the model is being loaded", "ask again in a moment", retry_after=1
            )
        raise ApiError("not-available", self._why_not, "look for ids, or for words of titles")

    def close(self) -> None:
        """Ends its processes."""
        if self._encoder is not None:
            self._encoder.close()


def load_encoder(config: ServerConfig) -> QueryEncoder:
    """What made a server's vectors."""
    import torch

    torch.set_num_threads(config.model_threads)
    return QueryEncoder.load(config.folder, encoders=config.encoders, workers=config.readers)
