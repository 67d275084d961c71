"""Counters for Prometheus, right with several workers, too.

With several workers each writes its numbers into a file of a folder that all share, and whichever
is asked adds them up: Prometheus sees one server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

# Read by prometheus_client when it is imported; set before the workers start.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        self._folder = os.environ.get(FOLDER_VARIABLE, "")
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "vidvec_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "vidvec_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "vidvec_requests_in_flight",
            "Requests being worked on.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._refused = Counter(
            "vidvec_requests_refused", "Requests refused by a limit.", ["code"], registry=registry
        )
        self._uploads = Counter(
            "vidvec_uploads", "Files handed in.", ["outcome"], registry=registry
        )
        self._upload_bytes = Counter(
            "vidvec_upload_bytes", "Bytes of files handed in.", registry=registry
        )
        self._batches = Histogram(
            "vidvec_text_batch_size",
            "Texts encoded in one run of the model.",
            buckets=SIZES,
            registry=registry,
        )
        self._videos = Gauge(
            "vidvec_index_videos",
            "Videos in the index.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._generation = Gauge(
            "vidvec_index_generation",
            "Acknowledged writes that the index has taken in.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )

        self._count_shards(registry)

    def _count_shards(self, registry: CollectorRegistry) -> None:
        self._shard_seconds = Histogram(
            "vidvec_shard_seconds",
            "Time that a shard took for its part of an answer.",
            ["shard"],
            buckets=SECONDS,
            registry=registry,
        )
        self._shard_failures = Counter(
            "vidvec_shard_failures",
            "Parts of answers that a shard did not give.",
            ["shard", "reason"],
            registry=registry,
        )
        self._shard_up = Gauge(
            "vidvec_shard_up",
            "Whether a shard is asked (1), or left alone after a failure (0).",
            ["shard"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def started(self) -> None:
        """A request came."""
        self._in_flight.inc()

    def finished(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._in_flight.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, code: str) -> None:
        """A limit refused a request."""
        self._refused.labels(code).inc()

    def upload(self, outcome: str, size: int) -> None:
        """A file of so many bytes was handed in, and read (``ok``) or left out, by reason."""
        self._uploads.labels(outcome).inc()
        self._upload_bytes.inc(size)

    def batch(self, size: int) -> None:
        """So many texts were encoded together."""
        self._batches.observe(size)

    def index(self, videos: int, generation: int) -> None:
        """The index was opened, or has changed."""
        self._videos.set(videos)
        self._generation.set(generation)

    def shard(self, name: str, seconds: float, reason: str) -> None:
        """A shard answered after so long; or, with a reason, it did not."""
        if reason:
            self._shard_failures.labels(name, reason).inc()
        else:
            self._shard_seconds.labels(name).observe(seconds)

    def shards(self, up: Mapping[str, bool]) -> None:
        """Which shards are asked, by name."""
        for name, asked in up.items():
            self._shard_up.labels(name).set(asked)

    def text(self) -> bytes:
        """All workers' numbers in Prometheus's text format."""
        if not self._folder:
            return generate_latest(self._registry)
        drop_dead(Path(self._folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._folder)
        return generate_latest(registry)


def drop_dead(folder: Path) -> None:
    """Takes requests in flight of workers that are no more out of the sum."""
    for path in folder.glob("gauge_live*_*.db"):
        process = path.stem.rsplit("_", 1)[1]
        if process.isdigit() and not Path("/proc", process).exists() and Path("/proc").is_dir():
            path.unlink(missing_ok=True)
