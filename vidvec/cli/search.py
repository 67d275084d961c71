"""The command that looks for videos in a folder of vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from vidvec.cli.shared import Location, Mirrored, err, out, print_json, progress

if TYPE_CHECKING:
    from vidvec.search.find import Answer

TextsOption = Annotated[list[str], Parameter(negative="")]
Flag = Annotated[bool, Parameter(negative="")]
# The exit status where hits were found, but not in all shards.
INCOMPLETE = 3


def search(
    vectors: Mirrored | None = None,
    /,
    *,
    index: str = "",
    id: TextsOption = [],  # noqa: A002, B006 - the option's name; never changed
    title: str | None = None,
    file: Annotated[list[Path], Parameter(negative="")] = [],  # noqa: B006
    unlike_id: TextsOption = [],  # noqa: B006
    words: str | None = None,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 10,
    tag: TextsOption = [],  # noqa: B006
    category: TextsOption = [],  # noqa: B006
    language: TextsOption = [],  # noqa: B006
    min_seconds: float | None = None,
    max_seconds: float | None = None,
    after: str = "",
    before: str = "",
    exact: Flag = False,
    explain: Flag = False,
    corpus: Location | None = None,
    encoder: TextsOption = [],  # noqa: B006
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Find the videos nearest to videos, words, files, or all of them together.

    The folder's index is used, and made first where there is none (vidvec index).

    Args:
        vectors: Folder of vectors; not needed with --index where the folder that the cluster was
            filled from is still in its place, or where ids or --words are looked for.
        index: Search in a cluster instead, such as http://localhost:19530/vidvec (vidvec index
            --to), or in shards, by the file that lists them (vidvec index --shards). Where a shard
            does not answer, the others do: the exit status is then 3.
        id: Video of the folder to look for neighbours of; may be given again, as all that follows
            but --title, --words, numbers and dates.
        title: Words to look for by their meaning.
        file: Video file or picture to look for neighbours of; it need not be in the corpus.
        unlike_id: Video that hits are to be unlike: half of it, or of the mean of several, is taken
            off what is looked for.
        words: Words that are in the titles of hits, in parts of words, too; not by meaning.
        k: How many.
        tag: Only videos that have this tag; of several, all.
        category: Only videos of this category; of several, one of them.
        language: Only videos in this language; zh takes zh-Hant, too.
        min_seconds: Only videos that last so long or longer.
        max_seconds: Only videos that last so long or shorter.
        after: Only videos from this date on, such as 2021-05-03 or 2021-05-03T10:00:00Z.
        before: Only videos from before this date.
        exact: Compare with every vector; slower, and nothing is missed.
        explain: Show for each hit what its title, frames and so on have to do with it.
        corpus: Where titles and such are; by default the corpus that was embedded.
        encoder: For --file where the frame encoder's file has moved: onnx:FILE or hf:FOLDER.
        as_json: Print JSON.
    """
    from vidvec import console_search
    from vidvec.search.find import Question, find
    from vidvec.search.sharded.layout import is_shards_file
    from vidvec.search.types import Filter

    asked = Filter(
        tags=tuple(tag),
        categories=tuple(category),
        languages=tuple(language),
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        after=after,
        before=before,
    )
    question = Question(
        ids=tuple(id),
        unlike_ids=tuple(unlike_id),
        title=title,
        files=tuple(file),
        words=words,
        k=k,
        filter=asked,
        exact=exact,
        why=explain,
    )
    answer = find(
        vectors,
        question,
        lambda folder: _build(folder, corpus),
        index=index,
        corpus=corpus,
        encoders=encoder,
    )
    score = "cosine" if words is None else "score"
    if answer.missing is not None:
        err.print(Text(answer.missing.sentence()), soft_wrap=True, highlight=False)
    if as_json:
        rows = _as_json(answer, score)
        whole = {"hits": rows, "missing": _missing(answer)}
        print_json(whole if is_shards_file(index) else rows)
        _leave(answer)
        return
    if answer.in_memory:
        err.print("no index can be written there: every vector was compared")
    out.print(console_search.found(answer.videos, answer.hits, answer.why, score))
    if answer.left_out:
        out.print(f"{answer.left_out} videos that are gone from the source are left out")
    _leave(answer)


def _leave(answer: Answer) -> None:
    """Ends with a status of its own where a shard's videos are missing."""
    if answer.missing is not None:
        sys.exit(INCOMPLETE)


def _missing(answer: Answer) -> dict[str, Any] | None:
    from dataclasses import asdict

    return None if answer.missing is None else asdict(answer.missing)


def _build(vectors: Path, corpus: Path | None) -> None:
    """Makes the index, with a word."""
    from vidvec.search.engine import build_index

    with progress("index", transient=True) as update:
        report = build_index(vectors, corpus=corpus, progress=update)
    err.print(f"made the index of {report.videos:,} videos, once", highlight=False)


def _as_json(answer: Answer, score: str) -> list[dict[str, Any]]:
    from dataclasses import asdict

    rows = []
    for place, hit in enumerate(answer.hits):
        row: dict[str, Any] = {"id": hit.id, score: hit.cosine}
        if hit.id in answer.videos:
            row |= asdict(answer.videos[hit.id])
        if answer.why is not None:
            row["why"] = asdict(answer.why[place])
        rows.append(row)
    return rows
