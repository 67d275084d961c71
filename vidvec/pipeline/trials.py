"""Trials of a search, one after the other in this process: train, report, stop, tell."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidvec.config import Recipe, load_recipe
from vidvec.errors import VidvecError
from vidvec.pipeline.ranges import Range
from vidvec.pipeline.study import Claim, Search

if TYPE_CHECKING:
    from optuna.trial import Trial

Stages = Literal["finetune", "pretrain+finetune"]
# Processes that may die at a trial, without a checkpoint between, before it counts as failed.
DEATHS = 3
OnTrial = Callable[[str], None]


class OutOfTimeError(Exception):
    """No step more in this call; the trial stays for the next."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a trial trains.

    Attributes:
        source: Name or path of the recipe.
        overrides: Settings over it.
        corpus: With scored pairs.
        stages: ``finetune``, or ``pretrain+finetune`` of a new model.
        start: A checkpoint or run to finetune from.
        features: The corpus's feature set that a new model reads.
    """

    source: str
    overrides: tuple[str, ...]
    corpus: Path
    stages: Stages = "finetune"
    start: Path | None = None
    features: str = ""

    def recipe(self, ranges: Sequence[Range], settings: dict[str, Any], number: int) -> Recipe:
        """The recipe of a trial."""
        own = [one.override(settings[one.key]) for one in ranges]
        recipe = load_recipe(self.source, [*self.overrides, *own])
        return recipe.model_copy(update={"name": f"{recipe.name} trial {number}"})


def work_on(search: Search, work: Work, limit: int, until: float, say: OnTrial) -> None:
    """Works on trials until there is none left to take, or the time is up.

    Args:
        search: With the trials.
        work: What each one trains.
        limit: Trials at most, of all processes together.
        until: Of ``time.monotonic()``; no step begins behind it.
        say: Called with a line when a trial begins or ends, and while it runs.
    """
    while time.monotonic() < until:
        claim = search.claim(limit)
        if claim is None:
            return
        try:
            _one(search, work, claim, until, say)
        except OutOfTimeError:
            search.put_back(claim)
            return
        except BaseException:  # stopped, or the disk is full: for whoever comes next
            search.put_back(claim)
            raise


def _one(search: Search, work: Work, claim: Claim, until: float, say: OnTrial) -> None:
    from optuna import TrialPruned
    from optuna.trial import TrialState

    number, began = claim.trial.number, time.monotonic()
    before = float(claim.trial.user_attrs.get("seconds", 0.0))
    say(f"trial {number}")
    try:
        if claim.deaths >= DEATHS:
            raise VidvecError(f"{claim.deaths} processes died at it, perhaps for want of memory")
        value = _train(search, work, claim, until, say)
        state, reason = TrialState.COMPLETE, ""
    except TrialPruned:
        value, state, reason = None, TrialState.PRUNED, ""
    except (OutOfTimeError, OSError):
        raise
    except Exception as error:
        _free_memory()
        lines = str(error).splitlines() or [""]
        name = "" if isinstance(error, VidvecError) else f"{type(error).__name__}: "
        value, state, reason = None, TrialState.FAIL, f"{name}{lines[0]}"
    finally:
        claim.trial.set_user_attr("seconds", before + time.monotonic() - began)
    search.tell(claim, state, value, reason)


def _train(search: Search, work: Work, claim: Claim, until: float, say: OnTrial) -> float:
    """Spearman on the validation pairs, by the checkpoint that ``finetune.best_by`` chooses."""
    from vidvec.train.finetune import finetune

    number, folder = claim.trial.number, search.folder(claim.trial.number)
    recipe = work.recipe(search.ranges, claim.settings, number)
    (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    start = work.start
    if work.stages == "pretrain+finetune":

        def told(what: str) -> None:
            say(f"trial {number}: {what}")

        start = _pretrained(search, work, recipe, until, told)
    watch = _Watch(claim.trial, folder / "run" / "metrics.jsonl", until, say)
    report = finetune(
        work.corpus, folder / "run", recipe, start, watch, features="" if start else work.features
    )
    watch.report()
    found = {line["step"]: line["spearman"] for line in watch.validations}
    value = found.get(report.best_step)
    if value is None:
        raise VidvecError("Spearman is undefined: all vectors, or all scores, are alike")
    return float(value)


def _pretrained(search: Search, work: Work, recipe: Recipe, until: float, say: OnTrial) -> Path:
    """The run of pretraining that a trial starts from, made where no trial has made it."""
    from vidvec.train.pretrain import pretrain

    folder = search.out / "pretrained" / recipe.stage_hash("pretrain")
    folder.mkdir(parents=True, exist_ok=True)

    def on_step(step: int, steps: int, figures: dict[str, float]) -> None:
        say(f"pretraining, step {step} of {steps}")
        _in_time(until)

    with (folder / "lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # another trial makes it
                say("waits for a pretraining")
                _in_time(until)
                time.sleep(0.2)
        pretrain(work.corpus, folder / "run", recipe, on_step, features=work.features)
    return folder / "run"


class _Watch:
    """Reports a run's validations to its trial, and stops it where the study or the clock says so.

    They are read from ``metrics.jsonl``, which has also those before this process carried on.
    """

    def __init__(self, trial: Trial, path: Path, until: float, say: OnTrial) -> None:
        self._trial, self._path, self._until, self._say = trial, path, until, say
        self._size = -1
        self.validations: list[dict[str, Any]] = []

    def __call__(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """See ``OnStep``."""
        from optuna import TrialPruned

        self._say(f"trial {self._trial.number}: step {step} of {steps}")
        if self.report() and step < steps and self._trial.should_prune():
            raise TrialPruned
        _in_time(self._until)

    def report(self) -> bool:
        """Whether there was something new, which is reported."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size == self._size:
            return False
        self._size = size
        lines = self._path.read_text("utf-8").splitlines() if size else []
        found = [line for line in map(json.loads, lines) if line["kind"] == "validation"]
        new, self.validations = len(found) > len(self.validations), found
        known = self._trial.study._storage.get_trial(self._trial._trial_id).intermediate_values
        for number, line in enumerate(found):
            if number not in known and line["spearman"] is not None:
                self._trial.report(line["spearman"], number)
        return new


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise OutOfTimeError


def _free_memory() -> None:
    """Lets go of what a failed trial held on a GPU."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
