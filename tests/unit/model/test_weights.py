"""Checkpoints on disk: round trips, damage, unsafe files, published ones, Hugging Face BERTs."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertModel

from tests.tiny import ROOMY, made_batch, randomise, taken_apart, tiny_model
from vidvec.errors import FormatError, UsageError
from vidvec.model.bert import bert_shape, bert_tensors, start_from_bert
from vidvec.model.published import our_name, translate
from vidvec.model.weights import VideoModel, load_model, read_tensors, save_model

COUNTS = [(3, 2), (0, 4), (5, 0)]
WORD = "encoder.word.weight"


@pytest.fixture
def saved(tmp_path) -> Path:
    save_model(tmp_path / "saved", tiny_model(pool="attention"))
    return tmp_path / "saved"


def rewrite(folder: Path, change) -> None:
    """Changes a checkpoint's tensors on disk."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_a_loaded_model_is_the_saved_one(tmp_path):
    model = tiny_model(pool="attention")
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    batch = made_batch(COUNTS)
    with torch.no_grad():
        first, second = model.encoder(batch), loaded.encoder(batch)
        assert torch.equal(first.vectors, second.vectors)
        ours, theirs = model.heads.tag_logits(first), loaded.heads.tag_logits(second)
        assert torch.equal(ours, theirs)
    assert loaded.recipe == model.recipe
    assert loaded.tag_vocabulary == model.tag_vocabulary
    assert loaded.frame_encoder == model.frame_encoder
    assert loaded.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert not loaded.encoder.training
    assert not loaded.heads.training


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    save_model(tmp_path / "again", load_model(saved))
    for name in ("model.safetensors", "config.json", "recipe.toml", "tokenizer/tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_a_model_without_heads(tmp_path):
    model = tiny_model()
    model.heads = None
    save_model(tmp_path, model)
    assert load_model(tmp_path).heads is None
    assert all(name.startswith("encoder.") for name in load_file(tmp_path / "model.safetensors"))


def test_a_missing_tensor_is_named(saved):
    rewrite(saved, lambda tensors: tensors.pop("encoder.blocks.1.up.bias"))
    with pytest.raises(FormatError, match=r"missing encoder\.blocks\.1\.up\.bias"):
        load_model(saved)


def test_an_unknown_tensor_is_named(saved):
    rewrite(saved, lambda tensors: tensors.update({"encoder.extra": torch.zeros(1)}))
    with pytest.raises(FormatError, match=r"unknown encoder\.extra"):
        load_model(saved)


def test_a_tensor_of_another_shape_is_named(saved):
    rewrite(saved, lambda tensors: tensors.update({WORD: tensors[WORD][:-1].clone()}))
    with pytest.raises(FormatError, match=r"encoder\.word\.weight is .*, expected"):
        load_model(saved)


def test_a_tensor_that_would_broadcast_is_refused(saved):
    def narrow(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.projection.bias"] = torch.ones(1)

    rewrite(saved, narrow)
    with pytest.raises(FormatError, match=r"encoder\.projection\.bias"):
        load_model(saved)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(saved, keep):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load_model(saved)


def test_no_checkpoint(tmp_path, saved):
    with pytest.raises(FormatError, match="neither"):
        load_model(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"last": None, "best": None}))
    with pytest.raises(FormatError, match="no checkpoint yet"):
        load_model(tmp_path)
    (saved / "config.json").unlink()
    with pytest.raises(FormatError, match=r"config\.json is missing"):
        load_model(saved)


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.system, (f"mkdir {self.folder}",)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path):
    trap = tmp_path / "sprung"
    plain, zipped = tmp_path / "plain.pth", tmp_path / "zipped.pth"
    plain.write_bytes(pickle.dumps({"weight": Trap(trap)}, protocol=2))
    torch.save({"weight": Trap(trap)}, zipped)
    for file in (plain, zipped):
        with pytest.raises(FormatError, match="not a plain state dict"):
            read_tensors(file)
    assert not trap.exists()
    pickle.loads(plain.read_bytes())  # noqa: S301 - shows that the trap works
    assert trap.exists()


