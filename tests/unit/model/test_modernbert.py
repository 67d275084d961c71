"""Starting from ModernBERT checkpoints: configs old and new, weights, language heads, training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertModel,
)

from tests.corpora import WORDS, made_pairs, made_videos, write_corpus
from tests.tiny import PAD, ROOMY, made_batch, randomise, taken_apart, tiny_model, tiny_recipe
from vidvec.errors import FormatError, UsageError
from vidvec.model.bert import bert_shape, bert_tensors, start_from_bert
from vidvec.model.importing import find_bert
from vidvec.model.weights import VideoModel, load_model
from vidvec.train.finetune import finetune
from vidvec.train.pretrain import pretrain

SMALL: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "local_attention": 8,
    "pad_token_id": PAD,
}
# As published, in the form of the time.
MODERNBERT_BASE: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
    "max_position_embeddings": 8192,
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "norm_eps": 1e-5,
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "embedding_dropout": 0.0,
    "mlp_dropout": 0.0,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
    "vocab_size": 50368,
}


def small_modern(kind: type = ModernBertForMaskedLM, **changes: Any) -> Any:
    theirs = kind(ModernBertConfig(**SMALL | {"global_attn_every_n_layers": 2} | changes)).eval()
    randomise(theirs, 5)
    return theirs


def model_like(folder: Path, vocab_size: int = 30, **changes: Any) -> VideoModel:
    """A model of a checkpoint's shape, with random weights of its own."""
    room = {"max_frames": ROOMY["max_frames"], "max_tokens": ROOMY["max_tokens"]}
    shape = {**bert_shape(folder), **room, "vocab_size": vocab_size, "order": "frames_first"}
    return tiny_model(seed=9, **shape | changes)


def write_config(folder: Path, **values: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(MODERNBERT_BASE | values))
    return folder


def assert_same_titles(model: VideoModel, theirs: ModernBertModel) -> None:
    batch = made_batch([(0, 30), (0, 1), (0, 12)], order="frames_first")
    with torch.no_grad():
        hidden = model.encoder(batch).tokens.split(batch.token_counts.tolist())
        for (_, ids), ours in zip(taken_apart(batch), hidden, strict=True):
            expected = theirs(input_ids=ids[None]).last_hidden_state[0]
            assert torch.allclose(ours, expected, atol=1e-4)


def assert_same_words(model: VideoModel, theirs: ModernBertForMaskedLM) -> None:
    batch = made_batch([(0, 30), (0, 12)], order="frames_first")
    with torch.no_grad():
        logits = model.heads.mlm(model.encoder(batch).tokens)
        expected = [theirs(input_ids=ids[None]).logits[0] for _, ids in taken_apart(batch)]
        assert torch.allclose(logits, torch.cat(expected), atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as published"),
        pytest.param({"tie_word_embeddings": False}, id="untied"),
        pytest.param({"classifier_bias": True}, id="bias in the head"),
        pytest.param({"decoder_bias": False}, id="no bias in the decoder"),
        pytest.param({"global_rope_theta": 90.0, "local_rope_theta": 30.0}, id="other thetas"),
        pytest.param({"global_attn_every_n_layers": 3, "local_attention": 5}, id="other layers"),
    ],
)
def test_words_are_predicted_as_by_the_checkpoint(tmp_path, changes):
    theirs = small_modern(**changes)
    theirs.save_pretrained(tmp_path)
    model = model_like(tmp_path)
    taken = start_from_bert(model, tmp_path)
    assert_same_titles(model, theirs.model)
    assert_same_words(model, theirs)
    trunk = ("encoder.word", "encoder.token_embedding", "encoder.blocks", "encoder.final_norm")
    names = {name for name, _ in model.named_parameters()}
    assert set(taken) == {n for n in names if n.startswith((*trunk, "heads.mlm."))}
    before = dict(model_like(tmp_path).named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in taken), name


