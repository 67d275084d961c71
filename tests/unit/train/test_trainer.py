"""The loop: what is learned, kept, written, refused, and what a run may depend on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec import metrics
from vidvec.config import Recipe
from vidvec.data.corpus import Corpus
from vidvec.data.splits import rank_normalise, split_pairs
from vidvec.embed.embedder import Encoder
from vidvec.errors import FormatError, UsageError, VidvecError
from vidvec.model.weights import load_model, save_model
from vidvec.train import trainer
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model
from vidvec.train.trainer import TrainReport, train

VIDEOS = made_videos(80)
PAIRS = made_pairs(VIDEOS, 300)
FAST = {"learning_rate": 5e-3, "high_learning_rate": 5e-3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("trainer") / "corpus", VIDEOS, PAIRS)


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def last_weights(run: Path) -> bytes:
    name = json.loads((run / "run.json").read_text())["last"]
    return (run / "checkpoints" / name / "model.safetensors").read_bytes()


def snapshot(run: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change and its bytes."""
    files = [path for path in run.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


class Scripted(PretrainTask):
    """Pretraining whose validation scores are given, and whose weights at each are noted."""

    def script(self, scores: Iterable[float]) -> None:
        self.scores, self.weights = iter(scores), []

    def validate(self) -> dict[str, float]:
        self.weights.append({n: p.detach().clone() for n, p in self.model.named_parameters()})
        return {"score": next(self.scores)}


class Diverging(PretrainTask):
    """Pretraining whose losses are as bad as told from a step on."""

    bad_from, bad_value = 10**9, float("nan")

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        losses = super().losses(batch, step)
        if step >= self.bad_from:
            losses["loss"] = losses["loss"] * self.bad_value
        return losses


def train_scripted(corpus: Corpus, run: Path, recipe: Recipe, scores: list[float]):
    task = Scripted(new_model(recipe, corpus), corpus)
    task.script(scores)
    report = train(task, run, {"recipe": recipe.hash})
    return task, report


# Learning


def falls(some: list[dict[str, Any]], name: str, to: float) -> bool:
    """Whether a figure's last value is at most this share of its first."""
    return some[-1][name] < to * some[0][name]


def test_pretraining_learns(corpus, tmp_path):
    report = pretrain(corpus.path, tmp_path, tiny_recipe(pretrain={"epochs": 15, **FAST}))
    validations = lines(tmp_path, "validation")
    assert falls(lines(tmp_path, "train"), "loss", to=0.95)
    assert falls(validations, "score", to=0.97)
    assert report.best == min(line["score"] for line in validations)


@pytest.mark.parametrize("objective", ["tag", "mlm", "mfm"])
def test_each_objective_learns_alone(corpus, tmp_path, objective):
    weights = {f"{name}_weight": float(name == objective) for name in ("tag", "mlm", "mfm")}
    pretrain(corpus.path, tmp_path, tiny_recipe(pretrain={"epochs": 15, **FAST, **weights}))
    validations = lines(tmp_path, "validation")
    assert set(validations[0]) == {"step", "kind", "score", "loss", objective}
    assert falls(lines(tmp_path, "train"), objective, to=0.93)
    assert falls(validations, objective, to=0.97)


def test_finetuning_learns_what_validation_measures(corpus, tmp_path):
    recipe = tiny_recipe(finetune={"epochs": 8})
    report = finetune(corpus.path, tmp_path, recipe)
    validations = lines(tmp_path, "validation")
    untrained = new_model(recipe, corpus)
    untrained.encoder.eval()
    with torch.no_grad():
        before = FinetuneTask(untrained, corpus).validate()
    assert report.best < 0.7 * before["mse"]
    assert lines(tmp_path, "train")[-1]["loss"] < 0.5 * lines(tmp_path, "train")[0]["loss"]

    # The kept checkpoint's figures, once more, from vectors made one video at a time.
    encoder = Encoder.load(tmp_path, "cpu")
    pairs = corpus.pairs()
    targets = rank_normalise([pair.score for pair in pairs])
    chosen = split_pairs(pairs, "clean").validation
    first, second = (
        np.concatenate([encoder.encode([corpus.video(corpus.row(video))]) for video in ids])
        for ids in (
            [pairs[place].id_1 for place in chosen],
            [pairs[place].id_2 for place in chosen],
        )
    )
    cosines = metrics.cosines(first, second)
    best = next(line for line in validations if line["step"] == report.best_step)
    assert best["mse"] == pytest.approx(float(np.mean((cosines - targets[chosen]) ** 2)), rel=1e-4)
    scores = [pairs[place].score for place in chosen]
    assert best["spearman"] == pytest.approx(metrics.spearman(cosines, scores), abs=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"count_padding": True, "max_frames": 8, "max_tokens": 12}, id="padding"),
        pytest.param({"order": "frames_first", "pool": "attention"}, id="frames first"),
        pytest.param({"tag_from": "embedding"}, id="tags from embedding"),
    ],
)
def test_other_models_learn(corpus, tmp_path, model):
    recipe = tiny_recipe(model={**model, "start": "random"}, pretrain={"epochs": 6})
    pretrain(corpus.path, tmp_path, recipe)
    assert falls(lines(tmp_path, "train"), "loss", to=0.95)


