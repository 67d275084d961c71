"""A search's trials, shared by all processes that work on it.

    OUT/
      manifest.json     what a continued search must have in common with this one
      study.db          the trials: SQLite, written by Optuna
      lock              held while a trial is taken or told
      trials/NNNN/      recipe.toml; run/ of the finetuning; lock, held while a process works on it
      pretrained/HASH/  runs of pretraining, each for all trials whose settings of it are the same
      trials.json       the trials as a table, and how much each setting mattered
      best.toml         the best trial's recipe

A trial belongs to the process that holds its lock, which the kernel lets go of when that process
dies. Whoever looks for work next then takes the trial over, with its settings and its run's last
checkpoint.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vidvec import storage
from vidvec.errors import FormatError, MissingExtraError
from vidvec.pipeline.ranges import Range

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

KIND = "tuning"
NAME = "tune"
# Trials that run to their end before others are held against them, and validations of each trial
# before it is.
FIRST_WHOLE, FIRST_VALIDATIONS = 4, 2
# Complete trials from which on it is said how much each setting mattered.
FEWEST_TO_JUDGE = 8
LOCK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial as it is shown.

    Attributes:
        number: From 0.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        value: Spearman of its best checkpoint, by ``finetune.best_by``; of a pruned one, of its
            last validation.
        settings: What it tried, by key.
        validations: How many there were.
        seconds: Of work, over all processes that were at it.
        reason: Why it failed.
        own: Whether it has the recipe's own settings.
    """

    number: int
    state: str
    value: float | None
    settings: dict[str, Any]
    validations: int
    seconds: float
    reason: str = ""
    own: bool = False


@dataclass(slots=True)
class Claim:
    """A trial that this process works on, while its lock is open.

    Attributes:
        trial: To report to.
        settings: By key.
        lock: The open file.
        deaths: Processes that died at it before, without a new checkpoint between.
    """

    trial: Trial
    settings: dict[str, Any]
    lock: IO[str] = field(repr=False)
    deaths: int = 0