@pytest.mark.parametrize(
    ("kind", "trunk"),
    [(ModernBertModel, lambda m: m), (ModernBertForSequenceClassification, lambda m: m.model)],
)
def test_a_checkpoint_without_a_language_head_leaves_ours(tmp_path, kind, trunk):
    """That which classifies has a head of its own under the same name."""
    theirs = small_modern(kind)
    theirs.save_pretrained(tmp_path)
    model = model_like(tmp_path)
    assert not any(name.startswith("heads.") for name in start_from_bert(model, tmp_path))
    assert_same_titles(model, trunk(theirs))


def test_vocabularies_of_another_length(tmp_path):
    theirs = small_modern()
    theirs.save_pretrained(tmp_path)
    model = model_like(tmp_path, 33)
    start_from_bert(model, tmp_path)
    assert torch.equal(
        model.encoder.word.weight[:30], theirs.model.embeddings.tok_embeddings.weight
    )
    assert_same_titles(model, theirs.model)


def test_weights_in_shards(tmp_path):
    theirs = small_modern()
    theirs.save_pretrained(tmp_path, max_shard_size="5KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    # A file that the index does not name is another's.
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not read")
    model = model_like(tmp_path)
    start_from_bert(model, tmp_path)
    assert_same_words(model, theirs)
    shards[1].unlink()
    with pytest.raises(FormatError, match=rf"index\.json names {shards[1].name}"):
        bert_tensors(tmp_path)


def test_a_missing_layer_is_named(tmp_path):
    small_modern(num_hidden_layers=3).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values |= {"num_hidden_layers": 4, "layer_types": None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"lacks weights of its trunk: encoder\.blocks\.3"):
        start_from_bert(model_like(tmp_path), tmp_path)


def test_modernbert_base_as_published(tmp_path):
    assert bert_shape(write_config(tmp_path)) == {
        "trunk": "modern",
        "hidden_size": 768,
        "layers": 22,
        "heads": 12,
        "ffn_size": 1152,
        "max_positions": 8192,
        "global_attention_every": 3,
        "local_attention_window": 128,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "layer_norm_eps": 1e-5,
        "dropout": 0.0,
    }


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="base"),
        pytest.param({"local_rope_theta": 160000, "vocab_size": 256000}, id="mmbert"),
        pytest.param({"global_attn_every_n_layers": 1}, id="all global"),
        pytest.param({"global_attn_every_n_layers": 5, "num_hidden_layers": 7}, id="every fifth"),
        pytest.param(
            {"global_attn_every_n_layers": 9, "num_hidden_layers": 4}, id="only the first"
        ),
        pytest.param({"global_rope_theta": 9.0, "local_rope_theta": 8.0}, id="thetas"),
        pytest.param({"local_attention": 65}, id="odd window"),
        pytest.param({"attention_dropout": 0.1, "mlp_dropout": 0}, id="dropout"),
    ],
)
def test_old_and_new_configs_say_the_same(tmp_path, values):
    """The new form is what transformers makes of the old one."""
    read = bert_shape(write_config(tmp_path, **values))
    theirs = ModernBertConfig(**MODERNBERT_BASE | values)
    kinds = [
        "sliding_attention" if layer % read["global_attention_every"] else "full_attention"
        for layer in range(read["layers"])
    ]
    assert kinds == theirs.layer_types
    assert read["local_attention_window"] // 2 == theirs.sliding_window
    assert read["global_rope_theta"] == theirs.rope_parameters["full_attention"]["rope_theta"]
    assert read["local_rope_theta"] == theirs.rope_parameters["sliding_attention"]["rope_theta"]
    new = theirs.to_dict()
    assert new["layer_types"]
    assert "global_rope_theta" not in new
    new.pop("global_attn_every_n_layers")
    (tmp_path / "config.json").write_text(json.dumps(new))
    again = bert_shape(tmp_path)
    if values.get("global_attn_every_n_layers") == 9:  # of four layers, which are the first four
        assert again.pop("global_attention_every") == 4
        read.pop("global_attention_every")
    assert again == read
    assert all(isinstance(read[name], float) for name in ("local_rope_theta", "dropout"))


