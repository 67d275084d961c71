"""The losses of scored pairs, each against itself written as a loop, and by what it must not do."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr
from torch import Tensor

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.config import PAIR_LOSSES, FinetuneConfig, Recipe, load_recipe
from vidvec.data.corpus import Corpus
from vidvec.errors import ConfigError, UsageError
from vidvec.model.weights import load_model
from vidvec.train.finetune import FinetuneTask, finetune, start_model
from vidvec.train.objectives.angle import complex_similarity
from vidvec.train.objectives.pair_losses import pair_losses
from vidvec.train.objectives.pairs import ScoredPairs
from vidvec.train.objectives.soft_rank import hard_ranks, soft_ranks
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import pretrain
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

PAIRS, SIZE = 12, 8


def made(seed: int = 0, *, ties: bool = True) -> ScoredPairs:
    torch.manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(2 * PAIRS, SIZE, dtype=torch.float64))
    targets = torch.rand(PAIRS, dtype=torch.float64)
    if ties:
        targets[: PAIRS // 3] = 0.0
    rows = torch.randint(0, 15, (2 * PAIRS,))
    return ScoredPairs.of(vectors, targets, rows)


def cosines(pairs: ScoredPairs) -> list[float]:
    both = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return [sum(x * y for x, y in zip(a, b, strict=True)) for a, b in both]


def ordered(values: list[float], targets: list[float], scale: float) -> float:
    total = 1.0
    for i, higher in enumerate(targets):
        for j, lower in enumerate(targets):
            if higher > lower:
                total += math.exp(scale * (values[j] - values[i]))
    return math.log(total)


def angle_plainly(pairs: ScoredPairs, scale: float) -> float:
    half, values = SIZE // 2, []
    for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        z = [complex(a[i], a[half + i]) for i in range(half)]
        w = [complex(b[i], b[half + i]) for i in range(half)]
        length = math.sqrt(sum(abs(each) ** 2 for each in z))
        other = math.sqrt(sum(abs(each) ** 2 for each in w))
        quotients = [
            x * y.conjugate() / other**2 / (length / other) for x, y in zip(z, w, strict=True)
        ]
        values.append(abs(sum(q.real + q.imag for q in quotients)))
    return ordered(values, pairs.targets.tolist(), scale)


def soft_rank_plainly(pairs: ScoredPairs, temperature: float) -> float:
    values = cosines(pairs)
    ranks = [0.5 + sum(1 / (1 + math.exp((y - x) / temperature)) for y in values) for x in values]
    return 1 - pearsonr(ranks, rankdata(pairs.targets.tolist())).statistic


def contrast_plainly(pairs: ScoredPairs, temperature: float) -> float:
    first, second = (side.tolist() for side in pairs.rows)
    total = weight = 0.0
    for i, target in enumerate(pairs.targets.tolist()):
        both = 0.0
        for forward in (True, False):
            there = 0.0
            for j in range(PAIRS):
                if j != i and {first[i], second[i]} & {first[j], second[j]}:
                    continue
                a = (pairs.first if forward else pairs.second)[i]
                b = (pairs.second if forward else pairs.first)[j]
                there += math.exp(float(a @ b) / temperature)
            own = float(pairs.first[i] @ pairs.second[i])
            both += math.log(there) - own / temperature
        total += target * both / 2
        weight += target
    return total / weight


PLAINLY = {
    "mse": lambda p: float(np.mean((np.array(cosines(p)) - p.targets.numpy()) ** 2)),
    "pearson": lambda p: 1 - pearsonr(cosines(p), p.targets.numpy()).statistic,
    "cosent": lambda p: ordered(cosines(p), p.targets.tolist(), 20.0),
    "angle": lambda p: angle_plainly(p, 20.0),
    "soft_rank": lambda p: soft_rank_plainly(p, 0.05),
    "contrast": lambda p: contrast_plainly(p, 0.05),
}


def only(name: str, weight: float = 1.0) -> FinetuneConfig:
    weights = {f"{each}_weight": 0.0 for each in PAIR_LOSSES} | {f"{name}_weight": weight}
    return FinetuneConfig(**weights)


def test_there_is_a_plain_twin_of_each() -> None:
    assert set(PLAINLY) == set(PAIR_LOSSES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_a_loss_is_the_loop(name, seed) -> None:
    pairs = made(seed)
    found = pair_losses(pairs, only(name, 0.5))
    assert set(found) == {name, "loss"}
    assert float(found[name]) == pytest.approx(PLAINLY[name](pairs), rel=1e-9)
    assert float(found["loss"]) == pytest.approx(float(found[name]) / 2)


def test_several_at_once_are_their_weighted_sum() -> None:
    pairs = made(5)
    found = pair_losses(pairs, FinetuneConfig(mse_weight=2.0, cosent_weight=0.5, angle_weight=0.1))
    expected = (
        2 * PLAINLY["mse"](pairs) + PLAINLY["cosent"](pairs) / 2 + PLAINLY["angle"](pairs) / 10
    )
    assert set(found) == {"mse", "cosent", "angle", "loss"}
    assert float(found["loss"]) == pytest.approx(expected)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_gradients_are_those_of_small_differences(name) -> None:
    pairs = made(1)
    vectors = torch.cat([pairs.first, pairs.second]).requires_grad_()

    def loss(free: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize(free)
        return pair_losses(ScoredPairs.of(unit, pairs.targets, pairs.rows.flatten()), only(name))[
            "loss"
        ]

    assert torch.autograd.gradcheck(loss, (vectors,), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PAIR_LOSSES if name != "contrast"])
def test_following_a_loss_brings_the_order_of_the_targets(name) -> None:
    pairs = made(2, ties=False)
    free = torch.cat([pairs.first, pairs.second]).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.02)
    rows = torch.arange(2 * PAIRS)
    before = spearmanr(cosines(pairs), pairs.targets.numpy()).statistic
    for _ in range(300):
        optimizer.zero_grad()
        now = ScoredPairs.of(torch.nn.functional.normalize(free), pairs.targets, rows)
        pair_losses(now, only(name))["loss"].backward()
        optimizer.step()
    cosine = now.cosines.detach()
    if name == "angle":  # it orders angles, not cosines
        cosine = complex_similarity(now.first, now.second).detach()
    after = spearmanr(cosine, pairs.targets.numpy()).statistic
    assert before < 0.9
    assert after > 0.97


def test_following_a_contrast_brings_partners_together() -> None:
    pairs = made(2)
    free = torch.cat([pairs.first, pairs.second]).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.02)
    weighted = pairs.targets > 0
    for _ in range(100):
        optimizer.zero_grad()
        now = ScoredPairs.of(torch.nn.functional.normalize(free), pairs.targets)
        pair_losses(now, only("contrast"))["loss"].backward()
        optimizer.step()
    for some, right in ((pairs, False), (now, True)):
        nearest = (some.first @ some.second.T).argmax(1) == torch.arange(PAIRS)
        assert bool(nearest[weighted].all()) is right


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize("case", ["one pair", "equal targets", "zero vectors", "equal cosines"])
def test_where_there_is_nothing_to_learn_nothing_breaks(name, case) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(8, SIZE))
    targets = torch.tensor([0.1, 0.9, 0.0, 0.4])
    if case == "one pair":
        vectors, targets = vectors[:2], targets[:1]
    elif case == "equal targets":
        targets = torch.zeros(4)
    elif case == "zero vectors":
        vectors = torch.zeros(8, SIZE)
    else:
        vectors = vectors[:1].expand(8, SIZE)
    vectors = vectors.clone().requires_grad_()
    loss = pair_losses(ScoredPairs.of(vectors, targets), only(name))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors.grad).all()


def test_ranks_are_scipys_and_soft_ranks_come_to_them() -> None:
    values = torch.tensor([0.3, -0.2, 0.3, 0.9, 0.0, 0.0, 0.0], dtype=torch.float64)
    expected = torch.tensor(rankdata(values.numpy()))
    assert torch.equal(hard_ranks(values).double(), expected)
    assert torch.allclose(soft_ranks(values, 1e-4), expected)


def test_a_quotient_of_complex_numbers_by_hand() -> None:
    # (1+2i)/(3−4i) = (−5+10i)/25; |1+2i| = √5, |3−4i| = 5.
    quotient = complex(1, 2) / complex(3, -4) / (math.sqrt(5) / 5)
    assert abs(quotient) == pytest.approx(1)
    found = complex_similarity(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -4.0]]))
    assert float(found) == pytest.approx(abs(quotient.real + quotient.imag))
    assert cmath.isfinite(quotient)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    videos = made_videos(60)
    folder = tmp_path_factory.mktemp("pairs") / "corpus"
    return write_corpus(folder, videos, made_pairs(videos, 160))


def recipe(**finetune: object) -> Recipe:
    return tiny_recipe(finetune={"epochs": 1, "split": "published", **finetune})


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_each_trains_a_model(tmp_path, corpus, name) -> None:
    weights = {f"{each}_weight": 0.0 for each in PAIR_LOSSES} | {f"{name}_weight": 1.0}
    report = finetune(corpus.path, tmp_path / "run", recipe(**weights, best_by="spearman"))
    assert report.best is not None
    assert 0 <= report.best <= 2  # one less a correlation


def test_tags_stay_learned_beside(tmp_path, corpus) -> None:
    settings = recipe(tag_weight=10.0, epochs=3)
    pretrain(corpus.path, tmp_path / "pre", settings)
    start = start_model(tmp_path / "pre", settings, corpus)
    before = start.heads.tag.weight.detach().clone()
    task = FinetuneTask(start, corpus)
    losses = task.losses(task.batch(0), 0)
    assert set(losses) == {"mse", "tag", "loss"}
    mse, tag, loss = (losses[name].item() for name in ("mse", "tag", "loss"))
    assert loss == pytest.approx(mse + 10 * tag)
    finetune(corpus.path, tmp_path / "run", settings, tmp_path / "pre")
    tuned = load_model(tmp_path / "run")
    names = [name for name, _ in tuned.named_parameters() if name.startswith("heads.")]
    assert names == ["heads.tag.weight", "heads.tag.bias"]
    assert not torch.equal(tuned.heads.tag.weight, before)
    # And on from there.
    again = start_model(tmp_path / "run", settings, corpus)
    assert set(FinetuneTask(again, corpus).losses(task.batch(0), 0)) == {"mse", "tag", "loss"}
    plain = start_model(tmp_path / "run", recipe(), corpus)
    assert set(FinetuneTask(plain, corpus).losses(task.batch(0), 0)) == {"mse", "loss"}
    assert plain.heads is None


def test_tags_need_a_head_for_the_corpuss_tags(tmp_path, corpus) -> None:
    finetune(corpus.path, tmp_path / "run", recipe())
    with pytest.raises(UsageError, match="has no tag head"):
        FinetuneTask(start_model(tmp_path / "run", recipe(tag_weight=1.0), corpus), corpus)
    pretrain(corpus.path, tmp_path / "pre", recipe())
    model = start_model(tmp_path / "pre", recipe(tag_weight=1.0), corpus)
    model.tag_vocabulary = model.tag_vocabulary[::-1]
    with pytest.raises(UsageError, match="not the same in the same order"):
        FinetuneTask(model, corpus)


def test_prefixes_are_ranked_too() -> None:
    pairs = made(6)
    found = pair_losses(pairs, FinetuneConfig(cosent_weight=0.5, prefixes=(2, 5)))
    parts = []
    for size in (2, 5, SIZE):
        sides = [
            torch.nn.functional.normalize(side[:, :size]) for side in (pairs.first, pairs.second)
        ]
        parts.append(ScoredPairs(*sides, pairs.targets, pairs.rows))
    for name in ("mse", "cosent"):
        expected = np.mean([PLAINLY[name](part) for part in parts])
        assert float(found[name]) == pytest.approx(expected)
    assert float(found["loss"]) == pytest.approx(float(found["mse"] + found["cosent"] / 2))
    with pytest.raises(ConfigError, match=r"finetune\.prefixes \[256\] are to be shorter"):
        load_recipe("base", ["finetune.prefixes=[256]"])


def test_a_model_learns_prefixes(corpus) -> None:
    learned = {}
    for prefixes in ((), (2,)):
        settings = recipe(prefixes=prefixes, epochs=8)
        torch.manual_seed(0)
        task = FinetuneTask(new_model(settings, corpus), corpus)
        optimizer = make_optimizer(task.model, task.stage)
        for step in range(task.order.steps):
            train_step(task, optimizer, task.batch(step), step)
        task.model.encoder.eval()
        videos, targets = task.batch(0)
        with torch.no_grad():
            cut = ScoredPairs.of(task.model.encoder(videos).vectors, targets).cut(2)
        learned[prefixes] = float((cut.cosines - cut.targets).square().mean())
    assert learned[(2,)] < 0.8 * learned[()]


def test_some_loss_of_pairs_has_to_have_a_weight() -> None:
    with pytest.raises(ConfigError, match="no loss of pairs has a weight: give one of mse_weight"):
        load_recipe("base", ["finetune.mse_weight=0", "finetune.tag_weight=1"])


def test_settings_at_their_defaults_leave_a_recipe_the_same_run() -> None:
    plain, named = load_recipe("base"), load_recipe("base", ["finetune.cosent_scale=20.0"])
    assert plain.stage_hash("finetune") == named.stage_hash("finetune")
    other = load_recipe("base", ["finetune.cosent_weight=1.0"])
    assert plain.stage_hash("finetune") != other.stage_hash("finetune")