def test_pretraining_changes_every_weight_that_it_should(corpus, tmp_path):
    recipe = tiny_recipe(model={"pool": "attention"}, pretrain={"epochs": 1})
    before = {n: p.detach().clone() for n, p in new_model(recipe, corpus).named_parameters()}
    pretrain(corpus.path, tmp_path, recipe)
    same = {n for n, p in load_model(tmp_path).named_parameters() if torch.equal(p, before[n])}
    # With tags from [CLS], nothing asks for the pooled vector.
    expected = ("encoder.pool.", "encoder.projection.")
    assert same == {name for name in before if name.startswith(expected)}


# Checkpoints


def test_the_best_checkpoint_is_kept_though_later_ones_are_worse(corpus, tmp_path):
    # Validations fall on steps 2, 4, 6, …, and regular checkpoints on 5, 10, …
    recipe = tiny_recipe(pretrain={"epochs": 5, "evaluate_every": 2, "checkpoint_every": 5})
    scores = [5.0, 3.0, 4.0, 3.0, 7.0, 6.0, *[9.0] * 50]
    task, report = train_scripted(corpus, tmp_path, recipe, scores)
    assert (report.best, report.best_step) == (3.0, 4)
    kept = dict(load_model(tmp_path).named_parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in task.weights[1].items())
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-00000004", f"step-{report.steps:08d}"}


def test_a_last_checkpoint_can_be_the_best(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2, "evaluate_every": 2, "checkpoint_every": 100})
    task, report = train_scripted(corpus, tmp_path, recipe, list(range(50, 0, -1)))
    assert report.best_step == report.steps
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    kept = dict(load_model(tmp_path).named_parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in task.weights[-1].items())


def test_without_anything_held_out_the_last_checkpoint_counts(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2, "validation_share": 0.0})
    report = pretrain(corpus.path, tmp_path, recipe)
    assert report.best is None
    assert lines(tmp_path, "validation") == []
    load_model(tmp_path)


def test_a_stopped_run_carries_on_to_the_same_weights(corpus, tmp_path):
    recipe = tiny_recipe(
        model={"dropout": 0.2},
        pretrain={"epochs": 4, "evaluate_every": 3, "checkpoint_every": 4},
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    pretrain(corpus.path, whole, recipe)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: int, steps: int, figures: dict[str, float]) -> None:
        if step == 7:
            raise Stop

    with pytest.raises(Stop):
        pretrain(corpus.path, stopped, recipe, stop)
    torch.manual_seed(99)
    report = pretrain(corpus.path, stopped, recipe)
    # The checkpoint of step 4, or that of a new best at step 6.
    assert report.resumed_at in (4, 6)
    assert last_weights(stopped) == last_weights(whole)
    assert lines(stopped, "validation") == lines(whole, "validation")
    steps = [line["step"] for line in lines(stopped, "train")]
    assert steps == [line["step"] for line in lines(whole, "train")]
    assert sorted(set(steps)) == steps


