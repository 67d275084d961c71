"""Versions, extras and builds, with pieces missing that are here in truth."""

from __future__ import annotations

import importlib
import sys
import threading
import tomllib
import types
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement as Reference
from packaging.version import Version

from vidvec.doctor import machine, software

PROJECT = Path(__file__).resolve().parents[3]


def declared() -> set[tuple[str, str, str]]:
    """Name, least version and extra of what pyproject.toml asks for, by the packaging library."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    extras: dict[str, list[str]] = {"": project["dependencies"]}
    extras |= project["optional-dependencies"]
    found = set()
    for extra, lines in extras.items():
        for reference in map(Reference, lines):
            if extra != "dev" and reference.name != "vidvec":
                least = [each.version for each in reference.specifier if each.operator == ">="]
                found.add((reference.name, least[0] if least else "", extra))
    return found


def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vidvec were installed from pyproject.toml as it is."""
    lines = []
    for name, least, extra in declared():
        lines.append(f"{name}>={least}" + (f'; extra == "{extra}"' if extra else ""))
    lines.append('pytest>=8; extra == "dev"')
    monkeypatch.setattr(metadata, "requires", lambda _: lines)


def test_requirements_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    found = {(each.name, each.least, each.extra) for each in software.requirements()}
    assert found == declared()


def test_requirements_as_pip_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "av>=15",
        "numpy<3,>=2.0",
        "typing_extensions",
        'transformers>=5; extra == "hf"',
        "onnxruntime (>=1.20) ; extra == 'onnx'",
        'uvicorn[standard]>=0.3; python_version > "3" and extra == "serve"',
        'vidvec[hf,onnx]; extra == "dev"',
        'ruff>=0.9; extra == "dev"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert [(each.name, each.least, each.extra) for each in software.requirements()] == [
        ("av", "15", ""),
        ("numpy", "2.0", ""),
        ("typing_extensions", "", ""),
        ("transformers", "5", "hf"),
        ("onnxruntime", "1.20", "onnx"),
        ("uvicorn", "0.3", "serve"),
    ]


@pytest.mark.parametrize("have", ["2", "2.0", "2.0.1", "2.13.0+cpu", "10.1", "1.9.9", "2.0rc1"])
@pytest.mark.parametrize("least", ["2", "2.0", "2.0.1", "2.6", "10"])
def test_older_is_what_packaging_says(have: str, least: str) -> None:
    if "rc" not in have:
        assert software.older(have, least) == (Version(have) < Version(least))
    assert not software.older("2.0rc1", "2.0")  # a release candidate is taken for its release


def test_this_machine_has_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    found = {finding.name: finding for finding in software.packages()}
    assert found["packages"].status == "ok"
    assert f"numpy {metadata.version('numpy')}" in found["packages"].found


def pretend(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None]) -> None:
    real = metadata.version

    def version(name: str) -> str:
        found = versions.get(name, "")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found or real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_what_is_missing_or_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    pretend(monkeypatch, {"av": None, "numpy": "1.26.4", "transformers": None})
    found = {finding.name: finding for finding in software.packages()}
    basic, extra = found["packages"], found["extra hf"]
    assert basic.status == "problem"
    assert "av is not installed" in basic.found
    assert "numpy 1.26.4 is older than 2.0" in basic.found
    assert "torch" not in basic.found
    assert basic.advice == "pip install vidvec --upgrade"
    assert extra.status == "note"
    assert extra.found == "transformers is not installed"
    assert extra.advice.startswith("pip install 'vidvec[hf]'")
    assert found["extra onnx"].status == "ok"


def test_vidvec_that_was_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    monkeypatch.setattr(metadata, "metadata", missing)
    [found] = software.packages()
    assert (found.status, found.advice) == ("note", "in the project's folder: pip install -e .")
    assert [finding.status for finding in software.python()] == ["ok"]


def test_an_old_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    about = Message()
    about["Requires-Python"] = ">=99.1"
    monkeypatch.setattr(metadata, "metadata", lambda _: about)
    [found] = software.python()
    assert (found.status, found.advice) == ("problem", "vidvec needs Python 99.1 or later")


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("opencv-python-headless", "cv2"),
        ("faiss-cpu", "faiss"),
        ("google-crc32c", "google_crc32c"),
        ("protobuf", "google.protobuf"),
        ("av", "av"),
        ("torch", "torch"),
        ("huggingface_hub", "huggingface_hub"),
        ("no-such-package-anywhere", ""),
    ],
)
def test_the_module_of_a_package(package: str, module: str) -> None:
    assert software.module_of(package) == module


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms\n gone"), SystemExit(2)])
@pytest.mark.parametrize(
    ("package", "extra", "status", "advice"),
    [
        ("torchvision", "hf", "note", "pip uninstall torchvision"),
        ("av", "", "problem", "pip install --force-reinstall --no-deps av"),
    ],
)
def test_a_package_that_does_not_load(
    *,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    package: str,
    extra: str,
    status: str,
    advice: str,
) -> None:
    def broken(_: str) -> types.ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    [found] = software.load(package, package, extra)
    assert found.status == status
    assert type(error).__name__ in found.found
    assert "\n" not in found.found
    assert advice in found.advice


def test_a_package_that_loads() -> None:
    [found] = software.load("numpy", "numpy", "")
    assert found.status == "ok"


def test_a_gpu_beside_a_build_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "nvidia_driver", lambda: ("550.54.15", "NVIDIA A100"))
    [found] = software.torch_build()
    assert found.status == "note"
    assert "NVIDIA A100 is there (driver 550.54.15)" in found.found
    assert "install the PyTorch build for your CUDA version" in found.advice


def test_a_driver_too_old_for_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(machine, "nvidia_driver", lambda: ("470.1", ""))
    [found] = software.torch_build()
    assert found.status == "note"
    assert "too old" in found.found
    assert found.advice.startswith("update the driver")


def test_no_gpu_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "nvidia_driver", lambda: ("", ""))
    assert [finding.status for finding in software.torch_build()] == ["ok"]


class Hub(BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    yield address
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, "ok"), (401, "ok"), (404, "ok"), (503, "note")]
)
def test_a_hub_that_answers(
    hub: str, status: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "status", status)
    [found] = software.hub("2")
    assert found.status == verdict
    assert "HF_ENDPOINT: 127.0.0.1" in found.found


def test_a_hub_out_of_reach_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@127.0.0.1:9")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    [found] = software.hub("2")
    assert found.status == "note"
    assert "cannot be reached" in found.found
    assert "secret" not in found.found + found.advice
    monkeypatch.setattr(constants, "ENDPOINT", "file:///etc/passwd")
    [found] = software.hub("2")
    assert "no http(s) address" in found.found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    [found] = software.hub("2")
    assert "not asked" in found.found


def test_without_the_hubs_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    [found] = software.hub()
    assert found.status == "note"
    assert "vidvec[hf]" in found.advice
