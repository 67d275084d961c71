"""Starting from a Hugging Face BERT: its shape and its weights, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from vidvec import storage
from vidvec.errors import FormatError, MissingExtraError, OfflineError, UsageError
from vidvec.model.published import translate
from vidvec.model.weights import VideoModel, put_weights, read_tensors

# Parameters with a row for each word of the vocabulary.
_WORD_TABLES = ("encoder.word.weight", "heads.mlm.decoder.weight", "heads.mlm.decoder.bias")
# Parameters that every BERT has: without one of them the trunk would silently stay random.
_TRUNK = ("encoder.word.", "encoder.token_embedding.", "encoder.blocks.")
_SIZES = {
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
}


def fetch_pretrained(source: str) -> Path:
    """The folder of a Hugging Face model: the source itself, or what the hub gives by this name.

    Raises:
        OfflineError: It is no folder, and the hub does not give it.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None
    wanted = ["*.json", "*.txt", "*.safetensors", "pytorch_model*.bin"]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted))
    except Exception as error:
        raise OfflineError(
            f"no model {source!r}: it is no folder on this disk, and the hub did not give it "
            f"({type(error).__name__}). Give a folder with config.json and model.safetensors, or "
            "set HF_ENDPOINT to a hub that can be reached"
        ) from None


def bert_shape(folder: Path) -> dict[str, Any]:
    """The ``ModelConfig`` values that a Hugging Face BERT's ``config.json`` fixes.

    Raises:
        UsageError: The model is not BERT-shaped.
        FormatError: The file does not give a size.
    """
    file = folder / "config.json"
    config = storage.read_json(file)
    kind = config.get("model_type")
    if kind != "bert":
        raise UsageError(f"{folder} holds a {kind!r} model; vidvec starts from 'bert' models")
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise UsageError(f"{folder} uses the activation {activation!r}; vidvec knows 'gelu'")
    missing = [theirs for theirs in _SIZES.values() if theirs not in config]
    if missing:
        raise FormatError(f"{file} does not say {', '.join(missing)}")
    return {
        **{ours: config[theirs] for ours, theirs in _SIZES.items()},
        "type_vocab_size": config.get("type_vocab_size", 2),
        "layer_norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.1),
    }


def bert_tensors(folder: Path) -> dict[str, Tensor]:
    """The trunk (and the language head, where there) of a Hugging Face BERT, by vidvec's names."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise FormatError(f"{folder} holds no weights: expected model.safetensors")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_tensors(file)
    ours, _ = translate(tensors)
    if "heads.mlm.inner.weight" in ours and "encoder.word.weight" in ours:
        # Saved with the decoder tied to the word embeddings; here it is a matrix of its own.
        ours.setdefault("heads.mlm.decoder.weight", ours["encoder.word.weight"].clone())
    return ours


def start_from_bert(model: VideoModel, folder: Path) -> list[str]:
    """Puts a Hugging Face BERT's weights into the trunk; frames, pool and heads keep their own.

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
        raise FormatError(f"{folder} lacks weights of its BERT: {', '.join(missing[:5])}")
    put_weights(model, taken, str(folder), partial=True)
    return sorted(taken)
