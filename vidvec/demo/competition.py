"""A corpus in the competition's format, made from a seed (system.md, section 1).

    DIR/
      pointwise/pretrain_{0..19}.tfrecords   with tags and category
      pairwise/pairwise.tfrecords            likewise
      pairwise/label.tsv                     id, id, score
      test_a/, test_b/                       without tags and category
      tag_list.txt                           the more frequent half of the tags
      truth/                                 what the competition would keep to itself, and no stage
                                             reads: latent/ (vectors whose cosines are the
                                             similarities without raters' noise), test_a.tsv and
                                             test_b.tsv (scored pairs of the test videos)
      manifest.json                          settings and counts; says when all is there

The shares of the parts are near the published ones, with more pairwise and test videos, so that
small corpora have enough pairs to train and to measure on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.splits import fold
from vidvec.data.tfrecord import write_tfrecords
from vidvec.demo import latent
from vidvec.demo.latent import Latents, World
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import UsageError
from vidvec.records import Video

KIND = "competition"
# Goes up when the same settings begin to give other files.
VERSION = 1
FEWEST = 100
FILES = 20
PAIRWISE, TEST_A, TEST_B = 0.14, 0.06, 0.08  # shares of the videos; the rest is pointwise
PAIRS_A_VIDEO = 67_899 / 63_613
SCORED_TWICE = 45 / 67_899
MOST_TAGS, FEWEST_TAGS, VIDEOS_A_TAG = 2000, 300, 25
# The clean split drops pairs across its sides. Most pairs are drawn within one, so few are lost.
WITHIN_SIDE = 0.9
ZEROS, ONES = 0.36, 0.14
RATER_NOISE = 0.12
CANDIDATES = 4000
BLOCK = 500

Progress = Callable[[int, int], None]
Tags = list[tuple[str, ...]]


def make_competition(
    folder: Path, *, videos: int = 20_000, seed: int = 2021, progress: Progress | None = None
) -> None:
    """Makes videos, tags and scored pairs in the competition's format.

    Same settings, same bytes. A folder that is complete with these settings is left alone; one that
    was stopped keeps the files that are whole, and gets the others.

    Args:
        folder: Where to; made where it is not there.
        videos: Of all parts together, at least 100; 20,000 take about 1.1 GB.
        seed: Decides everything.
        progress: Called with videos written and all videos.

    Raises:
        UsageError: Too few videos, or the folder holds something else.
    """
    if videos < FEWEST:
        raise UsageError(f"{videos} videos: a made competition needs at least {FEWEST}")
    settings = {"version": VERSION, "videos": videos, "seed": seed}
    if _made_before(folder, settings):
        return
    storage.write_manifest(folder, KIND, settings=settings, complete=False)
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        storage.remove_leftovers(place)
    count = int(np.clip(videos // VIDEOS_A_TAG, FEWEST_TAGS, MOST_TAGS))
    world = World(np.random.default_rng([seed, 0]), count)
    latents = latent.draw_latents(np.random.default_rng([seed, 1]), world, videos)
    tags = _draw_tags(np.random.default_rng([seed, 2]), world, latents)
    parts = _parts(videos)
    _write_lines(folder / "tag_list.txt", _tag_list(tags, count // 2))
    pairs = _write_scores(np.random.default_rng([seed, 3]), folder, latents, parts)
    _write_latents(folder / "truth" / "latent", latents, settings)
    written = 0
    for number, (name, chosen) in enumerate(parts.items()):
        own = np.random.default_rng([seed, 4, number])
        tagged = None if name.startswith("test") else tags[chosen]
        if not (folder / name).is_file():
            made = _videos(own, world, latents.part(chosen), tagged)
            write_tfrecords(folder / name, _told(made, written, videos, progress))
        written = chosen.stop
        if progress is not None:
            progress(written, videos)
    counts = {"tags": count, "topics": latent.TOPICS, "pairs": pairs}
    storage.write_manifest(folder, KIND, settings=settings, counts=counts, complete=True)


def _made_before(folder: Path, settings: dict[str, int]) -> bool:
    """Whether all is there; raises where the folder is something else."""
    if not (folder / storage.MANIFEST).is_file():
        # What the first write of the manifest leaves when it is stopped is no one else's.
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UsageError(f"{folder} holds something else: give a new or an empty folder")
        return False
    manifest = storage.read_manifest(folder, KIND)
    if manifest["settings"] != settings:
        raise UsageError(
            f"{folder} was made with {manifest['settings']}, asked for {settings}: give another "
            "folder, or delete this one"
        )
    return bool(manifest["complete"])


def _parts(videos: int) -> dict[str, slice]:
    """Which of the videos go into which file."""
    sizes = [round(share * videos) for share in (PAIRWISE, TEST_A, TEST_B)]
    bounds = np.linspace(0, videos - sum(sizes), FILES + 1).astype(int).tolist()
    names = [f"pointwise/pretrain_{number}.tfrecords" for number in range(FILES)]
    names += ["pairwise/pairwise.tfrecords", "test_a/test_a.tfrecords", "test_b/test_b.tfrecords"]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    return {name: slice(bounds[at], bounds[at + 1]) for at, name in enumerate(names)}


def _blocks(start: int, stop: int) -> Iterator[slice]:
    for at in range(start, stop, BLOCK):
        yield slice(at, min(at + BLOCK, stop))


def _draw_tags(random: np.random.Generator, world: World, latents: Latents) -> Tags:
    """Tags of all videos; in blocks, for memory's sake."""
    blocks = (latents.part(block) for block in _blocks(0, len(latents)))
    return [tags for block in blocks for tags in latent.draw_tags(random, world, block)]


