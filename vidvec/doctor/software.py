"""Packages: versions against what vidvec asks for, whether they load, PyTorch's build, the hub."""

from __future__ import annotations

import importlib
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from vidvec.doctor.findings import Finding

HUB_SECONDS = 5.0
# Not asked for by vidvec, but loaded by what it asks for wherever they are there.
BYSTANDERS = {"torchvision": "hf", "torchaudio": "hf", "timm": "hf"}
_FOR_DEVELOPERS = "dev"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*\(?(?P<versions>[^;()]*)\)?\s*"
    r"(;.*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package that vidvec asks for.

    Attributes:
        name: Of the package.
        least: Least version, or empty.
        extra: The extra that it belongs to; empty: always needed.
    """

    name: str
    least: str
    extra: str

    @property
    def install(self) -> str:
        """What to type to get it."""
        return f"pip install 'vidvec[{self.extra}]'" if self.extra else "pip install vidvec"


def requirements() -> list[Requirement]:
    """What the installed vidvec asks for, those of its developers left out.

    Raises:
        PackageNotFoundError: vidvec was not installed as a package.
    """
    found = []
    for line in metadata.requires("vidvec") or []:
        match = _REQUIREMENT.match(line)
        if match is None or match["name"] == "vidvec" or match["extra"] == _FOR_DEVELOPERS:
            continue
        least = re.search(r">=\s*([^,\s]+)", match["versions"])
        found.append(Requirement(match["name"], least[1] if least else "", match["extra"] or ""))
    return found


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: ``2.13.0+cpu`` is (2, 13, 0)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()


def older(version: str, least: str) -> bool:
    """Whether a version is below another; ``2.0`` and ``2.0.0`` are the same."""
    have, want = numbers(version), numbers(least)
    width = max(len(have), len(want))
    return have + (0,) * (width - len(have)) < want + (0,) * (width - len(want))


def python() -> Iterator[Finding]:
    """The interpreter, against what vidvec asks for."""
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        least = numbers(metadata.metadata("vidvec")["Requires-Python"].lstrip(">= "))
    except metadata.PackageNotFoundError:
        least = ()
    found = f"{version}, {sys.executable}"
    if sys.version_info[: len(least)] < least:
        wanted = ".".join(map(str, least))
        yield Finding("Python", "problem", found, f"vidvec needs Python {wanted} or later")
    else:
        yield Finding("Python", "ok", found)


def packages() -> Iterator[Finding]:
    """Versions of packages, and which extras are there."""
    try:
        wanted = requirements()
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "note",
            "vidvec is not installed as a package: what it needs cannot be looked up",
            "in the project's folder: pip install -e .",
        )
        return
    extras = sorted({each.extra for each in wanted})
    for extra in extras:
        yield from _group(extra, [each for each in wanted if each.extra == extra])


def _group(extra: str, wanted: list[Requirement]) -> Iterator[Finding]:
    """One finding where all is well, else one for each package."""
    name = f"extra {extra}" if extra else "packages"
    status, install = ("note" if extra else "problem"), wanted[0].install
    versions, wrong = [], []
    for each in wanted:
        try:
            have = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{each.name} is not installed")
            continue
        versions.append(f"{each.name} {have}")
        if each.least and older(have, each.least):
            wrong.append(f"{each.name} {have} is older than {each.least}")
    if wrong:
        advice = install + (f", where you want what {extra} adds" if extra else " --upgrade")
        yield Finding(name, status, "; ".join(wrong), advice)  # type: ignore[arg-type]
    else:
        yield Finding(name, "ok", ", ".join(versions))


def module_of(package: str) -> str:
    """The module that a package is imported by, such as ``cv2``; empty where it is not there."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return ""
    modules = {_module(file.parts) for file in files} - {""}
    plain = re.sub(r"[-_.]+", "_", package).lower()
    named = [module for module in sorted(modules) if module.lower() == plain]
    # A package in a namespace, such as google.protobuf, has no module of one word.
    public = sorted((m.count("."), len(m), m) for m in modules if not m.startswith("_"))
    return (named or [m for _, _, m in public] or [plain])[0]


def _module(parts: tuple[str, ...]) -> str:
    """The module or package that a file is, by its place; nothing where it is neither."""
    if any(not part.isidentifier() for part in parts[:-1]):
        return ""
    if parts[-1] == "__init__.py":
        return ".".join(parts[:-1])
    name, _, rest = parts[-1].partition(".")
    return name if len(parts) == 1 and rest.endswith(("py", "so", "pyd")) else ""


