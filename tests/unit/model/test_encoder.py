"""The encoder against transformers' BERT and plain padded computations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from tests.tiny import (
    PAD,
    made_batch,
    put_together,
    randomise,
    taken_apart,
    tiny_config,
    tiny_encoder,
)
from vidvec.model.attention import attend
from vidvec.model.dropout import Dropout
from vidvec.model.encoder import VideoEncoder
from vidvec.model.layout import fill
from vidvec.model.published import translate
from vidvec.records import Batch

COUNTS = [(3, 2), (0, 4), (5, 0), (1, 1), (0, 0)]
ORDERS = ["cls_first", "frames_first"]
POOLS = ["mean", "attention"]


def bert_like(encoder: VideoEncoder, seed: int = 3) -> BertModel:
    """A BertModel with random weights, which the encoder's trunk then takes over."""
    config = encoder.config
    bert = BertModel(
        BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_size,
            max_position_embeddings=config.max_positions,
            layer_norm_eps=config.layer_norm_eps,
        ),
        add_pooling_layer=False,
    ).eval()
    randomise(bert, seed)
    tensors, unknown = translate(bert.state_dict())
    assert unknown == []
    state = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    missing, extra = encoder.load_state_dict(state, strict=False)
    assert extra == []
    ours_alone = ("frame_projection.", "frame_embedding.", "pool.", "projection.")
    assert all(name.startswith(ours_alone) for name in missing)
    return bert


class Given(nn.Module):
    """Stands in for BERT's embeddings: passes on what was embedded by hand."""

    def forward(self, inputs_embeds: Tensor, **_: object) -> Tensor:
        return inputs_embeds


def embed_plainly(encoder: VideoEncoder, bert: BertModel, frames: Tensor, ids: Tensor) -> Tensor:
    """(F + T, H) embeddings of one video, by torch's functions on single rows."""
    tokens = bert.embeddings(input_ids=ids[None])[0]
    block, rows = encoder.frame_embedding, []
    for position, frame in enumerate(frames):
        row = encoder.frame_projection.weight @ frame + encoder.frame_projection.bias
        row = row + block.position.weight[position] + block.token_type.weight[0]
        rows.append(F.layer_norm(row, row.shape, block.norm.weight, block.norm.bias, 1e-12))
    between = torch.stack(rows) if rows else tokens[:0]
    head = 1 if encoder.config.order == "cls_first" else 0
    return torch.cat([tokens[:head], between, tokens[head:]])


def pool_plainly(encoder: VideoEncoder, hidden: Tensor, counted: Tensor) -> Tensor:
    kept = [row for row, keep in zip(hidden, counted, strict=True) if keep]
    if encoder.config.pool == "mean":
        return sum(kept) / len(kept)
    inner, score = encoder.pool.inner, encoder.pool.score
    scores = [score.weight @ torch.tanh(inner.weight @ row + inner.bias) for row in kept]
    weights = torch.softmax(torch.cat(scores) + score.bias, 0)
    return sum(weight * row for weight, row in zip(weights, kept, strict=True))


def vectors_plainly(encoder: VideoEncoder, bert: BertModel, batch: Batch) -> Tensor:
    """(B, E), by BERT over sequences padded at the end, padding hidden and not pooled."""
    parts = [embed_plainly(encoder, bert, *video) for video in taken_apart(batch)]
    hidden = nn.utils.rnn.pad_sequence(parts, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(part)) for part in parts], batch_first=True)
    return run_bert(encoder, bert, hidden, mask, counted=mask)


