"""What made a folder of vectors: a model, or several and their fusion; opened to make more."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.config import Backend, Modality
from vidvec.embed.dtypes import cut
from vidvec.embed.embedder import Encoder, weights_hash
from vidvec.embed.fusion import Fusion, load_fusion
from vidvec.errors import UsageError
from vidvec.records import Video
from vidvec.storage import MANIFEST, located, read_manifest

Features = NDArray[np.float16]

_NONE: Features = np.zeros((0, 0), np.float16)
_EMPTY: dict[Modality, dict[str, Any]] = {
    "frames": {"frames": _NONE},
    "audio": {"audio": _NONE},
    "title": {"title": ""},
    "speech": {"speech_text": ""},
    "screen": {"screen_text": ""},
}


@dataclass(frozen=True, slots=True)
class QueryVideo(Video):
    """A video with the features of every encoder that several models read.

    Attributes:
        frames_of: (F, D) frames by the frame encoder's key (``encoder_key``); ``frames`` are one
            encoder's.
        audio_of: (A, K) audio frames, likewise.
    """

    frames_of: Mapping[str, Features] = field(default_factory=dict)
    audio_of: Mapping[str, Features] = field(default_factory=dict)


def encoder_key(identity: Mapping[str, Any]) -> str:
    """One string for identities of the same encoder (see ``frames.same_encoder``)."""
    return json.dumps({"precision": "float32", **identity}, sort_keys=True)


def seen_without(video: Video, without: Collection[Modality]) -> Video:
    """The video as if it had none of these modalities."""
    empty: dict[str, Any] = {}
    for modality in without:
        empty |= _EMPTY[modality]
    if isinstance(video, QueryVideo):
        empty |= {f"{name}_of": {} for name in ("frames", "audio") if name in empty}
    return replace(video, **empty) if empty else video


@dataclass(slots=True)
class MadeByModel:
    """A model that made vectors.

    Attributes:
        checkpoint: Where it is.
        encoder: The model.
        without: What it read of no video.
        corpus: Where the vectors' videos are, or were.
    """

    checkpoint: Path
    encoder: Encoder
    without: frozenset[Modality]
    corpus: Path

    @property
    def dimension(self) -> int:
        """E."""
        return self.encoder.dimension

    @property
    def models(self) -> list[MadeByModel]:
        """Itself."""
        return [self]

    @property
    def reads(self) -> tuple[Modality, ...]:
        """What it read of a video that has everything."""
        read = self.encoder.model.recipe.model.modalities
        return tuple(each for each in read if each not in self.without)

    @property
    def frame_encoder(self) -> dict[str, Any] | None:
        """Identity of the encoder whose frames it reads; ``None`` where it reads none."""
        return self.encoder.model.frame_encoder if "frames" in self.reads else None

    @property
    def audio_encoder(self) -> dict[str, Any] | None:
        """Identity of the encoder whose audio frames it reads; ``None`` where it reads none."""
        return self.encoder.model.audio_encoder if "audio" in self.reads else None

    def encode(self, videos: Sequence[Video]) -> NDArray[np.float32]:
        """(n, E) vectors of length 1."""
        return self.encoder.encode([seen_without(self._own(v), self.without) for v in videos])

    def _own(self, video: Video) -> Video:
        """The video with the features that this model reads."""
        if not isinstance(video, QueryVideo):
            return video
        own = {}
        for name, identity in (("frames", self.frame_encoder), ("audio", self.audio_encoder)):
            if identity is not None:
                own[name] = getattr(video, f"{name}_of").get(encoder_key(identity), _NONE)
        return replace(video, **own)


@dataclass(slots=True)
class MadeByFusion:
    """Several that made vectors, which were fused.

    Attributes:
        members: In the fusion's order.
        fusion: Of them.
    """

    members: list[Made]
    fusion: Fusion

    @property
    def dimension(self) -> int:
        """E of the fused vectors."""
        return int(self.fusion.projection.shape[1])

    @property
    def models(self) -> list[MadeByModel]:
        """All models, those of members that are fusions themselves, too."""
        return [model for member in self.members for model in member.models]

    def encode(self, videos: Sequence[Video]) -> NDArray[np.float32]:
        """(n, E) fused vectors of length 1."""
        return self.fusion.apply([member.encode(videos) for member in self.members])


@dataclass(slots=True)
class MadeByCut:
    """What made vectors of which the first numbers were kept.

    Attributes:
        whole: Makes them whole.
        dimension: How many were kept.
    """

    whole: Made
    dimension: int

    @property
    def models(self) -> list[MadeByModel]:
        """All models."""
        return self.whole.models

    def encode(self, videos: Sequence[Video]) -> NDArray[np.float32]:
        """(n, dimension) vectors of length 1."""
        return cut(self.whole.encode(videos), self.dimension)


Made = MadeByModel | MadeByFusion | MadeByCut


def open_made(vectors: Path) -> Made:
    """Opens what made a folder of vectors.

    Args:
        vectors: Made by ``embed`` or, from several, by ``fuse``; possibly compressed.

    Raises:
        UsageError: What made them is not known, or has changed since.
        FormatError: A checkpoint or a fusion is missing or damaged.
    """
    return _open(vectors, read_manifest(vectors, "vectors")["made_by"])


def _open(vectors: Path, made_by: dict[str, Any]) -> Made:
    stage = made_by["stage"]
    if stage == "embed":
        return _open_model(vectors, made_by)
    if stage == "fuse":
        members = [located(member) for member in made_by["members"]]
        # Each as it was when the projection was fitted, whatever lies there now.
        made_of = made_by.get("made_of") or [_made_by(member) for member in members]
        opened = [_open_member(*each, vectors) for each in zip(members, made_of, strict=True)]
        return MadeByFusion(opened, load_fusion(vectors))
    if stage == "compress":
        whole = _open(vectors, made_by["made_of"])
        return whole if whole.dimension == made_by["size"] else MadeByCut(whole, made_by["size"])
    if stage == "import":
        raise UsageError(
            f"{vectors} holds vectors that were imported from elsewhere: what made them is not "
            "known here, so that text and files cannot be looked for, titles cannot be encoded; "
            "ids can be looked for"
        )
    raise UsageError(
        f"{vectors} was made by {stage}: titles cannot be encoded for it, nor files; ids can be "
        "looked for"
    )


def _made_by(vectors: Path) -> dict[str, Any]:
    made_by: dict[str, Any] = read_manifest(vectors, "vectors")["made_by"]
    return made_by


def _open_member(member: Path, made_by: dict[str, Any], fused: Path) -> Made:
    if (member / MANIFEST).is_file() and _made_by(member) != made_by:
        raise UsageError(
            f"{member} holds other vectors than those that {fused} was fused from: fuse again, "
            "into a new folder"
        )
    return _open(member, made_by)


def _open_model(vectors: Path, made_by: dict[str, Any]) -> MadeByModel:
    checkpoint = Path(made_by["checkpoint"])
    if weights_hash(checkpoint) != made_by["weights"]:
        raise UsageError(
            f"{checkpoint} has other weights than those that made {vectors}: embed the corpus "
            "with it again, into a new folder"
        )
    # Where vectors were made in bf16 on a GPU, a machine without one takes float32, which is near.
    backends: dict[str, Backend] = {"int8": "int8", "bf16": "auto"}
    backend = backends.get(made_by.get("backend", ""), "float32")
    encoder = Encoder.load(checkpoint, backend=backend, size=made_by.get("size"))
    without: frozenset[Modality] = frozenset(made_by.get("without", ()))
    return MadeByModel(checkpoint, encoder, without, located(made_by.get("corpus", "")))
