"""Commands around the competition's format: make-competition."""

from __future__ import annotations

from pathlib import Path

from vidvec.cli.shared import out, progress


def make_competition(folder: Path, /, *, videos: int = 20_000, seed: int = 2021) -> None:
    """Make a corpus in the competition's format; started again, it carries on.

    Args:
        folder: Where it goes; what it holds then can be ingested.
        videos: Of all its parts together.
        seed: Decides everything: the same seed gives the same files.
    """
    from vidvec.demo.competition import make_competition as run

    with progress("make") as update:
        run(folder, videos=videos, seed=seed, progress=update)
    out.print(f"{folder}: {videos} videos; next: vidvec ingest {folder} CORPUS", soft_wrap=True)