def test_a_finished_run_started_again_does_nothing(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2})
    first = pretrain(corpus.path, tmp_path, recipe)
    before = snapshot(tmp_path)
    again = pretrain(corpus.path, tmp_path, recipe)
    assert (again.steps, again.resumed_at) == (first.steps, first.steps)
    assert (again.best, again.best_step) == (first.best, first.best_step)
    assert snapshot(tmp_path) == before


def test_a_lost_metrics_file_is_begun_anew(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 4, "checkpoint_every": 4, "evaluate_every": 4})

    def stop(step: int, steps: int, figures: dict[str, float]) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus.path, tmp_path, recipe, stop)
    (tmp_path / "metrics.jsonl").unlink()
    report = pretrain(corpus.path, tmp_path, recipe)
    assert lines(tmp_path, "train")[0]["step"] > report.resumed_at == 8


# What must not matter


def test_validation_does_not_change_training(corpus, tmp_path):
    runs = []
    for every in (3, 7):
        recipe = tiny_recipe(
            model={"dropout": 0.2}, pretrain={"epochs": 4, "evaluate_every": every}
        )
        pretrain(corpus.path, tmp_path / str(every), recipe)
        runs.append(last_weights(tmp_path / str(every)))
    assert runs[0] == runs[1]


def test_the_seed_decides(corpus, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain(corpus.path, tmp_path / name, tiny_recipe(seed, pretrain={"epochs": 1}))
    assert last_weights(tmp_path / "a") == last_weights(tmp_path / "b")
    assert last_weights(tmp_path / "a") != last_weights(tmp_path / "c")


def test_validation_masks_stay_the_same(corpus):
    recipe = tiny_recipe()
    task = PretrainTask(new_model(recipe, corpus), corpus)
    task.model.encoder.eval()
    task.model.heads.eval()
    with torch.no_grad():
        first = task.validate()
        task.losses(task.batch(0), 0)
        assert task.validate() == first
    assert first["score"] == pytest.approx(
        sum(getattr(recipe.pretrain, f"{n}_weight") * first[n] for n in ("tag", "mlm", "mfm")),
        rel=1e-5,
    )


def test_validation_means_count_videos(corpus):
    class Counting(PretrainTask):
        def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
            return {"loss": torch.tensor(float(len(batch)))}

    task = Counting(new_model(tiny_recipe(pretrain={"batch_size": 5}), corpus), corpus)
    held = round(0.2 * len(rows_seen(task)) / 0.8)
    whole, rest = divmod(held, 5)
    assert rest
    assert task.validate()["score"] == pytest.approx((whole * 25 + rest**2) / held)


# Which videos and pairs


@pytest.mark.parametrize("split", ["clean", "published"])
def test_pretraining_leaves_out_what_finetuning_validates_on(corpus, split):
    pairs = corpus.pairs()
    chosen = split_pairs(pairs, split).validation
    held = {video for p in chosen for video in (pairs[p].id_1, pairs[p].id_2)}
    assert held
    seen = rows_seen(PretrainTask(new_model(tiny_recipe(), corpus), corpus))
    assert not held & {corpus.ids[row] for row in seen}
    everything = tiny_recipe(pretrain={"videos": "all", "validation_share": 0.0})
    all_rows = rows_seen(PretrainTask(new_model(everything, corpus), corpus))
    assert sorted(all_rows) == list(range(len(corpus)))


def rows_seen(task: PretrainTask, epoch: int = 0) -> list[int]:
    """Rows of an epoch's batches, and those it validates on behind them."""
    steps = range(epoch * task.epoch_steps, (epoch + 1) * task.epoch_steps)
    return [row for step in steps for row in task.batch(step).rows.tolist()]


def test_held_out_videos_are_not_trained_on_and_do_not_change(corpus):
    validated: list[int] = []

    class Noting(PretrainTask):
        def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
            validated.extend(batch.rows.tolist())
            return super().losses(batch, step)

    task = Noting(new_model(tiny_recipe(), corpus), corpus)
    first = rows_seen(task)
    with torch.no_grad():
        task.validate()
    assert len(validated) == round(0.2 * (len(first) + len(validated)))
    assert not set(validated) & set(first)
    second = rows_seen(task, epoch=1)
    assert sorted(first) == sorted(second)
    assert len(set(first)) == len(first)
    assert first != second
    other = tiny_recipe(seed=123)
    assert set(rows_seen(PretrainTask(new_model(other, corpus), corpus))) == set(first)


def test_finetuning_batches_are_the_pairs_of_the_split(corpus):
    recipe = tiny_recipe()
    task = FinetuneTask(new_model(recipe, corpus), corpus)
    pairs = corpus.pairs()
    targets = rank_normalise([pair.score for pair in pairs])
    known: dict[tuple[str, str], list[float]] = {}
    for place in split_pairs(pairs, "clean").train:
        pair = pairs[place]
        known.setdefault((pair.id_1, pair.id_2), []).append(float(np.float32(targets[place])))
    seen: dict[tuple[str, str], list[float]] = {}
    for step in range(task.epoch_steps):
        batch, wanted = task.batch(step)
        first, second = batch.rows.view(2, -1).tolist()
        for a, b, target in zip(first, second, wanted.tolist(), strict=True):
            seen.setdefault((corpus.ids[a], corpus.ids[b]), []).append(target)
    assert {key: sorted(some) for key, some in seen.items()} == {
        key: sorted(some) for key, some in known.items()
    }


def test_batches_depend_on_nothing_but_the_step(corpus):
    recipe = tiny_recipe()
    for kind in (PretrainTask, FinetuneTask):
        forwards, backwards = (kind(new_model(recipe, corpus), corpus) for _ in range(2))
        steps = 2 * forwards.epoch_steps
        rows = [rows_of(forwards.batch(step)) for step in range(steps)]
        assert [rows_of(backwards.batch(step)) for step in reversed(range(steps))] == rows[::-1]


def rows_of(batch: Any) -> list[int]:
    return (batch[0] if isinstance(batch, tuple) else batch).rows.tolist()


# What is refused


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("every", [0, 1])
def test_a_loss_that_is_no_number_stops_the_run(corpus, tmp_path, value, every):
    recipe = tiny_recipe(pretrain={"epochs": 6, "checkpoint_every": every})
    task = Diverging(new_model(recipe, corpus), corpus)
    task.bad_from, task.bad_value = 8, value
    with pytest.raises(VidvecError, match=r"loss is (nan|inf) at step .* lower pretrain"):
        train(task, tmp_path, {})
    # What was saved is from before, so that the run can be looked at and is not poisoned.
    for _, parameter in load_model(tmp_path).named_parameters():
        assert parameter.isfinite().all()
    last = json.loads((tmp_path / "run.json").read_text())["last"]
    assert int(last.removeprefix("step-")) == 8


def test_a_validation_that_is_no_number_stops_the_run(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 5, "evaluate_every": 2, "checkpoint_every": 3})
    with pytest.raises(VidvecError, match=r"validation is nan at step 4: lower"):
        train_scripted(corpus, tmp_path, recipe, [2.0, float("nan")])
    assert json.loads((tmp_path / "run.json").read_text())["best"] == "step-00000002"


