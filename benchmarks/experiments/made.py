"""The best recipe against the published one on a made corpus, and one model for a fusion of six.

    python -m benchmarks.experiments.made FOLDER [--docs docs] [--workers N]

The corpus and the published job are those of ``make reproduce`` (docs/reproduction.md). The best
recipe takes as many steps of as many videos; its settings were chosen on a made corpus of another
seed. The models of both recipes, three seeds each, are fused. Students learn the fused vectors, or
the hidden points that the corpus was made from, which says how much can be read from frames and
titles at all. FOLDER gets
everything. Started again after a stop, it carries on; after the end, it only writes the figures
again. ``--docs`` also puts them into docs/experiments.md.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmarks.experiments import made_report
from benchmarks.experiments.made_arms import (
    BEST,
    BEST_CHAIN,
    DEEP_CHAIN,
    PUBLISHED_CHAIN,
    STUDENTS,
    Plan,
    Student,
    student_recipe,
)
from benchmarks.experiments.made_linear import joined, linear_folder, measure_linear
from benchmarks.reproduce import ceiling
from benchmarks.reproduction.arms import Chain, Scale
from benchmarks.reproduction.chains import DONE, Experiment, run_chains, run_side_by_side
from benchmarks.reproduction.measure import Floats
from benchmarks.reproduction.report import write_figures
from vidvec import IngestOptions, Vectors, embed_corpus, ingest, storage
from vidvec.demo.competition import make_competition
from vidvec.embed.evaluate import pair_cosines
from vidvec.embed.fusion import fuse
from vidvec.train.distill import distill

FUSED_SIZE = 256
Floats32 = NDArray[np.float32]


def main(folder: Path, docs: Path | None, plan: Plan | None = None) -> None:
    """Makes, trains, measures and writes."""
    plan = plan or Plan()
    experiment = Experiment(folder, plan.scale, embedded=None)
    make_competition(experiment.made, videos=plan.scale.videos)
    ingest(experiment.made, folder / "corpus", IngestOptions())
    for part in (train, fuse_and_teach):
        part(experiment, plan)
        figures = made_report.markdown(outcome(experiment, plan), command(docs))
        write_figures(folder / "made.md", figures, made_report.MARKS)
        if docs is not None:
            write_figures(docs / "experiments.md", figures, made_report.MARKS)
    say(figures)


def train(experiment: Experiment, plan: Plan) -> None:
    """Trains and measures the best recipe and the published one, where that is not done."""
    measure_linear(experiment)
    run_chains(experiment, say, compared(), plan.workers)


def fuse_and_teach(experiment: Experiment, plan: Plan) -> None:
    """Fuses all models of both recipes and teaches students, where that is not done."""
    fuse(members(experiment), fused_folder(experiment), size=FUSED_SIZE)
    run_side_by_side(
        {
            f"seed {seed} {student.name:10}": partial(run_student, experiment, plan, student, seed)
            for student in STUDENTS
            for seed in (plan.scale.seeds[:1] if student.once else plan.scale.seeds)
            if not (student_folder(experiment, plan, student, seed) / DONE).is_file()
        },
        say,
        plan.workers,
    )


def members(experiment: Experiment) -> list[Path]:
    """The vectors that are fused: of every seed, the transformer's alone and the published ones."""
    return [
        experiment.results(chain, seed) / "vectors" / chain.name
        for chain in (DEEP_CHAIN, PUBLISHED_CHAIN)
        for seed in experiment.scale.seeds
    ]


def fused_folder(experiment: Experiment) -> Path:
    """Where the fusion is; other members, other folder."""
    names = "".join(f"{path.parents[1]}" for path in members(experiment))
    digest = hashlib.sha256(names.replace(str(experiment.folder), "").encode()).hexdigest()
    return experiment.folder / "results" / f"fused-{digest[:12]}"


def teacher_folder(experiment: Experiment, student: Student) -> Path:
    """The vectors that a student learns."""
    truth = experiment.made / "truth" / "latent"
    return truth if student.teacher == "truth" else fused_folder(experiment)


@dataclass(frozen=True)
class Lesson:
    """Vectors by video, as ``vidvec.train.distill.Teacher`` has them.

    Attributes:
        ids: Of the videos.
        matrix: Their vectors.
    """

    ids: list[str]
    matrix: Floats32


def lesson(experiment: Experiment, student: Student) -> Lesson:
    """A teacher's vectors of all videos but those of the test parts, which nothing learns from."""
    corpus, teacher = experiment.corpus, Vectors(teacher_folder(experiment, student))
    tested = {corpus.ids[row] for part in ("test_a", "test_b") for row in corpus.parts[part]}
    rows = [row for row, video in enumerate(teacher.ids) if video not in tested]
    return Lesson([teacher.ids[row] for row in rows], teacher.matrix[rows])


