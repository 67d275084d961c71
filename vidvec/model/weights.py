"""Models on disk.

A checkpoint folder holds ``model.safetensors``, ``config.json``, ``recipe.toml``, ``tokenizer/``
and a manifest. Nothing is ever unpickled but tensors (``weights_only=True``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidvec import storage
from vidvec.config import Modality, ModelConfig, Recipe, load_recipe
from vidvec.data.corpus import NO_AUDIO, Corpus
from vidvec.data.frames import describe, difference, same_encoder
from vidvec.data.tokenizer import TitleTokenizer, load_tokenizer
from vidvec.errors import FormatError, UsageError
from vidvec.model.adapter import merged_tensors
from vidvec.model.encoder import VideoEncoder
from vidvec.model.heads import PretrainingHeads, TagHead
from vidvec.model.shards import laid_out_like

KIND = "checkpoint"
RUN_FILE = "run.json"


@dataclass(slots=True)
class VideoModel:
    """An encoder and all that is needed to feed it.

    Attributes:
        encoder: The encoder.
        heads: The pretraining heads, of which finetuning keeps the tag head or none.
        tokenizer: That the encoder's word embeddings belong to.
        recipe: With every size filled in.
        tag_vocabulary: What the tag head's classes are.
        frame_encoder: Identity of the frame encoder whose features it was trained on.
        made_by: What came before: stage, corpus, start checkpoint.
        audio_encoder: Identity of the audio encoder, where the model reads audio.
    """

    encoder: VideoEncoder
    heads: PretrainingHeads | TagHead | None
    tokenizer: TitleTokenizer
    recipe: Recipe
    tag_vocabulary: list[str]
    frame_encoder: dict[str, Any]
    made_by: dict[str, Any] = field(default_factory=dict)
    audio_encoder: dict[str, Any] = field(default_factory=NO_AUDIO.copy)

    def named_parameters(self) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """All parameters, named as in ``model.safetensors``."""
        yield from self.encoder.named_parameters(prefix="encoder")
        if self.heads is not None:
            yield from self.heads.named_parameters(prefix="heads")

    def check_frames(
        self, corpus: Corpus, source: Path, without: Collection[Modality] = ()
    ) -> Corpus:
        """Finds the frames that the model reads: the corpus's own, or those of a feature set.

        Args:
            corpus: To be read.
            source: Where the model is from, for the message.
            without: What is not read of the corpus, and may be of any encoder.

        Returns:
            The corpus with frames of the encoder that the model was trained on.

        Raises:
            UsageError: The corpus has frames, but none of that encoder; or the model reads audio,
                and the corpus has audio of another encoder.
        """
        fitting = corpus.with_frames_of(self.frame_encoder)
        held = fitting.frame_encoder
        read = fitting.frame_size and "frames" not in without
        if read and not same_encoder(self.frame_encoder, held):
            sets = ", ".join(corpus.feature_sets) or "none"
            raise UsageError(
                f"{source} reads frames of {describe(self.frame_encoder)}, {corpus.path} holds "
                f"frames of {describe(held)}{difference(self.frame_encoder, held)}: the two do not "
                f"fit, nor does any of its feature sets ({sets}); vidvec reencode adds one"
            )
        if "audio" not in without:
            self._check_audio(corpus, source)
        return fitting

    def _check_audio(self, corpus: Corpus, source: Path) -> None:
        if not (self.recipe.model.reads_audio and corpus.audio_size):
            return
        expected, held = self.audio_encoder, corpus.audio_encoder
        if not same_encoder(expected, held):
            raise UsageError(
                f"{source} reads audio of {describe(expected)}, {corpus.path} holds audio of "
                f"{describe(held)}{difference(expected, held)}: the two do not fit; ingest the "
                "videos with that audio encoder, or leave audio out (embed --without audio)"
            )

    def to(self, device: torch.device | str) -> VideoModel:
        """Moves the weights, in place."""
        self.encoder.to(device)
        if self.heads is not None:
            self.heads.to(device)
        return self


def _heads_name(heads: PretrainingHeads | TagHead | None) -> bool | str:
    """How ``config.json`` names a model's heads: all, ``match`` with that one too, tags or none."""
    if isinstance(heads, PretrainingHeads):
        return "match" if heads.match is not None else True
    return "tags" if heads is not None else False


def _make_heads(name: bool | str, config: ModelConfig) -> PretrainingHeads | TagHead | None:
    if name == "tags":
        return TagHead(config)
    return PretrainingHeads(config, match=name == "match") if name else None


