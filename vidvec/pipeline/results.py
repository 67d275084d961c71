"""What a plan came to: each job's figures, fusions of the best, and the submission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.embed.evaluate import Evaluation, evaluate
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.pipeline.plan import Job, Plan, Published, Stage
from vidvec.records import Pair


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        name: The job, or ``fusion of the best N``.
        figures: On the validation pairs of the recipes' split; ``None``: there are none.
        published: What the job scored where it was published; ``None``: not known.
        members: The jobs of a fusion, best first.
    """

    name: str
    figures: Evaluation | None
    published: Published | None = None
    members: tuple[str, ...] = ()


def job_rows(
    plan: Plan, jobs: Sequence[Job], embedded: Sequence[Stage], pairs: Sequence[Pair]
) -> list[Row]:
    """A row for each job that has vectors, in the plan's order.

    Args:
        plan: Its published figures.
        jobs: All of them.
        embedded: The embedding stages that are done.
        pairs: All scored pairs.
    """
    stages = {stage.job: stage for stage in embedded}
    return [
        Row(
            job.name,
            _figures(stages[job.name].output, pairs, job.recipe.finetune.split),
            plan.published.get(job.recipe.name),
        )
        for job in jobs
        if job.name in stages
    ]


def _figures(vectors: Path, pairs: Sequence[Pair], split: str) -> Evaluation | None:
    try:
        return evaluate(Vectors(vectors), pairs, split)
    except UsageError:  # no validation pair: there are few pairs, or the split leaves none
        return None


def fusion_rows(
    stages: Sequence[Stage], ranked: Sequence[str], pairs: Sequence[Pair], split: str
) -> list[Row]:
    """A row for each fusion that is done.

    Args:
        stages: The fusions' stages.
        ranked: The jobs' names, best first.
        pairs: All scored pairs.
        split: Of the recipes.
    """
    rows = []
    for stage in stages:
        count = len(stage.needs)
        figures = _figures(stage.output, pairs, split)
        rows.append(Row(f"fusion of the best {count}", figures, None, tuple(ranked[:count])))
    return rows


def write_results(out: Path, plan: Plan, rows: Sequence[Row], submission: Path | None) -> None:
    """Writes ``results.json``, atomically."""
    table: list[dict[str, Any]] = [asdict(row) for row in rows]
    for entry, row in zip(table, rows, strict=True):
        entry["published"] = row.published.model_dump() if row.published else None
    where = str(submission) if submission else None
    storage.write_json(
        out / "results.json", {"plan": plan.name, "rows": table, "submission": where}
    )
