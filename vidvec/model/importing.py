"""Published-style checkpoints (a state dict in a ``.pth``) into vidvec's own form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vidvec import storage
from vidvec.config import Recipe
from vidvec.data.tokenizer import load_tokenizer
from vidvec.errors import FormatError, UsageError
from vidvec.model.bert import bert_shape
from vidvec.model.encoder import VideoEncoder
from vidvec.model.heads import PretrainingHeads
from vidvec.model.published import translate
from vidvec.model.weights import VideoModel, put_weights, read_tensors, save_model


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import found.

    Attributes:
        taken: Parameters filled.
        missing: Parameters of pretraining heads that the file lacks; they keep random weights.
        unknown: Tensors of the file that mean nothing to vidvec.
    """

    taken: int
    missing: list[str]
    unknown: list[str]


def weight_sizes(weights: Mapping[str, Tensor], where: Path) -> dict[str, int]:
    """The sizes that weights under our names fix: hidden, vocabulary, frames, vector, tags.

    Raises:
        FormatError: One of the weights that show them is missing.
    """
    try:
        vocab_size, hidden_size = weights["encoder.word.weight"].shape
        return {
            "hidden_size": hidden_size,
            "vocab_size": vocab_size,
            "frame_size": weights["encoder.frame_projection.weight"].shape[1],
            "embedding_size": weights["encoder.projection.weight"].shape[0],
            "tags": weights["heads.tag.weight"].shape[0],
        }
    except KeyError as error:
        raise FormatError(f"{where} lacks {error.args[0]}: is it a published checkpoint?") from None


def find_bert(beside: Path, hidden_size: int) -> Path:
    """The folder of the BERT that shaped a model: ``beside`` or one next to it, of this width.

    The number of attention heads cannot be read off weights, so its ``config.json`` is needed.

    Raises:
        FormatError: There is none.
    """
    for config in [beside / "config.json", *sorted(beside.parent.glob("*/config.json"))]:
        try:
            shape = bert_shape(config.parent)
            if shape["trunk"] == "bert" and shape["hidden_size"] == hidden_size:
                return config.parent
        except (FormatError, UsageError):
            continue  # another model's
    raise FormatError(
        f"no config.json of a BERT of hidden size {hidden_size} in {beside} or a folder next to "
        "it: copy that of the BERT that the model was started from there"
    )


def shaped(recipe: Recipe, shape: Mapping[str, Any]) -> Recipe:
    """The recipe with these model settings, all else as it was."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=dict(shape))})


def import_checkpoint(
    file: Path, recipe: Recipe, out: Path, bert: Path | None = None, tags: Path | None = None
) -> ImportReport:
    """Writes a published-style checkpoint as one of vidvec's.

    Args:
        file: The state dict; only tensors are read from it.
        recipe: Of the job that it comes from.
        out: Folder of the checkpoint.
        bert: Folder with ``config.json`` and tokenizer of the BERT that it was started from;
            ``None``: looked for beside the file and in folders next to its own.
        tags: The competition's ``tag_list.txt``; without it the tag classes have no names.

    Raises:
        FormatError: The file is no state dict, or a weight of the encoder is missing or misshaped.
    """
    from vidvec.data.tfrecord import read_tag_list

    tensors, unknown = translate(read_tensors(file))
    sizes = weight_sizes(tensors, file)
    folder = bert or find_bert(file.parent, sizes["hidden_size"])
    settled = shaped(recipe, {**bert_shape(folder), **sizes, "init": ""})
    tokenizer = load_tokenizer(folder)
    encoder = VideoEncoder(settled.model, tokenizer.special_ids["pad"])
    heads = PretrainingHeads(settled.model)
    model = VideoModel(
        encoder=encoder,
        heads=heads,
        tokenizer=tokenizer,
        recipe=settled,
        tag_vocabulary=read_tag_list(tags) if tags else [],
        frame_encoder={"name": "precomputed", "frame_size": sizes["frame_size"]},
        made_by={"stage": "import", "file": str(file)},
    )
    parameters = dict(model.named_parameters())
    missing = sorted(parameters.keys() - tensors.keys())
    vital = [name for name in missing if name.startswith("encoder.")]
    if vital:
        raise FormatError(f"{file} lacks weights of the encoder: {', '.join(vital[:5])}")
    strange = sorted(tensors.keys() - parameters.keys())
    put_weights(model, {k: v for k, v in tensors.items() if k in parameters}, str(file), True)
    with storage.atomic_path(out) as temporary:
        save_model(temporary, model)
    return ImportReport(len(parameters) - len(missing), missing, [*unknown, *strange])
