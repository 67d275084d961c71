"""Real clips: topics, altered copies and single pictures found by vectors of several recipes.

    python -m benchmarks.experiments.clips FOLDER [--docs docs] [--workers N]

The clips, a frame encoder and 126 pairs graded by rule are in ``VIDVEC_SHARED`` or ``../shared``.
Altered copies are made as by ``benchmarks.copies``. Every recipe is trained with three seeds on the
clips themselves. FOLDER gets everything. Started again after a stop, it carries on; after the end,
it only writes the figures again. ``--docs`` also puts them into docs/experiments.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.copies import read
from benchmarks.experiments import clips_report
from benchmarks.experiments.clips_arms import ARMS, ClipArm
from benchmarks.experiments.clips_measures import Clips, Floats, joined, measured, unit
from benchmarks.reproduction.chains import run_side_by_side
from benchmarks.reproduction.report import write_figures
from vidvec import Corpus, Encoder, IngestOptions, Video, finetune, ingest, pretrain
from vidvec.errors import UsageError
from vidvec.model.weights import save_model
from vidvec.storage import atomic_path
from vidvec.train.start import new_model

SEEDS = (1, 2, 3)
PAIRS = "pairs_rule_graded.tsv"
MODEL = "mobilenet_v2_1.0_224.onnx"
VECTORS = "vectors.safetensors"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done.

    Attributes:
        arms, seeds: What is trained.
        workers: Trainings at a time; ``None``: one a core.
    """

    arms: tuple[ClipArm, ...] = ARMS
    seeds: tuple[int, ...] = SEEDS
    workers: int | None = None


def main(folder: Path, docs: Path | None, plan: Plan | None = None) -> None:
    """Makes copies, trains, measures and writes.

    Raises:
        UsageError: The clips or the frame encoder are missing.
    """
    plan = plan or Plan()
    clips = open_clips(folder, shared_folder())
    jobs = {
        f"seed {seed} {arm.name:11}": partial(run_arm, folder, arm, seed)
        for seed in plan.seeds
        for arm in plan.arms
        if arm.recipe and not arm.joined and not (arm_folder(folder, arm, seed) / VECTORS).is_file()
    }
    run_side_by_side(jobs, say, plan.workers)
    found = {
        arm.name: measured(clips, [vectors_of(folder, plan, arm, seed) for seed in plan.seeds])
        for arm in plan.arms
    }
    figures = clips_report.markdown(plan.arms, found, plan.seeds, command(docs))
    write_figures(folder / "clips.md", figures, clips_report.MARKS)
    if docs is not None:
        write_figures(docs / "experiments.md", figures, clips_report.MARKS)
    say(figures)


def shared_folder() -> Path:
    """The folder with clips and frame encoders.

    Raises:
        UsageError: They are not there.
    """
    own = Path(__file__).parents[2].parent / "shared"
    folder = Path(os.environ.get("VIDVEC_SHARED", own)) / "data"
    for needed in (folder / "videos" / PAIRS, folder / "models" / MODEL):
        if not needed.is_file():
            raise UsageError(
                f"{needed} is missing: set VIDVEC_SHARED to where clips and models are"
            )
    return folder


def open_clips(folder: Path, shared: Path) -> Clips:
    """Ingests the clips, and altered copies of them, where that is not done; says what is known."""
    videos, encoder = shared / "videos", f"onnx:{shared / 'models' / MODEL}"
    options = IngestOptions(encoder=encoder, audio="none", pairs=(videos / PAIRS,))
    ingest(videos, folder / "corpus", options)
    copies, known = read(videos, folder / "altered", encoder)
    ids = Corpus(folder / "corpus").ids
    made = [known[video] for video in copy_ids(copies, known)]
    place = {video: number for number, video in enumerate(ids)}
    return Clips(
        [known[video] for video in ids],
        np.array([place[facts["of"]] for facts in made]),
        [facts["kind"] for facts in made],
    )


