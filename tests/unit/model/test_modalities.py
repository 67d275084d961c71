"""Audio and three texts in the one stream: where they stand, and against BERT run plainly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.more import AUDIO_SIZE, COUNTS, READ, batch_of, made_parts
from tests.tiny import CLS, PAD, SEP, made_batch, randomise, tiny_config, tiny_encoder, tiny_model
from tests.unit.model.test_encoder import bert_like, run_bert
from vidvec import storage
from vidvec.config import load_recipe
from vidvec.errors import UsageError
from vidvec.model.encoder import VideoEncoder
from vidvec.model.flops import encoder_flops, parameters
from vidvec.model.heads import PretrainingHeads
from vidvec.model.layout import flat_layout
from vidvec.model.weights import load_model, put_weights, save_model
from vidvec.records import Batch

ORDERS = ["cls_first", "frames_first"]
TRUNKS = ["bert", "modern"]


def in_sequence(batch: Batch, order: str) -> list[str]:
    """What stands at each place of the flat sequence: f1, a2, or the token's number."""
    layout = flat_layout(batch, order)
    names = [""] * (len(batch.frames) + len(batch.audio) + len(batch.token_ids))
    for letter, rows, values in (
        ("f", layout.frame_rows, batch.frames[:, 0]),
        ("a", layout.audio_rows, batch.audio[:, 0]),
        ("", layout.token_rows, batch.token_ids),
    ):
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            assert names[row] == ""
            names[row] = f"{letter}{int(value)}"
    return names


def counted(*numbers: int, width: int = 2) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)[:, None].repeat(1, width)


HAND = [
    (counted(1, 2), counted(3), [CLS, SEP, 50, SEP], [60, 61, SEP], [70, SEP]),
    (counted(), counted(4, 5), [CLS, SEP, SEP], [], [71, SEP]),
    (counted(6), counted(), [CLS, SEP, 51, 52, SEP], [62, SEP], []),
]
NAMES = [
    *["2", "f1", "f2", "a3", "3", "50", "3", "60", "61", "3", "70", "3"],
    *["2", "a4", "a5", "3", "3", "71", "3"],
    *["2", "f6", "3", "51", "52", "3", "62", "3"],
]


def test_the_sequence_by_hand():
    batch = batch_of(HAND)
    assert in_sequence(batch, "cls_first") == NAMES
    layout = flat_layout(batch, "cls_first")
    assert layout.lengths.tolist() == [12, 7, 8]
    assert layout.offsets.tolist() == [0, 12, 19, 27]
    assert layout.max_length == 12
    assert layout.cls_rows.tolist() == [0, 12, 19]
    assert layout.frame_positions.tolist() == [0, 1, 0]
    assert layout.audio_positions.tolist() == [0, 0, 1]
    assert layout.token_kinds.tolist() == [
        *[0, 0, 0, 0, 1, 1, 1, 2, 2],
        *[0, 0, 0, 2, 2],
        *[0, 0, 0, 0, 0, 1, 1],
    ]
    assert layout.token_positions.tolist() == [
        *[0, 1, 2, 3, 1, 2, 3, 1, 2],
        *[0, 1, 2, 1, 2],
        *[0, 1, 2, 3, 4, 1, 2],
    ]
    assert layout.positions.tolist() == [*range(12), *range(7), *range(8)]


def test_the_sequence_by_hand_with_frames_first():
    videos = [(f, a, [CLS, *title[2:]], *texts) for f, a, title, *texts in HAND]
    batch = batch_of(videos)
    assert in_sequence(batch, "frames_first") == [
        *["f1", "f2", "a3", "2", "50", "3", "60", "61", "3", "70", "3"],
        *["a4", "a5", "2", "3", "71", "3"],
        *["f6", "2", "51", "52", "3", "62", "3"],
    ]
    assert flat_layout(batch, "frames_first").cls_rows.tolist() == [3, 13, 18]


