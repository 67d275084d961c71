"""Starting from a Hugging Face BERT or ModernBERT: its shape and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from vidvec import storage
from vidvec.config import ModelConfig
from vidvec.errors import FormatError, UsageError
from vidvec.model.modernbert import modernbert_settings
from vidvec.model.published import translate
from vidvec.model.weights import VideoModel, put_weights, read_tensors

# Parameters with a row for each word of the vocabulary.
_WORD_TABLES = ("encoder.word.weight", "heads.mlm.decoder.weight", "heads.mlm.decoder.bias")
# Parameters that every BERT has: without one of them the trunk would silently stay random.
_TRUNK = ("encoder.word.", "encoder.token_embedding.", "encoder.blocks.", "encoder.final_norm.")
_SIZES = {
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
}


def bert_shape(folder: Path) -> dict[str, Any]:
    """The ``ModelConfig`` values that a Hugging Face BERT's or ModernBERT's ``config.json`` fixes.

    Raises:
        UsageError: The model is of another kind, or has what vidvec's trunks have not.
        FormatError: The file does not give a size, or gives one that cannot be.
    """
    file = folder / "config.json"
    config = storage.read_json(file)
    kind = config.get("model_type")
    known = {"bert": _bert_settings, "modernbert": modernbert_settings}
    if kind not in known:
        raise UsageError(
            f"{folder} holds a {kind!r} model; vidvec starts from 'bert' and 'modernbert' models"
        )
    missing = [theirs for theirs in _SIZES.values() if theirs not in config]
    if missing:
        raise FormatError(f"{file} does not say {', '.join(missing)}")
    shape = {ours: config[theirs] for ours, theirs in _SIZES.items()} | known[kind](config, file)
    try:
        valid = ModelConfig(**shape, max_frames=1, max_tokens=4)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, p['loc']))} {p['msg']}".strip() for p in error.errors())
        raise FormatError(f"{file} does not shape a model: {'; '.join(wrong)}") from None
    return {name: getattr(valid, name) for name in shape}


def _bert_settings(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The ``ModelConfig`` values, beyond the sizes, that a BERT's config fixes."""
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise UsageError(f"{file} has hidden_act {activation!r}; vidvec knows 'gelu'")
    return {
        "trunk": "bert",
        "type_vocab_size": config.get("type_vocab_size", 2),
        "layer_norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.1),
    }


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights: one, or the shards that an index names."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            named = storage.read_json(index).get("weight_map", {}).values()
            shards = sorted({folder / Path(shard).name for shard in named})
            missing = [shard.name for shard in shards if not shard.is_file()]
            if missing:
                raise FormatError(f"{index} names {', '.join(missing[:5])}: not in that folder")
            return shards
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise FormatError(f"{folder} holds no weights: expected model.safetensors")
    return files


def bert_tensors(folder: Path) -> dict[str, Tensor]:
    """The trunk and, where there, the language head of a BERT or ModernBERT, by vidvec's names."""
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        tensors |= read_tensors(file)
    ours, unknown = translate(tensors)
    if any(name.startswith("classifier.") for name in unknown):
        # A ModernBERT that classifies has its own head under the language head's name.
        ours = {name: value for name, value in ours.items() if not name.startswith("heads.")}
    if "heads.mlm.inner.weight" in ours and "encoder.word.weight" in ours:
        # Saved with the decoder tied to the word embeddings; here it is a matrix of its own.
        ours.setdefault("heads.mlm.decoder.weight", ours["encoder.word.weight"].clone())
        for part in ("inner", "norm", "decoder"):
            rows = len(ours[f"heads.mlm.{part}.weight"])
            ours.setdefault(f"heads.mlm.{part}.bias", torch.zeros(rows))
    return ours


def start_from_bert(model: VideoModel, folder: Path) -> list[str]:
    """Puts a Hugging Face checkpoint's weights into the trunk and, where there, the language head.

    The model is of the checkpoint's shape, as ``bert_shape`` gives it. Frames, pool and the other
    heads keep their own weights.

    Word tables of another length are cut or left to their initialisation at the end.

    Returns:
        Names of the parameters that were taken.

    Raises:
        FormatError: A shape differs, or a weight of the trunk is missing.
    """
    parameters = dict(model.named_parameters())
    taken: dict[str, Tensor] = {}
    for name, tensor in bert_tensors(folder).items():
        if name in _WORD_TABLES and name in parameters:
            table = parameters[name].detach().clone()
            rows = min(len(table), len(tensor))
            table[:rows] = tensor[:rows]
            taken[name] = table
        elif name in parameters:
            taken[name] = tensor
    missing = sorted(n for n in parameters.keys() - taken.keys() if n.startswith(_TRUNK))
    if missing:
        raise FormatError(f"{folder} lacks weights of its trunk: {', '.join(missing[:5])}")
    put_weights(model, taken, str(folder), partial=True)
    return sorted(taken)
