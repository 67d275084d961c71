"""What made videos are about, and what of it their frames, titles and tags let through.

Every video has a hidden point z of ``LATENT`` numbers: its main topic's point, sometimes some of a
second topic's, and an offset of its own. How similar two videos are is the cosine of their points.
Nothing shows a point in full: frames show its first ``SHOWN`` numbers, words its last ``SHOWN``,
each with noise for every video, and a topic shows itself in frames, in words, or in both. Words,
speech and tags are drawn from log-linear models, p(w | z) ∝ p(w) · exp(β · axis_w · z), with Zipf's
p(w), among words and tags that have nothing to do with the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

LATENT, SHOWN = 32, 20
GROUPS, TOPICS_A_GROUP = 24, 5
TOPICS = GROUPS * TOPICS_A_GROUP
GROUP_SHARE = 0.6  # of a topic's point that it has in common with its group's
OWN = 0.6  # length of a video's own offset, where a topic's point has length 1
SECOND_TOPIC, SECOND_MOST = 0.5, 0.6
# How much of a point gets through where the topic shows itself, and where it hardly does.
CLEAR, DIM = 1.0, 0.4
UNSEEN = 0.3  # length of the noise on what frames and words show of a video

WIDTH, MOST_FRAMES, MEAN_FRAMES, SPREAD_FRAMES = 1536, 32, 18, 7.5
WITHOUT_FRAMES, WITHOUT_TITLE = 0.005, 0.01
# Standard deviations of a feature's parts: what a video shows, what the whole video shares besides
# (light, colour, overlays), what a shot shares, and what is a frame's own.
SIGNAL, CAST, SHOT, GRAIN = 0.2, 0.1, 0.25, 0.2
CAST_AXES, SHOT_AXES, MOST_SHOTS = 12, 24, 5

CHARACTERS, WORDS = 1000, 2000
FIRST_CHARACTER, LAST_CHARACTER = 0x4E00, 0x9FA5
WORD_OWN = 0.3  # of a word in its meaning, beside its characters
WORD_SHARPNESS, TAG_SHARPNESS = 18.0, 9.0
WORD_NOISE, TAG_NOISE = 0.35, 0.2
TITLE_WORDS, SPEECH_WORDS, SPOKEN = 10, 15, 0.4
ZIPF_OFFSET = 5  # Zipf and Mandelbrot: p(w) ∝ 1 / (rank + offset)
MEAN_TAGS, UNTAGGED = 4.8, 0.02


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words or tags, and how likely each is for a point.

    Attributes:
        axes: (n, Z) float32, sharpness included.
        plain: (n,) float32, log of Zipf's probability.
    """

    axes: Floats
    plain: Floats

    def logits(self, shown: Floats) -> Floats:
        """(B, Z) points to (B, n) unnormalised log probabilities."""
        return shown @ self.axes.T + self.plain


