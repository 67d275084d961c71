"""Commands on scored pairs: labels, pseudo-label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vidvec.cli.shared import (
    Location,
    RecipeOption,
    SetOption,
    out,
    print_json,
    progress,
    settle_from,
)
from vidvec.errors import UsageError

JSON_SUSPECTS = 100  # of all, which --csv has

FilesOption = Annotated[list[Path], Parameter(negative="", consume_multiple=True)]


def labels(
    corpus: Location,
    /,
    *,
    ratings: FilesOption = [],  # noqa: B006 - never changed
    vectors: FilesOption = [],  # noqa: B006 - never changed
    split: Literal["clean", "balanced", "all"] = "all",
    duplicates: Annotated[bool | None, Parameter(negative="--no-duplicates")] = None,
    csv: Path | None = None,
    ranks: Path | None = None,
    html: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Check scored pairs: splits, agreement of raters, scores that are likely to be wrong.

    Args:
        corpus: The corpus with the scored pairs.
        ratings: Files of ratings: id_1, id_2, score, and rater where known; by default those that
            the corpus's pairs come from.
        vectors: Folders of vectors, whose cosines say what to expect of a score.
        split: Which pairs the vectors judge: all, or those of clean or balanced, which a model that
            was finetuned with that split has not learned from.
        duplicates: Look for scored pairs of videos with the same frames; by default where that
            takes seconds.
        csv: Write the pairs to be rated again here, worst first.
        ranks: Write every different score and its rank target here, as CSV.
        html: Write a page here.
        as_json: Print JSON.
    """
    from vidvec import console_labels
    from vidvec.data.corpus import Corpus
    from vidvec.embed import labels_page
    from vidvec.embed.label_check import check_labels
    from vidvec.embed.vectors import Vectors
    from vidvec.storage import atomic_path

    opened = Corpus(corpus)
    tables = [Vectors(path) for path in vectors]
    report = check_labels(opened, ratings, tables, split=split, duplicates=duplicates)
    if csv is not None:
        labels_page.write_suspects(csv, report.suspects, opened)
    if ranks is not None:
        labels_page.write_ranks(ranks, report.scores)
    if html is not None:
        with atomic_path(html) as temporary:
            temporary.write_text(labels_page.to_html(report, opened), "utf-8")
    if as_json:
        print_json(_as_json(report))
        return
    for part in console_labels.labels(report):
        out.print(part, soft_wrap=True, highlight=False)
    if report.rejects:
        first = report.rejects[0]
        said = f"{len(report.rejects):,} ratings left out; {first.where}: {first.detail}"
        out.print(said, soft_wrap=True, highlight=False)
    for path in (csv, ranks, html):
        if path is not None:
            out.print(f"wrote {path}", soft_wrap=True, highlight=False)


def _as_json(report: Any) -> dict[str, Any]:
    from dataclasses import asdict

    facts = asdict(report)
    suspects = facts.pop("suspects")
    return {
        **facts,
        "corpus": str(report.corpus),
        "rejects": len(report.rejects),
        "suspect_pairs": len(suspects),
        "suspects": suspects[:JSON_SUSPECTS],
    }


def pseudo_label(
    corpus: Location,
    vectors: Location,
    to: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    neighbours: int = 10,
    positives: int = 1000,
    graded: int = 1000,
    random: int = 1000,
    split: Literal["clean", "balanced"] | None = None,
    seed: int = 0,
    check: Path | None = None,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    recipe: RecipeOption | None = None,
    settings: SetOption = [],  # noqa: B006 - never changed
    seeds: int = 3,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score pairs that nobody scored by what their cosines let expect, and see whether it helps.

    They are learned from with vidvec finetune --set finetune.pseudo_pairs=OUT; a batch then has
    finetune.pseudo_ratio of them for each scored pair. No video of a pair that the split validates
    on is in any.

    Args:
        corpus: The corpus, with pairs.
        vectors: Folder of vectors, best of a model that was not finetuned on these pairs.
        to: CSV of the pairs: id_1, id_2, score, cosine, kind.
        neighbours: Two videos are neighbours where each is among the other's nearest so many.
        positives: Pairs of neighbours.
        graded: Pairs whose scores are spread over the range.
        random: Pairs drawn by chance.
        split: Whose validation videos are left alone; by default the recipe's split.
        seed: Of what is drawn.
        check: Folder for runs: finetune with and without these pairs, in the same steps, and
            compare Spearman on the validation pairs. Done runs are not done again.
        start: Of the check: pretrained run or checkpoint to start from.
        recipe: Of the check: name or path of a recipe; else the one of --from, or base.
        settings: Of the check: settings over the recipe's.
        seeds: Of the check: how many.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec import console_labels
    from vidvec.data.corpus import Corpus
    from vidvec.embed.vectors import Vectors
    from vidvec.search.pseudo import COLUMNS, pseudo_labels, write_csv
    from vidvec.search.pseudo_check import check_pseudo_labels

    settled = settle_from(start, recipe, settings)
    if split is not None and split != settled.finetune.split and check is not None:
        raise UsageError(f"--split {split}: the check's recipe has {settled.finetune.split}")
    opened = Corpus(corpus)
    found = pseudo_labels(
        Vectors(vectors),
        opened,
        neighbours=neighbours,
        positives=positives,
        graded=graded,
        chance=random,
        split=split or settled.finetune.split,
        seed=seed,
    )
    write_csv(to, COLUMNS, found.rows())
    facts: dict[str, Any] = {"pairs": len(found.pairs), **found.counts(), "held": found.held}
    if check is not None:
        numbers = range(settled.seed, settled.seed + seeds)
        with progress("check") as update:
            compared = check_pseudo_labels(
                corpus, to, check, settled, start, seeds=tuple(numbers), on_run=update
            )
        facts["check"] = {**asdict(compared), "verdict": compared.verdict}
    if as_json:
        print_json(facts)
        return
    out.print(console_labels.pseudo_labels(found), soft_wrap=True, highlight=False)
    if check is not None:
        for part in console_labels.pseudo_check(compared):
            out.print(part, soft_wrap=True, highlight=False)
    out.print(f"wrote {to}", soft_wrap=True, highlight=False)
