"""The machine: cores, instructions, memory, disk, limits, locale."""

from __future__ import annotations

import locale
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vidvec.doctor.findings import Finding, Status

SHARED = Path("/dev/shm")  # noqa: S108 - the system's, looked at only
WRITTEN = 64 * 2**20
LITTLE_DISK, LITTLE_MEMORY, LITTLE_SHARED = 10 * 2**30, 4 * 2**30, 64 * 2**20
NO_DISK = 500 * 2**20
SLOW_DISK = 50e6
FEW_FILES = 1024
FASTER = 1.15  # of a backend against float32, else the difference is noise
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def gib(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"


def nvidia_driver() -> tuple[str, str]:
    """Version of the NVIDIA driver and names of the cards, as the system tells; else empty."""
    version = Path("/proc/driver/nvidia/version")
    found = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", version.read_text()) if version.is_file() else None
    driver = found[1] if found else ""
    program = shutil.which("nvidia-smi")
    if program is None:
        return driver, ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return driver, ""
    cards = [line.split(",") for line in done.stdout.splitlines() if "," in line]
    return driver or (cards[0][1].strip() if cards else ""), ", ".join(c[0] for c in cards)


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores that this process may use: of its affinity, and of its container's quota."""
    cores = float(os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    words = quota.read_text().split() if quota.is_file() else []
    if len(words) == 2 and words[0] != "max":
        cores = min(cores, int(words[0]) / int(words[1]))
    return cores


def threads() -> Iterator[Finding]:
    """How many threads libraries start, against the cores there are."""
    import torch

    cores, started = usable_cores(), torch.get_num_threads()
    fits = max(1, round(cores))
    given = [f"{name}={os.environ[name]}" for name in _THREADS if os.environ.get(name)]
    found = f"{cores:g} cores to use, PyTorch starts {started} threads"
    found += f" ({', '.join(given)})" if given else ""
    if started > fits:
        yield Finding(
            "threads", "note", found, f"set OMP_NUM_THREADS={fits}: more get in each other's way"
        )
    elif started < fits / 2:
        yield Finding("threads", "note", found, f"set OMP_NUM_THREADS={fits} to use them all")
    else:
        yield Finding("threads", "ok", found)


def instructions(text: str) -> list[str]:
    """Those of a CPU's instruction sets that matter here, of what ``/proc/cpuinfo`` says."""
    flags = set(re.findall(r"\w+", text))
    return [name for name in _INSTRUCTIONS if name in flags]


def cpu() -> Iterator[Finding]:
    """Instruction sets, and which backend is fastest for a product of this size."""
    import torch

    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8", "replace") if info.is_file() else ""
    model = re.search(r"model name\s*:\s*(.+)", text)
    have = instructions(text) or [f"PyTorch runs {torch.backends.cpu.get_cpu_capability()}"]
    speeds = _backend_speeds()
    named = ", ".join(f"{name} {speed:.1f}×" for name, speed in speeds.items())
    found = f"{model[1].strip() + ': ' if model else ''}{', '.join(have)}; {named}"
    best = max(speeds, key=lambda name: speeds[name])
    advice = ""
    if speeds[best] > FASTER and not torch.cuda.is_available():
        advice = f"vidvec embed --backend {best} is likely the fastest here; it says what it costs"
    yield Finding("CPU", "ok", found, advice)


def _backend_speeds() -> dict[str, float]:
    """Speed of a product of 1024 tokens by 768 × 3072 in each backend, float32 as 1."""
    import warnings

    import torch

    layer, tokens = torch.nn.Linear(768, 3072).eval(), torch.randn(1024, 768)
    seconds = {"float32": _seconds(lambda: layer(tokens))}

    def in_bfloat16() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            layer(tokens)

    seconds["bf16"] = _seconds(in_bfloat16)
    try:
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = quantize_dynamic(  # type: ignore[no-untyped-call]
                torch.nn.Sequential(layer), {torch.nn.Linear: per_channel_dynamic_qconfig}
            )
        seconds["int8"] = _seconds(lambda: small(tokens))
    except (RuntimeError, ImportError):
        pass  # no int8 products on this machine
    return {name: seconds["float32"] / each for name, each in seconds.items()}


def _seconds(run: Callable[[], object]) -> float:
    """The shortest of some runs, after one that does not count."""
    import torch

    taken = []
    with torch.inference_mode():
        for _ in range(8):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return min(taken[1:])


def memory_sizes(
    info: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> tuple[int, int]:
    """Bytes of memory and of what is free of it, a container's limit heeded; 0 where not known."""
    fields = {}
    if info.is_file():
        fields = {
            line.split(":")[0]: int(line.split()[1]) * 1024
            for line in info.read_text().splitlines()
            if len(line.split()) > 1 and line.split()[1].isdigit()
        }
    whole, free = fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
    bound = limit.read_text().strip() if limit.is_file() else "max"
    if bound.isdigit():
        whole, free = min(whole, int(bound)), min(free, int(bound))
    return whole, free


def memory() -> Iterator[Finding]:
    """Memory that there is, and what is free of it."""
    whole, free = memory_sizes()
    if not whole:
        yield Finding("memory", "note", "this system does not say how much there is")
        return
    found = f"{gib(free)} of {gib(whole)} free"
    if free < LITTLE_MEMORY:
        advice = "fewer --workers, a smaller batch, or close other programs"
        yield Finding("memory", "note", found, advice)
    else:
        yield Finding("memory", "ok", found)


def limits() -> Iterator[Finding]:
    """Open files, and memory that processes share."""
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEW_FILES:
        yield Finding("open files", "note", f"{soft} at most", f"ulimit -n {min(4096, hard)}")
    else:
        yield Finding("open files", "ok", "no limit" if soft < 0 else f"{soft:,} at most")
    if SHARED.is_dir():
        size = shutil.disk_usage(SHARED).total
        if size <= LITTLE_SHARED:
            advice = "in a container: --shm-size=1g, where worker processes stop with a bus error"
            yield Finding(str(SHARED), "note", gib(size), advice)
        else:
            yield Finding(str(SHARED), "ok", gib(size))


def text_encoding() -> Iterator[Finding]:
    """Whether names of files and what is printed are UTF-8."""
    # The interpreter's own pipes are set by vidvec; what counts is what other programs get.
    names, files = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    found = f"file names {names}, text {files}, LANG={os.environ.get('LANG', 'not set')}"
    plain = {name.lower().replace("-", "") for name in (names, files)}
    if plain <= {"utf8"}:
        yield Finding("text", "ok", found)
    else:
        yield Finding("text", "note", found, "export LANG=C.UTF-8, or PYTHONUTF8=1")


def disk(folder: str) -> Iterator[Finding]:
    """Free space of a folder, and how fast it is written to.

    Args:
        folder: Where corpora and runs are to go; where it is not there yet, its nearest parent.
    """
    path = Path(folder).absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    free = shutil.disk_usage(path).free
    name = f"disk {path}"
    if not os.access(path, os.W_OK):
        found = f"{gib(free)} free, but this user may not write there"
        yield Finding(name, "problem", found, "give a folder of yours with --folder")
        return
    if free < NO_DISK:
        yield Finding(name, "problem", f"{gib(free)} free", "make room, or give another --folder")
        return
    try:
        speed = _write_speed(path)
    except OSError as error:
        advice = "give another folder with --folder"
        yield Finding(name, "problem", f"{gib(free)} free, writing fails: {error}", advice)
        return
    found = f"{gib(free)} free, {speed / 1e6:,.0f} MB/s written"
    status: Status = "ok"
    advice = ""
    if free < LITTLE_DISK:
        status, advice = "note", "a corpus takes about 40 KB a video with classic frames"
    elif speed < SLOW_DISK:
        status, advice = "note", "slow for a corpus: a local disk is better than a network's"
    yield Finding(name, status, found, advice)


def _write_speed(folder: Path) -> float:
    """Bytes a second, forced to the disk; the file is gone afterwards."""
    block = os.urandom(2**20)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(WRITTEN // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return WRITTEN / (time.perf_counter() - start)
