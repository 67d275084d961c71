"""Any ONNX image model as a frame encoder."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.classic import squash
from vidvec.errors import MissingExtraError, UsageError

DEFAULT_SIZE = 224
# Frames run at once where the model leaves it open: a whole video.
BATCH = 32
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
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes the model's input: ``(pixel * scale - mean) / std``.

    The defaults take pixels to −1…1 (that is ``pixel / 127.5 - 1``). A model with uint8 input gets
    the pixels as they are.

    Attributes:
        size: Height and width; default: the model's input shape, or 224 where that is open.
        mean: Of red, green and blue.
        std: Likewise.
        scale: Taken before mean and std.
        layout: ``NCHW`` or ``NHWC``; default: where the input shape has the three channels.
        resize: ``squash`` to the size, or ``crop``: the short side to the size, then the middle.
        output: The output's name; default: the first of ``FEATURE_NAMES`` that the model has, else
            its first output with one vector a picture, else the first feature map.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    scale: float = 1 / 255
    layout: str = "NCHW"
    resize: str = "squash"
    output: str = ""


@dataclass(frozen=True, slots=True)
class _Input:
    """The model's input: its name, NumPy type, and sizes (``None`` where open)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class OnnxEncoder:
    """Runs an ONNX model on the CPU.

    Feature maps are averaged: over space where the output has four dimensions, over tokens where
    it has three.

    Attributes:
        identity: Name, SHA-256 of the weights, preprocessing and width, JSON-able.
        frame_size: D.
        short_side: The larger side of the model's input.
        note: Empty.
    """

    note = ""

    def __init__(self, file: Path, options: dict[str, Any]) -> None:
        """Opens the model and runs it once, on a grey picture.

        Args:
            file: The model. Settings are read from ``file.json`` or, if there is none, from the
                file of the same stem with ``.json``, where it is there.
            options: Fields of ``Preprocessing``; they go before the file's.

        Raises:
            UsageError: The file is missing or no ONNX model, the model does not take one picture,
                its outputs cannot be used, or a setting is wrong.
            MissingExtraError: onnxruntime is not installed.
        """
        if not file.is_file():
            raise UsageError(f"frame encoder onnx:{file}: there is no such file")
        self._session = _open_session(file)
        self._input = _only_input(file, self._session.get_inputs())
        self._preprocessing = _settings(file, self._input, options)
        self._batch = self._input.shape[0] or BATCH
        name, self.frame_size = self._choose_output(file)
        self._output = name
        self.short_side = max(self._preprocessing.size)
        used = asdict(self._preprocessing) | {"output": name}
        self.identity: dict[str, Any] = {
            "name": f"onnx:{file.name}",
            "revision": _digest(file),
            "preprocessing": json.loads(json.dumps(used)),
            "frame_size": self.frame_size,
        }

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encodes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, D) float32.
        """
        features = np.empty((len(images), self.frame_size), np.float32)
        for start in range(0, len(images), self._batch):
            chunk = images[start : start + self._batch]
            feed = {self._input.name: self._prepare(chunk)}
            [output] = self._session.run([self._output], feed)
            features[start : start + len(chunk)] = _pool(output, self._maps_layout)[: len(chunk)]
        return features

    @property
    def _maps_layout(self) -> str:
        """Feature maps have their channels where the input has them."""
        return self._preprocessing.layout

    def _prepare(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        """The model's input for up to one batch; a model of fixed batch size gets it filled up."""
        settings = self._preprocessing
        height, width = settings.size
        resize = squash if settings.resize == "squash" else _crop
        pixels: NDArray[Any] = np.stack([resize(image, height, width) for image in images])
        if self._input.dtype != "uint8":
            mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
            pixels = (pixels.astype(np.float32) * np.float32(settings.scale) - mean) / std
        if self._input.shape[0]:
            missing = self._batch - len(images)
            pixels = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), pixels.dtype)])
        if settings.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pixels, self._input.dtype)

    def _choose_output(self, file: Path) -> tuple[str, int]:
        """Runs the model on a grey picture; returns the output to use and its width."""
        height, width = self._preprocessing.size
        grey = np.full((height, width, 3), 128, np.uint8)
        feed = {self._input.name: self._prepare([grey])}
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


