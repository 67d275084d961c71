"""Any ONNX image model as a frame encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data import onnx_int8
from vidvec.data.classic import squash
from vidvec.data.onnx_settings import only_input, settings_for
from vidvec.data.prepare import Preparer, cores
from vidvec.errors import MissingExtraError, UsageError

# Pictures run at once where the model leaves it open: more is slower, as they leave the CPU's cache
# (docs/experiments.md).
BATCH, INT8_BATCH = 4, 8
# On so many made pictures the features in int8 are compared with those in float32.
COMPARED = 8
# Outputs that hold one vector a picture, by the names that exporters give them; best first.
FEATURE_NAMES = (
    "features",
    "image_features",
    "embeddings",
    "embedding",
    "image_embeds",
    "image_embeddings",
    "pooler_output",
    "pooled_output",
)


class OnnxEncoder:
    """Runs an ONNX model on the CPU.

    Feature maps are averaged: over space where the output has four dimensions, over tokens where
    it has three.

    Attributes:
        identity: Name, SHA-256 of the weights, preprocessing, precision and width, JSON-able.
        frame_size: D.
        short_side: The larger side of the model's input.
        batch_size: The model's own where that is fixed.
        note: In int8, how far the features are from those in float32; else empty.
    """

    def __init__(self, file: Path, options: dict[str, Any], precision: str = "float32") -> None:
        """Opens the model and runs it once, on a grey picture.

        Args:
            file: The model. Settings are read from ``file.json`` or, if there is none, from the
                file of the same stem with ``.json``, where it is there.
            options: Fields of ``Preprocessing``; they go before the file's.
            precision: ``float32``: the model as it was exported. ``int8``: the model quantised
                (``onnx_int8``), which is kept in the user's cache folder.

        Raises:
            UsageError: The file is missing or no ONNX model, the model does not take one picture,
                its outputs cannot be used, a setting is wrong, or the model cannot be quantised or
                gives other features then.
            MissingExtraError: onnxruntime (for int8: onnx) is not installed.
        """
        if not file.is_file():
            raise UsageError(f"frame encoder onnx:{file}: there is no such file")
        self._preparer = Preparer()
        self._session = _open_session(str(file), file)
        self._input = only_input(file, self._session.get_inputs())
        self._preprocessing = settings_for(file, self._input, options)
        self.batch_size = self._input.shape[0] or BATCH
        name, self.frame_size = self._choose_output(file)
        self._output = name
        self.short_side = max(self._preprocessing.size)
        used = asdict(self._preprocessing) | {"output": name}
        self.identity: dict[str, Any] = {
            "name": f"onnx:{file.name}",
            "revision": _digest(file),
            "preprocessing": json.loads(json.dumps(used)),
            "precision": precision,
            "frame_size": self.frame_size,
        }
        self.note = ""
        if precision == "int8":
            self.identity["quantization"] = onnx_int8.METHOD
            self.note = self._quantize(file)

    def _quantize(self, file: Path) -> str:
        """Replaces the model by the one in int8; says how far its features are from before."""
        size = self._preprocessing.size

        def feeds() -> Iterator[onnx_int8.Feed]:
            pictures = onnx_int8.made_pictures(onnx_int8.PICTURES, *size)
            step = self._input.shape[0] or INT8_BATCH
            for start in range(0, len(pictures), step):
                chunk = [self._pixels(each) for each in pictures[start : start + step]]
                yield {self._input.name: self._filled(chunk)}

        compared = onnx_int8.made_pictures(COMPARED, *size, seed=1)
        before = self.encode(compared)
        key = json.dumps([self.identity["revision"], self.identity["preprocessing"]])
        self._session = _open_session(onnx_int8.int8_model(file, key, feeds), file)
        self.batch_size = self._input.shape[0] or INT8_BATCH
        after = self.encode(compared)
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosine = float(np.mean((before * after).sum(axis=1) / np.maximum(lengths, 1e-12)))
        if not cosine >= onnx_int8.LEAST_COSINE:
            raise UsageError(
                f"{file} does not bear int8: its features have a mean cosine of {cosine:.3f} with "
                f"those in float32, at least {onnx_int8.LEAST_COSINE} is expected; use float32"
            )
        return f"frames are described in int8: mean cosine {cosine:.4f} with float32"

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encodes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, D) float32.
        """
        parts = [np.zeros((0, self.frame_size), np.float32)]
        for pixels in self._preparer.batches(images, self.batch_size, self._pixels):
            [output] = self._session.run([self._output], {self._input.name: self._filled(pixels)})
            parts.append(_pool(output, self._maps_layout)[: len(pixels)])
        return np.concatenate(parts)

    @property
    def _maps_layout(self) -> str:
        """Feature maps have their channels where the input has them."""
        return self._preprocessing.layout

    def _pixels(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """The model's input for one picture, without a batch dimension."""
        settings = self._preprocessing
        resize = squash if settings.resize == "squash" else _crop
        pixels: NDArray[Any] = resize(image, *settings.size)
        if self._input.dtype != "uint8":
            mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
            pixels = (pixels.astype(np.float32) * np.float32(settings.scale) - mean) / std
        if settings.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels, self._input.dtype)

    def _filled(self, pixels: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The model's input for up to one batch; a model of fixed batch size gets it filled up."""
        missing = (self._input.shape[0] or len(pixels)) - len(pixels)
        return np.stack([*pixels, *[np.zeros_like(pixels[0])] * missing])

    def _choose_output(self, file: Path) -> tuple[str, int]:
        """Runs the model on a grey picture; returns the output to use and its width."""
        height, width = self._preprocessing.size
        grey = np.full((height, width, 3), 128, np.uint8)
        feed = {self._input.name: self._filled([self._pixels(grey)])}
        try:
            outputs = self._session.run(None, feed)
        except Exception as error:  # the library's errors share no public base
            shape = feed[self._input.name].shape
            raise UsageError(f"{file} does not run on an input of shape {shape}: {error}") from None
        names = [output.name for output in self._session.get_outputs()]
        ranks = {
            name: np.ndim(value)
            for name, value in zip(names, outputs, strict=True)
            if 2 <= np.ndim(value) <= 4 and len(value) == len(feed[self._input.name])
        }
        name = _pick(file, ranks, self._preprocessing.output, names)
        return name, _pool(outputs[names.index(name)], self._maps_layout).shape[1]


def _open_session(model: str | bytes, file: Path) -> Any:
    """A session of a model's path or content; ``file`` is for the message."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.inter_op_num_threads = 1
    # The arena keeps the largest batch's memory for ever, and is no faster here.
    options.enable_cpu_mem_arena = False
    # Waiting threads sleep: decoders want the cores meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no public base
        raise UsageError(f"{file} cannot be opened as an ONNX model: {error}") from None


def _pick(file: Path, ranks: dict[str, int], asked: str, names: Sequence[str]) -> str:
    """The output to use among those that have 2 to 4 dimensions and a row a picture."""
    if asked:
        if asked in ranks:
            return asked
        raise UsageError(f"{file} has no usable output {asked!r}; it has {', '.join(names)}")
    for name in FEATURE_NAMES:
        if name in ranks:
            return name
    for rank in (2, 4, 3):
        for name, found in ranks.items():
            if found == rank:
                return name
    raise UsageError(
        f"{file} has no output with a vector or a feature map for each picture; it has "
        f"{', '.join(names)}"
    )


def _pool(output: NDArray[Any], layout: str) -> NDArray[np.float32]:
    """(F, D) from vectors (F, D), tokens (F, T, D), or maps (F, D, h, w) or (F, h, w, D)."""
    values = np.asarray(output, np.float32)
    if values.ndim == 3:
        return values.mean(axis=1)
    if values.ndim == 4:
        return values.mean(axis=(2, 3) if layout == "NCHW" else (1, 2))
    return values


def _crop(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scales a picture so that it just covers the size, and takes the middle."""
    scale = max(height / image.shape[0], width / image.shape[1])
    tall = max(height, round(image.shape[0] * scale))
    wide = max(width, round(image.shape[1] * scale))
    covering = squash(image, tall, wide)
    top, left = (tall - height) // 2, (wide - width) // 2
    return covering[top : top + height, left : left + width]


def _digest(file: Path) -> str:
    """First 16 hex digits of the SHA-256 of the model and of weights kept in a file beside it."""
    digest = hashlib.sha256()
    for part in (file, Path(f"{file}.data"), Path(f"{file}_data")):
        if part.is_file():
            with part.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]
