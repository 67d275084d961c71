"""What a server is told when it starts."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vidvec.errors import UsageError

LogFormat = Literal["json", "text"]

# Of one request.
MOST_HITS = 100
MOST_IDS = 100
MOST_TEXTS = 256
# Of one request of another server that has this one for a shard.
SHARD_BATCH = 32
SHARD_IDS = 1_000
SHARD_HITS = 16_384
# A body that is no upload.
BODY_BYTES = 2 * 2**20
MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Settings of a server.

    Attributes:
        vectors: Folder of vectors that is searched; ``None``: the one that the cluster of
            ``index`` was filled from, whichever that is at the moment.
        index: Address of a cluster that is searched instead of the folder's own index.
        corpus: Its videos; ``None``: those that were embedded.
        encoders: Where frame encoders are that the corpus does not note; see ``QueryEncoder``.
        host: Address to listen at.
        port: 0 takes any that is free.
        workers: Processes that answer.
        api_key: Asked of everything but the page and the probes; empty: nothing is asked.
        max_upload_mb: A file handed in, in MiB.
        rate: Requests a second that one client may make, over time; 0: any number; ``None``: as
            many as it likes where only this machine reaches the server, else 50.
        timeout_seconds: A request that takes longer is given up.
        upload_seconds: Until when an uploaded file must have come in.
        concurrency: Requests of one worker that are worked on or wait; more get 503.
        uploads: The same for uploads, which are counted apart.
        threads: Of one worker, for searching and encoding.
        text_batch: Texts of several requests that are encoded in one run of the model, at most.
        model_threads: CPU threads that one run of the model takes.
        readers: Processes of one worker that read uploaded files.
        log_format: One JSON object, or one line of text, for each request.
        log_queries: Log what was looked for, too.
        refresh_seconds: How often the index is looked at for changes.
        scratch: Folder for uploads and what workers share; ``None``: a new one, of one worker.
    """

    vectors: Path | None
    corpus: Path | None = None
    encoders: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    api_key: str = field(default="", repr=False)
    max_upload_mb: float = 200.0
    rate: float | None = None
    timeout_seconds: float = 30.0
    upload_seconds: float = 120.0
    concurrency: int = 32
    uploads: int = 4
    threads: int = 2
    text_batch: int = 32
    model_threads: int = 1
    readers: int = 2
    log_format: LogFormat = "json"
    log_queries: bool = False
    refresh_seconds: float = 1.0
    scratch: Path | None = None
    index: str = ""

    @property
    def folder(self) -> Path:
        """Of the vectors.

        Raises:
            UsageError: It is that of a cluster, which was not asked for it yet.
        """
        if self.vectors is None:
            raise UsageError("the folder of the vectors is not known")
        return self.vectors

    @property
    def requests_a_second(self) -> float:
        """``rate``, decided."""
        if self.rate is not None:
            return self.rate
        return 0.0 if self.loopback else 50.0

    @property
    def burst(self) -> int:
        """Requests that a client may make at once: two seconds' worth."""
        return max(1, math.ceil(2 * self.requests_a_second))

    @property
    def upload_bytes(self) -> int:
        """The largest file taken."""
        return int(self.max_upload_mb * MEGABYTE)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)

    def check(self) -> None:
        """Refuses settings that cannot be served.

        Raises:
            UsageError: A number is out of range, or the server would be open to a network without
                a key.
        """
        numbers = (
            ("--workers", self.workers, 1, 256),
            ("--port", self.port, 0, 65_535),
            ("--max-upload-mb", self.max_upload_mb, 0.001, 1_000_000),
            ("--rate", self.requests_a_second, 0, 1_000_000),
            ("--timeout", self.timeout_seconds, 0.1, 86_400),
        )
        for name, value, least, most in numbers:
            if not least <= value <= most:
                raise UsageError(f"{name} {value:g}: expected {least:g} … {most:g}")
        if not self.loopback and not self.api_key:
            raise UsageError(
                f"--host {self.host} lets others than this machine in: give them a key with "
                "--api-key KEY (or VIDVEC_API_KEY in the environment), or listen at 127.0.0.1"
            )
        if self.api_key and (not self.api_key.isascii() or not self.api_key.isprintable()):
            raise UsageError("the API key has characters that a header cannot carry: use ASCII")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, which no other machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