def test_a_rate_far_too_high_says_what_to_do(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 20, "learning_rate": 1e30, "high_learning_rate": 1e30})
    with pytest.raises(VidvecError, match="clip_norm"):
        pretrain(corpus.path, tmp_path, recipe)


def test_other_settings_are_refused(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path, recipe)
    before = snapshot(tmp_path)
    for other in (
        tiny_recipe(seed=8, pretrain={"epochs": 1}),
        tiny_recipe(pretrain={"epochs": 2}),
        tiny_recipe(model={"dropout": 0.3}, pretrain={"epochs": 1}),
    ):
        with pytest.raises(FormatError, match=r"other settings \(recipe .*--restart"):
            pretrain(corpus.path, tmp_path, other)
    with pytest.raises(FormatError, match="other settings"):
        finetune(corpus.path, tmp_path, recipe)
    assert snapshot(tmp_path) == before


def test_a_pretraining_does_not_carry_on_a_finetuning(corpus, tmp_path):
    recipe = tiny_recipe(finetune={"epochs": 1})
    finetune(corpus.path, tmp_path, recipe)
    with pytest.raises(FormatError, match="other settings"):
        pretrain(corpus.path, tmp_path, recipe)


@pytest.mark.parametrize(
    ("videos", "pairs"),
    [
        pytest.param(made_videos(80, seed=1), PAIRS, id="videos"),
        pytest.param(VIDEOS, PAIRS[:-1], id="fewer pairs"),
        pytest.param(VIDEOS, made_pairs(VIDEOS, 300, seed=4), id="other pairs"),
    ],
)
def test_another_corpus_is_refused(corpus, tmp_path, videos, pairs):
    recipe = tiny_recipe(finetune={"epochs": 1})
    finetune(corpus.path, tmp_path / "run", recipe)
    other = write_corpus(tmp_path / "corpus", videos, pairs)
    other_tokenizer = other.path / "tokenizer" / "tokenizer.json"
    other_tokenizer.write_bytes((corpus.path / "tokenizer" / "tokenizer.json").read_bytes())
    with pytest.raises(FormatError, match=r"other settings \(corpus"):
        finetune(other.path, tmp_path / "run", recipe)


