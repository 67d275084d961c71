"""Each loss against the same thing written as a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.tiny import PAD, made_batch, put_together, taken_apart, tiny_model
from vidvec.model.layout import fill
from vidvec.model.weights import VideoModel
from vidvec.records import Batch
from vidvec.train.masking import Masked
from vidvec.train.objectives import masked_features
from vidvec.train.objectives.cosine_mse import cosine_mse
from vidvec.train.objectives.masked_features import masked_frame_loss
from vidvec.train.objectives.masked_words import masked_language_loss
from vidvec.train.objectives.pairs import ScoredPairs
from vidvec.train.objectives.pretraining import LossWeights, pretraining_losses
from vidvec.train.objectives.tags import tag_loss

COUNTS = [(3, 2), (0, 4), (5, 0), (2, 3)]
TAGS = [[0, 3], [], None, [4]]
WEIGHTS = LossWeights(tag=2.0, mlm=0.5, mfm=0.25)


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def log_sum_exp(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def tag_loss_plainly(logits: Tensor, tags: list[list[int] | None]) -> float:
    """−log p of what is there and −log (1 − p) of what is not, mean over classes, then videos."""
    losses = []
    for row, some in zip(logits.tolist(), tags, strict=True):
        if some is not None:
            each = [softplus(-x if c in some else x) for c, x in enumerate(row)]
            losses.append(sum(each) / len(each))
    return sum(losses) / len(losses) if losses else 0.0


def flat_tags(tags: list[list[int] | None]) -> tuple[Tensor, Tensor]:
    positions = [tag for some in tags for tag in some or []]
    counts = [-1 if some is None else len(some) for some in tags]
    return torch.tensor(positions, dtype=torch.int64), torch.tensor(counts)


def batch_and_masks(order: str = "cls_first") -> tuple[Batch, Masked]:
    positions, counts = flat_tags(TAGS)
    batch = made_batch(COUNTS, order=order, tag_positions=positions, tag_counts=counts)
    tokens, frames = torch.tensor([2, 7, 16]), torch.tensor([1, 3, 9])
    ids, seen = batch.token_ids.clone(), batch.frames.clone()
    ids[tokens], seen[frames] = 4, 0
    return batch, Masked(ids, tokens, seen, frames)


def nothing_masked(batch: Batch) -> Masked:
    none = torch.zeros(0, dtype=torch.int64)
    return Masked(batch.token_ids, none, batch.frames, none)


def losses_of(model: VideoModel, batch: Batch, masked: Masked, weights: LossWeights = WEIGHTS):
    encoded = model.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
    return pretraining_losses(model.heads, encoded, batch, masked, weights)


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(TAGS, id="mixed"),
        pytest.param([[], []], id="tagged with nothing"),
        pytest.param([None, None], id="never tagged"),
        pytest.param([[0, 1, 2, 3, 4]], id="all tags"),
    ],
)
def test_tag_loss(tags):
    logits = torch.randn(len(tags), 5, generator=torch.Generator().manual_seed(0)) * 3
    found = tag_loss(logits, *flat_tags(tags))
    assert float(found) == pytest.approx(tag_loss_plainly(logits, tags), rel=1e-5)


def test_a_video_that_was_never_tagged_has_no_say():
    logits = torch.randn(4, 5, requires_grad=True)
    tag_loss(logits, *flat_tags(TAGS)).backward()
    assert not logits.grad[2].any()
    assert all(logits.grad[video].all() for video in (0, 1, 3))


def test_masked_language_loss():
    model = tiny_model()
    batch, masked = batch_and_masks()
    with torch.no_grad():
        encoded = model.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
        found = masked_language_loss(model.heads, encoded, masked.token_targets, batch.token_ids)
        logits = model.heads.mlm(encoded.tokens).tolist()  # at every token, as published
    truth = batch.token_ids.tolist()
    targets = masked.token_targets.tolist()
    losses = [log_sum_exp(logits[place]) - logits[place][truth[place]] for place in targets]
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_masked_frame_loss(padded):
    model = tiny_model(count_padding=padded)
    batch, masked = batch_and_masks()
    if padded:
        real = fill(batch, model.recipe.model, PAD)
        places = real.frame_mask.nonzero().squeeze(1)[masked.frame_targets]
        seen = real.frames.clone()
        seen[places] = 0
        batch, masked = real, Masked(real.token_ids, masked.token_targets, seen, places)
    with torch.no_grad():
        encoded = model.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
        found = masked_frame_loss(
            model.heads, encoded, masked.frame_targets, batch.frames, batch.frame_mask
        )
        predictions = model.heads.mfm(encoded.frames)
    features = batch.frames.tolist()
    candidates = [
        place
        for place in range(len(features))
        if batch.frame_mask is None or batch.frame_mask[place]
    ]
    assert len(candidates) == sum(frames for frames, _ in COUNTS)
    losses = []
    for target in masked.frame_targets.tolist():
        row = predictions[target].tolist()
        dots = {
            place: sum(a * b for a, b in zip(row, features[place], strict=True))
            for place in candidates
        }
        losses.append(log_sum_exp(list(dots.values())) - dots[target])
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_the_frame_loss_is_the_same_in_parts(padded, monkeypatch):
    """The one with all logits at once is held against a plain one above."""
    model = tiny_model(count_padding=padded)
    batch, _ = batch_and_masks()
    batch = fill(batch, model.recipe.model, PAD) if padded else batch
    targets = batch.frame_mask.nonzero().squeeze(1)[:7] if padded else torch.arange(7)
    found = []
    for at_once in (masked_features.LOGITS_AT_ONCE, 2 * len(batch.frames)):
        monkeypatch.setattr(masked_features, "LOGITS_AT_ONCE", at_once)
        model.encoder.zero_grad()
        model.heads.zero_grad()
        encoded = model.encoder(batch)
        loss = masked_frame_loss(model.heads, encoded, targets, batch.frames, batch.frame_mask)
        loss.backward()
        gradients = [p.grad for _, p in model.named_parameters() if p.grad is not None]
        found.append((float(loss.detach()), gradients))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for whole, parts in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tag_from", ["cls", "embedding"])
@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
def test_the_sum(order, tag_from):
    model = tiny_model(order=order, tag_from=tag_from)
    batch, masked = batch_and_masks(order)
    with torch.no_grad():
        losses = losses_of(model, batch, masked)
        encoded = model.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
    total = 2.0 * losses["tag"] + 0.5 * losses["mlm"] + 0.25 * losses["mfm"]
    assert float(losses["loss"]) == pytest.approx(float(total), rel=1e-6)
    heads = 0 if order == "cls_first" else torch.tensor([f for f, _ in COUNTS])
    starts = torch.tensor([0, *[f + t for f, t in zip(*counts_of(batch), strict=True)]]).cumsum(0)
    first = encoded.hidden[starts[:-1] + heads]
    read = first if tag_from == "cls" else encoded.projected
    weight, bias = model.heads.tag.weight, model.heads.tag.bias
    logits = read.clamp(min=0) @ weight.T + bias
    assert float(losses["tag"]) == pytest.approx(tag_loss_plainly(logits, TAGS), rel=1e-5)


@pytest.mark.parametrize("tag_from", ["cls", "embedding"])
def test_tags_read_numbers_as_they_are_or_their_direction_alone(tag_from):
    batch, masked = batch_and_masks()
    for tag_input in ("linear", "direction"):
        model = tiny_model(tag_from=tag_from, tag_input=tag_input)
        with torch.no_grad():
            encoded = model.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
            read = encoded.cls if tag_from == "cls" else encoded.projected
            if tag_input == "direction":
                lengths = read.square().sum(1, keepdim=True).sqrt()
                read = read / lengths * math.sqrt(read.shape[1])
            logits = read @ model.heads.tag.weight.T + model.heads.tag.bias
            found = losses_of(model, batch, masked)["tag"]
        assert (read < 0).any()
        assert float(found) == pytest.approx(tag_loss_plainly(logits, TAGS), rel=1e-5)


def counts_of(batch: Batch) -> tuple[list[int], list[int]]:
    return batch.frame_counts.tolist(), batch.token_counts.tolist()


@pytest.mark.parametrize("left_out", ["tag", "mlm", "mfm"])
def test_a_weight_of_zero_leaves_a_loss_out(left_out):
    model = tiny_model()
    batch, masked = batch_and_masks()
    weights = {"tag": 2.0, "mlm": 0.5, "mfm": 0.25}
    full = losses_of(model, batch, masked)
    some = losses_of(model, batch, masked, LossWeights(**{**weights, left_out: 0.0}))
    assert set(full) - set(some) == {left_out}
    expected = full["loss"] - weights[left_out] * full[left_out]
    assert float(some["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    some["loss"].backward()
    head = getattr(model.heads, left_out)
    assert all(parameter.grad is None for parameter in head.parameters())


def test_without_tags_in_the_vocabulary_there_is_no_tag_loss():
    model = tiny_model(tags=0)
    assert model.heads.tag is None
    batch = made_batch(COUNTS)
    assert set(losses_of(model, batch, nothing_masked(batch))) == {"mlm", "mfm", "loss"}
    batch.tag_positions, batch.tag_counts = flat_tags([[], [], None, []])
    assert "tag" not in losses_of(model, batch, nothing_masked(batch))


@pytest.mark.parametrize("counts", [COUNTS, [(0, 2), (0, 0)]], ids=["videos", "titles only"])
def test_nothing_masked_and_nothing_tagged(counts):
    model = tiny_model()
    positions, tag_counts = flat_tags([None] * len(counts))
    batch = made_batch(counts, tag_positions=positions, tag_counts=tag_counts)
    losses = losses_of(model, batch, nothing_masked(batch))
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {
        "tag": 0.0,
        "mlm": 0.0,
        "mfm": 0.0,
        "loss": 0.0,
    }
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


def test_the_frame_loss_compares_with_the_originals():
    model = tiny_model()
    batch, masked = batch_and_masks()
    other = made_batch(COUNTS)
    other.frames = batch.frames.clone()
    other.frames[masked.frame_targets] *= 2.0  # what is read does not change, what is asked does
    with torch.no_grad():
        encoded = model.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
        first, second = (
            masked_frame_loss(model.heads, encoded, masked.frame_targets, some.frames, None)
            for some in (batch, other)
        )
    assert not torch.isclose(first, second, rtol=1e-3)


def test_losses_without_padding_are_those_with_hidden_padding():
    model = tiny_model()
    batch, masked = batch_and_masks()
    real = fill(batch, model.recipe.model, PAD)
    tokens = real.token_mask.nonzero().squeeze(1)
    frames = real.frame_mask.nonzero().squeeze(1)
    ids, seen = real.token_ids.clone(), real.frames.clone()
    ids[tokens], seen[frames] = masked.token_ids, masked.frames
    padded = Masked(ids, tokens[masked.token_targets], seen, frames[masked.frame_targets])
    with torch.no_grad():
        flat, filled = losses_of(model, batch, masked), losses_of(model, real, padded)
    for name, loss in flat.items():
        assert float(filled[name]) == pytest.approx(float(loss), rel=1e-4), name


def test_the_order_of_videos_does_not_change_the_losses():
    model = tiny_model()
    batch, _ = batch_and_masks()
    places = [3, 0, 2, 1]
    parts = taken_apart(batch)
    shuffled = put_together([parts[place] for place in places])
    positions, counts = flat_tags([TAGS[place] for place in places])
    shuffled.tag_positions, shuffled.tag_counts = positions, counts
    with torch.no_grad():
        ours = losses_of(model, batch, nothing_masked(batch))["tag"]
        theirs = losses_of(model, shuffled, nothing_masked(shuffled))["tag"]
    assert float(theirs) == pytest.approx(float(ours), rel=1e-5)


def test_cosine_mse_by_hand():
    # Cosines 1, 0.6 and 0 against 1, 0.5 and 0.3: squares 0, 0.01 and 0.09.
    first = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = cosine_mse(ScoredPairs.of(torch.cat([first, second]), torch.tensor([1.0, 0.5, 0.3])))
    assert float(loss) == pytest.approx(0.1 / 3)


def test_cosine_mse_of_a_model():
    model = tiny_model()
    with torch.no_grad():
        projected = model.encoder(made_batch(COUNTS)).projected.tolist()
        vectors = model.encoder(made_batch(COUNTS)).vectors
    targets = [0.2, 0.9]
    squares = []
    for pair, target in enumerate(targets):
        a, b = projected[pair], projected[pair + 2]
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        squares.append((dot / (math.hypot(*a) * math.hypot(*b)) - target) ** 2)
    found = cosine_mse(ScoredPairs.of(vectors, torch.tensor(targets)))
    assert float(found) == pytest.approx(sum(squares) / 2, rel=1e-4)