def copy_ids(copies: Corpus, known: dict[str, dict[str, str]]) -> list[str]:
    """The altered copies that were made, of clips and copies together."""
    return [video for video in copies.ids if "of" in known[video]]


def arm_folder(folder: Path, arm: ClipArm, seed: int) -> Path:
    """Where an arm's vectors are; other settings, other folder."""
    return folder / "results" / f"seed{seed}" / f"{arm.name}-{arm.resolved(seed).hash}"


def run_arm(folder: Path, arm: ClipArm, seed: int) -> float:
    """Trains an arm and encodes everything with it. Returns seconds of this process."""
    started = time.monotonic()
    corpus, own, recipe = (
        Corpus(folder / "corpus"),
        arm_folder(folder, arm, seed),
        arm.resolved(seed),
    )
    run = None
    if arm.pretrained:
        run = own / "pretrained"
        pretrain(corpus.path, run, recipe)
    if arm.tuned:
        finetune(corpus.path, own / "tuned", recipe, run)
        run = own / "tuned"
    if run is None:
        run = own / "untrained"
        run.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(run, ignore_errors=True)
        save_model(run, new_model(recipe, corpus))
    encoder = Encoder.load(run)
    found = {name: encoder.encode(videos) for name, videos in everything(folder).items()}
    with atomic_path(own / VECTORS) as temporary:
        save_file(found, temporary)
    for name in ("pretrained", "tuned", "untrained"):
        shutil.rmtree(own / name, ignore_errors=True)
    return time.monotonic() - started


def everything(folder: Path) -> dict[str, list[Video]]:
    """What is encoded: the keys of ``clips_measures.Vectors``."""
    corpus, copies = Corpus(folder / "corpus"), Corpus(folder / "altered" / "corpus")
    rows = range(len(corpus))
    videos, frames = [corpus.video(row) for row in rows], [corpus.frames(row) for row in rows]
    of_clips = set(corpus.ids)
    altered = [row for row, video in enumerate(copies.ids) if video not in of_clips]
    return {
        "frames": [Video(id=str(row), frames=frames[row]) for row in rows],
        "title": [Video(id=str(row), title=videos[row].title) for row in rows],
        "both": [Video(id=str(row), title=videos[row].title, frames=frames[row]) for row in rows],
        "copies": [Video(id=str(row), frames=copies.frames(row)) for row in altered],
        "pictures": [
            Video(id=str(row), frames=own[len(own) // 2 : len(own) // 2 + 1])
            for row, own in enumerate(frames)
        ],
    }


def means(folder: Path) -> dict[str, Floats]:
    """The mean of the frame features of everything that has frames."""
    found = {
        name: unit(np.stack([video.frames.mean(axis=0, dtype=np.float32) for video in videos]))
        for name, videos in everything(folder).items()
        if name != "title"
    }
    # Without words in them, they are what they are with a title, too.
    return {**found, "both": found["frames"]}


def vectors_of(folder: Path, plan: Plan, arm: ClipArm, seed: int) -> dict[str, Floats]:
    """An arm's vectors, all of length 1."""
    if arm.joined:
        other = next(each for each in plan.arms if each.name == arm.joined)
        return joined(means(folder), vectors_of(folder, plan, other, seed))
    if not arm.recipe:
        return means(folder)
    loaded = load_file(arm_folder(folder, arm, seed) / VECTORS)
    return {name: unit(values) for name, values in loaded.items()}


def command(docs: Path | None) -> str:
    """What was run."""
    if docs is not None:
        return "make experiments"
    return " ".join(["python -m benchmarks.experiments.clips", *sys.argv[1:]])


def say(line: str) -> None:
    """Prints at once, also into a file."""
    print(line, flush=True)


def parse(arguments: list[str]) -> tuple[Path, Path | None, Plan]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.clips")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--workers", type=int, default=None)
    given = parser.parse_args(arguments)
    return given.folder, given.docs, Plan(seeds=tuple(given.seeds), workers=given.workers)


if __name__ == "__main__":
    main(*parse(sys.argv[1:]))
