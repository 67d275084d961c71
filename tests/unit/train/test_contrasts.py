"""Contrasts and focused tags: by loops, against PyTorch's own, and over a resumption."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import normalize

from tests.corpora import made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.config import Recipe
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.train.momentum import MomentumQueue
from vidvec.train.objectives.info_nce import info_nce
from vidvec.train.objectives.tags import Focus, tag_loss
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model

NOTHING_ELSE = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("contrasts") / "corpus", made_videos(80))


def recipe(dropout: float = 0.0, **pretrain_settings: object) -> Recipe:
    return tiny_recipe(model={"dropout": dropout}, pretrain={"epochs": 2, **pretrain_settings})


def task(corpus: Corpus, **settings: object) -> PretrainTask:
    torch.manual_seed(3)
    made = recipe(**settings)
    return PretrainTask(new_model(made, corpus), corpus)


@pytest.mark.parametrize("queued", [0, 5])
def test_a_contrast_is_the_loop(queued) -> None:
    torch.manual_seed(0)
    views, keys = normalize(torch.randn(4, 6)), normalize(torch.randn(4, 6))
    queue = normalize(torch.randn(queued, 6)) if queued else None
    total = 0.0
    for i in range(4):
        others = [*keys, *(queue if queue is not None else [])]
        there = sum(math.exp(float(views[i] @ other) / 0.1) for other in others)
        total -= float(views[i] @ keys[i]) / 0.1 - math.log(there)
    assert float(info_nce(views, keys, 0.1, queue)) == pytest.approx(total / 4, rel=1e-5)
    assert float(info_nce(views[:0], keys[:0], 0.1)) == 0


def tags() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(4, 6) * 2, torch.tensor([0, 3, 5, 1]), torch.tensor([2, 0, -1, 2])


def test_the_focal_loss_by_hand() -> None:
    logits, positions, counts = tags()
    given = {0: {0, 3}, 1: set(), 3: {5, 1}}
    for gamma in (0.0, 1.0, 2.0):
        each = []
        for video, classes in given.items():
            losses = []
            for tag in range(6):
                p = 1 / (1 + math.exp(-float(logits[video, tag])))
                right = p if tag in classes else 1 - p
                losses.append(-((1 - right) ** gamma) * math.log(right))
            each.append(sum(losses) / 6)
        found = tag_loss(logits, positions, counts, focus=Focus(gamma, gamma))
        assert float(found) == pytest.approx(sum(each) / 3, rel=1e-5)


def test_the_asymmetric_loss_by_hand() -> None:
    logits, positions, counts = tags()
    given = {0: {0, 3}, 1: set(), 3: {5, 1}}
    each = []
    for video, classes in given.items():
        losses = []
        for tag in range(6):
            p = 1 / (1 + math.exp(-float(logits[video, tag])))
            q = max(p - 0.05, 0.0)
            there = -((1 - p) ** 1.0) * math.log(p)
            losses.append(there if tag in classes else -(q**4.0) * math.log(1 - q))
        each.append(sum(losses) / 6)
    found = tag_loss(logits, positions, counts, focus=Focus(1.0, 4.0, 0.05))
    assert float(found) == pytest.approx(sum(each) / 3, rel=1e-5)


def test_without_focus_it_is_the_published_loss() -> None:
    logits, positions, counts = tags()
    targets = torch.zeros(4, 6)
    targets[0, [0, 3]] = 1
    targets[3, [5, 1]] = 1
    plain = F.binary_cross_entropy_with_logits(logits[[0, 1, 3]], targets[[0, 1, 3]])
    assert float(tag_loss(logits, positions, counts)) == pytest.approx(float(plain), rel=1e-6)
    almost = tag_loss(logits, positions, counts, focus=Focus(1e-9, 0.0))
    assert float(almost) == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("focus", [Focus(2, 2), Focus(0, 4, 0.05), Focus(1, 0, 0.2)])
def test_extreme_logits_give_finite_gradients(focus) -> None:
    logits = torch.tensor([[80.0, -80.0, 0.0]], requires_grad=True)
    tag_loss(logits, torch.tensor([1]), torch.tensor([1]), focus=focus).backward()
    assert torch.isfinite(logits.grad).all()


def test_a_video_against_itself(corpus) -> None:
    work = task(corpus, twin_weight=0.5, **NOTHING_ELSE)
    work.model.encoder.eval()
    batch = work.batch(0)
    losses = work.losses(batch, 0)
    whole = work.model.encoder(batch).vectors
    _, masked, layout = work._masked(batch, 0)
    hidden = work.model.encoder(
        batch, token_ids=masked.token_ids, frames=masked.frames, layout=layout
    ).vectors
    expected = (info_nce(hidden, whole, 0.05) + info_nce(whole, hidden, 0.05)) / 2
    assert losses["twin"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["loss"].item() == pytest.approx(expected.item() / 2, rel=1e-4)


def test_frames_against_titles(corpus) -> None:
    work = task(corpus, cross_weight=2.0, **NOTHING_ELSE)
    work.model.encoder.eval()
    batch = work.batch(0)
    losses = work.losses(batch, 0)
    builder = work._builder
    seen, read = [], []
    for row in batch.rows.tolist():
        if not (builder.counts["frames"][row] and builder.counts["title"][row]):
            continue
        yes = np.array([True])
        for found, without in ((seen, "title"), (read, "frames")):
            one = builder.build(np.array([row]), {without: yes})
            found.append(work.model.encoder(one).vectors[0])
    assert 1 < len(seen) <= len(batch)
    first, second = torch.stack(seen), torch.stack(read)
    expected = (info_nce(first, second, 0.07) + info_nce(second, first, 0.07)) / 2
    assert losses["cross"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["loss"].item() == pytest.approx(2 * expected.item(), rel=1e-4)


def test_the_queue_by_hand(corpus) -> None:
    encoder = task(corpus).model.encoder
    queue = MomentumQueue(encoder, 3, 0.75)
    assert [len(each) for each in queue.queues] == [0, 0]
    size = queue.queues[0].shape[1]

    def rows(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, size)

    queue.push(rows(1, 2), rows(-1, -2))
    assert queue.queues[0][:, 0].tolist() == [1, 2]
    queue.push(rows(3, 4), rows(-3, -4))
    assert sorted(queue.queues[0][:, 0].tolist()) == [2, 3, 4]
    assert sorted(queue.queues[1][:, 0].tolist()) == [-4, -3, -2]
    queue.push(rows(5, 6, 7, 8), rows(5, 6, 7, 8))
    assert sorted(queue.queues[0][:, 0].tolist()) == [6, 7, 8]

    before = queue.encoder.projection.weight.clone()
    with torch.no_grad():
        encoder.projection.weight.add_(4.0)
    queue.follow(encoder)
    assert torch.allclose(queue.encoder.projection.weight, before + 1.0)
    again = MomentumQueue(encoder, 3, 0.75)
    again.restore({name: value.clone() for name, value in queue.tensors().items()})
    again.push(rows(9), rows(9))
    queue.push(rows(9), rows(9))
    assert all(torch.equal(value, again.tensors()[name]) for name, value in queue.tensors().items())


def test_keys_of_earlier_batches_are_told_from(corpus) -> None:
    work = task(corpus, cross_weight=1.0, cross_queue=40, cross_momentum=0.0, **NOTHING_ELSE)
    work.model.encoder.train()  # without dropout
    first, second = work.batch(0), work.batch(1)
    alone = task(corpus, cross_weight=1.0, **NOTHING_ELSE)
    alone.model.encoder.train()
    assert work.losses(first, 0)["cross"].item() == pytest.approx(
        alone.losses(first, 0)["cross"].item(), rel=1e-4
    )
    assert work.losses(second, 1)["cross"] > alone.losses(second, 1)["cross"]
    work.model.encoder.eval()
    held = [each.clone() for each in work._contrasts._queue.queues]
    work.losses(first, 0)  # a validation leaves the queue as it is
    assert all(map(torch.equal, held, work._contrasts._queue.queues))


def test_a_corpus_of_titles_alone_has_nothing_to_cross(tmp_path) -> None:
    from dataclasses import replace

    videos = [
        replace(v, frames=v.frames[:0], frame_times_seconds=v.frame_times_seconds[:0])
        for v in made_videos(40)
    ]
    titles = write_corpus(tmp_path / "corpus", videos)
    work = task(titles, cross_weight=1.0)
    losses = work.losses(work.batch(0), 0)
    assert losses["cross"].item() == 0
    losses["loss"].backward()


@pytest.mark.parametrize(
    "settings",
    [
        {"twin_weight": 1.0},
        {"cross_weight": 1.0},
        {"cross_weight": 1.0, "cross_queue": 24},
        {"tag_positive_focus": 1.0, "tag_negative_focus": 4.0, "tag_margin": 0.05},
    ],
)
def test_each_is_learned(tmp_path, corpus, settings) -> None:
    import json

    pretrain(corpus.path, tmp_path / "run", recipe(dropout=0.1, epochs=12, **settings))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    name = "tag" if "tag_margin" in settings else next(iter(settings)).split("_")[0]
    found = [line[name] for line in lines if line["kind"] == "validation"]
    assert min(found[-3:]) < 0.9 * found[0]


def test_a_run_that_is_stopped_ends_with_the_same_weights(tmp_path, corpus) -> None:
    settings = recipe(dropout=0.1, epochs=3, checkpoint_every=4, cross_weight=1.0, cross_queue=24)

    class StopError(Exception):
        pass

    def stop(done: int, *_: object) -> None:
        if done == 6:
            raise StopError

    pretrain(corpus.path, tmp_path / "whole", settings)
    with pytest.raises(StopError):
        pretrain(corpus.path, tmp_path / "stopped", settings, stop)
    assert pretrain(corpus.path, tmp_path / "stopped", settings).resumed_at == 4
    for file in ("model.safetensors", "state/stage.safetensors"):
        whole, stopped = (
            sorted((tmp_path / run / "checkpoints").glob(f"*/{file}"))
            for run in ("whole", "stopped")
        )
        assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in stopped]
        assert whole


def test_a_contrast_alone_is_something_to_learn(corpus) -> None:
    assert task(corpus, twin_weight=1.0, **NOTHING_ELSE).order.steps > 0
    with pytest.raises(UsageError, match="nothing to learn from"):
        task(corpus, **NOTHING_ELSE)