def test_a_state_dict_of_anything_but_tensors_is_refused(tmp_path):
    file = tmp_path / "model.pth"
    for state in ({"epoch": 3}, [torch.zeros(2)], {"model": {"weight": torch.zeros(2)}}):
        torch.save(state, file)
        with pytest.raises(FormatError, match="not a plain state dict"):
            read_tensors(file)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match="not a plain state dict"):
        read_tensors(file)
    with pytest.raises(FormatError, match="missing"):
        read_tensors(tmp_path / "none.pth")


@pytest.mark.shared
@pytest.mark.parametrize("job", [1, 2, 4])
def test_published_checkpoints_are_read(shared, job):
    folder = shared / "reference" / f"job{job}"
    state = read_tensors(folder / "model_finetune_1.pth")
    ours, unknown = translate(state)
    expected, _ = translate(load_file(folder / "weights.safetensors"))
    assert unknown == []
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)
    # Nothing is lost: query, key and value become one, the rest is one to one.
    joined = sum(".query." in name or ".key." in name for name in state)
    silent = [name for name in state if our_name(name) is None]
    assert len(ours) == len(state) - joined - len(silent)
    known = ("position_ids", "video_embeddings.word_embeddings.weight", "predictions.decoder.bias")
    assert all(name.endswith(known) for name in silent), silent


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("roberta.bert.embeddings.word_embeddings.weight", WORD),
        ("bert.embeddings.LayerNorm.gamma", "encoder.token_embedding.norm.weight"),
        ("embeddings.LayerNorm.beta", "encoder.token_embedding.norm.bias"),
        ("bert.encoder.layer.11.attention.self.key.bias", "encoder.blocks.11.key.bias"),
        ("encoder.layer.3.output.dense.weight", "encoder.blocks.3.down.weight"),
        ("encoder.layer.3.intermediate.dense.weight", "encoder.blocks.3.up.weight"),
        ("cls.predictions.bias", "heads.mlm.decoder.bias"),
        ("roberta_mvm_lm_header.predictions.decoder.weight", "heads.mfm.decoder.weight"),
        ("newfc_tag.bias", "heads.tag.bias"),
        ("newemb_att.2.weight", "encoder.pool.score.weight"),
        ("bert.embeddings.position_ids", None),
        ("roberta.bert.video_embeddings.position_ids", None),
        ("bert.pooler.dense.weight", None),
        ("something.else", None),
    ],
)
def test_names(name, ours):
    assert our_name(name) == ours


def test_what_carries_nothing_is_passed_over_and_the_unknown_is_told():
    tensors = {
        "bert.embeddings.position_ids": torch.arange(4),
        "roberta.bert.video_embeddings.position_ids": torch.arange(4),
        "bert.pooler.dense.weight": torch.zeros(2, 2),
        "cls.seq_relationship.bias": torch.zeros(2),
        "cls.predictions.bias": torch.ones(3),
        "something.else": torch.zeros(1),
    }
    ours, unknown = translate(tensors)
    assert list(ours) == ["heads.mlm.decoder.bias"]
    assert unknown == ["something.else"]


def small_bert(vocab_size: int, **changes) -> BertForMaskedLM:
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
    }
    bert = BertForMaskedLM(BertConfig(vocab_size=vocab_size, **{**shape, **changes})).eval()
    randomise(bert, 5)
    return bert


def model_like(folder: Path, vocab_size: int, **changes) -> VideoModel:
    """A model of a BERT's shape, with random weights of its own."""
    shape = bert_shape(folder)
    room = {"max_frames": ROOMY["max_frames"], "max_tokens": ROOMY["max_tokens"]}
    return tiny_model(seed=9, **{**shape, **room, "vocab_size": vocab_size, **changes})


def assert_title_states_are(model: VideoModel, bert: BertModel) -> None:
    batch = made_batch([(0, 4), (0, 1)])
    with torch.no_grad():
        hidden = model.encoder(batch).tokens.split(batch.token_counts.tolist())
        for (_, ids), ours in zip(taken_apart(batch), hidden, strict=True):
            theirs = bert(input_ids=ids[None]).last_hidden_state[0]
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_starting_from_a_saved_masked_language_model(tmp_path):
    bert = small_bert(30)
    bert.save_pretrained(tmp_path)
    model = model_like(tmp_path, 30)
    taken = start_from_bert(model, tmp_path)
    assert_title_states_are(model, bert.bert)
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        # The decoder's bias is one of the parameters that two modules of BERT share.
        assert torch.allclose(model.heads.mlm(hidden), bert.cls(hidden), atol=1e-5)
    untouched = tiny_model(seed=9, **model.recipe.model.model_dump(exclude={"size"}))
    before = dict(untouched.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in taken), name


