"""Mean weights, steps against oneself, two passes, rates by layer: each as written out."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import made_batch, tiny_model, tiny_recipe
from vidvec.config import FinetuneConfig, Recipe
from vidvec.data.corpus import Corpus
from vidvec.train.adversarial import MOVED, moved_up
from vidvec.train.averaging import WeightAverage
from vidvec.train.finetune import FinetuneTask
from vidvec.train.optimizer import depth_factor, make_optimizer
from vidvec.train.start import new_model
from vidvec.train.trainer import train, train_step


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    videos = made_videos(60)
    folder = tmp_path_factory.mktemp("regularised") / "corpus"
    return write_corpus(folder, videos, made_pairs(videos, 200))


def recipe(dropout: float = 0.0, **finetune: object) -> Recipe:
    settings = {"epochs": 2, "batch_size": 32, "split": "published", **finetune}
    return tiny_recipe(model={"dropout": dropout}, finetune=settings)


def task(corpus: Corpus, settings: Recipe) -> FinetuneTask:
    torch.manual_seed(7)
    return FinetuneTask(new_model(settings, corpus), corpus)


def test_a_mean_by_hand() -> None:
    model = tiny_model()
    model.heads = None
    bias = model.encoder.projection.bias
    average = WeightAverage(model, 0.6)
    # Shares of the newest: 1, 1/2, and from the third step on, where 2/3 is above it, 0.4.
    for step, (value, mean) in enumerate([(1.0, 1.0), (3.0, 2.0), (7.0, 4.0), (4.0, 4.0)], 1):
        with torch.no_grad():
            bias.fill_(value)
        average.update(step)
        assert average.weights["encoder.projection.bias"].tolist() == pytest.approx(
            [mean] * len(bias)
        )
    with average.in_place() as own:
        assert bias.tolist() == pytest.approx([4.0] * len(bias))
        assert own["encoder.projection.bias"].tolist() == [4.0] * len(bias)
    with torch.no_grad():
        bias.fill_(9.0)
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert bias.tolist() == [9.0] * len(bias)


def test_the_mean_is_what_is_validated_and_saved(tmp_path, corpus) -> None:
    decay, settings = 0.7, recipe(ema_decay=0.7, evaluate_every=4)
    work = task(corpus, settings)
    seen: list[dict[str, torch.Tensor]] = []

    def note(*_: object) -> None:
        seen.append({n: v.detach().double().clone() for n, v in work.model.named_parameters()})

    train(work, tmp_path / "run", {}, note)
    mean = seen[0]
    means = [mean]
    for count, weights in enumerate(seen[1:], 2):
        kept = min(decay, (count - 1) / count)
        mean = {name: kept * mean[name] + (1 - kept) * weights[name] for name in mean}
        means.append(mean)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    last = tmp_path / "run" / "checkpoints" / run["last"]
    saved, own = (
        load_file(last / "model.safetensors"),
        load_file(last / "state/weights.safetensors"),
    )
    for name, value in means[-1].items():
        assert torch.allclose(saved[name].double(), value, atol=1e-6)
        assert torch.equal(own[name].double(), seen[-1][name])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["score"] for line in lines if line["kind"] == "validation"}
    work.model.encoder.eval()
    for step, score in scores.items():
        with torch.no_grad():
            for name, value in work.model.named_parameters():
                value.copy_(means[step - 1][name])
            assert work.validate()["score"] == pytest.approx(score, rel=1e-4)
    assert len(scores) > 2


def test_a_step_against_oneself_adds_the_gradient_from_further_up(corpus) -> None:
    length = 0.02
    work = task(corpus, recipe(adversarial=length))
    batch = work.batch(0)
    plain = copy.deepcopy(work)
    own = {name: value.detach().clone() for name, value in plain.model.named_parameters()}

    def gradients(model: object) -> dict[str, torch.Tensor]:
        found = {
            n: torch.zeros_like(v) if v.grad is None else v.grad
            for n, v in model.named_parameters()
        }
        return {name: value.clone() for name, value in found.items()}

    plain.losses(batch, 0)["loss"].backward()
    first = gradients(plain.model)
    plain.model.encoder.zero_grad()
    with torch.no_grad():
        for name, value in plain.model.named_parameters():
            if name in MOVED:
                value.add_(length * first[name] / first[name].norm())
    loss = plain.losses(batch, 0)["loss"]
    loss.backward()
    second = gradients(plain.model)

    optimizer = torch.optim.SGD(list(work.model.encoder.parameters()), lr=0.0)
    for group in optimizer.param_groups:
        group["base_lr"] = 0.0
    losses = train_step(work, optimizer, batch, 0)
    for name, value in gradients(work.model).items():
        assert torch.allclose(value, first[name] + second[name], atol=1e-7), name
    assert losses["adversarial"].item() == pytest.approx(loss.item(), rel=1e-6)
    assert losses["adversarial"] > losses["loss"]
    for name, value in work.model.named_parameters():
        assert torch.equal(value, own[name])  # moved back, and the rate is 0


def test_what_got_no_gradient_stays(corpus) -> None:
    model = tiny_model()
    batch = made_batch([(0, 3), (0, 2)])
    model.encoder(batch).vectors.square().mean().backward()
    model.encoder.frame_projection.weight.grad = None
    before = model.encoder.frame_projection.weight.clone()
    with moved_up(model, 0.5):
        assert torch.equal(model.encoder.frame_projection.weight, before)


def test_two_passes(corpus) -> None:
    weight = 0.5
    work = task(corpus, recipe(dropout=0.3, r_drop_weight=weight))
    work.model.encoder.train()
    batch = work.batch(0)
    torch.manual_seed(1)
    found = work.losses(batch, 0)
    torch.manual_seed(1)
    rows = [work.model.encoder(batch[0]).vectors.chunk(2) for _ in range(2)]
    cosines = [(first * second).sum(1) for first, second in rows]
    errors = [(cosine - batch[1]).square().mean() for cosine in cosines]
    apart = (cosines[0] - cosines[1]).square().mean()
    assert apart > 1e-4
    assert found["r_drop"].item() == pytest.approx(apart.item(), rel=1e-5)
    expected = (errors[0] + errors[1]) / 2 + weight * apart
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    work.model.encoder.eval()  # without dropout both passes are one
    assert work.losses(batch, 0)["r_drop"].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("trunk", ["bert", "modern"])
def test_lower_layers_learn_slower(trunk) -> None:
    model = tiny_model(trunk=trunk, layers=3)
    stage = FinetuneConfig(learning_rate=1.0, high_learning_rate=5.0, layer_decay=0.5)
    rates = {
        id(value): group["lr"]
        for group in make_optimizer(model, stage).param_groups
        for value in group["params"]
    }
    for name, value in model.named_parameters():
        if name.startswith("encoder.blocks."):
            expected = {"0": 0.25, "1": 0.5, "2": 1.0}[name.split(".")[2]]
        elif name.startswith(("encoder.word.", "encoder.token_embedding.")):
            expected = 0.125
        elif name.startswith(("encoder.pool", "encoder.projection", "heads.tag")):
            expected = 5.0
        else:  # frames come in anew, heads and the last norm lie on top
            expected = 1.0
        assert rates[id(value)] == expected, name
    assert depth_factor("encoder.blocks.0.qkv.weight", 12, 1.0) == 1.0
    assert depth_factor("encoder.word.weight", 12, 0.9) == pytest.approx(0.9**12)


def test_without_decay_there_are_the_published_groups() -> None:
    assert len(make_optimizer(tiny_model(), FinetuneConfig()).param_groups) == 4
