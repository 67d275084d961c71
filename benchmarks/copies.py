"""What score normalisation gains when altered copies of clips are looked for, in Markdown.

    python -m benchmarks.copies CLIPS FOLDER ENCODER [RUN …]

CLIPS is a folder whose subfolders hold clips with a ``meta.jsonl`` each. Of those in ``panda70m``
seven altered copies each are made as files: cropped, between bars, with a logo, sepia, half as fast
again, coarsely encoded, and all of it but the bars. They and the clips are ingested into FOLDER
with ENCODER (as in ``vidvec ingest``); what is there already is not made again.

Vectors are the mean of a clip's frame features, the same less the background's mean, and those of
each RUN from frames alone. For each of three seeds clips are drawn: a third is the background; of
the others two thirds are references and their copies queries, and copies of the rest are queries
that have no copy. Clips that come along as altered copies are references and queries, too. Every
query is compared with every reference. Once with the clips of other sets, each of which is query,
reference or background; some sets show one person or room in all clips. Once without.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from benchmarks.duplicates import SEPIA, Picture, bars, logo
from vidvec import Corpus, Encoder, IngestOptions, Video, ingest
from vidvec.search.normalise import ScoreNormaliser, Side
from vidvec.storage import atomic_path

ALTERED_SET = "panda70m"
WIDTH, HEIGHT, RATE = 320, 180, 15
NEAREST = (1, 3, 10)
WEIGHTS = (0.5, 1.0)
THRESHOLDS = (0.8, 0.85, 0.9, 0.95)
SEEDS = (1, 2, 3)
Floats = NDArray[np.float32]


def cropped(picture: Picture) -> Picture:
    """A tenth cut off at each side."""
    height, width = picture.shape[:2]
    cut = picture[height // 10 : height - height // 10, width // 10 : width - width // 10]
    return cv2.resize(cut, (width, height))


def sepia(picture: Picture) -> Picture:
    """In shades of brown."""
    return np.clip(picture @ SEPIA.T, 0, 255).astype(np.uint8)


def everything(picture: Picture) -> Picture:
    """Cropped, with a logo, sepia."""
    return sepia(logo(cropped(picture)))


@dataclass(frozen=True, slots=True)
class Alteration:
    """How a copy is made: each picture, how much faster, x264's rate factor."""

    picture: Callable[[Picture], Picture] = lambda picture: picture
    speed: float = 1.0
    crf: int = 26


ALTERATIONS = {
    "cropped": Alteration(cropped),
    "between bars": Alteration(bars),
    "with a logo": Alteration(logo),
    "sepia": Alteration(sepia),
    "half as fast again": Alteration(speed=1.5),
    "coarsely encoded": Alteration(crf=42),
    "all but bars": Alteration(everything, speed=1.5, crf=42),
}


def pictures_of(path: Path) -> list[Picture]:
    """A clip's pictures, ``RATE`` a second, small."""
    shown: list[Picture] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if (frame.time or 0) * RATE >= len(shown):
                small = frame.reformat(WIDTH, HEIGHT, "rgb24")
                shown.append(small.to_ndarray())
    return shown