@pytest.mark.parametrize("order", ORDERS)
def test_without_audio_and_texts_the_layout_is_that_of_frames_and_title(order):
    bare = made_batch([(3, 2), (0, 1), (2, 0)], order=order)
    none = torch.zeros(3, dtype=torch.int64)
    more = replace(
        bare,
        audio=torch.zeros(0, AUDIO_SIZE),
        audio_counts=none,
        speech_counts=none,
        screen_counts=none,
    )
    first, second = flat_layout(bare, order), flat_layout(more, order)
    for name in first.__slots__:
        ours, theirs = getattr(first, name), getattr(second, name)
        if name not in ("audio_rows", "audio_positions", "token_kinds", "max_length", "real"):
            assert ours is theirs is None or torch.equal(ours, theirs), name
    assert first.max_length == second.max_length
    assert second.audio_rows.tolist() == []
    assert set(second.token_kinds.tolist()) == {0}


# --- the encoder --------------------------------------------------------------------------------


def embedded_plainly(encoder: VideoEncoder, video: tuple) -> Tensor:
    """(N, H) embeddings of one video, row by row."""
    frames, audio, *texts = video
    block = encoder.token_embedding

    def normed(row: Tensor, position: int, part: torch.nn.Module) -> Tensor:
        row = row + part.position.weight[position] + part.token_type.weight[0]
        return F.layer_norm(row, row.shape, part.norm.weight, part.norm.bias, 1e-12)

    tokens = []
    for kind, text in enumerate(texts):
        for place, token in enumerate(text):
            row = encoder.word.weight[token]
            if kind:
                row = row + encoder.text_kind.weight[kind - 1]
            tokens.append(normed(row, place + bool(kind), block))
    seen = []
    for some, linear, part in (
        (frames, encoder.frame_projection, encoder.frame_embedding),
        (audio, encoder.audio_projection, encoder.audio_embedding),
    ):
        for place, frame in enumerate(some):
            seen.append(normed(linear.weight @ frame + linear.bias, place, part))
    head = 1 if encoder.config.order == "cls_first" else 0
    return torch.stack([*tokens[:head], *seen, *tokens[head:]])


@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("order", ORDERS)
def test_vectors_are_those_of_bert_over_the_sequence_padded(order, pool):
    encoder = tiny_encoder(order=order, pool=pool, max_positions=32, **READ)
    bert = bert_like_with_more(encoder)
    videos = made_parts(order=order)
    with torch.no_grad():
        parts = [embedded_plainly(encoder, video) for video in videos]
        hidden = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        ones = [torch.ones(len(part)) for part in parts]
        mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True)
        expected = run_bert(encoder, bert, hidden, mask, counted=mask)
        found = encoder(batch_of(videos)).vectors
    assert torch.allclose(found, expected, atol=1e-5)


def bert_like_with_more(encoder: VideoEncoder) -> torch.nn.Module:
    """As ``bert_like``; the parts that BERT has nothing of are put aside meanwhile."""
    names = ("audio_projection", "audio_embedding", "text_kind")
    aside = {name: getattr(encoder, name) for name in names}
    for name in names:
        setattr(encoder, name, None)
    bert = bert_like(encoder)
    for name, module in aside.items():
        setattr(encoder, name, module)
    return bert


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("order", ORDERS)
def test_a_video_has_one_vector_whatever_it_is_batched_with(order, trunk):
    encoder = tiny_encoder(order=order, trunk=trunk, local_attention_window=6, **READ)
    videos = made_parts(order=order)
    with torch.no_grad():
        together = encoder(batch_of(videos))
        alone = [encoder(batch_of([video])) for video in videos]
        turned = encoder(batch_of(videos[::-1])).vectors.flip(0)
    vectors = torch.cat([one.vectors for one in alone])
    assert torch.allclose(together.vectors, vectors, atol=1e-5)
    assert torch.allclose(together.vectors, turned, atol=1e-5)
    assert torch.allclose(together.audio, torch.cat([one.audio for one in alone]), atol=1e-5)
    assert torch.allclose(together.tokens, torch.cat([one.tokens for one in alone]), atol=1e-5)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_everything_that_is_read_counts(trunk):
    encoder = tiny_encoder(trunk=trunk, **READ)
    video = made_parts([(2, 2, 2, 2, 2)])[0]
    changed = []
    for place in range(5):
        other = list(video)
        other[place] = video[place] * 2 if place < 2 else [*video[place][:-2], 5, SEP]
        changed.append(tuple(other))
    # The same words as another text.
    changed.append((*video[:3], video[4], video[3]))
    with torch.no_grad():
        first = encoder(batch_of([video])).cls
        for other in changed:
            assert (encoder(batch_of([other])).cls - first).abs().max() > 1e-4


