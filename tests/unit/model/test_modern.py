"""The modern trunk against transformers' ModernBERT, and what it promises about positions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import ModernBertConfig, ModernBertModel

from tests.tiny import (
    PAD,
    ROOMY,
    made_batch,
    put_together,
    randomise,
    taken_apart,
    tiny_config,
    tiny_encoder,
    tiny_model,
)
from vidvec.config import load_recipe
from vidvec.model.attention import attend
from vidvec.model.encoder import VideoEncoder
from vidvec.model.layout import FlatLayout, fill, flat_layout
from vidvec.model.modern import rotate
from vidvec.model.published import translate
from vidvec.model.weights import load_model, save_model
from vidvec.train.optimizer import decays

ORDERS = ["cls_first", "frames_first"]
# Four layers, of which the first and the third are global; the others see 4 positions each way.
MODERN = {
    **ROOMY,
    "trunk": "modern",
    "layers": 4,
    "global_attention_every": 2,
    "local_attention_window": 8,
    "global_rope_theta": 500.0,
    "local_rope_theta": 40.0,
    "layer_norm_eps": 1e-3,
}
# Far beyond the window, about it, and less.
COUNTS = [(0, 30), (0, 3), (0, 0), (0, 11), (0, 6)]
WITH_FRAMES = [(19, 12), (0, 30), (32, 0), (1, 1), (0, 0), (4, 5)]


def modern_like(encoder: VideoEncoder, seed: int = 3) -> ModernBertModel:
    """A ModernBertModel with random weights, which the encoder's trunk then takes over."""
    config = encoder.config
    theirs = ModernBertModel(
        ModernBertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_size,
            norm_eps=config.layer_norm_eps,
            pad_token_id=PAD,
            local_attention=config.local_attention_window,
            global_attn_every_n_layers=config.global_attention_every,
            global_rope_theta=config.global_rope_theta,
            local_rope_theta=config.local_rope_theta,
        )
    ).eval()
    randomise(theirs, seed)
    tensors, unknown = translate(theirs.state_dict())
    assert unknown == []
    state = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    missing, extra = encoder.load_state_dict(state, strict=False)
    assert extra == []
    ours_alone = ("frame_projection.", "frame_embedding.", "pool.", "projection.")
    assert all(name.startswith(ours_alone) for name in missing)
    return theirs


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="windows"),
        pytest.param({"local_attention_window": 1}, id="each alone"),
        pytest.param({"local_attention_window": 128}, id="windows wider than titles"),
        pytest.param({"global_attention_every": 1}, id="all global"),
        pytest.param({"global_attention_every": 9}, id="first global"),
        pytest.param({"hidden_size": 12, "heads": 6}, id="narrowest heads"),
    ],
)
def test_titles_alone_are_modernbert(order, changes):
    encoder = tiny_encoder(**MODERN | changes, order=order)
    theirs = modern_like(encoder)
    batch = made_batch(COUNTS, order=order)
    with torch.no_grad():
        encoded = encoder(batch)
        ours = encoded.tokens.split(batch.token_counts.tolist())
        for (_, ids), states in zip(taken_apart(batch), ours, strict=True):
            expected = theirs(input_ids=ids[None]).last_hidden_state[0]
            assert torch.allclose(states, expected, atol=1e-4)
            assert float(expected.std()) > 0.05


def test_windows_and_both_thetas_matter_to_these_titles():
    """Else the comparison with ModernBERT would not see them."""
    batch = made_batch(COUNTS, order="frames_first")
    states = {}
    for name, value in [
        ("local_attention_window", 128),
        ("global_attention_every", 1),
        ("global_rope_theta", 40.0),
        ("local_rope_theta", 500.0),
        ("layers", 4),
    ]:
        encoder = tiny_encoder(**MODERN | {name: value}, order="frames_first")
        with torch.no_grad():
            states[name] = encoder(batch).tokens
    as_is = states.pop("layers")
    for name, other in states.items():
        assert not torch.allclose(as_is, other, atol=1e-2), name