class Search:
    """A folder's trials.

    Args:
        out: Its folder, made where it is not there.
        ranges: Searched.
        seed: Of what is proposed; the trials of one process alone are always the same.
        facts: What a continued search must have in common.
        own: The recipe's own values by key, tried first where they are in the ranges.

    Raises:
        FormatError: The folder holds another search, or something else.
        MissingExtraError: Optuna is not installed.
    """

    def __init__(
        self,
        out: Path,
        ranges: Sequence[Range],
        seed: int,
        facts: dict[str, Any],
        own: dict[str, Any],
    ) -> None:
        self.out, self.ranges, self._seed = out, ranges, seed
        (out / "trials").mkdir(parents=True, exist_ok=True)
        with self.locked():
            storage.remove_leftovers(out)
            _check(out, facts)
            self._study = _open(out / "study.db")
            if not self._study.get_trials(deepcopy=False) and all(
                one.holds(own[one.key]) for one in ranges
            ):
                first = {one.key: one.parameter(own[one.key]) for one in ranges}
                self._study.enqueue_trial(first, skip_if_exists=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time."""
        with (self.out / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def folder(self, number: int) -> Path:
        """Of a trial."""
        return self.out / "trials" / f"{number:04d}"

    def claim(self, limit: int) -> Claim | None:
        """The next trial to work on: one that a dead process left, or a new one.

        Args:
            limit: Trials at most, of all processes together.

        Returns:
            ``None`` where there is nothing left to take.
        """
        from optuna.trial import Trial, TrialState

        with self.locked():
            trials = self._study.get_trials(deepcopy=False)
            begun = [trial for trial in trials if trial.state != TrialState.WAITING]
            for trial in (one for one in begun if one.state == TrialState.RUNNING):
                lock = self._try_lock(trial.number)
                if lock is not None:
                    self._study.sampler = self._sampler(trial.number)
                    return self._begin(Trial(self._study, trial._trial_id), lock)
            if len(begun) >= limit:
                return None
            self._study.sampler = self._sampler(len(begun))
            new = self._study.ask()
            found = self._try_lock(new.number)
            if found is None:  # none but this process has seen it
                raise FormatError(f"{self.folder(new.number)} is locked, but its trial is new")
            return self._begin(new, found)

    def _begin(self, trial: Trial, lock: IO[str]) -> Claim:
        settings = {one.key: one.suggest(trial) for one in self.ranges}
        at = _last_checkpoint(self.folder(trial.number) / "run")
        before = trial.user_attrs.get("begun", {"at": "", "times": 0})
        deaths = before["times"] if before["at"] == at else 0
        trial.set_user_attr("begun", {"at": at, "times": deaths + 1})
        return Claim(trial, settings, lock, deaths)

    def put_back(self, claim: Claim) -> None:
        """Leaves a trial for later, as it is; one that was told already stays so."""
        trial_id = claim.trial._trial_id
        if self._study._storage.get_trial(trial_id).state.is_finished():
            return
        begun = claim.trial.user_attrs["begun"]
        claim.trial.set_user_attr("begun", {**begun, "times": begun["times"] - 1})
        claim.lock.close()

    def tell(
        self, claim: Claim, state: TrialState, value: float | None = None, reason: str = ""
    ) -> None:
        """Notes how a trial ended."""
        with self.locked():
            if reason:
                claim.trial.set_user_attr("reason", reason)
            self._study.tell(claim.trial, value, state)
            claim.lock.close()
        self.write_results()

    def write_results(self) -> None:
        """Writes the table and the best recipe; only the best of what is finished keeps its run."""
        with self.locked():
            best = self.best()
            for trial in self._study.get_trials(deepcopy=False):
                if trial.state.is_finished() and (best is None or trial.number != best.number):
                    _without_checkpoints(self.folder(trial.number) / "run")
            if best is not None:
                recipe = (self.folder(best.number) / "recipe.toml").read_bytes()
                with storage.atomic_path(self.out / "best.toml") as temporary:
                    temporary.write_bytes(recipe)
            table = {"trials": [_as_json(row) for row in self.rows()], "mattered": self.mattered()}
            storage.write_json(self.out / "trials.json", table)

    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value."""
        from optuna.trial import TrialState

        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def rows(self) -> list[TrialRow]:
        """All trials, by number."""
        return [self._row(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _row(self, trial: FrozenTrial) -> TrialRow:
        named = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        settings = {one.key: given[one.key] for one in self.ranges if one.key in given}
        return TrialRow(
            trial.number,
            named.get(trial.state.name, trial.state.name.lower()),
            trial.value if trial.state.is_finished() else None,
            settings,
            len(trial.intermediate_values),
            float(trial.user_attrs.get("seconds", 0.0)),
            str(trial.user_attrs.get("reason", "")),
            "fixed_params" in trial.system_attrs,
        )

    def mattered(self) -> dict[str, float]:
        """How much each setting mattered, in shares that sum to 1; empty where too little is known.

        Source: Watanabe et al. 2023, "PED-ANOVA", over complete trials.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        values = [trial.value for trial in self._study.get_trials(deepcopy=False) if trial.value]
        if len(self.ranges) < 2 or len(values) < FEWEST_TO_JUDGE or len(set(values)) < 2:
            return {}
        evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
        try:
            return dict(get_param_importances(self._study, evaluator=evaluator))
        except (RuntimeError, ValueError):  # where all trials that count are alike
            return {}

    def _try_lock(self, number: int) -> IO[str] | None:
        folder = self.folder(number)
        folder.mkdir(exist_ok=True)
        file = (folder / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=int(np.random.default_rng([self._seed, number]).integers(2**31)))


def _open(path: Path) -> Study:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database = optuna.storages.RDBStorage(
        f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
    )
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=FIRST_WHOLE, n_warmup_steps=FIRST_VALIDATIONS - 1
    )
    return optuna.create_study(
        storage=database, study_name=NAME, direction="maximize", pruner=pruner, load_if_exists=True
    )


def _check(out: Path, facts: dict[str, Any]) -> None:
    """Notes what a search is of, or holds it against what was noted."""
    if not (out / storage.MANIFEST).is_file():
        others = [path for path in out.iterdir() if path.name not in ("lock", "trials", "logs")]
        if any(not path.name.startswith(".") for path in others):
            raise FormatError(f"{out} holds something else: give a new or an empty folder")
        storage.write_manifest(out, KIND, facts=facts)
        return
    then = storage.read_manifest(out, KIND)["facts"]
    different = [key for key in sorted({*facts, *then}) if then.get(key) != facts.get(key)]
    if different:
        found = "; ".join(f"{key} {then.get(key)}, now {facts.get(key)}" for key in different)
        raise FormatError(
            f"{out} is a search with other settings ({found}): give a new folder, or --restart to "
            "throw it away"
        )


def _last_checkpoint(run: Path) -> str:
    pointer = run / "run.json"
    return str(storage.read_json(pointer)["last"]) if pointer.is_file() else ""


def _without_checkpoints(run: Path) -> None:
    (run / "run.json").unlink(missing_ok=True)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


def _as_json(row: TrialRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in TrialRow.__slots__}
