"""What the sections of a recipe are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SplitName = Literal["clean", "balanced", "published"]
Precision = Literal["auto", "float32", "bf16"]
Backend = Literal["auto", "float32", "bf16", "int8"]
# Parts of a model that are there in finetuning, and all.
TunedPart = Literal[
    "frames",
    "frame_embeddings",
    "audio",
    "audio_embeddings",
    "text_kinds",
    "pool",
    "projection",
    "tag_head",
]
Part = Literal[TunedPart, "mlm_head", "mfm_head", "mam_head", "match_head"]
# What a video may be read by; each may be absent in any video.
Modality = Literal["frames", "audio", "title", "speech", "screen"]

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
