"""Makes shards of a folder of vectors: as many folders, each with an index, and their file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vidvec import storage
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError
from vidvec.search.building import IndexReport, build_index
from vidvec.search.difference import digest_of, fingerprint
from vidvec.search.folding import INDEX
from vidvec.search.sharded.layout import (
    FILE,
    HASH,
    MOST_SHARDS,
    ShardPlace,
    ShardsFile,
    read_shards,
    shard_of,
    write_shards,
)

Progress = Callable[[int, int, str], None]
NEW = ".new"


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What ``split`` did.

    Attributes:
        file: The file of shards.
        videos: How many all shards have.
        written: Whether vectors were.
        shards: What was done to the index of each.
    """

    file: Path
    videos: int
    written: bool
    shards: tuple[IndexReport, ...]


def split(
    vectors: Path,
    out: Path,
    shards: int,
    *,
    corpus: Path | None = None,
    kind: str = "auto",
    progress: Progress | None = None,
) -> SplitReport:
    """Spreads vectors over shards by the hash of their ids, and makes the index of each.

    Run again it takes in what has changed; what was added or deleted while searching stays, as with
    ``build_index``. A run that was stopped is carried on.

    Args:
        vectors: Made by ``embed``, ``fuse`` or ``import-vectors``.
        out: Where ``shards.toml`` and the folders ``shard-0``, ``shard-1`` … come.
        shards: How many.
        corpus: Where titles, tags and such are; ``None``: the corpus that was embedded.
        kind: See ``build_index``.
        progress: Called with shards done, all, and what is being done.

    Raises:
        UsageError: There are other shards, or not as many; or the number is out of range.
        FormatError: The folder is none.
    """
    if not 1 <= shards <= MOST_SHARDS:
        raise UsageError(f"--shards {shards}: expected 1 … {MOST_SHARDS}")
    held, out = Vectors(Path(vectors)), Path(out)
    if out.resolve() == held.path.resolve():
        raise UsageError(f"{out} is the folder of vectors itself: give another one for the shards")
    former = _former(out, shards)
    made_of = digest_of([fingerprint(held), shards])
    folders = [out / f"shard-{number}" for number in range(shards)]
    written = former is None or former.made_of != made_of or not all(map(_whole, folders))
    if written:
        _write(held, out, folders, progress)
    reports = []
    for number, folder in enumerate(folders):
        if progress is not None:
            progress(number, shards, "index")
        reports.append(build_index(folder, corpus=corpus, kind=kind))
    places = (
        ShardPlace("folder", str(folder), folder.name, report.videos)
        for folder, report in zip(folders, reports, strict=True)
    )
    kept = former or ShardsFile(out / FILE, ())
    wanted = replace(
        kept,
        shards=tuple(places),
        placing=HASH,
        dimension=held.dimension,
        vectors=held.path.resolve(),
        made_of=made_of,
    )
    if wanted != former:
        write_shards(wanted)
    total = sum(report.videos for report in reports)
    return SplitReport(out / FILE, total, written, tuple(reports))


def _former(out: Path, shards: int) -> ShardsFile | None:
    """The shards that are there, which have to be as many; ``None``: there are none."""
    names = [f"shard-{number}" for number in range(shards)]
    if not (out / FILE).is_file():
        others = {one.name.removesuffix(NEW) for one in out.glob("shard-*")} - set(names)
        if others:
            raise UsageError(
                f"{out} has {min(others)} of a run with other shards: delete the folder, or run "
                "with as many shards again"
            )
        return None
    former = read_shards(out / FILE)
    if [one.name for one in former.shards] != names or former.placing != HASH:
        raise UsageError(
            f"{out / FILE} lists {len(former.shards)} shards, expected {shards} that were made "
            "here: an id would belong to another one; give another folder to write"
        )
    return former


def _whole(folder: Path) -> bool:
    try:
        return bool(storage.read_manifest(folder, "vectors")["complete"])
    except FormatError:
        return False


def _write(held: Vectors, out: Path, folders: list[Path], progress: Progress | None) -> None:
    """Writes the vectors of all shards beside, then puts them in the place of those before."""
    temporary = [folder.with_name(folder.name + NEW) for folder in folders]
    for folder in temporary:
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        key: each
        for key, each in held.manifest.items()
        if key not in ("kind", "format_version", "dimension", "complete", "shards")
    }
    writers = [VectorWriter(folder, held.dimension, facts) for folder in temporary]
    done = 0
    for ids, matrix in held.shards():
        owners = np.array([shard_of(video, len(folders)) for video in ids], np.int64)
        for number, writer in enumerate(writers):
            rows = np.flatnonzero(owners == number)
            if len(rows):
                writer.append([ids[row] for row in rows.tolist()], matrix[rows])
        done += len(ids)
        if progress is not None:
            progress(done, len(held), "reading")
    for writer, made, folder in zip(writers, temporary, folders, strict=True):
        writer.finish()
        _copy_beside(held.path, made)
        _put(made, folder)


def _copy_beside(source: Path, made: Path) -> None:
    """What else makes a folder of vectors: a fusion's projection, a calibration."""
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name != storage.MANIFEST:
            shutil.copyfile(path, made / path.name)


def _put(made: Path, folder: Path) -> None:
    """Puts a folder of vectors in the place of another, whose index it takes over."""
    if not folder.exists():
        made.rename(folder)
        return
    _without_manifest(folder)
    for path in sorted(made.iterdir()):
        if path.name == storage.MANIFEST:
            continue
        former = folder / path.name
        if former.is_dir():
            shutil.rmtree(former)
        path.replace(former)
    (made / storage.MANIFEST).replace(folder / storage.MANIFEST)  # whole from here on
    shutil.rmtree(made)


def _without_manifest(folder: Path) -> None:
    (folder / storage.MANIFEST).unlink(missing_ok=True)
    if not (folder / INDEX).is_dir():
        shutil.rmtree(folder / "shards", ignore_errors=True)
