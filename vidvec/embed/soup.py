"""Model soups: the weights of several models of one shape, averaged into one model.

A soup costs what one of its models costs. It holds where the models were tuned from one start and
stayed in one valley of the loss, as with other seeds, folds or rates (Wortsman et al. 2022, "Model
soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time"); elsewhere the mean of good models may be a bad one, which the figures then say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vidvec import metrics, storage
from vidvec.config import SplitName
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.data.frames import describe, same_encoder
from vidvec.embed.ablation import PairVectors
from vidvec.embed.embedder import Encoder, embed_rows, weights_hash
from vidvec.embed.evaluate import chosen_pairs, pair_cosines, split_of
from vidvec.embed.resampled import Resampled
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.model.weights import (
    KIND,
    VideoModel,
    checkpoint_folder,
    load_model,
    put_weights,
    read_tensors,
    save_model,
)
from vidvec.records import Pair

# Settings that only say where weights came from, or that count in training alone.
_MAY_DIFFER = frozenset({"init", "start", "size", "dropout"})
Progress = Callable[[int, int], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A model that a soup may be made of.

    Attributes:
        path: Of the run or checkpoint.
        used: Its weights are in the soup.
        spearman: On the validation pairs, with its 95 % interval; ``None``: not measured.
    """

    path: str
    used: bool
    spearman: Interval | None


@dataclass(frozen=True, slots=True)
class SoupReport:
    """What a soup is made of, and how it does beside its ingredients.

    Attributes:
        ingredients: In the order given.
        greedy: Only those were used that did not lower the figure.
        split, pairs: What was measured on; empty and 0 where nothing was.
        spearman: Of the soup, with its 95 % interval.
        difference: From its best ingredient, over the same resampled pairs.
        starts: What the ingredients were tuned from, each once; told apart by the folder's name.
        heads: Whether the soup has heads: the ingredients all have them, for the same tags.
    """

    ingredients: list[Ingredient]
    greedy: bool
    split: str
    pairs: int
    spearman: Interval | None
    difference: Interval | None
    starts: list[str]
    heads: bool

    @property
    def worse(self) -> bool:
        """Whether the soup ranks the pairs worse than its best ingredient does."""
        return self.difference is not None and not self.difference.value >= 0


def soup(
    members: Sequence[Path],
    out: Path,
    corpus: Corpus | None = None,
    split: SplitName | str = "clean",
    *,
    greedy: bool = False,
    seed: int = 0,
    resamples: int = 1000,
    progress: Progress | None = None,
) -> SoupReport:
    """Averages the weights of several models into a new checkpoint.

    Args:
        members: Runs (of each the best checkpoint is taken) or checkpoints, of one shape.
        out: Folder of the new checkpoint.
        corpus: With scored pairs, to measure on; ``None``: nothing is measured.
        split: Its validation pairs are measured on; see ``evaluate``.
        greedy: Take the best model, then one after the other, best first, each that does not lower
            Spearman on these pairs: the soup is then never worse on them than the best model.
        seed, resamples: Of the bootstrap.
        progress: Called with models measured and all.

    Raises:
        UsageError: Under two models, one of them twice, or two that do not fit; ``greedy`` without
            pairs to measure on; or ``out`` holds something else.
        FormatError: A model is missing or damaged.
    """
    _check_given(members, corpus, greedy)
    pot = _Pot(members[0])
    measure = None if corpus is None else _Measure(pot.model, members[0], corpus, split)
    count = len(members) * (2 if greedy else 1) + (not greedy)
    alone: list[Floats] = []
    starts: dict[str, str] = {}
    for path in members:
        model = pot.checked(path)
        start = model.made_by.get("start") or str(path)
        starts.setdefault(Path(start).name, start)  # a path may be seen from elsewhere
        if measure is not None:
            alone.append(measure(model))
            _tell(progress, len(alone), count)
    if measure is not None and greedy:
        used, together = _greedy(members, alone, pot, measure, progress)
    else:
        used = list(range(len(members)))
        for path in members:
            pot.add(read_weights(path))
        pot.put()
        together = np.zeros(0) if measure is None else measure(pot.model)
    _tell(progress, count, count)
    spearmans, spearman, difference = _figures(measure, alone, together, seed, resamples)
    report = SoupReport(
        [
            Ingredient(str(p), at in used, spearmans[at] if spearmans else None)
            for at, p in enumerate(members)
        ],
        greedy,
        measure.split if measure else "",
        len(measure.pairs) if measure else 0,
        spearman,
        difference,
        list(starts.values()),
        pot.model.heads is not None,
    )
    pot.model.made_by = _made_by(members, report, corpus, pot.model)
    _write(out, pot.model)
    return report