def student_folder(experiment: Experiment, plan: Plan, student: Student, seed: int) -> Path:
    """Where a student's results are; other settings or another teacher, another folder."""
    recipe = student_recipe(student, plan, seed, len(experiment.corpus.tag_vocabulary))
    teacher = teacher_folder(experiment, student).name[-4:]
    name = f"{student.name}-{recipe.hash}-{teacher}"
    return experiment.folder / "results" / f"seed{seed}" / name


def run_student(experiment: Experiment, plan: Plan, student: Student, seed: int) -> float:
    """One student: distillation, vectors, cosines. Returns seconds of this process."""
    started, spent = time.monotonic(), time.process_time()
    corpus, folder = experiment.corpus, student_folder(experiment, plan, student, seed)
    recipe = student_recipe(student, plan, seed, len(corpus.tag_vocabulary))
    distill(corpus.path, folder / "run", recipe, lesson(experiment, student))
    embed_corpus(folder / "run", corpus.path, folder / "vectors")
    cosines = pair_cosines(Vectors(folder / "vectors"), experiment.pairs())
    save_file({student.name: cosines}, folder / "cosines.safetensors")
    seconds = time.monotonic() - started
    result = {"seconds": seconds, "core_seconds": time.process_time() - spent}
    storage.write_json(folder / DONE, result)
    shutil.rmtree(folder / "run")
    return seconds


def outcome(experiment: Experiment, plan: Plan) -> made_report.Outcome:
    """Cosines of the test pairs by row and seed, and costs, of what is done."""
    pairs = experiment.pairs()
    cosines: dict[str, dict[int, Floats]] = {}
    spent: dict[str, list[float]] = {}

    def take(folder: Path, name: str, seed: int) -> None:
        if (folder / DONE).is_file():
            for arm, values in load_file(folder / "cosines.safetensors").items():
                cosines.setdefault(arm, {})[seed] = values
            spent.setdefault(name, []).append(storage.read_json(folder / DONE)["core_seconds"])

    for seed in plan.scale.seeds:
        for chain in compared():
            take(experiment.results(chain, seed), chain.name, seed)
        for student in STUDENTS:
            take(student_folder(experiment, plan, student, seed), student.name, seed)
    cosines |= joined(experiment)
    linear = linear_folder(experiment) / DONE
    if linear.is_file():
        spent["linear"] = [storage.read_json(linear)["core_seconds"]]
    if (fused_folder(experiment) / storage.MANIFEST).is_file():
        fused = pair_cosines(Vectors(fused_folder(experiment)), pairs)
        cosines["fused"] = dict.fromkeys(plan.scale.seeds, fused)
    return made_report.Outcome(
        plan=plan,
        cosines=cosines,
        scores=np.array([pair.score for pair in pairs]),
        core_seconds={name: float(np.median(values)) for name, values in spent.items()},
        ceiling=ceiling(experiment.made, pairs),
        settings=differing(experiment),
    )


def compared() -> list[Chain]:
    """The best recipe, its transformer alone, and the published one."""
    return [BEST_CHAIN, DEEP_CHAIN, PUBLISHED_CHAIN]


def differing(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """The settings that the best recipe has others of than job 2: by key, its own and job 2's."""
    best, *_, published = compared()
    ours, theirs = (
        {
            f"{section}.{key}": str(value)
            for section, values in experiment.recipe(chain, 1, more).model_dump().items()
            if isinstance(values, dict)
            for key, value in values.items()
        }
        for chain, more in ((best, best.tuned[BEST]), (published, ()))
    )
    return {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}


def command(docs: Path | None) -> str:
    """What was run."""
    if docs is not None:
        return "make experiments"
    return " ".join(["python -m benchmarks.experiments.made", *sys.argv[1:]])


def say(line: str) -> None:
    """Prints at once, also into a file."""
    print(line, flush=True)


def parse(arguments: list[str]) -> tuple[Path, Path | None, Plan]:
    """The command line."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.made")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=None)
    parser.add_argument("--videos", type=int, default=usual.scale.videos)
    parser.add_argument("--seeds", type=int, nargs="+", default=usual.scale.seeds)
    parser.add_argument("--pretrain-epochs", type=int, default=usual.scale.pretrain_epochs)
    parser.add_argument("--finetune-epochs", type=int, default=usual.scale.finetune_epochs)
    parser.add_argument("--distill-epochs", type=int, default=usual.distill_epochs)
    parser.add_argument("--workers", type=int, default=None)
    given = parser.parse_args(arguments)
    scale = Scale(given.videos, tuple(given.seeds), given.pretrain_epochs, given.finetune_epochs)
    plan = Plan(scale, given.distill_epochs, given.workers)
    return given.folder, given.docs, plan


if __name__ == "__main__":
    main(*parse(sys.argv[1:]))
