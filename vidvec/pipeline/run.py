"""A whole plan: from a folder of data to a table and a submission."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidvec import storage
from vidvec.data.competition import PARTS
from vidvec.data.corpus import KIND, Corpus
from vidvec.model.flops import matrix_rate
from vidvec.pipeline.estimate import Estimate, data_facts, estimates
from vidvec.pipeline.plan import (
    Job,
    Plan,
    Stage,
    fusion_stages,
    parts_of,
    training_stages,
    write_recipes,
)
from vidvec.pipeline.results import Row, fusion_rows, job_rows, write_results
from vidvec.pipeline.runner import Failure, OnChange, Runner, State, is_done, locked, wanted

Watch = Callable[[Sequence[Stage], Mapping[str, Estimate]], OnChange]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan would do.

    Attributes:
        stages: All up to the jobs' vectors; what comes behind depends on their figures.
        to_run: Names of those that are not done.
        estimates: By name.
        missing_parts: Folders of the competition that the data lacks.
    """

    stages: list[Stage]
    to_run: list[str]
    estimates: dict[str, Estimate]
    missing_parts: list[str]

    @property
    def seconds(self) -> float:
        """Of what is to run, on one device."""
        return sum(self.estimates[name].seconds for name in self.to_run)

    @property
    def bytes(self) -> float:
        """That what is to run will leave on disk."""
        return sum(self.estimates[name].bytes for name in self.to_run)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a plan came to.

    Attributes:
        rows: The table: jobs in the plan's order, then fusions.
        failures: Stages that ended with an error.
        blocked: Stages that could not run because of them, with the failed stage's name.
        submission: The zip, or ``None`` where there is none.
        rejected: Records, label rows and the like left out at ingest, by reason.
    """

    rows: list[Row]
    failures: list[Failure]
    blocked: dict[str, str]
    submission: Path | None
    rejected: Counter[str]


def forecast(jobs: Sequence[Job], data: Path, out: Path, strict: bool = False) -> Forecast:
    """Finds out what a plan would do, without running anything.

    Raises:
        UsageError: The data folder cannot be used.
    """
    stages = training_stages(jobs, data, out, strict)
    to_run = [stage.name for stage in wanted(stages, lambda stage: is_done(out, stage))]
    missing = sorted(set(PARTS) - set(parts_of(data)))
    guesses = estimates(stages, jobs, data_facts(data), matrix_rate())
    return Forecast(stages, to_run, guesses, missing)


def run_plan(
    plan: Plan,
    jobs: Sequence[Job],
    data: Path,
    out: Path,
    *,
    strict: bool = False,
    devices: Sequence[Mapping[str, str]] | None = None,
    watch: Watch | None = None,
) -> PlanReport:
    """Runs what is not done of a plan, and makes its table.

    Args:
        plan, jobs: From ``load_plan``.
        data: The competition's folder.
        out: The plan's folder; everything that is made lies in it.
        strict: Stop at the first record or row that cannot be used.
        devices: See ``Runner``; ``None``: every GPU, or the CPU.
        watch: Given stages and estimates, gives what is called as they go.

    Raises:
        UsageError: The data folder cannot be used, or ``out`` is in use.
    """
    with locked(out) as lock:
        runner = Runner(out, lock, devices if devices is not None else default_devices())
        plans = forecast(jobs, data, out, strict)
        write_recipes(jobs, out)
        state = State()
        runner.run(plans.stages, state, _watched(watch, plans.stages, plans.estimates))
        corpus = next(stage.output for stage in plans.stages if stage.kind == "ingest")
        rejected = _rejected(corpus) if "ingest" in state.done else Counter[str]()
        embedded = [s for s in plans.stages if s.kind == "embed" and s.name in state.done]
        if not embedded:
            return PlanReport([], list(state.failed.values()), state.blocked, None, rejected)
        pairs = Corpus(corpus).pairs()
        rows = job_rows(plan, jobs, embedded, pairs)
        ranked = [row.name for row in sorted(rows, key=_worth, reverse=True)]
        order = {stage.job: stage for stage in embedded}
        behind = fusion_stages(plan, [order[name] for name in ranked], data, out)
        runner.run(behind, state, _watched(watch, behind, {}))
        done = [stage for stage in behind if stage.name in state.done]
        fusions = [stage for stage in done if stage.kind == "fuse"]
        rows += fusion_rows(fusions, ranked, pairs, jobs[0].recipe.finetune.split)
        submission = next((stage.output for stage in done if stage.kind == "submit"), None)
        write_results(out, plan, rows, submission)
        return PlanReport(rows, list(state.failed.values()), state.blocked, submission, rejected)


def default_devices() -> list[dict[str, str]]:
    """Every GPU on its own, or the CPU once."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # Where the user chose some, they are numbered anew in this process, but not for its children.
    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = chosen[:count] if chosen else [str(number) for number in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names] or [{}]


def _watched(
    watch: Watch | None, stages: Sequence[Stage], guesses: Mapping[str, Estimate]
) -> OnChange:
    return watch(stages, guesses) if watch else lambda *_: None


def _worth(row: Row) -> float:
    """What a job is ranked by: its Spearman; the lowest where there is none."""
    value = row.figures.spearman.value if row.figures else math.nan
    return value if math.isfinite(value) else -math.inf


def _rejected(corpus: Path) -> Counter[str]:
    """Counts by reason, from the manifest alone."""
    manifest = storage.read_manifest(corpus, KIND)
    return sum((Counter(entry["rejected"]) for entry in manifest["ingests"]), Counter())


def seconds_left(
    stages: Sequence[Stage], guesses: Mapping[str, Estimate], state: State, now: float
) -> float:
    """How long a plan still takes on one device: the guesses, corrected by what was seen.

    Args:
        stages: All of the plan.
        guesses: By name; a stage without one counts nothing.
        state: How it stands.
        now: In ``time.monotonic()``.
    """
    seen = [name for name in state.done if name in guesses and name not in state.skipped]
    guessed = sum(guesses[name].seconds for name in seen)
    took = sum(state.done[name] for name in seen)
    left = 0.0
    for stage in stages:
        name = stage.name
        if name in state.done or name in state.failed or name in state.blocked:
            continue
        whole = guesses[name].seconds if name in guesses else 0.0
        whole *= took / guessed if guessed else 1.0
        share = state.running.get(name)
        if share is None:
            left += whole
            continue
        elapsed = now - state.started[name]
        # Its own pace tells more than the guess once a tenth of it is done.
        left += elapsed * (1 - share) / share if share > 0.1 else max(0.0, whole - elapsed)
    return left