def run_bert(
    encoder: VideoEncoder, bert: BertModel, hidden: Tensor, mask: Tensor, counted: Tensor
) -> Tensor:
    embeddings, bert.embeddings = bert.embeddings, Given()
    last = bert(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
    bert.embeddings = embeddings
    pooled = [
        pool_plainly(encoder, rows, keep) for rows, keep in zip(last, counted.bool(), strict=True)
    ]
    projected = torch.stack(pooled) @ encoder.projection.weight.T + encoder.projection.bias
    return projected / projected.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("order", ORDERS)
def test_titles_alone_are_bert(order):
    encoder = tiny_encoder(order=order)
    bert = bert_like(encoder)
    batch = made_batch([(0, 4), (0, 0), (0, 2)], order=order)
    with torch.no_grad():
        hidden = encoder(batch).tokens.split(batch.token_counts.tolist())
        for (_, ids), ours in zip(taken_apart(batch), hidden, strict=True):
            theirs = bert(input_ids=ids[None]).last_hidden_state[0]
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_padded_titles_are_bert_with_an_attention_mask():
    encoder = tiny_encoder(order="frames_first")
    bert = bert_like(encoder)
    padded = fill(made_batch([(0, 4), (0, 1)], order="frames_first"), encoder.config, PAD)
    ids, mask = padded.token_ids.view(2, -1), padded.token_mask.view(2, -1)
    assert not mask.all()
    with torch.no_grad():
        ours = encoder(padded).tokens.view(2, ids.shape[1], -1)
        theirs = bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    # Padding runs as queries too, in BERT as here.
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("order", ORDERS)
def test_frames_and_title_are_bert_on_the_same_embeddings(order, pool):
    encoder = tiny_encoder(order=order, pool=pool)
    bert = bert_like(encoder)
    batch = made_batch(COUNTS, order=order)
    with torch.no_grad():
        ours = encoder(batch).vectors
        theirs = vectors_plainly(encoder, bert, batch)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("order", ORDERS)
def test_counting_padding_is_bert_on_padded_sequences(order, pool):
    encoder = tiny_encoder(order=order, pool=pool, count_padding=True)
    bert = bert_like(encoder)
    batch = made_batch(COUNTS, order=order)
    config = encoder.config
    hidden, masks = [], []
    with torch.no_grad():
        for frames, ids in taken_apart(batch):
            no_frames, no_tokens = config.max_frames - len(frames), config.max_tokens - len(ids)
            all_frames = torch.cat([frames, torch.zeros(no_frames, config.frame_size)])
            all_ids = torch.cat([ids, torch.full((no_tokens,), PAD)])
            hidden.append(embed_plainly(encoder, bert, all_frames, all_ids))
            shown = [1] * len(frames) + [0] * no_frames
            title = [1] * len(ids) + [0] * no_tokens
            head = 1 if order == "cls_first" else 0
            masks.append([*title[:head], *shown, *title[head:]])
        mask = torch.tensor(masks)
        theirs = run_bert(encoder, bert, torch.stack(hidden), mask, torch.ones_like(mask))
        ours = encoder(batch).vectors
        without = VideoEncoder(tiny_config(order=order, pool=pool), PAD).eval()
        without.load_state_dict(encoder.state_dict())
        left_out = without(batch).vectors
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, left_out, atol=1e-2)


videos = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=5)


@given(
    counts=videos,
    shuffle=st.randoms(use_true_random=False),
    order=st.sampled_from(ORDERS),
    pool=st.sampled_from(POOLS),
    count_padding=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_vector_does_not_depend_on_its_batch(counts, shuffle, order, pool, count_padding):
    encoder = tiny_encoder(order=order, pool=pool, count_padding=count_padding)
    parts = taken_apart(made_batch(counts, order=order))
    places = list(range(len(parts)))
    shuffle.shuffle(places)
    with torch.no_grad():
        together = encoder(put_together(parts)).vectors
        shuffled = encoder(put_together([parts[place] for place in places])).vectors
        alone = torch.cat([encoder(put_together([part])).vectors for part in parts])
    assert torch.allclose(shuffled, together[places], atol=1e-5)
    assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("order", ORDERS)
def test_without_frames_or_title_there_is_a_vector(order, pool):
    encoder = tiny_encoder(order=order, pool=pool)
    for counts in ([(0, 3)], [(4, 0)], [(0, 0)], [(0, 0), (0, 2)]):
        with torch.no_grad():
            vectors = encoder(made_batch(counts, order=order)).vectors
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(counts)), atol=1e-6)


