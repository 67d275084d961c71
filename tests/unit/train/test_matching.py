"""Frames and titles that belong together: drawn and judged by loops over single videos."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.corpora import made_videos, with_more, write_corpus
from tests.tiny import put_together, taken_apart, tiny_recipe
from tests.unit.train.runs import lines
from vidvec.config import Recipe
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.model.weights import load_model
from vidvec.train.finetune import FinetuneTask, start_model
from vidvec.train.masking import hash_uniform
from vidvec.train.objectives.matching import (
    STREAM,
    different_titles,
    matching_loss,
    other_titles,
    with_titles_of,
)
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model

NOTHING_ELSE = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    videos = with_more(made_videos(80))
    return write_corpus(tmp_path_factory.mktemp("matched") / "corpus", videos)


def recipe(
    dropout: float = 0.0, *, model: dict[str, object] | None = None, **pre: object
) -> Recipe:
    shape = {"dropout": dropout, **(model or {})}
    return tiny_recipe(model=shape, pretrain={"epochs": 2, **pre})


def task(corpus: Corpus, settings: Recipe) -> PretrainTask:
    return PretrainTask(new_model(settings, corpus), corpus)


def test_the_loss_by_hand() -> None:
    own, other = [1.5, -0.25], [-2.0, 0.5]
    right = [1 / (1 + math.exp(-value)) for value in own]
    right += [1 - 1 / (1 + math.exp(-value)) for value in other]
    expected = -sum(map(math.log, right)) / 4
    found = matching_loss(torch.tensor(own), torch.tensor(other))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(matching_loss(torch.zeros(0), torch.zeros(0))) == 0


def test_a_draw_depends_on_the_videos_and_not_on_their_order() -> None:
    rows = torch.tensor([4, 17, 3, 99, 56, 8])
    allowed = ~torch.eye(6, dtype=torch.bool)
    drawn = rows[other_titles(rows, allowed, 5, 3)].tolist()
    given = dict(zip(rows.tolist(), drawn, strict=True))
    assert all(video != other for video, other in given.items())
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    turned = rows[order]
    again = turned[other_titles(turned, allowed, 5, 3)].tolist()
    assert dict(zip(turned.tolist(), again, strict=True)) == given
    others = [other_titles(rows, allowed, *at).tolist() for at in ((5, 4), (6, 3))]
    assert all(rows[torch.tensor(other)].tolist() != drawn for other in others)


def test_draws_are_in_proportion() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    allowed = torch.zeros(600, 600, dtype=torch.bool)
    allowed[4:, :4] = True
    cosines = torch.zeros(600, 600)
    cosines[:, :4] = torch.log(shares) + 7
    found = other_titles(torch.arange(600) + 31, allowed, 1, 0, cosines)
    assert found[:4].tolist() == [-1] * 4
    assert torch.allclose(torch.bincount(found[4:]) / 596, shares, atol=0.07)
    alike = other_titles(torch.arange(600) + 31, allowed, 1, 0)
    assert torch.allclose(torch.bincount(alike[4:]) / 596, torch.full((4,), 0.25), atol=0.07)


def test_titles_by_hand() -> None:
    tokens, counts = np.array([2, 7, 3, 2, 3, 2, 7, 3, 2, 7, 7, 3]), np.array([3, 2, 3, 4])
    same = {(0, 0), (1, 1), (2, 2), (3, 3), (0, 2), (2, 0)}
    found = different_titles(tokens, counts)
    assert {(i, j) for i in range(4) for j in range(4) if not found[i, j]} == same


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ({}, {}),
        ({"order": "frames_first", "pool": "attention"}, {"cross_weight": 1.0}),
        ({"count_padding": True}, {"cross_weight": 1.0}),
        ({"max_audio": 8, "max_speech_tokens": 8, "max_screen_tokens": 8}, {}),
    ],
)
def test_a_batch_is_the_loop_over_its_videos(corpus, shape, settings) -> None:
    work = task(corpus, recipe(model=shape, match_weight=2.0, **NOTHING_ELSE, **settings))
    encoder, head, builder = work.model.encoder.eval(), work.heads.match, work._builder
    batch, step = work.batch(1), 1
    losses = work.losses(batch, step)

    def alone(row: int, *kept: str) -> object:
        yes = np.array([True])
        return builder.build(np.array([row]), {n: yes for n in builder.counts if n not in kept})

    has = [builder.counts[name] for name in ("frames", "title")]
    rows = [row for row in batch.rows.tolist() if all(count[row] for count in has)]
    videos = {row: taken_apart(alone(row, "frames", "title"))[0] for row in rows}
    seen = {row: encoder(alone(row, "frames")).vectors[0] for row in rows}
    read = {row: encoder(alone(row, "title")).vectors[0] for row in rows}
    terms = []
    for row in rows:
        best, chosen = -math.inf, None
        for other in rows:
            if torch.equal(videos[row][1], videos[other][1]):
                continue
            pair = (torch.tensor([row]), torch.tensor([other]))
            noise = -math.log(-math.log(float(hash_uniform(7, step, STREAM, *pair))))
            cosine = (seen[row] @ read[other]).item() / 0.07 if settings else 0.0
            if noise + cosine > best:
                best, chosen = noise + cosine, other
        pairs = [(videos[row], 1), ((videos[row][0], videos[chosen][1]), -1)]
        for video, sign in pairs:
            logit = head(encoder(put_together([video])).cls).item()
            terms.append(math.log1p(math.exp(-sign * logit)))
    assert len(terms) > 20
    assert losses["match"].item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    rest = losses["cross"].item() if settings else 0.0
    assert losses["loss"].item() == pytest.approx(2 * losses["match"].item() + rest, rel=1e-5)


def test_titles_change_places(corpus) -> None:
    batch = task(corpus, recipe())._builder.build(np.array([0, 1, 2]))
    own = taken_apart(batch)
    swapped = taken_apart(with_titles_of(batch, torch.tensor([2, 0, 0])))
    for number, giver in enumerate([2, 0, 0]):
        assert torch.equal(swapped[number][0], own[number][0])
        assert torch.equal(swapped[number][1], own[giver][1])


def test_videos_without_both_take_no_part(tmp_path) -> None:
    none = np.zeros((0, 24), np.float16)
    videos = [
        replace(v, frames=none, frame_times_seconds=none[:, 0].astype(np.float32))
        for v in made_videos(40)
    ]
    work = task(write_corpus(tmp_path / "corpus", videos), recipe(match_weight=1.0))
    losses = work.losses(work.batch(0), 0)
    assert losses["match"].item() == 0
    losses["loss"].backward()


def test_it_is_learned(corpus) -> None:
    work = task(corpus, recipe(match_weight=1.0, **NOTHING_ELSE))
    parameters = [value for _, value in work.model.named_parameters()]
    optimizer, batch = torch.optim.Adam(parameters, 1e-2), work.batch(0)
    found = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = work.losses(batch, 0)["loss"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[0] == pytest.approx(math.log(2), rel=0.1)
    assert min(found[-5:]) < 0.75 * found[0]


def test_the_head_stays_with_pretraining(tmp_path, corpus) -> None:
    settings = recipe(dropout=0.1, epochs=1, match_weight=1.0, accumulate=2)
    pretrain(corpus.path, tmp_path / "run", settings)
    assert lines(tmp_path / "run", "validation")[0]["match"] == pytest.approx(math.log(2), rel=0.1)
    before = new_model(settings, corpus).heads.match.weight
    assert not torch.equal(load_model(tmp_path / "run").heads.match.weight, before)
    tuned = start_model(tmp_path / "run", settings, corpus)
    with pytest.raises(UsageError, match="no scored pairs"):
        FinetuneTask(tuned, corpus)
    assert tuned.heads is None
    assert new_model(recipe(), corpus).heads.match is None
    with pytest.raises(UsageError, match=r"no head for pretrain\.match_weight"):
        PretrainTask(replace(new_model(recipe(), corpus), recipe=settings), corpus)
