"""Frame encoders: what turns a picture into a row of numbers, behind one small interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError

FORMS = "classic, onnx:FILE or hf:NAME[@REVISION]"


class FrameEncoder(Protocol):
    """Turns pictures into features; ``encode`` may be called from several threads at once.

    Attributes:
        identity: JSON-able; two encoders with equal identities give comparable features. Holds
            ``name``, ``revision`` (a version, or the first 16 hex digits of the weights' SHA-256),
            ``preprocessing`` and ``frame_size``.
        frame_size: D, the width of a feature.
        short_side: The shorter side, in pixels, that pictures should have at least.
        note: A sentence on the encoder where there is something to know, else empty.
    """

    identity: dict[str, Any]
    frame_size: int
    short_side: int
    note: str

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encodes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, D) float32.
        """
        ...


def open_frame_encoder(spec: str, *, options: dict[str, Any] | None = None) -> FrameEncoder:
    """Opens a frame encoder.

    Args:
        spec: ``classic``, ``onnx:FILE`` or ``hf:NAME[@REVISION]``, where NAME is a model on the hub
            or a local folder.
        options: For ``onnx:`` the settings of ``onnx_frames.Preprocessing``, which go before those
            in the JSON file beside the model. The other encoders take none.

    Raises:
        UsageError: The spec, an option or the model cannot be used.
        MissingExtraError: onnxruntime or transformers is not installed.
        OfflineError: The model is not on this disk and the hub cannot be reached.
    """
    kind, _, name = spec.partition(":")
    if kind == "onnx" and name:
        from vidvec.data.onnx_frames import OnnxEncoder

        return OnnxEncoder(Path(name), options or {})
    if options:
        raise UsageError(
            f"frame encoder {spec!r} takes no options, found {', '.join(sorted(options))}; "
            "they are for onnx:FILE"
        )
    if kind == "hf" and name:
        from vidvec.data.hf_frames import HuggingFaceEncoder

        return HuggingFaceEncoder(name)
    if spec == "classic":
        from vidvec.data.classic import ClassicEncoder

        return ClassicEncoder()
    raise UsageError(f"no frame encoder {spec!r}; expected {FORMS}")