def load(package: str, module: str, extra: str) -> Iterator[Finding]:
    """Imports a package.

    Args:
        package: As pip knows it.
        module: As Python knows it.
        extra: That asks for it; empty: always needed.
    """
    try:
        importlib.import_module(module)
    except BaseException as error:  # a broken package may raise anything
        said = " ".join(str(error).split())[:200]
        again = f"pip install --force-reinstall --no-deps {package}"
        if package in BYSTANDERS:
            again = (
                f"nothing in vidvec needs it: pip uninstall {package}, or the build for this torch"
            )
        yield Finding(
            f"load {package}",
            "note" if extra else "problem",
            f"is installed, but does not load: {type(error).__name__}: {said}",
            again,
        )
        return
    yield Finding(f"load {package}", "ok", f"{module} loads")


def torch_build() -> Iterator[Finding]:
    """PyTorch's build against the GPUs and the driver."""
    import torch

    from vidvec.doctor.machine import nvidia_driver

    driver, cards = nvidia_driver()
    build = f"PyTorch {torch.__version__}, " + (
        f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    )
    if torch.version.hip:
        build += f" and ROCm {torch.version.hip}"
    if torch.cuda.is_available():
        yield Finding("torch", "ok", build + (f", driver {driver}" if driver else ""))
        for number in range(torch.cuda.device_count()):
            yield _card(number)
    elif driver or cards:
        there = f"{build}; {cards or 'an NVIDIA driver'} is there (driver {driver or 'not loaded'})"
        if torch.version.cuda:
            try:
                torch.cuda.init()  # type: ignore[no-untyped-call]
            except (RuntimeError, AssertionError) as error:
                there += f": {' '.join(str(error).split())[:160]}"
            advice = "update the driver, or install a PyTorch for an older CUDA"
        else:
            advice = "install the PyTorch build for your CUDA version to use the GPU"
        yield Finding("torch", "note", there, advice)
    else:
        yield Finding("torch", "ok", f"{build}; no NVIDIA GPU: everything runs on the CPU")


def _card(number: int) -> Finding:
    """A GPU, after a product on it."""
    import torch

    about = torch.cuda.get_device_properties(number)
    free, whole = torch.cuda.mem_get_info(number)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    found = (
        f"{about.name}, {free / 2**30:.1f} of {whole / 2**30:.1f} GiB free, compute "
        f"{about.major}.{about.minor}, bfloat16 {'native' if native else 'not native'}"
    )
    ones = torch.ones(64, 64, device=f"cuda:{number}")
    if not bool((ones @ ones == 64).all()):
        return Finding(
            f"GPU {number}", "note", found + "; a product came out wrong", "do not use it"
        )
    if free < 0.2 * whole:
        return Finding(f"GPU {number}", "note", found, "something else is using it: nvidia-smi")
    return Finding(f"GPU {number}", "ok", found)


def hub(seconds: str = str(HUB_SECONDS)) -> Iterator[Finding]:
    """Whether the hub answers within some seconds; models by name come from it."""
    given = os.environ.get("HF_ENDPOINT", "")
    where = f"HF_ENDPOINT: {urlsplit(given).hostname}" if given else "HF_ENDPOINT: not set"
    without = "not needed for classic frames, local models, or what was downloaded before"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        yield Finding("hub", "note", "HF_HUB_OFFLINE is set: the hub is not asked", without)
        return
    try:
        from huggingface_hub import constants
    except ImportError:
        install = "pip install 'vidvec[hf]' to use models by name"
        yield Finding("hub", "note", "huggingface_hub is not installed", install)
        return
    endpoint = str(constants.ENDPOINT)
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        yield Finding("hub", "note", f"{where} is no http(s) address", "set HF_ENDPOINT anew")
        return
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=float(seconds)):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            yield Finding("hub", "note", f"{where}: answers with {error.code}", without)
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        advice = f"set HF_ENDPOINT to a hub or mirror that can be reached; {without}"
        yield Finding("hub", "note", f"{where}: cannot be reached ({reason})", advice)
        return
    cache = Path(constants.HF_HUB_CACHE)
    yield Finding("hub", "ok", f"{where}: answers; downloads go to {cache}")
