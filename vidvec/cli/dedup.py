"""Commands that judge by vectors: calibrate, dedup."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vidvec.cli.shared import Location, Mirrored, err, out, print_json, progress
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.data.corpus import Corpus
    from vidvec.records import Pair
    from vidvec.search.corpora import Corpora
    from vidvec.search.dedup import Deduplication

PRECISIONS = [0.9, 0.95, 0.99]


def calibrate(
    vectors: Mirrored,
    /,
    *,
    corpus: Location | None = None,
    pairs: Path | None = None,
    positive: float | None = None,
    precision: Annotated[list[float], Parameter(negative="", consume_multiple=True)] = PRECISIONS,
    split: Literal["clean", "balanced", "all"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Learn from scored pairs what a cosine means: a probability, and thresholds for a precision.

    It is kept beside the vectors, where search, dedup and serve find it.

    Args:
        vectors: Folder of vectors.
        corpus: The corpus with the scored pairs; by default the one that was embedded.
        pairs: File with scored pairs to take instead: id_1, id_2, score.
        positive: Score from which two videos count as similar; by default three quarters of the way
            from the lowest score to the highest.
        precision: Shares of similar pairs that thresholds are wanted for.
        split: Which pairs: clean or balanced (those that finetuning with that split did not learn
            from) or all; by default clean of the corpus's pairs, all of a file's.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec import console_judge
    from vidvec.embed.evaluate import split_of
    from vidvec.embed.vectors import Vectors
    from vidvec.search.calibrate import calibrate as run
    from vidvec.search.index import corpus_of

    for each in precision:
        if not 0 < each < 1:
            raise UsageError(f"--precision {each:g}: expected above 0 and below 1")
    opened = Vectors(vectors)
    scored = _pairs(vectors, corpus, pairs)
    chosen = split or ("clean" if pairs is None else "all")
    if chosen == "balanced" and pairs is not None:
        raise UsageError("--split balanced is of a corpus's pairs: give it without --pairs")
    of_corpus = corpus_of(vectors, corpus) if chosen == "balanced" else None
    whole = chosen if of_corpus is None else split_of(of_corpus, chosen)
    found = run(opened, scored, positive=positive, split=whole)
    path = found.save(vectors)
    thresholds = [found.threshold(each) for each in precision]
    if as_json:
        facts = {key: value for key, value in asdict(found).items() if key != "steps"}
        print_json({**facts, "thresholds": [asdict(each) for each in thresholds]})
        return
    for part in console_judge.calibration(found, thresholds):
        out.print(part, soft_wrap=True, highlight=False)
    out.print(f"wrote {path}", soft_wrap=True, highlight=False)


def _pairs(vectors: Path, corpus: Path | None, file: Path | None) -> list[Pair]:
    """Scored pairs of a file, else of a corpus."""
    from vidvec.data.pairs import read_pairs
    from vidvec.search.index import corpus_of

    if file is not None:
        pairs, rejects = read_pairs(file)
        reasons = Counter(reject.reason for reject in rejects)
        if rejects:
            named = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            first = f"{rejects[0].where}: {rejects[0].detail}"
            err.print(
                f"rows of {file} left out: {named}; {first}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )
        return pairs
    opened = corpus_of(vectors, corpus)
    if opened is None:
        raise UsageError(
            f"the corpus that {vectors} was made from is not there: give --corpus, or --pairs FILE"
        )
    pairs = opened.pairs()
    if not pairs:
        raise UsageError(f"{opened.path} has no scored pairs: give --pairs FILE")
    return pairs


def dedup(
    *vectors: Mirrored,
    threshold: float | None = None,
    precision: float | None = None,
    corpus: Location | None = None,
    csv: Path | None = None,
    html: Path | None = None,
    workers: int | None = None,
    on: str | None = None,
    parts: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Find groups of near duplicates, each with a video that represents it.

    Args:
        vectors: Folder of vectors; or several, of other videos each, among all of which groups are
            found.
        threshold: Cosine from which two videos are near duplicates; by default that of 99 %
            precision where vidvec calibrate found one, else 0.9.
        precision: Take the threshold that has this precision by vidvec calibrate.
        corpus: Has titles, files and pictures, and says which videos are gone; by default the one
            that was embedded.
        csv: Write a table here: group, id, cosine, representative, title, file.
        html: Write a page with film strips here.
        workers: Processes that share the work; on a cluster, at most so many.
        on: Of a cluster: ray (started on this machine), HOST:PORT or ray://HOST:PORT; all its
            machines must see the folders under the same paths.
        parts: Folder for what they make until all is done, as much as the vectors in float32; by
            default inside the first folder of vectors.
        as_json: Print JSON.
    """
    from vidvec import console_judge
    from vidvec.search import dedup_page
    from vidvec.search.corpora import corpora_of
    from vidvec.search.dedup import THRESHOLD
    from vidvec.search.groups import threshold_for

    if not vectors:
        raise UsageError("nothing to compare: give at least one folder of vectors")
    if threshold is not None and precision is not None:
        raise UsageError("give either --threshold or --precision")
    if precision is not None:
        threshold = max(threshold_for(each, precision) for each in vectors)
    shown = corpora_of(vectors, corpus)
    found, gone = _found(vectors, threshold, corpus, parts, workers=workers, on=on)
    if csv is not None:
        dedup_page.write_csv(csv, found.groups, shown)
    if html is not None:
        dedup_page.write_html(html, ", ".join(map(str, vectors)), found, shown)
    if as_json:
        print_json(_as_json(found, shown, gone))
        return
    for part in console_judge.duplicates(found, shown, gone):
        out.print(part, soft_wrap=True, highlight=False)
    if threshold is None and found.threshold == THRESHOLD:
        out.print(
            f"{THRESHOLD:g} is the default: what a cosine means differs from model to model; "
            "vidvec calibrate learns it from scored pairs",
            soft_wrap=True,
            highlight=False,
            style="dim",
        )
    for path in (csv, html):
        if path is not None:
            out.print(f"wrote {path}", soft_wrap=True, highlight=False)


def _found(
    vectors: tuple[Path, ...],
    threshold: float | None,
    corpus: Path | None,
    parts: Path | None,
    *,
    workers: int | None,
    on: str | None,
) -> tuple[Deduplication, int]:
    """The groups, and how many videos are gone; by this process or by workers."""
    from vidvec.cli.workers import opened_workers
    from vidvec.search.dedup_workers import dedup_shards
    from vidvec.search.groups import dedup as run
    from vidvec.workers import Here

    with opened_workers(workers, on) as opened, progress("dedup", transient=True) as update:
        if opened is None and len(vectors) == 1 and parts is None:
            return run(vectors[0], threshold, corpus=corpus, progress=update)
        return dedup_shards(
            vectors,
            threshold,
            workers=opened or Here(),
            corpus=corpus,
            parts=parts,
            progress=update,
        )


def _as_json(found: Deduplication, corpus: Corpus | Corpora | None, gone: int) -> dict[str, Any]:
    from dataclasses import asdict

    from vidvec.search.dedup_page import csv_rows

    groups: list[dict[str, Any]] = []
    for number, video, cosine, representative, title, file in csv_rows(found.groups, corpus):
        if int(number) > len(groups):
            groups.append({"representative": representative, "members": []})
        member = {"id": video, "cosine": float(cosine), "title": title, "file": file}
        groups[-1]["members"].append(member)
    return {
        "threshold": found.threshold,
        "compared": found.compared,
        "gone": gone,
        "left_out": list(found.left_out),
        "sampled_recall": None if found.recall is None else asdict(found.recall),
        "groups": groups,
    }