def _open_session(file: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _cores()
    options.inter_op_num_threads = 1
    # The arena keeps the largest batch's memory for ever, and is no faster here.
    options.enable_cpu_mem_arena = False
    # Waiting threads sleep: decoders want the cores meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no public base
        raise UsageError(f"{file} cannot be opened as an ONNX model: {error}") from None


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _only_input(file: Path, inputs: Sequence[Any]) -> _Input:
    described = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
    expected = "expected one input of shape (N, 3, H, W) or (N, H, W, 3)"
    if len(inputs) != 1:
        raise UsageError(f"{file} takes {len(inputs)} inputs ({described}); {expected}")
    [only] = inputs
    if len(only.shape) != 4:
        raise UsageError(f"{file} takes {described}; {expected}")
    if only.type not in _TYPES:
        raise UsageError(f"{file} takes {described}; expected float, float16 or uint8 numbers")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in only.shape)
    return _Input(only.name, _TYPES[only.type], shape)


def _settings(file: Path, model_input: _Input, options: dict[str, Any]) -> Preprocessing:
    """Preprocessing from the options, the file beside the model, and the input's shape."""
    given: dict[str, Any] = {}
    for path in (Path(f"{file}.json"), file.with_suffix(".json")):
        if path.is_file():
            given = _checked(_read(path), str(path))
            break
    given |= _checked(options, "the options")
    layout = given.setdefault("layout", _layout(file, model_input))
    channels, height, width = (1, 2, 3) if layout == "NCHW" else (3, 1, 2)
    if model_input.shape[channels] not in (3, None):
        raise UsageError(
            f"{file} takes {model_input.shape[channels]} channels ({layout} input of shape "
            f"{model_input.shape}); expected 3: red, green and blue"
        )
    fixed = (model_input.shape[height], model_input.shape[width])
    size = given.setdefault("size", tuple(side or DEFAULT_SIZE for side in fixed))
    if any(side not in (wanted, None) for side, wanted in zip(fixed, size, strict=True)):
        raise UsageError(f"{file} takes pictures of size {fixed}, but size {size} was asked for")
    return Preprocessing(**given)


def _layout(file: Path, model_input: _Input) -> str:
    _, first, _, last = model_input.shape
    if first == 3 or (first is None and last != 3):
        return "NCHW"
    if last == 3:
        return "NHWC"
    raise UsageError(
        f"{file} takes an input of shape {model_input.shape}; expected three channels, as in "
        "(N, 3, H, W) or (N, H, W, 3)"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}, beside the model, is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}, beside the model, holds no object of settings")
    return values


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings in the types of ``Preprocessing``."""
    names = [field.name for field in fields(Preprocessing)]
    checked = {}
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
            raise UsageError(f"unknown setting {name!r} in {where}; {hint}")
        good = _value(name, value)
        if good is None:
            raise UsageError(f"{name} in {where} is {value!r}; expected {_EXPECTED[name]}")
        checked[name] = good
    return checked


_EXPECTED = {
    "size": "a whole number above 0, or [height, width]",
    "mean": "a number or three",
    "std": "a number above 0 or three",
    "scale": "a number above 0",
    "layout": "NCHW or NHWC",
    "resize": "squash or crop",
    "output": "the name of an output",
}


def _value(name: str, value: Any) -> Any:
    """The value in the field's type, or ``None`` where it is none that the field can have."""
    if name == "layout":
        return value if value in ("NCHW", "NHWC") else None
    if name == "resize":
        return value if value in ("squash", "crop") else None
    if name == "output":
        return value if isinstance(value, str) else None
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(each, Real) and not isinstance(each, bool) for each in numbers):
        return None
    if name != "mean" and min(numbers, default=0) <= 0:
        return None
    if name == "scale":
        return float(numbers[0]) if len(numbers) == 1 else None
    wanted = 2 if name == "size" else 3
    if len(numbers) == 1:
        numbers *= wanted
    if len(numbers) != wanted:
        return None
    if name == "size":
        return tuple(map(int, numbers)) if all(each == int(each) for each in numbers) else None
    return tuple(map(float, numbers))


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
