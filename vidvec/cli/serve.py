"""The command that serves a folder of vectors over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import Mirrored, err, out, progress
from vidvec.errors import UsageError


def serve(
    vectors: Mirrored | None = None,
    /,
    *,
    index: str = "",
    corpus: Path | None = None,
    encoder: Annotated[list[str], Parameter(negative="", consume_multiple=True)] = [],  # noqa: B006 - never changed
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    api_key: Annotated[str, Parameter(env_var="VIDVEC_API_KEY", show_default=False)] = "",
    max_upload_mb: float = 200.0,
    rate: float | None = None,
    timeout: float = 30.0,
    log_format: Literal["json", "text"] = "json",
    log_queries: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serve search over HTTP, with a page for a browser, until Ctrl-C or SIGTERM.

    Args:
        vectors: Folder of vectors; its index is made, or brought up to date, first. Not needed
            with --index where the folder that the cluster was filled from is in its place.
        index: Search in a cluster instead, such as http://localhost:19530/vidvec, or in shards, by
            the file that lists them (vidvec index --shards). Without a folder the server goes over
            to other vectors, and to their model, when the cluster does.
        corpus: Where titles and pictures are; by default the one that was embedded.
        encoder: Where a frame encoder is that the corpus does not note, or that has moved, for
            files handed in: onnx:FILE, hf:FOLDER.
        host: Address to listen at; one that other machines reach takes an API key.
        port: 0 takes any that is free.
        workers: Processes that answer; each loads the model.
        api_key: Asked of everything but the page and the probes.
        max_upload_mb: Size of a file that may be handed in.
        rate: Requests a second that one client may make; 0: any number. Without, any number from
            this machine, 50 where others reach the server.
        timeout: Seconds after which a request is given up.
        log_format: Of the log on standard error, one line a request.
        log_queries: Log what is looked for, too.
    """
    from vidvec.search.server.config import ServerConfig
    from vidvec.search.server.running import require_libraries, run

    if vectors is None and not index:
        raise UsageError("give a folder of vectors, or the address of an index with --index")
    config = ServerConfig(
        vectors=vectors,
        index=index,
        corpus=corpus,
        encoders=tuple(encoder),
        host=host,
        port=port,
        workers=workers,
        api_key=api_key,
        max_upload_mb=max_upload_mb,
        rate=rate,
        timeout_seconds=timeout,
        log_format=log_format,
        log_queries=log_queries,
    )
    require_libraries()
    config.check()
    if index:
        _look(index, vectors)
    elif vectors is not None:
        from vidvec.search.engine import build_index

        with progress("index", transient=True) as update:
            report = build_index(vectors, corpus=corpus, progress=update)
        err.print(f"{vectors}: {report.videos} videos, index {report.kind}", highlight=False)
    run(config, lambda url: out.print(f"{url}  (Ctrl-C ends it)", highlight=False, soft_wrap=True))


def _look(index: str, vectors: Path | None) -> None:
    """Says what is in a cluster, before anything is started."""
    from vidvec.search.cluster.engine import ClusterIndex
    from vidvec.search.cluster.folder import check_folder
    from vidvec.search.sharded.layout import is_shards_file

    if is_shards_file(index):
        _look_at_shards(Path(index))
        return
    with ClusterIndex.open(index) as opened:
        if vectors is not None:
            check_folder(vectors, opened.reader.held, index)
        err.print(f"{index}: {len(opened)} videos, index {opened.kind}", highlight=False)


def _look_at_shards(file: Path) -> None:
    from vidvec.search.sharded.engine import ShardedIndex

    with ShardedIndex.open(file) as opened:
        size = f"{len(opened)} videos in {len(opened.shards.all)} shards, index {opened.kind}"
        err.print(f"{file}: {size}", highlight=False, soft_wrap=True)
        if opened.missing is not None:
            err.print(opened.missing.sentence(), highlight=False, soft_wrap=True, markup=False)
