"""Tags softened by the model itself and weighted by trusted videos: by loops, and what they do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.corpora import made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.config import Recipe, load_recipe
from vidvec.data.corpus import Corpus
from vidvec.errors import ConfigError, FormatError, UsageError
from vidvec.model.weights import load_model
from vidvec.records import Batch, Video
from vidvec.train.objectives.tag_weighting import class_weights
from vidvec.train.objectives.tags import Focus, class_losses, tag_loss
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model

NOTHING_ELSE = {"mlm_weight": 0.0, "mfm_weight": 0.0}
GDW = {"tag_weighting": "gdw", "trusted": ("checked",), "trusted_batch": 24}
TRUSTED = 50


def noisy(videos: list[Video]) -> list[Video]:
    """Each video has its topic as one tag, and as another, which is made up unless trusted."""
    random = np.random.default_rng(4)
    found = []
    for number, video in enumerate(videos):
        said = video.category if number < TRUSTED else str(random.integers(4))
        tags = None if video.tags is None else (f"right{video.category}", f"noisy{said}")
        found.append(replace(video, tags=tags))
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("lessons") / "corpus"
    return write_corpus(folder, noisy(made_videos(150)), parts={"checked": TRUSTED})


def recipe(dropout: float = 0.0, **pretrain_settings: object) -> Recipe:
    settings = {"epochs": 2, "videos": "all", **pretrain_settings}
    return tiny_recipe(model={"dropout": dropout}, pretrain=settings)


def task(corpus: Corpus, **settings: object) -> PretrainTask:
    made = recipe(**settings)
    return PretrainTask(new_model(made, corpus), corpus)


@pytest.mark.parametrize("focus", [Focus(), Focus(1.0, 2.0, 0.05)])
def test_weights_are_the_slope_of_the_trusted_loss(focus) -> None:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    torch.manual_seed(2)
    head = torch.nn.Linear(3, 4).double()
    inputs, others = draw(5, 3).relu(), draw(6, 3).relu()
    targets, wanted = (draw(5, 4) > 0.3).double(), (draw(6, 4) > 0.5).double()
    wanted[:, 2] = 0  # nobody trusted has it
    wanted[0, [0, 1, 3]] = 1
    rate, step, limit = 0.7, 0.3, 0.4

    def each(logits: Tensor, some: Tensor) -> Tensor:
        return class_losses(logits, some, focus)

    def trusted_loss(weights: list[list[float]]) -> float:
        weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
        for video in range(5):
            for tag in range(4):
                own = head.weight[tag] @ inputs[video] + head.bias[tag]
                logit = own.detach().requires_grad_()
                each(logit[None, None], targets[video, tag][None, None]).sum().backward()
                pull = weights[video][tag] * logit.grad * rate / 5
                weight[tag] -= pull * inputs[video]
                bias[tag] -= pull
        return each(others @ weight.T + bias, wanted).mean().item()

    slope = torch.zeros(5, 4, dtype=torch.float64)
    for video in range(5):
        for tag in (0, 1, 3):
            ends = []
            for way in (1e-4, -1e-4):
                weights = [[1.0] * 4 for _ in range(5)]
                weights[video][tag] += way
                ends.append(trusted_loss(weights))
            slope[video, tag] = (ends[0] - ends[1]) / 2e-4
    size = slope.abs().sum() / (5 * 3)
    expected = 1 - (step * slope / size).clamp(-limit, limit)
    settings = {"rate": rate, "step": step, "limit": limit}
    found = class_weights(head, (inputs, targets), (others, wanted), each, **settings)
    assert torch.allclose(found, expected, atol=1e-5)
    assert (found[:, 2] == 1).all()
    assert ((found < 1).sum(), (found > 1).sum()) > (2, 2)
    assert (found - 1).abs().max() == pytest.approx(limit)
    assert head.weight.grad is None


def test_weights_and_targets_in_the_loss_by_a_loop() -> None:
    generator = torch.Generator().manual_seed(5)
    logits, weights = torch.randn(3, 4, generator=generator), torch.rand(3, 4, generator=generator)
    targets, counts = torch.rand(3, 4, generator=generator), torch.tensor([1, -1, 0])
    for focus in (Focus(), Focus(2.0, 2.0)):
        total = 0.0
        for video in (0, 2):
            for tag in range(4):
                p = torch.sigmoid(logits[video, tag]).item()
                there = -((1 - p) ** focus.positive) * np.log(p)
                absent = -(p**focus.negative) * np.log(1 - p)
                t, w = targets[video, tag].item(), weights[video, tag].item()
                total += w * (t * there + (1 - t) * absent)
        given = torch.tensor([2])
        found = tag_loss(logits, given, counts, focus=focus, targets=targets, weights=weights)
        assert found.item() == pytest.approx(total / 8, rel=1e-5)


def given_tags(corpus: Corpus, row: int) -> dict[int, str] | None:
    positions, counts = corpus.tag_positions()
    starts = np.cumsum(np.maximum(counts, 0)) - np.maximum(counts, 0)
    if counts[row] < 0:
        return None
    found = positions[starts[row] : starts[row] + counts[row]].tolist()
    return {tag: corpus.tag_vocabulary[tag] for tag in found}


def in_parts(work: PretrainTask, batch: Batch, step: int) -> list[Callable[[], dict[str, Tensor]]]:
    work.stage = work.stage.model_copy(update={"accumulate": 3})
    return work.parts(batch, step)


def test_soft_tags_are_the_loop_over_videos(corpus) -> None:
    settings = {"tag_soft_share": 0.6, "tag_soft_momentum": 0.75, "tag_weight": 1.0}
    work = task(corpus, **settings, **NOTHING_ELSE)
    encoder, head = work.model.encoder, work.heads.tag
    encoder.train()  # without dropout
    slow = copy.deepcopy((encoder, head))
    with torch.no_grad():
        for value in (*encoder.parameters(), *head.parameters()):
            value.add_(0.05)
        for old, now in zip(slow, (encoder, head), strict=True):
            for own, other in zip(old.parameters(), now.parameters(), strict=True):
                own.copy_(0.75 * own + 0.25 * other)
    step = work.order.epoch_steps(0) // 2
    batch = work.batch(step)
    assert work.losses(batch, -1)["tag"] != work.losses(batch, step)["tag"]
    share = 0.6 * step / work.order.epoch_steps(0)

    def read(model: torch.nn.Module, tag: torch.nn.Module, row: int) -> Tensor:
        return tag(model(work._builder.build(np.array([row]))).cls.relu())[0]

    losses = []
    for row in batch.rows.tolist():
        tags = given_tags(corpus, row)
        if tags is None:
            continue
        wanted = torch.zeros(len(head.bias))
        wanted[list(tags)] = 1
        wanted = (1 - share) * wanted + share * torch.sigmoid(read(*slow, row))
        p = torch.sigmoid(read(encoder, head, row))
        losses.append(-(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean().item())
    assert work.losses(batch, step)["tag"].item() == pytest.approx(np.mean(losses), rel=1e-4)
    whole = work.losses(batch, step)["tag"].item()
    assert sum(part()["tag"].item() for part in in_parts(work, batch, step)) == pytest.approx(whole)


def test_the_weights_of_a_step_are_the_loop_over_videos(corpus) -> None:
    work = task(corpus, **GDW, tag_weight=3.0, **NOTHING_ELSE)
    encoder, head = work.model.encoder.eval(), work.heads.tag
    batch, step = work.batch(2), 2

    def read(rows: list[int]) -> tuple[Tensor, Tensor]:
        each = [encoder(work._builder.build(np.array([row]))).cls[0].relu() for row in rows]
        targets = torch.zeros(len(rows), len(head.bias))
        for number, row in enumerate(rows):
            targets[number, list(given_tags(corpus, row))] = 1
        return torch.stack(each), targets

    rows = [row for row in batch.rows.tolist() if given_tags(corpus, row) is not None]
    trusted = work._lessons._trusted.rows(step).tolist()
    assert len(trusted) == len(set(trusted)) <= 24
    assert all(row < TRUSTED and given_tags(corpus, row) is not None for row in trusted)
    rate = 2e-3 * 3.0 / len(head.bias)
    weights = class_weights(
        head,
        read(rows),
        read(trusted),
        lambda logits, targets: class_losses(logits, targets, Focus()),
        rate=rate,
        step=0.1,
        limit=0.2,
    )
    inputs, targets = read(rows)
    each = class_losses(head(inputs), targets, Focus()) * weights
    found = work.losses(batch, step)
    assert found["tag"].item() == pytest.approx(each.mean().item(), rel=1e-4)
    assert found["tag"].item() != pytest.approx(work.losses(batch, -1)["tag"].item(), rel=1e-4)
    turn = [row for some in (0, 1) for row in work._lessons._trusted.rows(some)]
    tagged = [row for row in range(TRUSTED) if given_tags(corpus, row) is not None]
    assert sorted(turn) == [row for row in tagged if row not in set(work._held.tolist())]


def test_made_up_tags_come_to_count_less(corpus) -> None:
    settings = {**GDW, "tag_weighting_limit": 1.0, **NOTHING_ELSE}
    work = task(corpus, epochs=5, **settings)
    parameters = [value for _, value in work.model.named_parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    truth = corpus.column("category").to_pylist()
    names = [given_tags(corpus, row) or {} for row in range(len(truth))]
    found: dict[str, list[float]] = {"right": [], "lucky": [], "wrong": []}
    for step in range(work.order.steps):
        batch = work.batch(step)
        optimizer.zero_grad()
        work.losses(batch, step)["loss"].backward()
        optimizer.step()
        if step < work.order.steps - 14:
            continue
        encoded = work.model.encoder(batch)
        weights = work._lessons.of(batch, encoded, step)["weights"]
        for number, row in enumerate(batch.rows.tolist()):
            if row < TRUSTED:
                continue
            for tag, name in names[row].items():
                kind = "right" if name.startswith("right") else "wrong"
                if name == f"noisy{truth[row]}":
                    kind = "lucky"
                found[kind].append(weights[number, tag].item())
    mean = {kind: np.mean(values) for kind, values in found.items()}
    assert mean["wrong"] < mean["right"] - 0.1
    noise = np.mean(found["lucky"] + found["wrong"])
    assert noise < mean["right"]
    assert mean["wrong"] < mean["lucky"]


def test_who_is_trusted_has_to_be_said_and_there(tmp_path, corpus) -> None:
    with pytest.raises(ConfigError, match=r"pretrain: tag_weighting gdw .* in trusted"):
        load_recipe("base", ["pretrain.tag_weighting=gdw"])
    for name, said in (
        ("nobody", r"names \(nobody\): .*\(it has checked\)"),
        (str(tmp_path / "no.txt"), "no such file"),
    ):
        with pytest.raises(UsageError, match=said):
            task(corpus, **{**GDW, "trusted": (name,)})


def test_videos_can_be_trusted_by_a_list(tmp_path, corpus) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("\ufeff1003\r\n1007\r\nnobody\n1120\n1005\n", "utf-8")
    settings = {**GDW, "trusted": (str(listed),), "validation_share": 0.0, "epochs": 1}
    rows = task(corpus, **settings)._lessons._trusted.rows(0)
    assert sorted(corpus.ids[row] for row in rows) == ["1003", "1007", "1120"]  # 1005 has no tags
    pretrain(corpus.path, tmp_path / "run", recipe(**settings))
    listed.write_text("1003\n", "utf-8")
    with pytest.raises(FormatError, match=r"other settings.*trusted"):
        pretrain(corpus.path, tmp_path / "run", recipe(**settings))


def test_a_run_that_is_stopped_ends_with_the_same_weights(tmp_path, corpus) -> None:
    settings = recipe(
        dropout=0.1,
        checkpoint_every=4,
        batch_size=32,
        evaluate_every=4,
        accumulate=2,
        match_weight=1.0,
        cross_weight=1.0,
        cross_queue=24,
        tag_soft_share=0.5,
        tag_soft_momentum=0.9,
        **GDW,
    )

    class StopError(Exception):
        pass

    def stop(done: int, *_: object) -> None:
        if done == 6:
            raise StopError

    pretrain(corpus.path, tmp_path / "whole", settings)
    with pytest.raises(StopError):
        pretrain(corpus.path, tmp_path / "stopped", settings, stop)
    assert pretrain(corpus.path, tmp_path / "stopped", settings).resumed_at == 4
    for file in ("model.safetensors", "state/stage.safetensors", "state/optimizer.safetensors"):
        whole, stopped = (
            sorted((tmp_path / run / "checkpoints").glob(f"*/{file}"))
            for run in ("whole", "stopped")
        )
        assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in stopped]
        assert whole
    folder = whole[0].parent.parent
    assert json.loads((folder / "config.json").read_text())["heads"] == "match"
    assert load_model(folder).heads.match is not None