def save_model(
    folder: Path, model: VideoModel, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Writes a checkpoint into ``folder``, which the caller makes atomic.

    Low-rank updates are merged into the weights that they are of.

    Args:
        folder: Made where it is not there.
        model: What to write.
        weights: By name, instead of the model's own, which may lie in shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = dict(weights) if weights is not None else merged_tensors(model.encoder, "encoder")
    if weights is None and model.heads is not None:
        own.update(model.heads.named_parameters(prefix="heads"))
    tensors = {name: value.detach().cpu().contiguous() for name, value in own.items()}
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model": model.recipe.model.model_dump(),
        "pad_id": model.encoder.pad_id,
        "heads": _heads_name(model.heads),
        "tag_vocabulary": model.tag_vocabulary,
        "frame_encoder": model.frame_encoder,
        "audio_encoder": model.audio_encoder,
    }
    storage.write_json(folder / "config.json", config)
    (folder / "recipe.toml").write_text(model.recipe.to_toml(), "utf-8")
    model.tokenizer.save(folder / "tokenizer")
    storage.write_manifest(
        folder,
        KIND,
        embedding_size=model.recipe.model.embedding_size,
        recipe_hash=model.recipe.hash,
        made_by=model.made_by,
    )


def checkpoint_folder(path: Path) -> Path:
    """The checkpoint that a path means: itself, or a run's best (else its last).

    Raises:
        FormatError: There is no checkpoint.
    """
    if (path / "model.safetensors").is_file():
        return path
    if (path / RUN_FILE).is_file():
        run = storage.read_json(path / RUN_FILE)
        name = run.get("best") or run.get("last")
        if name:
            return path / "checkpoints" / str(name)
        raise FormatError(f"run {path} has no checkpoint yet: it was stopped before the first")
    raise FormatError(
        f"{path} is no checkpoint and no run: it has neither model.safetensors nor {RUN_FILE}"
    )


def is_model(path: Path) -> bool:
    """Whether a path is a checkpoint or a run, as ``load_model`` takes it."""
    return (path / "model.safetensors").is_file() or (path / RUN_FILE).is_file()


def load_model(path: str | Path) -> VideoModel:
    """Reads a checkpoint, or a run's best one; on the CPU, in evaluation mode.

    Raises:
        FormatError: It is missing, damaged or of another version; says which weights do not fit.
    """
    folder = checkpoint_folder(Path(path))
    manifest = storage.read_manifest(folder, KIND)
    config = storage.read_json(folder / "config.json")
    recipe = load_recipe(folder / "recipe.toml")
    model = VideoModel(
        encoder=VideoEncoder(recipe.model, config["pad_id"]),
        heads=_make_heads(config["heads"], recipe.model),
        tokenizer=load_tokenizer(folder / "tokenizer"),
        recipe=recipe,
        tag_vocabulary=config["tag_vocabulary"],
        frame_encoder=config["frame_encoder"],
        made_by=manifest["made_by"],
        audio_encoder=config.get("audio_encoder", NO_AUDIO),
    )
    put_weights(model, read_tensors(folder / "model.safetensors"), str(folder))
    model.encoder.eval()
    if model.heads is not None:
        model.heads.eval()
    return model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of a plain state dict in a ``.pth``/``.bin``.

    Raises:
        FormatError: The file is missing, damaged, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FormatError(f"weights {path} are missing") from None
    except (SafetensorError, OSError) as error:
        raise FormatError(f"weights {path} cannot be read: {error}") from None
    except Exception as error:  # what an unsafe or damaged pickle raises differs by version
        raise FormatError(f"{path} is not a plain state dict of tensors: {error}") from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise FormatError(f"{path} is not a plain state dict of tensors")
    return dict(state)


def put_weights(
    model: VideoModel, tensors: Mapping[str, Tensor], where: str, partial: bool = False
) -> None:
    """Copies tensors into the model's parameters of the same names; see ``load_parameters``."""
    load_parameters(dict(model.named_parameters()), tensors, where, partial)


def load_parameters(
    parameters: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, Tensor],
    where: str,
    partial: bool = False,
) -> None:
    """Copies tensors into parameters of the same names.

    Args:
        parameters: By name.
        tensors: By parameter name.
        where: For the message.
        partial: Parameters without a tensor keep what they have.

    Raises:
        FormatError: A shape differs; or, unless partial, a name is missing or unknown.
    """
    missing = sorted(parameters.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - parameters.keys())
    if not partial and (missing or unknown):
        raise FormatError(
            f"{where}: weights do not fit the recipe: missing {_some(missing)}; "
            f"unknown {_some(unknown)}"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name not in tensors:
                continue
            if tensors[name].shape != parameter.shape:
                raise FormatError(
                    f"{where}: {name} is {tuple(tensors[name].shape)}, expected "
                    f"{tuple(parameter.shape)}"
                )
            parameter.copy_(laid_out_like(parameter, tensors[name]))


def _some(names: list[str]) -> str:
    return (
        ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
    )
