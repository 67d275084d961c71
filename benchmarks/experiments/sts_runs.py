"""Training and measuring the arms of a language; what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments import sts_theirs
from benchmarks.experiments.sts_arms import Arm, Plan, recipe_of, settings_of
from benchmarks.experiments.sts_data import Scored, Task
from vidvec import Encoder, finetune, metrics, storage

Say = Callable[[str], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bench:
    """One language: what it starts from, learns from, and is measured on.

    Attributes:
        folder: Of its results.
        task: Its pairs.
        corpus: Those to learn from and to choose by.
        start: A checkpoint or run, the same for all.
        bert: The start's trunk as transformers reads it.
        plan: How its arms are trained.
    """

    folder: Path
    task: Task
    corpus: Path
    start: Path
    bert: Path
    plan: Plan


@dataclass(frozen=True, slots=True)
class Trial:
    """An arm trained with one rate and seed.

    Attributes:
        rate: Learning rate.
        held: Spearman on the held-out pairs, of the epoch that has the highest.
        seconds: Of training with its validations, by the clock.
        core_seconds: The same in processor time.
    """

    rate: float
    held: float
    seconds: float
    core_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """An arm's outcome with one seed.

    Attributes:
        trial: Of the chosen rate.
        cosines: (P,) of the test pairs.
    """

    trial: Trial
    cosines: Floats


def spearman_of_start(bench: Bench) -> tuple[float, Floats]:
    """Spearman on the held-out pairs and cosines of the test pairs, before any tuning."""
    encoder = Encoder.load(bench.start, "cpu")
    held = our_cosines(encoder, bench.task.held)
    return _spearman(held, bench.task.held), our_cosines(encoder, bench.task.test)


def our_cosines(encoder: Encoder, pairs: list[Scored]) -> Floats:
    """(P,) cosine of the two sentences of each pair."""
    first = encoder.encode([pair.first for pair in pairs])
    second = encoder.encode([pair.second for pair in pairs])
    return metrics.cosines(first, second)


def _spearman(cosines: Floats, pairs: list[Scored]) -> float:
    return metrics.spearman(cosines, [pair.score for pair in pairs])


def result(bench: Bench, arm: Arm, seed: int, say: Say) -> Result:
    """An arm's outcome, trained where there is none yet.

    With the plan's first seed all rates are tried; the others train with the rate chosen there.
    """
    first = bench.plan.seeds[0]
    trials = [trial(bench, arm, rate, first, say) for rate in bench.plan.rates]
    rate = _best(trials)
    chosen = trial(bench, arm, rate, seed, say)
    file = _test_file(bench, arm, rate, seed)
    if not file.is_file():
        storage.write_json(file, {"cosines": _test(bench, arm, rate, seed).tolist()})
    for each in bench.plan.rates if seed == first else (rate,):
        shutil.rmtree(_place(bench, arm, each, seed), ignore_errors=True)
    return Result(chosen, np.array(storage.read_json(file)["cosines"]))


def found(bench: Bench, arm: Arm) -> dict[int, Result]:
    """An arm's outcomes that are there, by seed."""
    first = bench.plan.seeds[0]
    files = [_trial_file(bench, arm, rate, first) for rate in bench.plan.rates]
    if not all(file.is_file() for file in files):
        return {}
    rate = _best([Trial(**storage.read_json(file)) for file in files])
    results = {}
    for seed in bench.plan.seeds:
        own, test = _trial_file(bench, arm, rate, seed), _test_file(bench, arm, rate, seed)
        if own.is_file() and test.is_file():
            cosines = np.array(storage.read_json(test)["cosines"])
            results[seed] = Result(Trial(**storage.read_json(own)), cosines)
    return results


def _best(trials: Sequence[Trial]) -> float:
    """The rate that ranks the held-out pairs best."""
    return max(trials, key=lambda each: each.held).rate


def _trial_file(bench: Bench, arm: Arm, rate: float, seed: int) -> Path:
    return _place(bench, arm, rate, seed).with_suffix(".json")


def _test_file(bench: Bench, arm: Arm, rate: float, seed: int) -> Path:
    return _place(bench, arm, rate, seed).with_suffix(".test.json")


def trial(bench: Bench, arm: Arm, rate: float, seed: int, say: Say) -> Trial:
    """Trains an arm where that is not done yet; its weights stay until ``result`` used them."""
    file = _trial_file(bench, arm, rate, seed)
    if not file.is_file():
        clock, processor = time.monotonic(), time.process_time()
        held = _train(bench, arm, rate, seed)
        spent = (time.monotonic() - clock, time.process_time() - processor)
        storage.write_json(file, asdict(Trial(rate, held, *spent)))
        say(
            f"{bench.folder.name} {arm.name:12} seed {seed} rate {rate:g}: "
            f"held out {held:.4f}, {spent[0]:.0f} s, {spent[1]:.0f} core-s"
        )
    return Trial(**storage.read_json(file))


def _place(bench: Bench, arm: Arm, rate: float, seed: int) -> Path:
    """Where a trial's weights are; other settings, other name."""
    if arm.theirs:
        settings = settings_of(arm, bench.plan, rate, seed)
        digest = _digest([arm.theirs, settings])
    else:
        digest = recipe_of(arm, bench.plan, rate, seed).stage_hash("finetune")
    about = _digest([digest, len(bench.task.train), len(bench.task.held)])
    return bench.folder / "results" / f"{arm.name}-seed{seed}-{about}"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _train(bench: Bench, arm: Arm, rate: float, seed: int) -> float:
    """One trial; returns Spearman on the held-out pairs."""
    place = _place(bench, arm, rate, seed)
    if not arm.theirs:
        recipe = recipe_of(arm, bench.plan, rate, seed)
        report = finetune(bench.corpus, place, recipe, bench.start)
        lines = (place / "metrics.jsonl").read_text("utf-8").splitlines()
        figures = [json.loads(line) for line in lines]
        return next(
            each["spearman"]
            for each in figures
            if each["kind"] == "validation" and each["step"] == report.best_step
        )
    # Their trainer goes on only where it is told to; a killed trial begins anew.
    shutil.rmtree(place, ignore_errors=True)
    model = sts_theirs.sentence_transformer(bench.bert, bench.start)
    settings = settings_of(arm, bench.plan, rate, seed)
    held = sts_theirs.fit(model, arm.theirs, bench.task, place, settings)
    for checkpoint in place.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    model.save(str(place), create_model_card=False)
    return held


def _test(bench: Bench, arm: Arm, rate: float, seed: int) -> Floats:
    """Cosines of the test pairs by a trial's weights."""
    place = _place(bench, arm, rate, seed)
    if not place.is_dir():
        # Measured before, or cleared away: the trial is done again.
        _train(bench, arm, rate, seed)
    if not arm.theirs:
        return our_cosines(Encoder.load(place, "cpu"), bench.task.test)
    from sentence_transformers import SentenceTransformer

    return sts_theirs.cosines(SentenceTransformer(str(place), device="cpu"), bench.task.test)
