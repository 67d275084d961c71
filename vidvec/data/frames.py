"""Frame encoders: what turns a picture into a row of numbers, behind one small interface."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError

EncoderPrecision = Literal["auto", "float32", "bf16", "fp16", "int8"]

# Short names for models that many use.
SHORT_NAMES = {
    "efficientnet-b3": "hf:google/efficientnet-b3",
    "siglip2": "hf:google/siglip2-base-patch16-224",
    "dinov3": "hf:facebook/dinov3-vitb16-pretrain-lvd1689m",
    "dinov2": "hf:facebook/dinov2-base",
    "clip": "hf:openai/clip-vit-large-patch14",
}
FORMS = (
    "classic, onnx:FILE or hf:NAME[@REVISION], timm:NAME, or one of the short names "
    + ", ".join(SHORT_NAMES)
)
# The first is what ``auto`` means where the corpus does not say otherwise.
_PRECISIONS = {
    "classic": ("float32",),
    "onnx": ("float32", "int8"),
    "hf": ("float32", "bf16", "fp16"),
    "timm": ("float32", "bf16", "fp16"),
}


class FrameEncoder(Protocol):
    """Turns pictures into features; ``encode`` may be called from several threads at once.

    Attributes:
        identity: JSON-able; two encoders with equal identities give comparable features. Holds
            ``name``, ``revision`` (a version, or the first 16 hex digits of the weights' SHA-256),
            ``preprocessing``, ``precision`` and ``frame_size``; see ``same_encoder``.
        frame_size: D, the width of a feature.
        short_side: The shorter side, in pixels, that pictures should have at least.
        batch_size: Pictures that it runs at once: ``encode`` is fastest with as many, of any
            videos.
        note: A sentence on the encoder where there is something to know, else empty.
    """

    identity: dict[str, Any]
    frame_size: int
    short_side: int
    note: str

    @property
    def batch_size(self) -> int:
        """Pictures run at once."""
        ...

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encodes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, D) float32.
        """
        ...


def open_frame_encoder(
    spec: str,
    *,
    options: dict[str, Any] | None = None,
    precision: EncoderPrecision = "auto",
    like: dict[str, Any] | None = None,
) -> FrameEncoder:
    """Opens a frame encoder.

    Args:
        spec: ``classic``, ``onnx:FILE``, ``hf:NAME[@REVISION]`` or ``timm:NAME``, where NAME is a
            model on the hub (for ``hf`` also a local folder), or one of ``SHORT_NAMES``.
        options: For ``onnx:`` the settings of ``onnx_settings.Preprocessing``, which go before
            those in the JSON file beside the model. The other encoders take none.
        precision: What it computes in. ``float32``: an ONNX model as it was exported. ``bf16`` and
            ``fp16``: models from ``hf`` and ``timm``, for GPUs. ``int8``: ONNX models, quantised
            here, for CPUs. ``auto``: that of ``like``, else float32 on any device, so that the
            same command gives comparable features everywhere.
        like: Identity of the encoder whose features the new ones are to join, where there is one.

    Raises:
        UsageError: The spec, an option, the precision or the model cannot be used.
        MissingExtraError: onnxruntime, onnx or transformers is not installed.
        OfflineError: The model is not on this disk and the hub cannot be reached.
    """
    spec = SHORT_NAMES.get(spec, spec)
    kind, _, name = spec.partition(":")
    if kind not in _PRECISIONS or bool(name) != (kind != "classic"):
        near = difflib.get_close_matches(spec, ["classic", *SHORT_NAMES], 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no frame encoder {spec!r}; {hint}expected {FORMS}")
    if options and kind != "onnx":
        raise UsageError(
            f"frame encoder {spec!r} takes no options, found {', '.join(sorted(options))}; "
            "they are for onnx:FILE"
        )
    chosen = _precision(spec, kind, precision, like or {})
    if kind == "onnx":
        from vidvec.data.onnx_frames import OnnxEncoder

        return OnnxEncoder(Path(name), options or {}, chosen)
    if kind == "hf":
        from vidvec.data.hf_frames import HuggingFaceEncoder

        return HuggingFaceEncoder(name, chosen)
    if kind == "timm":
        from vidvec.data.timm_frames import TimmEncoder

        return TimmEncoder(name, chosen)
    from vidvec.data.classic import ClassicEncoder

    return ClassicEncoder()


def _precision(spec: str, kind: str, asked: str, like: dict[str, Any]) -> str:
    """The precision to compute in."""
    if asked == "auto":
        same_kind = str(like.get("name", "")).partition(":")[0] == kind
        return str(like.get("precision", "float32")) if same_kind else "float32"
    if asked not in _PRECISIONS[kind]:
        able = [each for each, some in _PRECISIONS.items() if asked in some]
        raise UsageError(
            f"frame encoder {spec!r} does not compute in {asked}; it does in "
            f"{', '.join(_PRECISIONS[kind])} ({asked} is for {', '.join(able) or 'none'})"
        )
    return asked


def same_encoder(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two identities are of encoders that give comparable features.

    Without a precision, as corpora have it that are older than the field, it is float32.
    """
    default = {"precision": "float32"}
    return default | first == default | second


def difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    """In parentheses, what of the preprocessing differs where the encoders are otherwise alike."""
    if first["name"] != second["name"]:
        return ""
    one, other = (identity.get("preprocessing", {}) for identity in (first, second))
    changed = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    facts = [f"{key} {one.get(key)} and {other.get(key)}" for key in changed]
    return f" (preprocessing differs: {'; '.join(facts)})" if facts else ""


def describe(identity: dict[str, Any]) -> str:
    """An identity in words, for messages."""
    facts = [f"revision {identity['revision']}"] if identity.get("revision") else []
    if identity.get("precision", "float32") != "float32":
        facts.append(str(identity["precision"]))
    facts.append(f"{identity['frame_size']} numbers")
    return f"{identity['name']} ({', '.join(facts)})"
