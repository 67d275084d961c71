"""Recipes: what to train and how, typed, in TOML.

A recipe states only how it differs from its ``base``: another recipe, by name or path, or a list of
them, of which the later win over the earlier. Unknown keys are refused with the nearest valid one.
The resolved recipe is saved beside every checkpoint.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from vidvec.config_adapters import ADAPTER_KEYS
from vidvec.config_base import Backend, Modality, Positive, Precision, Section, Share, SplitName
from vidvec.config_stages import (
    PAIR_LOSSES,
    DistillConfig,
    FinetuneConfig,
    PhaseConfig,
    PretrainConfig,
    StageConfig,
)
from vidvec.errors import ConfigError
from vidvec.recipe_files import Size, merge, parse_override, toml_table, with_bases, with_shape

__all__ = [
    "PAIR_LOSSES",
    "Backend",
    "DistillConfig",
    "FinetuneConfig",
    "Modality",
    "ModelConfig",
    "PhaseConfig",
    "Precision",
    "PretrainConfig",
    "Recipe",
    "Section",
    "SplitName",
    "StageConfig",
    "load_recipe",
]


class ModelConfig(Section):
    """The encoder's shape and how it reads a video (system.md, section 2).

    Attributes:
        trunk: ``bert``: position tables, norms behind each layer, GELU. ``modern``: ModernBERT's
            (Warner et al. 2024) rotary positions, norms in front, gated GELU, no biases.
        size: Names the shape that the four numbers below default to.
        init: A Hugging Face BERT or ModernBERT checkpoint (name or folder) to start from; empty:
            from scratch. Its trunk and shape then replace ``trunk``, ``size`` and the numbers below
            up to ``dropout``.
        max_positions: Rows of the position tables of tokens and of frames; at least what
            ``max_frames`` and ``max_tokens`` ask for, also where a trunk has no such tables.
        global_attention_every: Of a modern trunk's layers the first and every so many-th after it
            attend to the whole video; 1: all of them.
        local_attention_window: The other layers attend to positions at most half of this away.
        global_rope_theta, local_rope_theta: Base of the rotary frequencies in these two kinds of
            layers.
        vocab_size, frame_size, tags: Filled from the corpus when 0.
        audio_size: K, numbers in an audio frame; filled from the corpus where audio is read.
        embedding_size: E, numbers in the video vector.
        max_frames, max_tokens: Longer videos are thinned, longer titles cut; special tokens count.
        max_audio: Audio frames of a video, thinned like its frames; 0: audio is not read.
        max_speech_tokens, max_screen_tokens: Of what is said and of what is written in the picture,
            cut behind so many with the ``[SEP]`` that ends each; 0: not read.
        order: ``cls_first``: ``[CLS] frames audio [SEP] title [SEP] speech [SEP] screen [SEP]``.
            ``frames_first``: ``frames audio [CLS] title [SEP] speech [SEP] screen [SEP]``. Of what
            a video lacks or the model does not read, nothing stands there; only a title's special
            tokens stay.
        pool: Plain mean over positions, softmax attention over them, or ``[CLS]`` alone.
        count_padding: Fill every video up to the maxima and let the pool count the padding, as the
            published system does.
        tag_from: What the tag head reads: ``cls`` or the un-normalised ``embedding``.
        tag_input: How it reads that: ``relu``, without what is negative, as published; ``linear``,
            as it is; ``direction``, its direction alone, which is what cosines compare, with
            numbers of mean square 1.
        linear_size: Of the vector's numbers, those that a linear model gives of the mean frame and
            the words: solved for from the tags when the model is made, and not trained
            (``vidvec.train.linear_start``). 0: there are none.
        linear_share: Of the vector's squared length, what these have.
        adapter_size, adapter_scale: Of the residual adapter behind the projection, which
            finetuning with ``finetune.adapter=residual`` adds; 0: there is none.
        start: ``data``: the frame projection starts from the principal axes of the corpus's frame
            features, the tag head from the tags' frequencies. ``random``: at random, as published.
    """

    trunk: Literal["bert", "modern"] = "bert"
    size: Size = "small"
    init: str = ""
    hidden_size: Positive = 384
    layers: Positive = 6
    heads: Positive = 6
    ffn_size: Positive = 1536
    max_positions: Positive = 512
    type_vocab_size: Positive = 2
    global_attention_every: Positive = 3
    local_attention_window: Positive = 128
    global_rope_theta: float = Field(160000.0, gt=0)
    local_rope_theta: float = Field(10000.0, gt=0)
    layer_norm_eps: float = Field(1e-12, gt=0)
    dropout: Share = 0.1
    vocab_size: int = Field(0, ge=0)
    frame_size: int = Field(0, ge=0)
    audio_size: int = Field(0, ge=0)
    tags: int = Field(0, ge=0)
    embedding_size: int = Field(256, gt=0)
    max_frames: Positive = 32
    max_tokens: int = Field(36, ge=4)
    max_audio: int = Field(0, ge=0)
    max_speech_tokens: int = Field(0, ge=0)
    max_screen_tokens: int = Field(0, ge=0)
    order: Literal["cls_first", "frames_first"] = "cls_first"
    pool: Literal["mean", "attention", "cls"] = "mean"
    count_padding: bool = False
    tag_from: Literal["cls", "embedding"] = "cls"
    tag_input: Literal["relu", "linear", "direction"] = "relu"
    start: Literal["data", "random"] = "data"
    linear_size: int = Field(0, ge=0)
    linear_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    adapter_size: int = Field(0, ge=0)
    adapter_scale: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _numbers_fit(self) -> ModelConfig:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )
        if self.trunk == "modern" and self.hidden_size // self.heads % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over heads {self.heads} is an odd number, "
                "and rotary positions turn numbers in pairs"
            )
        beyond = self.beyond_positions
        if beyond:
            raise ValueError(f"{beyond} is more than max_positions {self.max_positions}")
        more = self.max_audio or self.max_speech_tokens or self.max_screen_tokens
        if self.count_padding and more:
            raise ValueError(
                "count_padding fills up frames and title as the published system does, which reads "
                "nothing else: set max_audio, max_speech_tokens and max_screen_tokens to 0, or "
                "count_padding to false"
            )
        return self

    @model_validator(mode="after")
    def _linear_part_fits(self) -> ModelConfig:
        if self.linear_size >= self.embedding_size:
            raise ValueError(
                f"linear_size {self.linear_size} is to be smaller than a vector "
                f"(embedding_size {self.embedding_size})"
            )
        if self.linear_size and self.count_padding:
            raise ValueError("linear_size reads no padding: set count_padding to false")
        return self

    @property
    def projected_size(self) -> int:
        """Of the vector's numbers, those that the transformer gives."""
        return self.embedding_size - self.linear_size

    @property
    def beyond_positions(self) -> str:
        """The limits on length that need more than ``max_positions``, with their values."""
        limits = ("max_frames", "max_tokens", "max_audio", "max_speech_tokens", "max_screen_tokens")
        # Speech and screen text count from 1.
        shift = {"max_speech_tokens": 1, "max_screen_tokens": 1}
        beyond = [
            f"{name} {getattr(self, name)}"
            for name in limits
            if getattr(self, name) + shift.get(name, 0) > self.max_positions
        ]
        return " or ".join(beyond)

    @property
    def reads_audio(self) -> bool:
        """Whether there is audio to read, and room for it."""
        return bool(self.max_audio and self.audio_size)

    @property
    def text_limits(self) -> dict[Modality, int]:
        """Tokens of each text that is read besides the title, in the order of the sequence."""
        limits: dict[Modality, int] = {
            "speech": self.max_speech_tokens,
            "screen": self.max_screen_tokens,
        }
        return {text: limit for text, limit in limits.items() if limit}

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the model reads of a video that has everything."""
        heard: tuple[Modality, ...] = ("audio",) if self.reads_audio else ()
        return ("frames", *heard, "title", *self.text_limits)


class Recipe(Section):
    """A whole recipe: a model and how each stage trains it."""

    name: str = "unnamed"
    seed: int = Field(2021, ge=0, lt=2**63)
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    distill: DistillConfig = DistillConfig()

    @model_validator(mode="after")
    def _prefixes_are_shorter(self) -> Recipe:
        size = self.model.embedding_size
        if any(prefix >= size for prefix in self.finetune.prefixes):
            raise ValueError(
                f"finetune.prefixes {list(self.finetune.prefixes)} are to be shorter than a vector "
                f"(model.embedding_size {size})"
            )
        return self

    @property
    def hash(self) -> str:
        """Twelve hex digits that change when any setting does."""
        return _digest(self._told_apart_by())

    def stage_hash(self, stage: Literal["pretrain", "finetune", "distill"]) -> str:
        """Twelve hex digits that change when a setting does that this stage reads."""
        settings = self._told_apart_by()
        return _digest({name: settings.get(name) for name in ("seed", "model", stage)})

    def _told_apart_by(self) -> dict[str, Any]:
        """All settings but those of ``_WHERE_SET`` that have their default."""
        settings = self.model_dump()
        for section, names in _WHERE_SET.items():
            fields = type(getattr(self, section)).model_fields
            for name in names:
                if settings[section][name] == fields[name].default:
                    del settings[section][name]
        for section in ("pretrain", "finetune", "distill"):
            del settings[section]["sharded"]  # where a run lies, not what it is
        if self.distill == DistillConfig(sharded=self.distill.sharded):
            del settings["distill"]
        return settings

    def to_toml(self) -> str:
        """The recipe with every setting, as TOML that ``load_recipe`` reads back to the same."""
        return toml_table(self.model_dump())


# What turns on what recipes do without. At its default it is no part of a hash, so that a run made
# by a version that does not know it is the same run.
_REGULARISERS = ("layer_decay", "ema_decay", "adversarial")
_WHERE_SET = {
    "model": (
        *("audio_size", "max_audio", "max_speech_tokens", "max_screen_tokens"),
        *("adapter_size", "adapter_scale", "tag_input", "linear_size", "linear_share"),
    ),
    "pretrain": (
        *_REGULARISERS,
        "evaluate_start",
        *("mam_weight", "mam_rate", "twin_weight", "cross_weight", "twin_temperature"),
        *("cross_temperature", "cross_queue", "cross_momentum"),
        *("tag_positive_focus", "tag_negative_focus", "tag_margin", "match_weight"),
        *("tag_soft_share", "tag_soft_momentum", "tag_weighting", "trusted", "trusted_batch"),
        *("tag_weighting_step", "tag_weighting_limit"),
    ),
    "finetune": (
        *_REGULARISERS,
        "evaluate_start",
        *(f"{name}_weight" for name in (*PAIR_LOSSES, "tag", "r_drop")),
        *("cosent_scale", "angle_scale", "soft_rank_temperature", "contrast_temperature"),
        *("best_by", "prefixes", "teachers", "soft_share", "fold", "folds"),
        *("pseudo_pairs", "pseudo_ratio"),
        *ADAPTER_KEYS,
    ),
    "distill": ("evaluate_start",),
}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe by name or path, on top of its bases.

    Args:
        source: A name such as ``base`` or a path to a TOML file.
        overrides: ``section.key=value`` settings that win over the file; values are TOML, and what
            is not TOML is taken as text.

    Raises:
        ConfigError: The recipe is missing, or has an unknown key or a value that does not fit.
    """
    settings: dict[str, Any] = {}
    for override in overrides:
        settings = merge(settings, parse_override(override))
    values = merge(with_bases(str(source), []), with_shape(settings))
    values.pop("tune", None)  # ranges, which only vidvec tune reads
    return _validated(values, str(source))


def _validated(values: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError(f"recipe {source}: " + "; ".join(lines)) from None


def _explain(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    if problem["type"] == "value_error":  # of a whole section; its sentence says what was found
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']} (found {problem['input']!r})"
    valid = Recipe.model_fields
    for part in path[:-1]:
        section = valid[part].annotation if part in valid else None
        valid = getattr(section, "model_fields", {})
    near = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.4)
    prefix = "".join(f"{part}." for part in path[:-1])
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(valid)}"
    return f"unknown key {key}; {hint}"
