"""Searching a recipe's ranges for the settings whose vectors rank like people."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from vidvec.config import Recipe
from vidvec.errors import UsageError, VidvecError
from vidvec.pipeline.child import PARENT_VARIABLE
from vidvec.pipeline.ranges import Range, read_ranges
from vidvec.pipeline.run import default_devices
from vidvec.pipeline.runner import COMMAND
from vidvec.pipeline.study import Search, TrialRow
from vidvec.pipeline.trials import OnTrial, Work, work_on

FEWEST_PAIRS = 10
MEASURED_ON = ("finetune.split", "finetune.fold", "finetune.folds")
POLL_SECONDS = 0.5
TAIL_LINES = 5
FOREVER = 10.0 * 365 * 24


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What a search has come to.

    Attributes:
        trials: All, by number.
        best: Number of the best one; ``None`` where none is complete.
        recipe: The best one's recipe.
        run: The best one's run, which is kept.
        mattered: How much each setting mattered, in shares that sum to 1.
        validation_pairs: That every Spearman is on.
        limit: Trials that were asked for.
    """

    trials: list[TrialRow]
    best: int | None
    recipe: Path
    run: Path | None
    mattered: dict[str, float]
    validation_pairs: int
    limit: int

    @property
    def unfinished(self) -> int:
        """Trials that the same command would still work on."""
        finished = sum(row.state in ("complete", "pruned", "failed") for row in self.trials)
        return max(0, self.limit - finished)


def tune(
    work: Work,
    out: Path,
    *,
    trials: int = 30,
    hours: float = FOREVER,
    workers: int = 1,
    say: OnTrial = lambda _: None,
) -> TuneReport:
    """Tries settings out of a recipe's ranges, or carries on with a search that was stopped.

    What is searched for is the highest Spearman on the validation pairs of the clean split, by
    Optuna's tree-structured Parzen estimator (Bergstra et al. 2011); trials that are behind the
    median of the others at a validation are stopped. Several calls on one folder share the trials.

    Args:
        work: Recipe with ranges, corpus, and where trials start from.
        out: Folder of the search.
        trials: At most, those of earlier and of other calls included.
        hours: Of this call; a trial that it stops is carried on by the next.
        workers: Processes side by side; over several GPUs each has one.
        say: Called with a line where something has come further.

    Raises:
        ConfigError: The recipe has no ranges, or one that does not fit.
        UsageError: There is nothing to measure on, or a range is of a stage that is not run.
        FormatError: The folder holds another search.
        MissingExtraError: Optuna is not installed.
        VidvecError: A worker failed.
    """
    until = time.monotonic() + hours * 3600
    recipe, ranges = read_ranges(work.source, work.overrides)
    _check_keys(work, recipe, ranges)
    facts, pairs = _facts(work, recipe, ranges)
    search = Search(out, ranges, recipe.seed, facts, _own(recipe, ranges))
    if workers == 1:
        work_on(search, work, trials, until, say)
    else:
        _side_by_side(search, work, workers, (trials, until), say)
    search.write_results()
    best = search.best()
    return TuneReport(
        search.rows(),
        None if best is None else best.number,
        out / "best.toml",
        None if best is None else search.folder(best.number) / "run",
        search.mattered(),
        pairs,
        trials,
    )


def _check_keys(work: Work, recipe: Recipe, ranges: Sequence[Range]) -> None:
    """Refuses ranges that would change nothing, and a split on which nothing can be told."""
    if recipe.finetune.split == "published":
        raise UsageError("trials are told apart on a clean split: --set finetune.split=clean")
    if any(one.key in MEASURED_ON for one in ranges):
        raise UsageError(
            f"a range of {', '.join(MEASURED_ON)} would measure trials on different pairs: set it"
        )
    if work.start is not None and (work.stages != "finetune" or work.features):
        raise UsageError("--from brings a pretrained model: leave out --stages and --features")
    for one in ranges:
        section = one.key.partition(".")[0]
        if section == "pretrain" and work.stages == "finetune":
            raise UsageError(
                f"{one.key} is searched, but trials finetune only: --stages pretrain+finetune"
            )
        if section == "model" and work.start is not None:
            raise UsageError(f"{one.key} is searched, but --from brings a model of its own")