def test_masked_audio_is_read_instead_of_the_batch():
    encoder = tiny_encoder(**READ)
    batch = batch_of(made_parts())
    masked = batch.audio * 0
    with torch.no_grad():
        ours = encoder(batch, audio=masked).vectors
        assert torch.equal(ours, encoder(replace(batch, audio=masked)).vectors)
        assert (ours - encoder(batch).vectors).abs().max() > 1e-5


def test_a_model_that_reads_no_audio_says_so():
    with pytest.raises(ValueError, match="max_audio is 0"):
        tiny_encoder()(batch_of(made_parts()))


# --- models that read no more than frames and title ---------------------------------------------


def test_weights_of_frames_and_title_have_the_same_names_and_start():
    plain, more = VideoEncoder(tiny_config(), PAD), VideoEncoder(tiny_config(**READ), PAD)
    names = {name for name, _ in plain.named_parameters()}
    extra = {name for name, _ in more.named_parameters()} - names
    assert {name.split(".")[0] for name in extra} == {
        "audio_projection",
        "audio_embedding",
        "text_kind",
    }
    assert not any(part in name for name in names for part in ("audio", "kind"))
    assert not more.text_kind.weight.any()
    heads = dict(PretrainingHeads(tiny_config()).named_parameters())
    assert not [name for name in heads if name.startswith("mam")]
    # Room for audio, and a corpus without any.
    assert VideoEncoder(tiny_config(max_audio=5), PAD).audio_projection is None


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("order", ORDERS)
def test_weights_of_frames_and_title_give_the_same_vectors_where_there_is_no_more(order, trunk):
    small = tiny_model(order=order, trunk=trunk)
    large = tiny_model(order=order, trunk=trunk, **READ)
    large.encoder.text_kind.weight.data.zero_()
    put_weights(large, dict(small.named_parameters()), "test", partial=True)
    bare = made_batch([(3, 2), (0, 4), (5, 0), (0, 0)], order=order)
    none = torch.zeros(4, dtype=torch.int64)
    texts = {"speech_counts": none, "screen_counts": none}
    more = replace(bare, audio=torch.zeros(0, AUDIO_SIZE), audio_counts=none, **texts)
    with torch.no_grad():
        expected = small.encoder(bare).vectors
        assert torch.equal(large.encoder(more).vectors, expected)
        assert torch.equal(large.encoder(bare).vectors, expected)


def test_a_checkpoint_keeps_what_reads_audio(tmp_path):
    model = tiny_model(**READ)
    model.audio_encoder = {"name": "made sound", "frame_size": AUDIO_SIZE}
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model")
    assert loaded.audio_encoder == model.audio_encoder
    assert loaded.recipe == model.recipe
    batch = batch_of(made_parts())
    with torch.no_grad():
        assert torch.equal(loaded.encoder(batch).vectors, model.encoder(batch).vectors)
    assert torch.equal(loaded.heads.mam.decoder.weight, model.heads.mam.decoder.weight)


def test_a_checkpoint_from_before_audio_loads(tmp_path):
    model = tiny_model()
    folder = tmp_path / "model"
    save_model(folder, model)
    config = storage.read_json(folder / "config.json")
    del config["audio_encoder"]
    storage.write_json(folder / "config.json", config)
    later = ("audio_size", "max_audio", "max_speech_tokens", "max_screen_tokens", "mam_")
    lines = (folder / "recipe.toml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(later)]
    assert len(kept) == len(lines) - 6
    (folder / "recipe.toml").write_text("".join(kept))
    loaded = load_model(folder)
    assert loaded.audio_encoder == {"name": "none", "frame_size": 0}
    assert loaded.recipe.hash == model.recipe.hash
    batch = made_batch([(3, 2), (0, 4)])
    with torch.no_grad():
        assert torch.equal(loaded.encoder(batch).vectors, model.encoder(batch).vectors)


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["max_audio", "max_speech_tokens", "max_screen_tokens"])
def test_padding_is_counted_of_frames_and_title_alone(key):
    with pytest.raises(ValueError, match=r"count_padding fills up frames and title.*set max_audio"):
        tiny_config(count_padding=True, **{key: 4})