class Given(nn.Module):
    """Stands in for ModernBERT's embeddings: passes on what was embedded by hand."""

    def forward(self, inputs_embeds: Tensor, **_: object) -> Tensor:
        return inputs_embeds


def embed_plainly(encoder: VideoEncoder, frames: Tensor, ids: Tensor) -> Tensor:
    """(F + T, H): each frame and each token, normalised with the weights of its own kind."""
    size, eps = (encoder.config.hidden_size,), encoder.config.layer_norm_eps
    token_norm = encoder.token_embedding.norm.weight
    words = F.layer_norm(encoder.word.weight[ids], size, token_norm, None, eps)
    projected = frames @ encoder.frame_projection.weight.T + encoder.frame_projection.bias
    seen = F.layer_norm(projected, size, encoder.frame_embedding.norm.weight, None, eps)
    head = 1 if encoder.config.order == "cls_first" else 0
    return torch.cat([words[:head], seen, words[head:]])


@pytest.mark.parametrize("order", ORDERS)
def test_frames_and_title_are_modernbert_on_the_same_embeddings(order):
    encoder = tiny_encoder(**MODERN, order=order)
    theirs = modern_like(encoder)
    theirs.embeddings = Given()
    batch = made_batch(WITH_FRAMES, order=order)
    with torch.no_grad():
        encoded = encoder(batch)
        ours = encoded.hidden.split((batch.frame_counts + batch.token_counts).tolist())
        for video, states, vector in zip(taken_apart(batch), ours, encoded.vectors, strict=True):
            rows = embed_plainly(encoder, *video)
            expected = theirs(inputs_embeds=rows[None]).last_hidden_state[0]
            assert torch.allclose(states, expected, atol=1e-4)
            pooled = encoder.projection(expected.mean(0))
            assert torch.allclose(vector, pooled / pooled.norm(), atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "counts",
    [pytest.param(WITH_FRAMES, id="ragged"), pytest.param([(6, 9)] * 3, id="equal lengths")],
)
def test_the_company_in_a_batch_changes_nothing(order, counts):
    encoder = tiny_encoder(**MODERN, order=order, pool="attention")
    batch = made_batch(counts, order=order)
    with torch.no_grad():
        alone = [encoder(put_together([video])).vectors[0] for video in taken_apart(batch)]
        assert torch.allclose(encoder(batch).vectors, torch.stack(alone), atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_padding_changes_no_state_of_what_is_real(order):
    """Though it stands between frames and title, where it would push them apart."""
    shut, counting = (
        tiny_encoder(**MODERN, order=order, count_padding=count) for count in (False, True)
    )
    batch = made_batch(WITH_FRAMES, order=order)
    with torch.no_grad():
        plain, filled = shut(batch), counting(batch)
        real = filled.layout.real
        assert int(real.sum()) == len(plain.hidden) < len(real)
        assert torch.allclose(filled.hidden[real], plain.hidden, atol=1e-5)
        assert torch.equal(filled.layout.positions[real], plain.layout.positions)
        # The pool is where padding counts, if it is to count; a full video has none.
        pooled = filled.hidden.view(len(WITH_FRAMES), -1, 16).mean(1)
        assert torch.allclose(filled.projected, counting.projection(pooled), atol=1e-5)
        assert not torch.allclose(filled.projected, plain.projected, atol=1e-2)
        full = made_batch([(32, 33 if order == "cls_first" else 34)] * 2, order=order)
        assert torch.allclose(shut(full).vectors, counting(full).vectors, atol=1e-5)
        # Filled, but not counted: as if it were not there.
        unseen = shut(fill(batch, counting.config, PAD))
        assert torch.allclose(unseen.vectors, plain.vectors, atol=1e-5)
    assert bool(filled.hidden.isfinite().all())


def test_positions_worked_by_hand():
    batch = made_batch([(2, 1), (0, 0)])
    assert flat_layout(batch, "cls_first").positions.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    filled = fill(batch, tiny_config(max_frames=3, max_tokens=5), PAD)
    assert flat_layout(filled, "cls_first").positions.tolist() == [
        *[0, 1, 2, 2, 3, 4, 5, 5],  # [CLS] frame frame · [SEP] word [SEP] ·
        *[0, 0, 0, 0, 1, 2, 2, 2],  # [CLS] · · · [SEP] [SEP] · ·
    ]
    batch = made_batch([(0, 1), (1, 0)], order="frames_first")
    filled = fill(batch, tiny_config(max_frames=2, max_tokens=4), PAD)
    assert flat_layout(filled, "frames_first").positions.tolist() == [
        *[0, 0, 0, 1, 2, 2],  # · · [CLS] word [SEP] ·
        *[0, 0, 1, 2, 2, 2],  # frame · [CLS] [SEP] · ·
    ]


def attend_plainly(qkv: Tensor, layout: FlatLayout, window: int) -> Tensor:
    out = torch.zeros(len(qkv), *qkv.shape[2:])
    places, owner = layout.positions.tolist(), layout.video_of.tolist()
    real = [True] * len(qkv) if layout.real is None else layout.real.tolist()
    for query in range(len(qkv)):
        keys = [
            key
            for key in range(len(qkv))
            if owner[key] == owner[query]
            and real[key]
            and abs(places[key] - places[query]) <= window
        ]
        for head in range(qkv.shape[2]):
            scores = qkv[keys, 1, head] @ qkv[query, 0, head] / math.sqrt(qkv.shape[3])
            out[query, head] = torch.softmax(scores, 0) @ qkv[keys, 2, head]
    return out.flatten(1)


@pytest.mark.parametrize("window", [0, 1, 3, 20])
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([(3, 1), (0, 0), (5, 4)], id="ragged"),
        pytest.param([(2, 1)] * 2, id="equal lengths"),
    ],
)
def test_a_window_hides_what_is_further_away(window, filled, order, counts):
    batch = made_batch(counts, order=order)
    layout = flat_layout(fill(batch, tiny_config(), PAD) if filled else batch, order)
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(len(layout.slots), 3, 2, 3, generator=generator).requires_grad_()
    ours = attend(qkv, layout, 0.0, window)
    assert torch.allclose(ours, attend_plainly(qkv, layout, window), atol=1e-5)
    ours.sum().backward()
    assert bool(qkv.grad.isfinite().all())


