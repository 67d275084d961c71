"""Results on disk: Markdown to read, JSON to compute with, a picture for the README."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.loader import StartUp
from benchmarks.measure import Comparison

LIBRARIES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "pyarrow", "tokenizers")
HEADER = "| | times faster | lowest–highest | plain | vidvec | rounds |\n|---|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Machine:
    """What it ran on.

    Attributes:
        processor: The model's name.
        cores: That this process may use.
        instructions: What PyTorch uses of the processor, such as ``AVX2``.
        memory_gib: All of it.
        system: Kernel and architecture.
        gpu: Its name, where one was measured.
    """

    processor: str
    cores: int
    instructions: str
    memory_gib: int
    system: str
    gpu: str = ""

    @property
    def slug(self) -> str:
        """For file names, such as ``2core-avx2``."""
        parts = [f"{self.cores}core", self.instructions, *([self.gpu] if self.gpu else [])]
        return "-".join("".join(filter(str.isalnum, part.lower())) for part in parts)


def this_machine(gpu: bool = False) -> Machine:
    """The machine at hand; its host name is nobody's business."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return Machine(
        processor=models[0] if models else platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        instructions=torch.backends.cpu.get_cpu_capability(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.machine()}",
        gpu=torch.cuda.get_device_name() if gpu else "",
    )


@dataclass(slots=True)
class Report:
    """Everything that a run found.

    Attributes:
        machine: What it ran on.
        command: That gives these figures.
        date: ISO.
        comparisons: Both sides of each.
        start: Opening a corpus of a million.
        cosine_errors: Of fusions, the largest difference from the float64 answer.
    """

    machine: Machine
    command: str
    date: str = field(default_factory=lambda: dt.date.today().isoformat())
    comparisons: list[Comparison] = field(default_factory=list)
    start: StartUp | None = None
    cosine_errors: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Medians as ``ratios``, and every round's seconds beside them."""
        measured = [
            {
                **asdict(each),
                "ratio": each.ratio,
                "lowest": min(each.ratios),
                "highest": max(each.ratios),
                "plain_per_second": each.speed(each.plain),
                "fast_per_second": each.speed(each.fast),
            }
            for each in self.comparisons
        ]
        return {
            "date": self.date,
            "command": self.command,
            "machine": asdict(self.machine),
            "versions": versions(),
            "ratios": self._ratios(),
            "comparisons": measured,
            "start": asdict(self.start) if self.start else None,
            "cosine_errors": self.cosine_errors,
        }

    def _ratios(self) -> dict[str, float]:
        """By name; beside the loader's ratio its videos a second, which is what is asked of it."""
        ratios = {each.name: round(each.ratio, 3) for each in self.comparisons}
        for each in self.comparisons:
            if each.name == "loader":
                ratios["loader_videos_per_s"] = round(each.speed(each.fast))
        return ratios

    def to_markdown(self) -> str:
        """The same as text."""
        machine = self.machine
        used = ", ".join(f"{name} {version}" for name, version in versions().items())
        gpu = f", {machine.gpu}" if machine.gpu else ""
        parts = [
            f"# Speeds, {self.date}, {machine.slug}\n\n    {self.command}",
            f"{machine.processor}, {machine.cores} cores, {machine.instructions}, "
            f"{machine.memory_gib} GiB{gpu}, {machine.system}. {used}. "
            f"{torch.get_num_threads()} threads.",
            "Both sides in turn in one run, each once beforehand; medians of the rounds. The plain "
            "side is `benchmarks/plain.py`: the published way on Hugging Face's `BertModel`, held "
            "to the published numbers by `tests/golden/test_plain.py`, which also holds vidvec's "
            "step to it. Both compute in float32 but where bf16 or int8 is named. An average "
            "video has 40 of the 68 positions. Steps include reading and masking.",
            "\n".join([HEADER, *map(table_row, self.comparisons)]),
            *self._fusion_lines(),
            *self._start_lines(),
        ]
        return "\n\n".join(parts) + "\n"

    def _fusion_lines(self) -> list[str]:
        if not self.cosine_errors:
            return []
        rows = [f"| {name} | {error:.1e} |" for name, error in self.cosine_errors.items()]
        return [
            "Fusion reads members block by block, in memory that does not depend on how many "
            "videos there are; scikit-learn runs once, on the whole matrix in memory. Largest "
            "difference of a cosine from the float64 answer, over 20,000 pairs:",
            "\n".join(["| | |\n|---|---|", *rows]),
        ]

    def _start_lines(self) -> list[str]:
        if self.start is None:
            return []
        start = self.start
        names = {
            "open_seconds": "corpus open",
            "first_batch_seconds": "first batch there (`Corpus`, `BatchBuilder`, 128 videos)",
            "process_seconds": "the same from the start of the process, imports included",
            "training_batch_seconds": "first batch of a pretraining, with the model made",
        }
        sizes = {
            "resident_bytes": "most memory up to the first batch, mapped files included",
            "anonymous_bytes": "of it not of files",
            "training_resident_bytes": "most memory up to the pretraining's first batch",
        }
        rows = [
            f"| {words} | {start.warm[name]:.2f} s | {start.cold[name]:.2f} s |"
            for name, words in names.items()
        ] + [
            f"| {words} | {start.warm[name] / 1e9:.2f} GB | {start.cold[name] / 1e9:.2f} GB |"
            for name, words in sizes.items()
        ]
        return [
            f"A corpus of {start.videos:,} videos in {start.shards} shards, opened in a fresh "
            f"process. Its frames have {start.frame_size} numbers instead of 1,536, which would "
            "be 57 GB; opening reads none. Cold: its files dropped from the page cache. Titles are "
            f"tokenized once ({start.tokenize_seconds:.0f} s) and kept beside the corpus.",
            "\n".join(["| | warm | cold |\n|---|---|---|", *rows]),
        ]


def versions() -> dict[str, str]:
    """Of Python and the libraries that matter."""
    return {
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def table_row(each: Comparison) -> str:
    """A comparison as a line of the table."""
    plain, fast = (
        f"{statistics.median(side):.3g} s ({each.speed(side):,.0f} {each.unit}/s)"
        for side in (each.plain, each.fast)
    )
    rounds = f"{len(each.plain)}" + (f" / {len(each.fast)}" * (len(each.plain) != len(each.fast)))
    spread = f"{min(each.ratios):.1f}–{max(each.ratios):.1f}"
    return f"| {each.what} | {each.ratio:.1f} | {spread} | {plain} | {fast} | {rounds} |"


def write(report: Report, folder: Path) -> Path:
    """Writes ``DATE-MACHINE.md`` and ``.json`` into ``folder``; returns the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.date}-{report.machine.slug}.md"
    path.write_text(report.to_markdown(), "utf-8")
    text = json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n"
    path.with_suffix(".json").write_text(text, "utf-8")
    return path