def test_another_tokenizer_is_refused(tmp_path):
    """Retraining it numbers the same words anew, so that old weights would read other words."""
    corpus = write_corpus(tmp_path / "corpus", VIDEOS, PAIRS)
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path / "run", recipe)
    file = corpus.path / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"other settings \(tokenizer"):
        pretrain(corpus.path, tmp_path / "run", recipe)


@pytest.mark.parametrize("name", ["model", "state/optimizer", "state/rng"])
def test_a_damaged_checkpoint_is_named(corpus, tmp_path, name):
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path, recipe)
    folder = tmp_path / "checkpoints" / json.loads((tmp_path / "run.json").read_text())["last"]
    file = folder / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(FormatError, match=rf"{name}\.safetensors"):
        pretrain(corpus.path, tmp_path, recipe)


def test_a_checkpoint_that_is_gone_is_named(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path, recipe)
    (tmp_path / "checkpoints").rename(tmp_path / "moved")
    with pytest.raises(FormatError, match="missing"):
        pretrain(corpus.path, tmp_path, recipe)


def test_nothing_to_learn_from_is_refused(corpus):
    off = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0}
    with pytest.raises(UsageError, match="nothing to learn"):
        PretrainTask(new_model(tiny_recipe(pretrain=off), corpus), corpus)
    tags_alone = tiny_recipe(pretrain={**off, "tag_weight": 1.0})
    assert PretrainTask(new_model(tags_alone, corpus), corpus).epoch_steps > 0


def test_a_corpus_without_pairs_is_refused(tmp_path):
    corpus = write_corpus(tmp_path, made_videos(20))
    with pytest.raises(UsageError, match="--pairs"):
        FinetuneTask(new_model(tiny_recipe(), corpus), corpus)


def test_no_pair_to_train_on_is_refused(tmp_path):
    videos = made_videos(20)
    zero = [video for video in videos if int(video.id) % 5 == 0]
    corpus = write_corpus(tmp_path, videos, made_pairs(zero, 6))
    with pytest.raises(UsageError, match="none of the 6 pairs"):
        FinetuneTask(new_model(tiny_recipe(), corpus), corpus)


def test_a_finetuned_model_is_not_pretrained(corpus):
    model = new_model(tiny_recipe(), corpus)
    model.heads = None
    with pytest.raises(UsageError, match="finetuned"):
        PretrainTask(model, corpus)


def test_frames_of_another_encoder_are_refused(corpus, tmp_path):
    model = new_model(tiny_recipe(), corpus)
    model.frame_encoder = {"name": "other", "frame_size": 24}
    save_model(tmp_path / "start", model)
    with pytest.raises(UsageError, match=r"frames of other.*frames of made"):
        finetune(corpus.path, tmp_path / "run", tiny_recipe(), tmp_path / "start")


def test_a_bert_with_too_few_positions_is_refused(corpus, tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=35,
    )
    BertModel(config).save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(UsageError, match="35 positions"):
        new_model(tiny_recipe(model={"init": str(tmp_path)}), corpus)
    model = new_model(tiny_recipe(model={"init": str(tmp_path), "max_tokens": 35}), corpus)
    assert model.recipe.model.hidden_size == 16
    assert torch.equal(model.encoder.word.weight, load_file(tmp_path / "model.safetensors")[WORDS])