def _own(recipe: Recipe, ranges: Sequence[Range]) -> dict[str, Any]:
    own = {}
    for one in ranges:
        value: Any = recipe
        for part in one.key.split("."):
            value = getattr(value, part)
        own[one.key] = list(value) if isinstance(value, tuple) else value
    return own


def _facts(work: Work, recipe: Recipe, ranges: Sequence[Range]) -> tuple[dict[str, Any], int]:
    """What a continued search must have in common; and how many validation pairs there are."""
    from vidvec.data.corpus import Corpus
    from vidvec.data.splits import corpus_split
    from vidvec.model.weights import checkpoint_folder
    from vidvec.train.folds import in_fold

    corpus = Corpus(work.corpus, features=work.features)
    pairs = corpus.pairs()
    split = in_fold(corpus_split(corpus, recipe.finetune.split), pairs, recipe.finetune)
    scores = np.array([pairs[int(row)].score for row in split.validation])
    if len(scores) < FEWEST_PAIRS or len(np.unique(scores)) < 2 or not len(split.train):
        raise UsageError(
            f"{corpus.path} has {len(pairs)} scored pairs, {len(split.train)} to learn from and "
            f"{len(scores)} to measure on by the clean split: a search needs at least "
            f"{FEWEST_PAIRS} of the latter, with different scores"
        )
    start = ""
    if work.start is not None:
        start = str(checkpoint_folder(work.start).resolve())
    content = str((corpus.content, corpus.tag_vocabulary, pairs))
    facts = {
        "recipe": recipe.hash,
        "ranges": [one.facts for one in ranges],
        "stages": work.stages,
        "corpus": hashlib.sha256(content.encode()).hexdigest()[:12],
        "from": start,
        "features": work.features,
    }
    return facts, len(scores)


def _side_by_side(
    search: Search, work: Work, workers: int, limits: tuple[int, float], say: OnTrial
) -> None:
    """Runs this command as several processes; one that is killed is started again.

    Raises:
        VidvecError: One ended with an error.
    """
    trials, until = limits
    (search.out / "logs").mkdir(exist_ok=True)
    devices = default_devices()
    places = list(range(workers))
    running: dict[int, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
    deaths, failed = 0, ""
    try:
        while places or running:
            for place in places:
                running[place] = _start(search, work, place, devices, (workers, trials, until))
            places, last = [], ""
            time.sleep(POLL_SECONDS)
            for place, (process, log) in list(running.items()):
                if process.poll() is None:
                    continue
                log.close()
                del running[place]
                if process.returncode < 0 and deaths < 3 * trials and time.monotonic() < until:
                    deaths += 1  # its trial is taken over, and in the end counts as failed
                    places.append(place)
                elif process.returncode:
                    text = Path(log.name).read_text("utf-8", errors="replace").splitlines()
                    failed = failed or " ".join(text[-TAIL_LINES:])
            rows = search.rows()
            done = sum(row.state in ("complete", "pruned", "failed") for row in rows)
            at = [str(row.number) for row in rows if row.state == "running"]
            last = f"{done} of {trials} trials; at {', '.join(at) or 'none'}"
            say(last)
    finally:
        for process, log in running.values():
            process.terminate()
            process.wait()
            log.close()
    if failed:
        raise VidvecError(f"a worker of {search.out} failed: {failed}")


def _start(
    search: Search,
    work: Work,
    place: int,
    devices: Sequence[Mapping[str, str]],
    limits: tuple[int, int, float],
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    workers, trials, until = limits
    hours = max(0.0, until - time.monotonic()) / 3600
    command = ["tune", work.source, str(work.corpus), str(search.out), "--workers", "1"]
    command += ["--trials", str(trials), "--hours", repr(hours), "--stages", work.stages]
    command += ["--from", str(work.start)] * (work.start is not None)
    command += ["--features", work.features] * bool(work.features)
    for override in work.overrides:
        command += ["--set", override]
    log = (search.out / "logs" / f"worker-{place}.log").open("wb")
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={
            "OMP_NUM_THREADS": threads,
            **os.environ,
            **devices[place % len(devices)],
            PARENT_VARIABLE: str(os.getpid()),
        },
    )
    return process, log