class World:
    """What all videos of a seed have in common.

    Args:
        random: Decides.
        tags: How many tags there are.

    Attributes:
        topics: (TOPICS, LATENT) float32 points of length 1; topic t is of group t // 5.
        in_frames, in_words: (TOPICS,) float32, how much of a topic gets through.
        spellings: (WORDS,) words of one or two characters.
        words, tags: What titles and speech, and tags, are drawn from.
        tag_ids: (tags,) int64, distinct.
    """

    def __init__(self, random: np.random.Generator, tags: int) -> None:
        groups = _directions(random, GROUPS, LATENT)
        own = _directions(random, TOPICS, LATENT)
        mixed = GROUP_SHARE * np.repeat(groups, TOPICS_A_GROUP, 0) + (1 - GROUP_SHARE) * own
        self.topics = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        kind = random.choice(3, TOPICS, p=[0.4, 0.4, 0.2])
        self.in_frames = np.where(kind == 1, DIM, CLEAR).astype(np.float32)
        self.in_words = np.where(kind == 0, DIM, CLEAR).astype(np.float32)
        self.spellings, meanings = _words(random)
        self.words = Vocabulary(WORD_SHARPNESS * meanings, _zipf(random, WORDS))
        near = self.topics[random.integers(TOPICS, size=tags)]
        axes = near + 0.7 * _directions(random, tags, LATENT)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        self.tags = Vocabulary((TAG_SHARPNESS * axes).astype(np.float32), _zipf(random, tags))
        self.tag_ids = np.sort(random.choice(90_000, tags, replace=False)) + 10_000
        self._look = np.abs(random.normal(0, 0.5, WIDTH)).astype(np.float32)
        # A point of length 1 moves a feature's numbers by SIGNAL.
        self._axes = _normal(random, SIGNAL, SHOWN, WIDTH)
        self._cast = _normal(random, CAST * CAST_AXES**-0.5, CAST_AXES, WIDTH)
        self._shot = _normal(random, SHOT * SHOT_AXES**-0.5, SHOT_AXES, WIDTH)

    def frames(
        self, random: np.random.Generator, shown: Floats, titled: bool
    ) -> NDArray[np.float16]:
        """(F, WIDTH) features of a video whose frames show the point ``shown`` (SHOWN,).

        A few of those with a title have none.
        """
        if random.random() < WITHOUT_FRAMES and titled:
            return np.zeros((0, WIDTH), np.float16)
        count = int(np.clip(np.rint(random.normal(MEAN_FRAMES, SPREAD_FRAMES)), 1, MOST_FRAMES))
        shots = int(random.integers(1, MOST_SHOTS + 1))
        shot = np.sort(random.integers(shots, size=count))
        whole = self._look + shown @ self._axes + _normal(random, 1, CAST_AXES) @ self._cast
        parts = whole + _normal(random, 1, shots, SHOT_AXES) @ self._shot
        grain = random.standard_normal((count, WIDTH), np.float32)
        return (parts[shot] + GRAIN * grain).astype(np.float16)


@dataclass(frozen=True)
class Latents:
    """Videos before anything of them is made.

    Attributes:
        ids: (n,) int64, distinct.
        topic: (n,) int64, the main one.
        points: (n, LATENT) float32.
        in_frames, in_words: (n, SHOWN) float32, what frames and words show of the points.
    """

    ids: Integers
    topic: Integers
    points: Floats
    in_frames: Floats
    in_words: Floats

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def directions(self) -> Floats:
        """(n, LATENT) points of length 1."""
        return self.points / np.linalg.norm(self.points, axis=1, keepdims=True)

    def part(self, chosen: slice) -> Latents:
        """Some of the videos."""
        return Latents(
            self.ids[chosen],
            self.topic[chosen],
            self.points[chosen],
            self.in_frames[chosen],
            self.in_words[chosen],
        )


def draw_latents(random: np.random.Generator, world: World, count: int) -> Latents:
    """Draws ``count`` videos."""
    ids = np.unique(random.integers(10**17, 10**18, 2 * count))
    ids = random.permutation(ids)[:count]
    topic = random.integers(TOPICS, size=count)
    second = random.integers(TOPICS, size=count)
    much = random.uniform(0, SECOND_MOST, count) * (random.random(count) < SECOND_TOPIC)
    points = world.topics[topic] + much[:, None] * world.topics[second]
    points = (points + _normal(random, OWN * LATENT**-0.5, count, LATENT)).astype(np.float32)
    noise = UNSEEN * SHOWN**-0.5
    seen = world.in_frames[topic, None] * points[:, :SHOWN] + _normal(random, noise, count, SHOWN)
    said = world.in_words[topic, None] * points[:, -SHOWN:] + _normal(random, noise, count, SHOWN)
    return Latents(ids, topic, points, seen, said)


