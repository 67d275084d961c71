"""Little of a model is trained: low-rank updates, and an adapter behind a trunk that runs once."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiny import made_batch, tiny_encoder, tiny_model, tiny_recipe
from tests.unit.train.runs import lines
from vidvec.config import FinetuneConfig, Recipe, load_recipe
from vidvec.errors import ConfigError, UsageError
from vidvec.model.adapter import (
    LowRankLinear,
    ResidualAdapter,
    add_low_rank,
    has_low_rank,
    merge_low_rank,
    merged_tensors,
)
from vidvec.model.quantized import quantized
from vidvec.model.weights import load_model, save_model
from vidvec.train import trainer
from vidvec.train.adapters import adapt, trained
from vidvec.train.cached import DRAWS, CachedFinetuneTask
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.optimizer import make_optimizer
from vidvec.train.start import new_model

BATCH = [(3, 4), (0, 2), (5, 0), (1, 1)]


def recipe(adapter: str, dropout: float = 0.2, **more: object) -> Recipe:
    settings = {"epochs": 3, "batch_size": 32, "split": "published", "adapter": adapter, **more}
    return tiny_recipe(model={"dropout": dropout}, finetune=settings)


def vectors(model) -> torch.Tensor:
    with torch.no_grad():
        return model.encoder.eval()(made_batch(BATCH)).vectors


def randomised_low_rank(encoder) -> None:
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if name.endswith("lora_up"):
                value.normal_(std=0.3)


@pytest.mark.parametrize("trunk", ["bert", "modern"])
@pytest.mark.parametrize("feed_forward", [False, True])
def test_low_rank_updates_begin_as_nothing_and_merge_into_what_they_are(
    trunk, feed_forward
) -> None:
    encoder = tiny_encoder(trunk=trunk)
    plain, batch = encoder(made_batch(BATCH)).vectors, made_batch(BATCH)
    add_low_rank(encoder.blocks, 3, 0.5, feed_forward)
    layers = [module for module in encoder.modules() if isinstance(module, LowRankLinear)]
    assert len(layers) == len(encoder.blocks) * (4 if feed_forward else 2)
    assert torch.equal(encoder(batch).vectors, plain)
    randomised_low_rank(encoder)
    moved = encoder(batch).vectors
    assert (moved - plain).abs().max() > 1e-2

    merged = tiny_encoder(seed=1, trunk=trunk)  # of a plain model, by name
    merged.load_state_dict(
        {
            name.removeprefix("encoder."): value
            for name, value in merged_tensors(encoder, "encoder").items()
        }
    )
    assert torch.allclose(merged(batch).vectors, moved, atol=1e-6)
    in_place = copy.deepcopy(encoder)
    merge_low_rank(in_place)
    assert not has_low_rank(in_place)
    assert torch.equal(in_place(batch).vectors, merged(batch).vectors)


def test_a_low_rank_update_by_hand() -> None:
    linear = torch.nn.Linear(2, 3)
    layer = LowRankLinear(linear, 1, 2.0)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        layer.lora_down.copy_(torch.tensor([[1.0, -1.0]]))
        layer.lora_up.copy_(torch.tensor([[1.0], [0.0], [3.0]]))
    assert layer(torch.tensor([5.0, 3.0])).tolist() == [5.0, 0.0, 12.0]
    assert layer.merged().tolist() == [[2.0, -2.0], [0.0, 0.0], [6.0, -6.0]]
    assert layer.weight is linear.weight


def test_a_residual_adapter_by_hand() -> None:
    adapter = ResidualAdapter(4, 1, 0.5)
    given = torch.tensor([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(adapter(given), given)
    with torch.no_grad():
        adapter.down.weight.copy_(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
        adapter.up.weight.copy_(torch.tensor([[0.0], [1.0], [0.0], [0.0]]))
    inner = F.gelu(torch.tensor(2 * (0.6 + 0.8)))  # 2 = √4
    expected = [3.0, 0.5 * 5.0 * inner.item(), 4.0, 0.0]
    assert adapter(given)[0].tolist() == pytest.approx(expected)
    assert adapter(given)[1].tolist() == [0.0] * 4
    assert torch.allclose(adapter(7 * given), 7 * adapter(given))


@pytest.mark.parametrize(
    ("adapter", "more", "expected"),
    [
        ("lora", {"adapter_parts": ()}, {"lora"}),
        (
            "lora",
            {"adapter_parts": ("pool", "projection", "frames")},
            {"lora", "pool", "projection", "frame_projection"},
        ),
        ("lora", {"tag_weight": 1.0, "adapter_parts": ("tag_head",)}, {"lora", "tag"}),
        ("residual", {}, {"adapter", "projection"}),
        ("residual", {"adapter_parts": ()}, {"adapter"}),
    ],
)
def test_only_what_is_named_gets_a_gradient(corpus, adapter, more, expected) -> None:
    settings = recipe(adapter, **more)
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"pool": "attention"})}
    )
    model = new_model(settings, corpus)
    task = FinetuneTask(model, corpus)
    task.losses(task.batch(0), 0)["loss"].backward()
    found = {name for name, value in model.named_parameters() if value.grad is not None}
    assert found == {name for name, value in model.named_parameters() if value.requires_grad}
    parts = {"lora" if "lora_" in name else name.split(".")[1] for name in found}
    assert parts == expected
    optimizer = make_optimizer(model, settings.finetune)
    held = {id(value) for group in optimizer.param_groups for value in group["params"]}
    assert held == {id(value) for name, value in model.named_parameters() if name in found}
    rates = {
        group["lr"]
        for group in optimizer.param_groups
        for value in group["params"]
        for name, own in model.named_parameters()
        if own is value and ("lora_" in name or ".adapter." in name)
    }
    assert rates == {settings.finetune.adapter_learning_rate}
    numbers = trained(model)
    assert numbers.numbers == sum(
        value.numel() for _, value in model.named_parameters() if value.grad is not None
    )
    assert f"{numbers.numbers:,} of {numbers.of:,}" in str(numbers)


def test_updates_of_lower_layers_learn_slower() -> None:
    model = tiny_model(layers=3)
    model.recipe = Recipe(
        model=model.recipe.model,
        finetune=FinetuneConfig(adapter="lora", adapter_learning_rate=1.0, layer_decay=0.5),
    )
    adapt(model)
    rates = {}
    for group in make_optimizer(model, model.recipe.finetune).param_groups:
        for name, value in model.named_parameters():
            if "lora_" in name and any(value is own for own in group["params"]):
                rates.setdefault(name.split(".")[2], set()).add(group["lr"])
    assert rates == {"0": {0.25}, "1": {0.5}, "2": {1.0}}


@pytest.mark.parametrize("adapter", ["lora", "residual"])
@pytest.mark.parametrize("ema_decay", [0.0, 0.7])
def test_a_run_learns_and_is_loaded_by_all_that_load_models(
    corpus, tmp_path, adapter, ema_decay
) -> None:
    settings = recipe(adapter, 0.0, epochs=4, ema_decay=ema_decay, adapter_learning_rate=2e-2)
    save_model(tmp_path / "start", new_model(settings, corpus))
    report = finetune(corpus.path, tmp_path / "run", settings, tmp_path / "start")
    assert "numbers are trained" in report.note
    scores = [line["score"] for line in lines(tmp_path / "run", "validation")]
    assert scores[-1] < scores[0]
    start, tuned = load_model(tmp_path / "start"), load_model(tmp_path / "run")
    assert not has_low_rank(tuned.encoder)
    assert (tuned.encoder.adapter is not None) == (adapter == "residual")
    names = {name for name, _ in start.named_parameters() if name.startswith("encoder.")}
    own = dict(tuned.named_parameters())
    changed = {
        name
        for name, value in start.named_parameters()
        if name in names and not torch.equal(value, own[name])
    }
    kinds = {name.split(".")[1] if "blocks" not in name else name.split(".")[3] for name in changed}
    assert kinds == ({"projection"} if adapter == "residual" else {"projection", "qkv", "out"})
    # What was validated is what was saved.
    task = FinetuneTask(copy.deepcopy(tuned), corpus)
    task.model.encoder.eval()
    with torch.no_grad():
        assert task.validate()["score"] == pytest.approx(report.best, abs=1e-6)
    small = quantized(tuned.encoder)
    batch = task.batch(0)[0]
    with torch.no_grad():
        exact, rounded = tuned.encoder(batch).vectors, small(batch).vectors
    assert (exact * rounded).sum(-1).min() > 0.99


def test_int8_counts_updates_that_are_not_merged() -> None:
    encoder = tiny_encoder()
    add_low_rank(encoder.blocks, 2, 1.0, True)
    before = quantized(encoder)(made_batch(BATCH)).vectors
    randomised_low_rank(encoder)
    after, exact = quantized(encoder)(made_batch(BATCH)).vectors, encoder(made_batch(BATCH)).vectors
    assert (after * exact).sum(-1).min() > 0.98
    assert (after * exact).sum() > (before * exact).sum()


def test_the_trunk_that_ran_once_gives_what_it_gives_in_each_step(corpus) -> None:
    settings = recipe("residual", 0.0, r_drop_weight=0.0)
    torch.manual_seed(3)
    cached = CachedFinetuneTask(new_model(settings, corpus), corpus)
    torch.manual_seed(3)
    plain = FinetuneTask(new_model(settings, corpus), corpus)
    for task in (cached, plain):
        optimizer = make_optimizer(task.model, task.stage)
        for step in range(5):
            trainer.train_step(task, optimizer, task.batch(step), step)
        task.model.encoder.eval()
    for (name, first), (_, second) in zip(
        cached.model.named_parameters(), plain.model.named_parameters(), strict=True
    ):
        assert torch.allclose(first, second, atol=1e-5), name
    with torch.no_grad():
        ours, theirs = cached.validate(), plain.validate()
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_trunk_runs_once_or_once_a_draw(corpus, monkeypatch) -> None:
    model = new_model(recipe("residual", modality_dropout=0.3), corpus)
    seen: list[int] = []
    original = type(model.encoder).forward
    monkeypatch.setattr(
        type(model.encoder),
        "forward",
        lambda self, batch, *args: (
            seen.append(len(batch.frame_counts)),
            original(self, batch, *args),
        )[1],
    )
    task = CachedFinetuneTask(model, corpus)
    known = np.unique([[corpus.row(pair.id_1), corpus.row(pair.id_2)] for pair in corpus.pairs()])
    learned = np.unique(task._rows[task.split.train])
    assert sum(seen) == len(known) + DRAWS * len(learned)
    every = task.order.epoch_steps(0)
    draws = [task._draws[number % DRAWS] for number in range(5)]
    assert draws[0] is draws[4]
    assert not any(torch.equal(draws[0], other) for other in draws[1:DRAWS])
    for epoch in range(2):
        videos, _ = task.batch(epoch * every)
        at = int(np.searchsorted(learned, int(videos.rows[0])))
        assert torch.equal(videos.pooled[0], draws[epoch][at])
    count = len(seen)
    task.losses(task.batch(0), 0)
    with torch.no_grad():
        task.validate()
    assert len(seen) == count


def test_parts_of_a_batch_come_to_the_batch(corpus) -> None:
    task = CachedFinetuneTask(new_model(recipe("residual", accumulate=3), corpus), corpus)
    batch = task.batch(0)
    parts = [part()["mse"] for part in task.parts(batch, 0)]
    assert len(parts) == 3
    assert sum(parts).item() == pytest.approx(task.losses(batch, 0)["mse"].item(), rel=1e-5)


@pytest.mark.parametrize("adapter", ["lora", "residual"])
def test_a_stopped_run_ends_like_a_whole_one(corpus, tmp_path, monkeypatch, adapter) -> None:
    more = {"epochs": 2, "evaluate_every": 6, "checkpoint_every": 4, "ema_decay": 0.6}
    settings = recipe(adapter, accumulate=2, **more)
    finetune(corpus.path, tmp_path / "whole", settings)
    original, count = trainer.train_step, 0

    def dying(*args: object) -> object:
        nonlocal count
        count += 1
        if count == 7:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(trainer, "train_step", dying)
    with pytest.raises(KeyboardInterrupt):
        finetune(corpus.path, tmp_path / "cut", settings)
    monkeypatch.setattr(trainer, "train_step", original)
    report = finetune(corpus.path, tmp_path / "cut", settings)
    assert 0 < report.resumed_at < report.steps
    pointers = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert json.loads((tmp_path / "cut" / "run.json").read_text()) == pointers
    folders = [
        run / "checkpoints" / pointers["last"] for run in (tmp_path / "whole", tmp_path / "cut")
    ]
    files = sorted(path.relative_to(folders[0]) for path in folders[0].rglob("*.safetensors"))
    assert len(files) == (5 if adapter == "lora" else 4)
    for file in files:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
    assert lines(tmp_path / "cut", "validation") == lines(tmp_path / "whole", "validation")


def test_an_adapter_is_trained_on_with_its_shape(corpus, tmp_path) -> None:
    settings = recipe("residual", epochs=1, adapter_rank=3)
    finetune(corpus.path, tmp_path / "first", settings)
    again = finetune(corpus.path, tmp_path / "second", settings, tmp_path / "first")
    assert again.note
    first, second = (load_model(tmp_path / name) for name in ("first", "second"))
    assert not torch.equal(first.encoder.adapter.up.weight, second.encoder.adapter.up.weight)
    other = recipe("residual", epochs=1, adapter_rank=5)
    with pytest.raises(UsageError, match=r"adapter of rank 3 .*finetune.adapter_rank=3"):
        finetune(corpus.path, tmp_path / "third", other, tmp_path / "first")
    # Updates of a trunk leave an adapter behind it alone.
    finetune(corpus.path, tmp_path / "lora", recipe("lora", epochs=1), tmp_path / "first")
    kept = load_model(tmp_path / "lora").encoder.adapter
    assert torch.equal(kept.up.weight, first.encoder.adapter.up.weight)


def test_the_published_recipe_is_told_apart_as_before() -> None:
    assert Recipe().hash == Recipe(finetune=FinetuneConfig(adapter="none")).hash
    assert Recipe().hash != Recipe(finetune=FinetuneConfig(adapter="lora")).hash
    assert not [name for name, _ in tiny_model().named_parameters() if "adapter" in name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lora", "adversarial=0.1"], "adversarial 0.1 does not go with adapter lora"),
        (["residual", "adversarial=0.1"], "adversarial 0.1 does not go with adapter residual"),
        (["residual", "r_drop_weight=1"], "set r_drop_weight to 0.0"),
        (["residual", "tag_weight=1"], "it needs the trunk to run in each step"),
        (["residual", "layer_decay=0.9"], "set layer_decay to 1.0"),
        (["residual", "adapter_layers=all"], "set adapter_layers to attention"),
        (["residual", 'adapter_parts=["pool"]'], "adapter_parts pool cannot be trained"),
        (["lora", "adapter_rnak=2"], "did you mean finetune.adapter_rank"),
    ],
)
def test_what_an_adapter_does_not_go_with_is_refused(settings, message) -> None:
    adapter, other = settings
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_recipe("base", [f"finetune.adapter={adapter}", f"finetune.{other}"])