@pytest.mark.parametrize(
    ("key", "fits", "beyond"),
    [("max_audio", 16, 17), ("max_speech_tokens", 15, 16), ("max_screen_tokens", 15, 16)],
)
def test_every_limit_fits_into_the_positions(key, fits, beyond):
    encoder = tiny_encoder(**{**READ, key: fits})
    videos = made_parts([(1, 16, 1, 14, 14)])
    if key == "max_audio":
        assert len(encoder(batch_of(videos)).audio) == 16
    else:
        assert torch.isfinite(encoder(batch_of(videos)).vectors).all()
    with pytest.raises(ValueError, match=f"{key} {beyond} is more than max_positions 16"):
        tiny_config(**{key: beyond})


def test_all_that_is_there_is_read_with_everything():
    plain, more = load_recipe("vidvec/few"), load_recipe("vidvec/few-everything")
    assert plain.model.modalities == ("frames", "title")
    read = more.model.model_copy(update={"audio_size": 10})
    assert read.modalities == ("frames", "audio", "title", "speech", "screen")
    assert more.model.modalities == ("frames", "title", "speech", "screen")
    assert more.model.size == plain.model.size == "tiny"
    assert more.pretrain.learning_rate == plain.pretrain.learning_rate
    assert load_recipe("vidvec/everything").pretrain.mam_weight > 0


def test_work_and_weights_of_audio_are_counted():
    # One block of h² · 4 + 2 · h · ffn + 2 · n · h a position, as the docstring says.
    config = tiny_config(**READ)
    plain = tiny_config()
    assert encoder_flops(config, 3, 4, 0) == encoder_flops(plain, 3, 4)
    more = encoder_flops(config, 3, 4, 2) - encoder_flops(config, 5, 4)
    assert more == 2 * 2 * (AUDIO_SIZE - config.frame_size) * config.hidden_size
    weights = sum(p.numel() for p in VideoEncoder(config, PAD).parameters())
    weights -= sum(p.numel() for p in VideoEncoder(plain, PAD).parameters())
    heads = sum(p.numel() for p in PretrainingHeads(config).mam.parameters())
    assert parameters(config) - parameters(plain) == pytest.approx(weights + heads, rel=0.25)


def test_audio_of_another_encoder_is_refused(tmp_path):
    from tests.corpora import AUDIO_WIDTH, made_videos, with_more, write_corpus

    corpus = write_corpus(tmp_path / "corpus", with_more(made_videos(12)))
    bare = write_corpus(tmp_path / "bare", made_videos(12))
    width = corpus.frame_size
    model = tiny_model(frame_size=width, **{**READ, "audio_size": AUDIO_WIDTH})
    model.audio_encoder = {"name": "made sound", "frame_size": AUDIO_WIDTH}
    assert model.check_frames(corpus, tmp_path) is corpus
    assert model.check_frames(bare, tmp_path) is bare
    model.audio_encoder = {"name": "another", "frame_size": AUDIO_WIDTH}
    with pytest.raises(UsageError, match=r"reads audio of another.*holds audio of made sound"):
        model.check_frames(corpus, tmp_path)
    assert model.check_frames(corpus, tmp_path, ["audio"]) is corpus
    assert model.check_frames(bare, tmp_path) is bare
    deaf = tiny_model(frame_size=width)
    assert deaf.check_frames(corpus, tmp_path) is corpus


def test_gradients_reach_all_that_is_new():
    encoder = tiny_encoder(**READ)
    randomise(encoder)
    batch = batch_of(made_parts(COUNTS))
    direction = torch.randn(len(COUNTS), 8, generator=torch.Generator().manual_seed(1))
    (encoder(batch).vectors * direction).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
    assert encoder.audio_projection.weight.grad.abs().sum() > 0
    assert (encoder.text_kind.weight.grad.abs().sum(1) > 0).all()