def test_silent_and_null_values(tmp_path):
    silent = {k: v for k, v in MODERNBERT_BASE.items() if k.startswith(("model", "hidden_size"))}
    silent |= {k: v for k, v in MODERNBERT_BASE.items() if k.startswith(("num", "inter", "max"))}
    (tmp_path / "config.json").write_text(json.dumps(silent))
    assert bert_shape(tmp_path) == bert_shape(write_config(tmp_path))
    shape = bert_shape(write_config(tmp_path, local_rope_theta=None, global_rope_theta=70.0))
    assert (shape["global_rope_theta"], shape["local_rope_theta"]) == (70.0, 70.0)


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"norm_bias": True}, UsageError, "norm_bias set; .* has no biases"),
        ({"attention_bias": True, "mlp_bias": True}, UsageError, "attention_bias, mlp_bias set"),
        ({"hidden_activation": "silu"}, UsageError, "hidden_activation 'silu'"),
        ({"classifier_activation": "relu"}, UsageError, "classifier_activation 'relu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, UsageError, "of type 'linear'"),
        ({"rope_parameters": {"sliding_attention": YARN}}, UsageError, "of type 'yarn'"),
        ({"rope_parameters": {"rope_theta": 5.0}}, FormatError, "rope_parameters of rope_theta"),
        ({"layer_types": ["sliding_attention"] * 22}, UsageError, "first of its 22 layers"),
        ({"layer_types": ["full_attention"] * 3}, UsageError, "first of its 22 layers"),
        ({"global_attn_every_n_layers": 0}, FormatError, "global_attention_every .*greater than 0"),
        ({"global_rope_theta": "much"}, FormatError, "global_rope_theta .*valid number"),
        ({"hidden_size": 36}, FormatError, "36 over heads 12 is an odd number"),
        ({"model_type": "modernbert-decoder"}, UsageError, "'bert' and 'modernbert'"),
    ],
)
def test_configs_that_are_refused(tmp_path, values, error, said):
    with pytest.raises(error, match=said) as caught:
        bert_shape(write_config(tmp_path, **values))
    assert str(tmp_path) in str(caught.value)


def test_published_checkpoints_are_no_modernberts(tmp_path):
    """A ModernBERT beside one, of its width, does not shape it."""
    for name in ("a-modern", "b-bert", "job"):
        (tmp_path / name).mkdir()
    write_config(tmp_path / "a-modern")
    with pytest.raises(FormatError, match=r"no config\.json of a BERT"):
        find_bert(tmp_path / "job", 768)
    BertConfig().save_pretrained(tmp_path / "b-bert")
    assert find_bert(tmp_path / "job", 768) == tmp_path / "b-bert"


def write_checkpoint(folder: Path) -> None:
    """A checkpoint with a tokenizer whose special tokens are named as mmBERT's are."""
    words = sorted({word for line in WORDS.values() for word in line.split()})
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *words]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a name
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(names[:5])
    small_modern(vocab_size=len(names)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_training_from_a_checkpoint(tmp_path):
    write_checkpoint(tmp_path / "checkpoint")
    videos = made_videos(80)
    corpus = write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 120))
    recipe = tiny_recipe(
        model={"init": str(tmp_path / "checkpoint"), "hidden_size": 32, "dropout": 0.5},
        pretrain={"epochs": 6},
        finetune={"epochs": 1},
    )
    pretrain(corpus.path, tmp_path / "run", recipe)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    scores = [line for line in map(json.loads, lines) if line["kind"] == "validation"]
    for name in ("loss", "tag", "mlm", "mfm"):
        assert scores[-1][name] < scores[0][name], name
    model = load_model(tmp_path / "run")
    shape = model.recipe.model
    assert (shape.trunk, shape.layers, shape.hidden_size, shape.dropout) == ("modern", 4, 16, 0.0)
    assert (shape.global_attention_every, shape.local_attention_window) == (2, 8)
    assert model.tokenizer.special_ids == {"pad": 0, "unk": 3, "cls": 2, "sep": 1, "mask": 4}
    finetune(corpus.path, tmp_path / "tuned", recipe, tmp_path / "run")
    assert load_model(tmp_path / "tuned").recipe.model == shape
