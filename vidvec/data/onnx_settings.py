"""What an ONNX image model takes, and how pictures are made into it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any

from vidvec.errors import UsageError

DEFAULT_SIZE = 224
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
class ModelInput:
    """The model's input: its name, NumPy type, and sizes (``None`` where open)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def only_input(file: Path, inputs: Sequence[Any]) -> ModelInput:
    """The model's input.

    Raises:
        UsageError: It has several, or one that takes no pictures.
    """
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
    return ModelInput(only.name, _TYPES[only.type], shape)


def settings_for(file: Path, model_input: ModelInput, options: dict[str, Any]) -> Preprocessing:
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


def _layout(file: Path, model_input: ModelInput) -> str:
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
