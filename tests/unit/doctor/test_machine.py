"""What the system says, as made files say it; limits that are near; a disk that is full."""

from __future__ import annotations

import locale
import os
import resource
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vidvec.doctor import machine
from vidvec.doctor.findings import Finding

GIB = 2**30


def only(found: Iterable[Finding]) -> Finding:
    [finding] = found
    return finding


@pytest.mark.parametrize(
    ("count", "said"),
    [(512 * 1024, "512 KiB"), (3 * 2**20, "3.0 MiB"), (1.5 * GIB, "1.5 GiB"), (2**41, "2.0 TiB")],
)
def test_sizes(count: float, said: str) -> None:
    assert machine.gib(count) == said


def test_cores_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    quota = tmp_path / "cpu.max"
    assert machine.usable_cores(quota) == 16
    quota.write_text("max 100000\n")
    assert machine.usable_cores(quota) == 16
    quota.write_text("250000 100000\n")
    assert machine.usable_cores(quota) == 2.5


@pytest.mark.parametrize(
    ("cores", "started", "status", "advice"),
    [
        (4, 4, "ok", ""),
        (4, 64, "note", "set OMP_NUM_THREADS=4: more get in each other's way"),
        (16, 1, "note", "set OMP_NUM_THREADS=16 to use them all"),
        (0.5, 1, "ok", ""),
    ],
)
def test_threads(
    monkeypatch: pytest.MonkeyPatch, cores: float, started: int, status: str, advice: str
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: started)
    monkeypatch.setenv("OMP_NUM_THREADS", str(started))
    found = only(machine.threads())
    assert (found.status, found.advice) == (status, advice)
    assert f"OMP_NUM_THREADS={started}" in found.found


def test_instruction_sets() -> None:
    text = "flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_tile amx_int8\n"
    assert machine.instructions(text) == ["avx2", "avx512f", "avx512_vnni", "amx_int8"]


@pytest.mark.parametrize(
    ("speeds", "advice"),
    [
        ({"float32": 1.0, "bf16": 0.2, "int8": 1.7}, "--backend int8"),
        ({"float32": 1.0, "bf16": 4.0, "int8": 1.7}, "--backend bf16"),
        ({"float32": 1.0, "bf16": 0.2, "int8": 1.05}, ""),
    ],
)
def test_the_fastest_backend_is_recommended(
    monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float], advice: str
) -> None:
    monkeypatch.setattr(machine, "_backend_speeds", lambda: speeds)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = only(machine.cpu())
    assert found.status == "ok"
    assert advice in found.advice
    assert bool(advice) == bool(found.advice)


def test_backends_are_measured_here() -> None:
    speeds = machine._backend_speeds()
    assert speeds["float32"] == 1
    assert {"float32", "bf16"} <= set(speeds) <= {"float32", "bf16", "int8"}
    assert all(speed > 0 for speed in speeds.values())


def test_memory_of_a_container(tmp_path: Path) -> None:
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    assert machine.memory_sizes(info, limit) == (0, 0)
    info.write_text("MemTotal:  16777216 kB\nMemFree: 1 kB\nMemAvailable:  8388608 kB\nHuge: 0\n")
    assert machine.memory_sizes(info, limit) == (16 * GIB, 8 * GIB)
    limit.write_text("max\n")
    assert machine.memory_sizes(info, limit) == (16 * GIB, 8 * GIB)
    limit.write_text(f"{2 * GIB}\n")
    assert machine.memory_sizes(info, limit) == (2 * GIB, 2 * GIB)


@pytest.mark.parametrize(
    ("sizes", "status"), [((16 * GIB, 8 * GIB), "ok"), ((16 * GIB, GIB), "note"), ((0, 0), "note")]
)
def test_memory(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], status: str) -> None:
    monkeypatch.setattr(machine, "memory_sizes", lambda: sizes)
    assert only(machine.memory()).status == status


def test_open_files_and_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "SHARED", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=64 * 2**20))
    files, shared = machine.limits()
    assert (files.status, files.advice) == ("note", "ulimit -n 4096")
    assert shared.status == "note"
    assert "--shm-size" in shared.advice
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=GIB))
    assert [finding.status for finding in machine.limits()] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("encoding", "status"), [("UTF-8", "ok"), ("utf8", "ok"), ("ANSI_X3.4-1968", "note")]
)
def test_text(monkeypatch: pytest.MonkeyPatch, encoding: str, status: str) -> None:
    monkeypatch.setattr(locale, "getpreferredencoding", lambda _: encoding)
    found = only(machine.text_encoding())
    assert found.status == status
    assert (status == "ok") != ("LANG=C.UTF-8" in found.advice)


def test_disk_of_a_folder_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "WRITTEN", 2**20)
    monkeypatch.setattr(machine, "SLOW_DISK", 0)
    found = only(machine.disk(str(tmp_path / "not" / "there" / "yet")))
    assert found.name == f"disk {tmp_path}"
    assert "MB/s written" in found.found
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    ("free", "speed", "status", "said"),
    [
        (100 * GIB, 500e6, "ok", "100.0 GiB free, 500 MB/s"),
        (100 * GIB, 5e6, "note", "5 MB/s"),
        (5 * GIB, 500e6, "note", "5.0 GiB free"),
        (2**20, 500e6, "problem", "1.0 MiB free"),
    ],
)
def test_a_disk_that_is_full_or_slow(
    *,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    free: int,
    speed: float,
    status: str,
    said: str,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(machine, "_write_speed", lambda _: speed)
    found = only(machine.disk(str(tmp_path)))
    assert found.status == status
    assert said in found.found
    assert bool(found.advice) == (status != "ok")


def test_a_disk_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(_: Path) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * GIB))
    monkeypatch.setattr(machine, "_write_speed", full)
    found = only(machine.disk(str(tmp_path)))
    assert found.status == "problem"
    assert "No space left" in found.found
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "may not write there" in only(machine.disk(str(tmp_path))).found


def test_a_driver_is_read_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    text = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar\nGCC version: 12.3.0\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert machine.nvidia_driver() == ("550.54.15", "")