WORDS = "embeddings.word_embeddings.weight"


# What a run starts from


def test_the_tag_head_starts_from_how_often_tags_are_given(corpus):
    bias = new_model(tiny_recipe(), corpus).heads.tag.bias.detach().double()
    tagged = [video.tags for video in VIDEOS if video.tags is not None]
    for tag, value in zip(corpus.tag_vocabulary, bias.tolist(), strict=True):
        given = sum(tag in tags for tags in tagged)
        share = (given + 0.5) / (len(tagged) + 1)
        assert value == pytest.approx(np.log(share / (1 - share)), rel=1e-4)
    at_random = tiny_recipe(model={"start": "random"})
    assert not new_model(at_random, corpus).heads.tag.bias.any()


def test_finetuning_starts_from_the_pretrained_weights(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2}, finetune={"epochs": 1})
    pretrain(corpus.path, tmp_path / "pretrained", recipe)
    frozen = tiny_recipe(finetune={"epochs": 1, "learning_rate": 0.0, "high_learning_rate": 0.0})
    finetune(corpus.path, tmp_path / "run", frozen, tmp_path / "pretrained")
    start = dict(load_model(tmp_path / "pretrained").encoder.named_parameters())
    finetuned = load_model(tmp_path / "run")
    assert finetuned.heads is None
    for name, parameter in finetuned.encoder.named_parameters():
        assert torch.equal(parameter, start[name]), name
    # Its shape is the checkpoint's, its training settings are the recipe's.
    assert finetuned.recipe.finetune == frozen.finetune
    assert finetuned.made_by["start"] == str(tmp_path / "pretrained")


def test_clipping_limits_the_gradient(corpus):
    recipe = tiny_recipe(pretrain={"clip_norm": 0.5})
    task = PretrainTask(new_model(recipe, corpus), corpus)
    optimizer = trainer.make_optimizer(task.model, task.stage)
    for step in range(2):
        trainer.train_step(task, optimizer, task.batch(step), step, 10)
        squares = [
            p.grad.pow(2).sum() for _, p in task.model.named_parameters() if p.grad is not None
        ]
        assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(0.5, rel=1e-3)


def test_rates_follow_the_schedule(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 5, "learning_rate": 1e-3, "high_learning_rate": 4e-3})
    report = pretrain(corpus.path, tmp_path, recipe)
    for line in lines(tmp_path, "train"):
        # The line is of the step before, counted from 0.
        factor = trainer.schedule(line["step"] - 1, report.steps, 0.06)
        assert line["learning_rate"] == pytest.approx(4e-3 * factor)
    assert lines(tmp_path, "train")[-1]["learning_rate"] < 1e-3 * 0.2


def test_masked_inputs_are_what_the_encoder_reads(corpus, monkeypatch):
    """The losses are of the masked batch, and the masks are those of the step."""
    task = PretrainTask(new_model(tiny_recipe(), corpus), corpus)
    read: list[Any] = []
    forward = task.model.encoder.forward

    def noting(batch: Any, **inputs: Tensor) -> Any:
        read.append((batch, inputs))
        return forward(batch, **inputs)

    monkeypatch.setattr(task.model.encoder, "forward", noting)
    task.losses(task.batch(0), 5)
    task.losses(task.batch(0), 6)
    (batch, first), (_, second) = read
    assert (first["token_ids"] != batch.token_ids).any()
    assert (first["token_ids"] != second["token_ids"]).any()
    masked = ~first["frames"].any(1)
    assert masked.any()
    assert batch.frames[masked].any(1).all()


def test_progress_is_told(corpus, tmp_path):
    told: list[tuple[int, int]] = []
    recipe = tiny_recipe(pretrain={"epochs": 2})
    report = pretrain(corpus.path, tmp_path, recipe, lambda *args: told.append(args[:2]))
    assert told == [(step, report.steps) for step in range(1, report.steps + 1)]
    assert isinstance(report, TrainReport)
    events = list((tmp_path / "tensorboard").iterdir())
    assert len(events) == 1
    assert events[0].stat().st_size > 500