def test_no_query_is_left_without_a_key(monkeypatch):
    """Not even in the empty cells of the grid: some kernels would answer it with NaN."""
    masks: list[Tensor] = []
    plain = F.scaled_dot_product_attention

    def spy(*args: Tensor, attn_mask: Tensor, **more: float) -> Tensor:
        masks.append(attn_mask)
        return plain(*args, attn_mask=attn_mask, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    batch = made_batch([(5, 4), (0, 0)])
    for some in (batch, fill(batch, tiny_config(), PAD)):
        layout = flat_layout(some, "cls_first")
        attend(torch.zeros(len(layout.slots), 3, 2, 3), layout, 0.0, window=0)
    assert len(masks) == 2
    assert all(bool(mask.any(-1).all()) for mask in masks)


@given(
    near=st.integers(0, 500),
    far=st.integers(0, 500),
    shift=st.integers(0, 500),
    theta=st.sampled_from([10.0, 1e4, 1.6e5]),
)
def test_rotations_see_only_distances_and_keep_lengths(near, far, shift, theta):
    qkv = torch.randn(2, 3, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def product(first: int, second: int) -> Tensor:
        turned = rotate(qkv, torch.tensor([first, second]), theta)
        assert torch.equal(turned[:, 2], qkv[:, 2])
        assert torch.allclose(turned.norm(dim=-1), qkv.norm(dim=-1), atol=1e-5)
        return (turned[0, 0] * turned[1, 1]).sum(-1)

    # Angles are in float32, as in transformers: at 1000 they are known to about 1e-4.
    assert torch.allclose(product(near, far), product(near + shift, far + shift), atol=2e-3)
    assert torch.allclose(product(near, near), (qkv[0, 0] * qkv[1, 1]).sum(-1), atol=2e-3)


def test_a_rotation_worked_by_hand():
    qkv = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]).repeat(1, 3, 1, 1)
    turned = rotate(qkv, torch.tensor([2]), 100.0)[0, 0, 0]
    # Pairs are (1, 3) and (2, 4), turned by 2 and by 2 · 100^(-2/4) = 0.2.
    first = complex(1, 3) * complex(math.cos(2), math.sin(2))
    second = complex(2, 4) * complex(math.cos(0.2), math.sin(0.2))
    expected = torch.tensor([first.real, second.real, first.imag, second.imag])
    assert torch.allclose(turned, expected, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_reach_every_parameter(order):
    model = tiny_model(**MODERN, order=order)
    batch = made_batch([(5, 20), (3, 2)], order=order)
    encoded = model.encoder(batch)
    heads = model.heads
    parts = [
        encoded.vectors,
        heads.tag_logits(encoded),
        heads.mlm(encoded.tokens),
        heads.mfm(encoded.frames),
    ]
    weights = torch.Generator().manual_seed(4)
    sum((part * torch.randn(part.shape, generator=weights)).sum() for part in parts).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_no_biases_and_no_norm_that_decays():
    model = tiny_model(**MODERN)
    names = [name for name, _ in model.named_parameters()]
    trunk = ("encoder.blocks.", "encoder.token_embedding.", "encoder.final_norm.")
    assert not [name for name in names if name.startswith(trunk) and name.endswith("bias")]
    assert "encoder.blocks.0.attention_norm.weight" not in names
    for name, parameter in model.named_parameters():
        assert decays(name) == (parameter.dim() == 2), name


def test_a_loaded_model_is_the_saved_one(tmp_path):
    model = tiny_model(**MODERN, count_padding=True, pool="attention")
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    assert loaded.recipe == model.recipe
    batch = made_batch(WITH_FRAMES)
    with torch.no_grad():
        assert torch.equal(model.encoder(batch).vectors, loaded.encoder(batch).vectors)


def test_dropout_is_off_in_evaluation_and_on_in_training(monkeypatch):
    seen: list[float] = []

    def spy(qkv: Tensor, layout: FlatLayout, dropout: float, window: int | None) -> Tensor:
        seen.append(dropout)
        return attend(qkv, layout, dropout, window)

    monkeypatch.setattr("vidvec.model.modern.attend", spy)
    encoder = tiny_encoder(**MODERN, dropout=0.25)
    batch = made_batch(WITH_FRAMES)
    with torch.no_grad():
        assert torch.equal(encoder(batch).vectors, encoder(batch).vectors)
        encoder.train()
        first, second = encoder(batch).vectors, encoder(batch).vectors
    assert seen == [0.0] * 8 + [0.25] * 8
    assert not torch.allclose(first, second, atol=1e-3)


def test_low_precision_keeps_its_type():
    encoder = tiny_encoder(**MODERN)
    batch = made_batch(WITH_FRAMES)
    with torch.no_grad():
        exact = encoder(batch).vectors
        rough = encoder.to(torch.bfloat16)(replace(batch, frames=batch.frames.half())).vectors
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() * exact).sum(1).min()) > 0.98


def test_the_recipe_that_ships():
    recipe = load_recipe("vidvec/modern")
    plain = load_recipe("base")
    counts, models = [], []
    for model in (recipe.model, plain.model):
        config = model.model_copy(update={"vocab_size": 50, "frame_size": 12, "tags": 3})
        torch.manual_seed(0)
        models.append(VideoEncoder(config))
        counts.append(sum(p.numel() for p in models[-1].blocks.parameters()))
    assert recipe.pretrain == plain.pretrain
    assert abs(counts[0] / counts[1] - 1) < 0.01
    blocks = models[0].blocks
    # What a block adds starts smaller: √(2 · 6 layers) = 3.46 times.
    for name, expected in [("qkv", 0.02), ("up", 0.02), ("out", 0.00577), ("down", 0.00577)]:
        std = torch.cat([getattr(block, name).weight.detach().flatten() for block in blocks]).std()
        assert abs(float(std) / expected - 1) < 0.02, name
