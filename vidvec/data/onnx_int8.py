"""ONNX models in 8 bits for a CPU: quantised here, without anybody's pictures.

Static quantisation: weights become int8 by output channel, activations uint8, with the ranges that
the float model has on pictures made here from noise (``made_pictures``). On a MobileNetV2 these
ranges serve as well as those of real pictures (docs/experiments.md), and they make the result
depend on the model alone, so that everybody who opens it gets comparable features.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import MissingExtraError, UsageError

# Part of the encoder's identity: another way to quantise gives other features.
METHOD = "static-qdq-u8s8-minmax-made128"
PICTURES = 128
# On a mean cosine below this with the float model's features, int8 is refused.
LEAST_COSINE = 0.9
_NOISE_SIDES = (4, 8, 16, 32, 64, 128)

Feed = dict[str, NDArray[Any]]


def made_pictures(count: int, height: int, width: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Pictures of noise that falls off with frequency as natural pictures do, about 1 / f.

    The fall-off is that of Field, "Relations between the statistics of natural images and the
    response properties of cortical cells" (1987). Colours go along with brightness in part.

    Returns:
        ``count`` pictures, each (height, width, 3) uint8.
    """
    random = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = np.zeros((height, width, 3), np.float32)
        for side in _NOISE_SIDES:
            noise = random.normal(size=(side, side, 3)).astype(np.float32) / np.sqrt(side)
            picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        picture += picture.mean(axis=2, keepdims=True)
        picture *= 60 / max(float(picture.std()), 1e-6)
        picture += random.uniform(60, 190)
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def int8_model(file: Path, key: str, feeds: Callable[[], Iterable[Feed]]) -> bytes:
    """The model in 8 bits, from the user's cache folder or made and put there.

    Args:
        file: The float model.
        key: What tells its weights and preprocessing from others'.
        feeds: Gives the inputs on which the ranges of the activations are taken.

    Raises:
        UsageError: The model cannot be quantised.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "onnx") from None
    import onnxruntime

    versions = f"{METHOD} {onnxruntime.__version__} {onnx.__version__}"
    name = hashlib.sha256(f"{key} {versions}".encode()).hexdigest()[:16]
    cached = _cache_folder() / f"{file.stem}-{name}.onnx"
    with suppress(OSError):
        return cached.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "int8.onnx"
        _quantize(file, made, feeds)
        data = made.read_bytes()
    # Without a folder to write in it is made each time.
    with suppress(OSError), storage.atomic_path(cached) as temporary:
        temporary.write_bytes(data)
    return data


def _cache_folder() -> Path:
    """``vidvec/int8`` in the user's cache folder (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vidvec" / "int8"


def _quantize(file: Path, made: Path, feeds: Callable[[], Iterable[Feed]]) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[Feed] = iter(feeds())

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    prepared = made.with_name("prepared.onnx")
    try:
        with _quiet():
            quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(made),
                Reader(),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
    except Exception as error:  # the library's errors share no base
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(
            f"{file} cannot be brought to int8 ({type(error).__name__}: {reason}); use float32"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The library gives advice on the root logger that its callers cannot follow here."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