def _check_given(members: Sequence[Path], corpus: Corpus | None, greedy: bool) -> None:
    if len(members) < 2:
        raise UsageError(f"{len(members)} models to average: give two or more runs or checkpoints")
    folders = [checkpoint_folder(path).resolve() for path in members]
    for path, folder in zip(members, folders, strict=True):
        if folders.count(folder) > 1:
            raise UsageError(f"{path} is given twice: give each model once")
    if greedy and corpus is None:
        raise UsageError("--greedy chooses by the validation pairs: give --corpus CORPUS")


def _tell(progress: Progress | None, done: int, count: int) -> None:
    if progress is not None:
        progress(done, count)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name of a run's best checkpoint, or of a checkpoint."""
    return read_tensors(checkpoint_folder(path) / "model.safetensors")


class _Pot:
    """A model whose weights are the mean of those that were added.

    Attributes:
        model: The model, on the CPU; without heads where those of the members differ.
    """

    def __init__(self, first: Path) -> None:
        self.model = load_model(first)
        self._first = first
        self._sums: dict[str, Tensor] = {}
        self._added = 0

    def checked(self, path: Path) -> VideoModel:
        """Opens a member and holds it against the first.

        Raises:
            UsageError: Its weights are not of the same things; says which.
        """
        model = load_model(path)
        different = differences(self.model, model)
        if different:
            raise UsageError(
                f"the weights of {self._first} and {path} cannot be averaged: they differ in "
                f"{'; '.join(different)}"
            )
        kinds = {_weight_names(each.heads) for each in (self.model, model)}
        if len(kinds) > 1 or model.tag_vocabulary != self.model.tag_vocabulary:
            self.model.heads = None
        return model

    def add(self, weights: dict[str, Tensor]) -> None:
        """Adds a member's weights to those that are averaged."""
        self._sums, self._added = self._with(weights), self._added + 1

    def put(self, one_more: dict[str, Tensor] | None = None) -> None:
        """Gives the model the mean, of one more member where that is given."""
        more = one_more is not None
        sums = self._sums if one_more is None else self._with(one_more)
        count = self._added + more
        put_weights(self.model, {n: (s / count).float() for n, s in sums.items()}, "the soup")

    def _with(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: self._sums.get(name, 0.0) + weights[name].double()
            for name, _ in self.model.named_parameters()
        }


def _weight_names(heads: nn.Module | None) -> tuple[str, ...]:
    """What tells heads of one kind from those of another."""
    return () if heads is None else tuple(name for name, _ in heads.named_parameters())


def differences(one: VideoModel, other: VideoModel) -> list[str]:
    """What of two models has to be the same for their weights to be averaged, and is not."""
    ours, theirs = one.recipe.model.model_dump(), other.recipe.model.model_dump()
    found = [
        f"model.{name}: {value!r} and {theirs[name]!r}"
        for name, value in ours.items()
        if value != theirs[name] and name not in _MAY_DIFFER
    ]
    if one.tokenizer.fingerprint != other.tokenizer.fingerprint:
        sizes = f"{one.tokenizer.vocab_size} and {other.tokenizer.vocab_size} tokens"
        found.append(f"the tokenizer: {sizes}, not the same ones")
    encoders = [("frame", one.frame_encoder, other.frame_encoder)]
    if one.recipe.model.reads_audio:
        encoders.append(("audio", one.audio_encoder, other.audio_encoder))
    for what, mine, its in encoders:
        if not same_encoder(mine, its):
            found.append(f"the {what} encoder: {describe(mine)} and {describe(its)}")
    return found