def test_a_zero_projection_gives_a_zero_vector_and_finite_gradients():
    encoder = tiny_encoder()
    nn.init.zeros_(encoder.projection.weight)
    nn.init.zeros_(encoder.projection.bias)
    vectors = encoder(made_batch(COUNTS)).vectors
    assert torch.equal(vectors, torch.zeros_like(vectors))
    vectors.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_without_padding_are_those_with_hidden_padding(order, pool):
    encoder = tiny_encoder(order=order, pool=pool)
    batch = made_batch(COUNTS, order=order)
    padded = fill(batch, encoder.config, PAD)
    direction = torch.randn(len(COUNTS), 8, generator=torch.Generator().manual_seed(1))
    gradients = []
    for some in (batch, padded):
        encoder.zero_grad()
        (encoder(some).vectors * direction).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in encoder.named_parameters()})
    for name, flat in gradients[0].items():
        scale = max(1.0, float(flat.abs().max()))
        assert torch.allclose(flat, gradients[1][name], atol=1e-4 * scale), name


@pytest.mark.parametrize("order", ORDERS)
def test_states_are_handed_out_at_their_places(order):
    encoder = tiny_encoder(order=order)
    batch = made_batch(COUNTS, order=order)
    with torch.no_grad():
        encoded = encoder(batch)
        for number, part in enumerate(taken_apart(batch)):
            alone = encoder(put_together([part]))
            head = 0 if order == "cls_first" else len(part[0])
            assert torch.allclose(encoded.cls[number], alone.hidden[head], atol=1e-5)
            first = 1 if order == "cls_first" else 0
            middle = alone.hidden[first : first + len(part[0])]
            ours = encoded.frames.split(batch.frame_counts.tolist())[number]
            assert torch.allclose(ours, middle, atol=1e-5)


def test_masked_inputs_are_read_instead_of_the_batch():
    encoder = tiny_encoder()
    batch = made_batch(COUNTS)
    ids, frames = batch.token_ids.flip(0), batch.frames * 0
    changed = Batch(frames, batch.frame_counts, ids, batch.token_counts)
    with torch.no_grad():
        ours = encoder(batch, token_ids=ids, frames=frames).vectors
        assert torch.equal(ours, encoder(changed).vectors)
        assert not torch.allclose(ours, encoder(batch).vectors, atol=1e-3)


def test_float16_features_are_read_as_they_are():
    encoder = tiny_encoder()
    batch = made_batch(COUNTS)
    half = batch.frames.half()
    with torch.no_grad():
        first = encoder(batch, frames=half).vectors
        assert torch.equal(first, encoder(batch, frames=half.float()).vectors)


def test_dropout_is_where_bert_has_it(monkeypatch):
    encoder = tiny_encoder(dropout=0.25)
    attention: list[float] = []
    monkeypatch.setattr(
        "vidvec.model.encoder.attend",
        lambda qkv, layout, dropout: attention.append(dropout) or attend(qkv, layout, dropout),
    )
    calls: dict[str, int] = {}
    for name, module in encoder.named_modules():
        if isinstance(module, Dropout):
            assert module.rate == 0.25
            module.register_forward_hook(
                lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1})
            )
    batch = made_batch(COUNTS)
    with torch.no_grad():
        assert torch.equal(encoder(batch).vectors, encoder(batch).vectors)
        assert attention == [0.0] * 4
        calls.clear()
        encoder.train()
        first, second = encoder(batch), encoder(batch)
    assert attention[4:] == [0.25] * 4
    # Behind both embeddings once, and in each block behind the attention and the feed-forward.
    assert calls == {
        "token_embedding.dropout": 2,
        "frame_embedding.dropout": 2,
        "blocks.0.dropout": 4,
        "blocks.1.dropout": 4,
    }
    assert not torch.allclose(first.vectors, second.vectors, atol=1e-3)