def draw_texts(
    random: np.random.Generator, world: World, latents: Latents
) -> tuple[list[str], list[str]]:
    """Titles and speech texts of videos, some of each empty."""
    chances = _chances(world.words.logits(latents.in_words))
    plain = _chances(world.words.plain[None])[0]
    titles, speech = [], []
    for row in chances:
        count = 0 if random.random() < WITHOUT_TITLE else 1 + random.poisson(TITLE_WORDS - 1)
        titles.append(_text(random, world, row, plain, count))
        spoken = random.poisson(SPEECH_WORDS) if random.random() < SPOKEN else 0
        speech.append(_text(random, world, row, plain, spoken))
    return titles, speech


def draw_tags(random: np.random.Generator, world: World, latents: Latents) -> list[tuple[str, ...]]:
    """Tags of videos, each at most once a video; a few videos have none."""
    logits = world.tags.logits(latents.points)
    plain = _chances(world.tags.plain[None])[0]
    # The highest of logits with Gumbel noise are draws without replacement.
    order = np.argsort(-(logits + random.gumbel(size=logits.shape)), axis=1)
    tags = []
    for row in order:
        count = 0 if random.random() < UNTAGGED else 1 + random.poisson(MEAN_TAGS - 1)
        chosen = row[:count].copy()
        strange = random.random(count) < TAG_NOISE
        chosen[strange] = np.searchsorted(plain, random.random(int(strange.sum())))
        tags.append(tuple(str(world.tag_ids[tag]) for tag in dict.fromkeys(chosen.tolist())))
    return tags


def category(topic: int) -> str:
    """A topic's category: three digits for its group, two more for itself."""
    group, place = divmod(topic, TOPICS_A_GROUP)
    return f"{101 + group}{1 + place:02d}"


def _words(random: np.random.Generator) -> tuple[list[str], Floats]:
    """Spellings of one or two characters, and (WORDS, SHOWN) meanings of length 1.

    Characters have meanings, and words are put together of characters with like ones.
    """
    points = np.arange(FIRST_CHARACTER, LAST_CHARACTER + 1)
    characters = [chr(point) for point in random.choice(points, CHARACTERS, replace=False)]
    senses = _directions(random, CHARACTERS, SHOWN)
    near = np.argsort(-(senses @ senses.T), axis=1)[:, 1:40]
    spellings: dict[str, Floats] = {}
    while len(spellings) < WORDS:
        first = int(random.integers(CHARACTERS))
        second = int(random.choice(near[first]))
        single = random.random() < 0.1
        meaning = senses[first] if single else senses[first] + senses[second]
        word = characters[first] + ("" if single else characters[second])
        meaning = meaning / np.linalg.norm(meaning) + WORD_OWN * _directions(random, 1, SHOWN)[0]
        spellings.setdefault(word, meaning / np.linalg.norm(meaning))
    return list(spellings), np.stack(list(spellings.values())).astype(np.float32)


def _text(
    random: np.random.Generator, world: World, chances: Floats, plain: Floats, count: int
) -> str:
    """``count`` words, drawn from running sums of probabilities."""
    own = np.searchsorted(chances, random.random(count))
    any_other = np.searchsorted(plain, random.random(count))
    words = np.where(random.random(count) < WORD_NOISE, any_other, own)
    return "".join(world.spellings[word] for word in words)


def _chances(logits: Floats) -> Floats:
    """(B, n) logits to running sums of probabilities, the last of which are 1."""
    chances = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64).cumsum(axis=1)
    return chances / chances[:, -1:]


def _zipf(random: np.random.Generator, count: int) -> Floats:
    """(count,) log of Zipf's probabilities, in any order."""
    return random.permutation(-np.log(np.arange(count) + ZIPF_OFFSET)).astype(np.float32)


def _directions(random: np.random.Generator, count: int, size: int) -> Floats:
    drawn = random.standard_normal((count, size))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def _normal(random: np.random.Generator, spread: float, *shape: int) -> Floats:
    return np.float32(spread) * random.standard_normal(shape, np.float32)