class _Measure:
    """Cosines that a model gives the validation pairs.

    Raises:
        UsageError: There is no such pair, or the corpus does not fit the model.
    """

    def __init__(self, model: VideoModel, source: Path, corpus: Corpus, split: str) -> None:
        corpus = model.check_frames(corpus, source)
        pairs = corpus.pairs()
        chosen, _ = chosen_pairs(pairs, split_of(corpus, split))
        self.split, self.pairs = str(split), [pairs[int(at)] for at in chosen]
        if not self.pairs:
            raise UsageError(
                f"no pair to measure on: {corpus.path} has {len(pairs)} pairs, none of them in the "
                f"{split} validation split"
            )
        self.scores = np.array([pair.score for pair in self.pairs])
        self._builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
        videos = {video for pair in self.pairs for video in _videos(pair)}
        self._rows = np.array(sorted(corpus.row(video) for video in videos), np.int64)
        self._places = {corpus.ids[row]: at for at, row in enumerate(self._rows.tolist())}

    def __call__(self, model: VideoModel) -> Floats:
        vectors = embed_rows(Encoder(model, backend="float32"), self._builder, self._rows)
        model.to("cpu")
        return pair_cosines(PairVectors(self._places, vectors), self.pairs)

    def value(self, cosines: Floats) -> float:
        """Spearman; below all others where it is not defined."""
        value = metrics.spearman(cosines, self.scores)
        return value if math.isfinite(value) else -math.inf


def _videos(pair: Pair) -> tuple[str, str]:
    return pair.id_1, pair.id_2


def _greedy(
    members: Sequence[Path],
    alone: list[Floats],
    pot: _Pot,
    measure: _Measure,
    progress: Progress | None,
) -> tuple[list[int], Floats]:
    """Which members the pot is of, and the cosines that its mean gives."""
    values = [measure.value(cosines) for cosines in alone]
    best, *others = sorted(range(len(members)), key=lambda at: -values[at])
    used, together = [best], alone[best]
    pot.add(read_weights(members[best]))
    for done, at in enumerate(others, 1):
        weights = read_weights(members[at])
        pot.put(weights)
        cosines = measure(pot.model)
        _tell(progress, len(members) + done, 2 * len(members))
        if measure.value(cosines) >= measure.value(together):
            pot.add(weights)
            used.append(at)
            together = cosines
    pot.put()
    return used, together


def _figures(
    measure: _Measure | None, alone: list[Floats], together: Floats, seed: int, resamples: int
) -> tuple[list[Interval], Interval | None, Interval | None]:
    """Spearman of each member and of the soup, and the soup's less that of the best member."""
    if measure is None:
        return [], None, None
    resampled = Resampled(measure.scores, seed, resamples)
    drawn, made = [resampled.draw(each) for each in alone], resampled.draw(together)
    best = drawn[int(np.argmax([measure.value(each) for each in alone]))]
    interval = resampled.interval
    return [interval(each) for each in drawn], interval(made), interval(made - best)


def _made_by(
    members: Sequence[Path], report: SoupReport, corpus: Corpus | None, model: VideoModel
) -> dict[str, Any]:
    """The manifest's ``made_by``: every member's weights and past, and which are in the soup."""
    lineage = []
    for path, ingredient in zip(members, report.ingredients, strict=True):
        folder = checkpoint_folder(path)
        past = storage.read_manifest(folder, KIND)["made_by"]
        facts = {"checkpoint": str(folder.resolve()), "weights": weights_hash(folder)}
        lineage.append({**facts, "used": ingredient.used, "made_by": past})
    own = model.made_by.get("corpus", "")
    return {
        "stage": "soup",
        "corpus": str(corpus.path) if corpus else own,
        "greedy": report.greedy,
        **({"split": report.split} if report.split else {}),
        "members": lineage,
    }


def _write(out: Path, model: VideoModel) -> None:
    """Writes the checkpoint, whole or not at all; the same one that is there stays.

    Raises:
        UsageError: Something else is there.
    """
    if (out / storage.MANIFEST).is_file():
        held = storage.read_json(out / storage.MANIFEST)
        if held.get("kind") == KIND and held.get("made_by") == model.made_by:
            return
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out} holds something else: give a new folder, or delete that one")
    with storage.atomic_path(out) as folder:
        save_model(folder, model)