def write(path: Path, pictures: list[Picture], how: Alteration) -> None:
    """Writes an altered copy as H.264."""
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        rate = Fraction(RATE) * Fraction(how.speed)
        options = {"preset": "veryfast", "crf": str(how.crf)}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(how.picture(picture)), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_copies(rows: list[dict[str, str]], folder: Path) -> list[dict[str, str]]:
    """Writes the altered copies, and returns their rows of metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, row in enumerate(row for row in rows if row["source"] == ALTERED_SET):
        names = {
            kind: folder / f"{number:03d}-{place}.mp4" for place, kind in enumerate(ALTERATIONS)
        }
        if not all(path.exists() for path in names.values()):
            pictures = pictures_of(Path(row["file"]))
            for kind, path in names.items():
                write(path, pictures, ALTERATIONS[kind])
        for kind, path in names.items():
            made.append({"id": path.stem, "file": str(path), "of": row["id"], "kind": kind})
    return made


def read(clips: Path, folder: Path, encoder: str) -> tuple[Corpus, dict[str, dict[str, str]]]:
    """The corpus of clips and copies, and what is known of each by id."""
    rows = []
    for table in sorted(clips.glob("*/meta.jsonl")):
        for line in table.read_text("utf-8").splitlines():
            row = json.loads(line)
            rows.append({**row, "file": str((table.parent / row["file"]).absolute())})
    rows += make_copies(rows, folder / "copies")
    source = folder / "source"
    source.mkdir(exist_ok=True)
    kept = [json.dumps({"id": row["id"], "file": row["file"]}) for row in rows]
    (source / "meta.jsonl").write_text("\n".join(kept), "utf-8")
    ingest(source, folder / "corpus", IngestOptions(encoder=encoder, audio="none"))
    return Corpus(folder / "corpus"), {row["id"]: row for row in rows}


@dataclass(frozen=True, slots=True)
class Task:
    """Rows of the corpus: who looks for whom, and against what background.

    Attributes:
        background, queries, references: Rows.
        copies: (queries, references) which are copies of one another.
    """

    background: NDArray[np.int64]
    queries: NDArray[np.int64]
    references: NDArray[np.int64]
    copies: NDArray[np.bool_]


def copied(facts: dict[str, str]) -> str:
    """What a clip shows: the same of altered copies only."""
    group = facts.get("group", "")
    return group if group.startswith("dup:") else facts.get("of", facts["id"])


def drawn(corpus: Corpus, known: dict[str, dict[str, str]], seed: int, *, sets: bool) -> Task:
    """Background, queries and references of a seed, with the clips of other sets or without."""
    random = np.random.default_rng(seed)
    role: dict[str, float] = {}
    background, queries, references = [], [], []
    group = [copied(known[video]) for video in corpus.ids]
    for row, video in enumerate(corpus.ids):
        facts = known[video]
        if "of" in facts:
            continue
        chance = role[video] = float(random.random())
        if facts["source"] != ALTERED_SET and not (sets or group[row].startswith("dup:")):
            continue
        if group[row].startswith("dup:"):
            queries.append(row)
            references.append(row)
        elif chance < 1 / 3:
            background.append(row)
        elif facts["source"] == ALTERED_SET:
            references += [row] * (chance < 7 / 9)
        else:
            (queries if chance < 2 / 3 else references).append(row)
    for row, video in enumerate(corpus.ids):
        of = known[video].get("of")
        if of is not None and role.get(of, 0) >= 1 / 3:
            queries.append(row)
    copies = np.array([[group[q] == group[r] for r in references] for q in queries])
    return Task(np.array(background), np.array(queries), np.array(references), copies)


def recall_at(precision: float, copies: NDArray[np.bool_], scores: Floats) -> float:
    """The highest share of copies that any one threshold finds with a precision."""
    precisions, recalls, _ = precision_recall_curve(copies, scores)
    return float(recalls[precisions >= precision].max())


def measured(vectors: Floats, task: Task) -> dict[str, NDArray[np.float64]]:
    """µAP and recall at 90 and 99 % precision, plain and normalised.

    A clip that is both query and reference is not compared with itself.
    """
    queries, references = vectors[task.queries], vectors[task.references]
    counted = task.queries[:, None] != task.references[None, :]
    cosines = queries @ references.T

    def figures(scores: Floats) -> NDArray[np.float64]:
        copies, some = task.copies[counted], scores[counted]
        recalls = [recall_at(precision, copies, some) for precision in (0.9, 0.99)]
        return np.array([average_precision_score(copies, some), *recalls])

    found = {"cosine": figures(cosines)}
    sides: tuple[Side, ...] = ("query", "both")
    for side in sides:
        for nearest in NEAREST:
            for weight in WEIGHTS:
                fitted = ScoreNormaliser.fit(
                    vectors[task.background], nearest=nearest, weight=weight, side=side
                )
                name = f"{side}, k = {nearest}, β = {weight:g}"
                found[name] = figures(fitted.scores(cosines, queries, references))
    return found


def unit(vectors: Floats) -> Floats:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main(clips: Path, folder: Path, encoder: str, runs: list[Path]) -> None:
    """Prints the tables."""
    corpus, known = read(clips, folder, encoder)
    rows = range(len(corpus))
    means = np.stack([corpus.frames(row).astype(np.float32).mean(axis=0) for row in rows])
    videos = [Video(id=corpus.ids[row], frames=corpus.frames(row)) for row in rows]
    kinds: dict[str, Callable[[Task], Floats]] = {
        "mean of frames": lambda task: unit(means),
        "less the background's mean": lambda task: unit(
            means - means[task.background].mean(axis=0)
        ),
    }
    for run in runs:
        encoded = Encoder.load(run).encode(videos)
        kinds[f"trained ({run.name})"] = lambda task, encoded=encoded: encoded
    for sets in (True, False):
        tasks = [drawn(corpus, known, seed, sets=sets) for seed in SEEDS]
        print(f"\n{'with' if sets else 'without'} the clips of other sets")
        for task in tasks:
            print(
                f"{len(task.queries)} queries, {len(task.references)} references, "
                f"{len(task.background)} background, {int(task.copies.sum())} pairs of copies"
            )
        for kind, of in kinds.items():
            show(kind, [measured(of(task), task) for task in tasks])
    for kind, of in kinds.items():
        print(f"\n{kind}")
        thresholds(of(tasks[0]), corpus, known)


def show(kind: str, figures: list[dict[str, NDArray[np.float64]]]) -> None:
    """Prints a table of ``measured``, of each seed."""
    head = "| | µAP | by seed | recall at 90 % | recall at 99 % |"
    print(f"\n{kind}\n\n{head}\n|---|---|---|---|---|")
    for name in figures[0]:
        values = np.array([each[name] for each in figures])
        seeds = ", ".join(f"{value:.3f}" for value in values[:, 0])
        mean = values.mean(axis=0)
        print(f"| {name} | {mean[0]:.3f} | {seeds} | {mean[1]:.3f} | {mean[2]:.3f} |")


def thresholds(vectors: Floats, corpus: Corpus, known: dict[str, dict[str, str]]) -> None:
    """Prints how many copies, and how many other pairs, reach each cosine."""
    print(
        f"\n| pairs | of | {' | '.join(map(str, THRESHOLDS))} |\n|---|---|"
        + "---|" * len(THRESHOLDS)
    )
    cosines: dict[str, list[float]] = {kind: [] for kind in ALTERATIONS}
    for row, video in enumerate(corpus.ids):
        of = known[video].get("of")
        if of is not None and of in corpus:
            cosines[known[video]["kind"]].append(float(vectors[row] @ vectors[corpus.row(of)]))
    own = [row for row, video in enumerate(corpus.ids) if "of" not in known[video]]
    for place, row in enumerate(own):
        for other in own[:place]:
            one, two = known[corpus.ids[row]], known[corpus.ids[other]]
            kind = "unrelated clips"
            if copied(one) == copied(two):
                kind = "altered copies that came along"
            elif one["source"] == two["source"] != ALTERED_SET:
                kind = "other clips of one set"
            cosines.setdefault(kind, []).append(float(vectors[row] @ vectors[other]))
    for kind, values in cosines.items():
        shares = [f"{(np.array(values) >= threshold).mean():.1%}" for threshold in THRESHOLDS]
        print(f"| {kind} | {len(values)} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [Path(run) for run in sys.argv[4:]])