def _videos(
    random: np.random.Generator, world: World, latents: Latents, tags: Tags | None
) -> Iterator[Video]:
    """Yields the videos of one file."""
    for block in _blocks(0, len(latents)):
        some = latents.part(block)
        titles, speech = latent.draw_texts(random, world, some)
        for at, (title, spoken) in enumerate(zip(titles, speech, strict=True)):
            yield Video(
                id=str(some.ids[at]),
                title=title,
                speech_text=spoken,
                tags=None if tags is None else tags[block.start + at],
                category="" if tags is None else latent.category(int(some.topic[at])),
                frames=world.frames(random, some.in_frames[at], titled=bool(title)),
            )


def _told(
    videos: Iterator[Video], before: int, total: int, progress: Progress | None
) -> Iterator[Video]:
    """The same videos; every hundred of them ``progress`` hears of it."""
    for done, video in enumerate(videos, before):
        if progress is not None and done % 100 == 0:
            progress(done, total)
        yield video


def _tag_list(tags: Tags, size: int) -> list[str]:
    """The most frequent tags, ties by number."""
    counts = Counter(tag for some in tags for tag in some)
    return sorted(counts, key=lambda tag: (-counts[tag], int(tag)))[:size]


def _write_scores(
    random: np.random.Generator, folder: Path, latents: Latents, parts: dict[str, slice]
) -> int:
    """Writes the scored pairs of the pairwise videos and, as the truth, of both test parts.

    Raters see the cosine of two points with noise. Where they change from one score to the next is
    set so that label.tsv has the published shares of 0 and 1, and the scores between come equally
    often.

    Returns:
        Rows of label.tsv.
    """
    files = ("pairwise/label.tsv", "truth/test_a.tsv", "truth/test_b.tsv")
    steps = np.linspace(ZEROS, 1 - ONES, 20)
    thresholds: NDArray[np.float64] | None = None
    rows = 0
    for file, chosen in zip(files, list(parts.values())[FILES:], strict=True):
        some = latents.part(chosen)
        pairs = draw_pairs(random, some, round(PAIRS_A_VIDEO * len(some)))
        alike = (some.directions[pairs[:, 0]] * some.directions[pairs[:, 1]]).sum(axis=1)
        seen = alike + RATER_NOISE * random.standard_normal(len(pairs))
        if thresholds is None:
            thresholds, rows = np.quantile(seen, steps), len(pairs)
        scores = np.searchsorted(thresholds, seen) / 20
        lines = zip(some.ids[pairs].tolist(), scores.tolist(), strict=True)
        _write_lines(folder / file, [f"{one}\t{two}\t{score:g}" for (one, two), score in lines])
    return rows


def draw_pairs(random: np.random.Generator, latents: Latents, count: int) -> NDArray[np.int64]:
    """Draws pairs of videos, unlike and alike ones equally often.

    Videos take turns, and each looks for a partner whose similarity is nearest to one drawn between
    −0.2 and 1, most often among those of its side of the clean split.

    Args:
        random: Decides.
        latents: The videos.
        count: Pairs wanted, those scored twice included; at most half of all there are.

    Returns:
        (count, 2) int64 places in ``latents``. A few pairs come twice, the others once.
    """
    number = len(latents)
    count = min(count, number * (number - 1) // 4)
    twice = max(1, round(SCORED_TWICE * count))
    side = np.array([fold(str(video)) == 0 for video in latents.ids.tolist()])
    chosen: dict[tuple[int, int], None] = {}
    first = -1
    while len(chosen) < count - twice:
        first = (first + 1) % number
        near = np.arange(number)
        if number > CANDIDATES:
            near = random.choice(number, CANDIDATES, replace=False)
        open_to = near != first
        if random.random() < WITHIN_SIDE:
            open_to &= side[near] == side[first]
        alike = latents.directions[near] @ latents.directions[first]
        distance = np.where(open_to, np.abs(alike - random.uniform(-0.2, 1)), np.inf)
        second = int(near[distance.argmin()])
        if np.isfinite(distance.min()) and (second, first) not in chosen:
            chosen[first, second] = None
    pairs = list(chosen)
    pairs += [pairs[at] for at in random.choice(len(pairs), twice, replace=False)]
    return np.array([pairs[at] for at in random.permutation(count)], np.int64)


def _write_latents(path: Path, latents: Latents, settings: dict[str, int]) -> None:
    made_by = {"stage": "make-competition", **settings}
    writer = VectorWriter(path, latent.LATENT, {"normalised": True, "made_by": made_by})
    if not writer.rows:
        writer.append([str(video) for video in latents.ids.tolist()], latents.directions)
    writer.finish()


def _write_lines(path: Path, lines: list[str]) -> None:
    with storage.atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