def test_starting_from_a_bare_bert_leaves_the_language_head(tmp_path):
    bert = small_bert(30).bert
    bert.save_pretrained(tmp_path)
    model = model_like(tmp_path, 30)
    head = model.heads.mlm.decoder.weight.clone()
    assert not any(name.startswith("heads.") for name in start_from_bert(model, tmp_path))
    assert_title_states_are(model, bert)
    assert torch.equal(model.heads.mlm.decoder.weight, head)


@pytest.mark.parametrize("ours", [22, 30, 37])
def test_vocabularies_of_another_length(tmp_path, ours):
    bert = small_bert(30)
    bert.save_pretrained(tmp_path)
    model = model_like(tmp_path, ours)
    before = model.encoder.word.weight.clone()
    start_from_bert(model, tmp_path)
    both = min(30, ours)
    words = bert.bert.embeddings.word_embeddings.weight
    assert torch.equal(model.encoder.word.weight[:both], words[:both])
    assert torch.equal(model.encoder.word.weight[both:], before[both:])
    assert torch.equal(model.heads.mlm.decoder.weight[:both], words[:both])
    assert_title_states_are(model, bert.bert)


def test_an_old_pickled_bert(tmp_path):
    bert = small_bert(30)
    bert.config.save_pretrained(tmp_path)
    old = {"bert.embeddings.position_ids": torch.arange(40)[None]}
    for name, tensor in bert.bert.state_dict().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")  # noqa: PLW2901
        old["bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    torch.save(old, tmp_path / "pytorch_model.bin")
    model = model_like(tmp_path, 30)
    start_from_bert(model, tmp_path)
    assert_title_states_are(model, bert.bert)


@pytest.mark.shared
def test_starting_from_a_real_bert_folder(shared):
    folder = shared / "reference" / "bert_tiny"
    model = model_like(folder, 400)
    start_from_bert(model, folder)
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    assert_title_states_are(model, bert)


def test_a_bert_that_lacks_a_layer_is_refused(tmp_path):
    bert = small_bert(30)
    bert.save_pretrained(tmp_path)
    model = model_like(tmp_path, 30)
    rewrite(
        tmp_path,
        lambda tensors: [
            tensors.pop(name) for name in list(tensors) if "layer.1.output.dense" in name
        ],
    )
    with pytest.raises(FormatError, match=r"blocks\.1\.down"):
        start_from_bert(model, tmp_path)


def test_a_bert_of_another_shape_is_refused(tmp_path):
    small_bert(30, intermediate_size=20).save_pretrained(tmp_path)
    model = model_like(tmp_path, 30, ffn_size=24)
    with pytest.raises(FormatError, match=r"blocks\.0\.up\.weight is \(20, 16\)"):
        start_from_bert(model, tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "roberta"}, "'roberta'"),
        ({"model_type": None}, "vidvec starts from 'bert'"),
        ({"hidden_act": "relu"}, "relu"),
        ({"hidden_act": "gelu_new"}, "gelu_new"),
    ],
)
def test_models_that_are_not_such_a_bert(tmp_path, changes, said):
    config = {**BertConfig().to_dict(), **changes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=said):
        bert_shape(tmp_path)


def test_a_config_without_a_size_is_named(tmp_path):
    config = BertConfig().to_dict()
    del config["num_hidden_layers"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="num_hidden_layers"):
        bert_shape(tmp_path)


def test_old_configs_leave_out_what_never_differed(tmp_path):
    config = BertConfig(num_hidden_layers=3, hidden_dropout_prob=0.0).to_dict()
    del config["layer_norm_eps"], config["hidden_act"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = bert_shape(tmp_path)
    assert (shape["layers"], shape["layer_norm_eps"], shape["dropout"]) == (3, 1e-12, 0.0)


def test_a_folder_without_weights(tmp_path):
    small_bert(30).config.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match="holds no weights"):
        bert_tensors(tmp_path)
