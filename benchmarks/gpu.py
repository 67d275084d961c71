"""What a GPU makes of vidvec: whether it computes the same, and how fast.

    python -m benchmarks.gpu                    24 × 1024 and 12 × 768, some minutes
    python -m benchmarks.gpu --tiny             the same code on whatever is there, in seconds

Needs no network and no data; ``transformers`` for the plain side. Prints tables, and writes them to
``gpu.md`` and ``gpu.json`` in ``--out`` (else the folder that ``$OUT`` names, else this one). What
fails is reported, and the rest goes on. ``python -m benchmarks.run --gpu`` takes ``compare_gpu``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.corpus import make_corpus
from benchmarks.gpu_checks import Check, check_groups, on_the_grid
from benchmarks.gpu_speed import (
    Bench,
    Timing,
    Work,
    embedding,
    graphed_training,
    matrix_rates,
    measure,
    training,
)
from benchmarks.measure import Comparison
from vidvec.train.finetune import FinetuneTask
from vidvec.train.pretrain import PretrainTask

SIZES = (("large", "24 × 1024"), ("base", "12 × 768"))
BATCHES = (64, 256, 512)
# Videos a second at 24 × 1024 on one H200, 40 of 68 positions real; and their share of the measured
# bfloat16 matrix rate, and times the plain way.
TARGETS = {
    "pretrain": 5000.0,
    "pretrain, padding counted": 3000.0,
    "finetune": 3300.0,
    "embed": 10000.0,
}
TARGET_SHARE, TARGET_RATIO = 0.45, 6.0
Maker = Callable[[Bench], Work]


@dataclass(slots=True)
class Findings:
    """Everything that a run found.

    Attributes:
        machine: What it ran on.
        rates: Of square matrix products, a second, by precision.
        checks: Comparisons.
        timings: By model's label and row.
        failures: What went wrong, by section.
        skipped: Sections for which no time was left.
    """

    machine: dict[str, str]
    rates: dict[str, float] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def timing(self, name: str, label: str) -> Timing | None:
        """A row that was measured."""
        rows = (row for row in self.timings if (row.name, row.label) == (name, label))
        return next(rows, None)

    def targets(self) -> list[tuple[str, float, float]]:
        """What was aimed at, the aim, and what came out, as far as it was measured."""
        label, rows = SIZES[0][1], []
        for name, aim in TARGETS.items():
            if row := self.timing(name, label):
                rows.append((f"{name}, videos/s", aim, row.videos_per_second))
        main, plain = self.timing("pretrain", label), self.timing("plain: pretrain", label)
        if main and self.rates:
            share = main.row(self.rates["bf16"])["share"]
            rows.append(("pretrain, share of the bf16 rate", TARGET_SHARE, share))
        if main and plain:
            ratio = main.videos_per_second / plain.videos_per_second
            rows.append(("pretrain, times plain", TARGET_RATIO, ratio))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Figures as they are."""
        rate = self.rates.get("bf16", float("nan"))
        return {
            "machine": self.machine,
            "products_per_second": self.rates,
            "checks": [{**asdict(check), "holds": check.holds} for check in self.checks],
            "speeds": [row.row(rate) for row in self.timings],
            "targets": [
                {"name": name, "aim": aim, "found": found} for name, aim, found in self.targets()
            ],
            "failures": self.failures,
            "skipped": self.skipped,
        }

    def to_markdown(self) -> str:
        """The same to be read: failures first, then speeds."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        rates = ", ".join(f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in self.rates.items())
        parts = [f"# vidvec on a GPU\n\n{machine}\n\nMatrix products: {rates}"]
        parts += [
            f"FAILED {name}:\n\n```\n{text.strip()}\n```" for name, text in self.failures.items()
        ]
        if self.skipped:
            parts.append(f"No time left for: {', '.join(self.skipped)}")
        wrong = [check for check in self.checks if not check.holds]
        parts.append(f"{len(self.checks) - len(wrong)} of {len(self.checks)} checks hold.")
        parts += [_table("check | found | allowed", [_check_row(check) for check in wrong])] * bool(
            wrong
        )
        rate = self.rates.get("bf16", float("nan"))
        header = "model | what | videos/s | lowest–highest | tokens/s | of bf16 rate | peak GB"
        parts.append(_table(header, [_speed_row(row.row(rate)) for row in self.timings]))
        rows = [f"{name} | {aim:,.6g} | {found:,.6g}" for name, aim, found in self.targets()]
        parts.append(_table("target | aim | found", rows))
        return "\n\n".join(parts) + "\n"


def _table(header: str, rows: list[str]) -> str:
    rule = " | ".join(["---"] * (header.count("|") + 1))
    return "\n".join(f"| {line} |" for line in [header, rule, *rows])


def _check_row(check: Check) -> str:
    return f"{check.name} | {check.found:.3g} | {check.allowed:.3g}"


def _speed_row(row: dict[str, Any]) -> str:
    return (
        f"{row['model']} | {row['name']} | {row['videos_per_second']:,.0f} | "
        f"{row['lowest']:,.0f}–{row['highest']:,.0f} | {row['tokens_per_second']:,.0f} | "
        f"{row['share']:.1%} | {row['peak_gb']:.1f}"
    )


def main_rows(bench: Bench) -> dict[str, tuple[Bench, Maker]]:
    """What vidvec is measured by, the most wanted first."""
    bf16, tf32 = {"precision": "bf16"}, {"precision": "float32"}
    return {
        "pretrain": (bench, training(PretrainTask, **bf16)),
        "embed": (bench, embedding(backend="bf16")),
        "finetune": (bench, training(FinetuneTask, **bf16)),
        "pretrain, padding counted": (
            bench,
            training(PretrainTask, count_padding=True, **bf16),
        ),
        "pretrain, float32": (bench, training(PretrainTask, **tf32)),
        "finetune, float32": (bench, training(FinetuneTask, **tf32)),
        "embed, float32": (bench, embedding(backend="float32")),
    }


def plain_rows(bench: Bench) -> dict[str, tuple[Bench, Maker]]:
    """What it is measured against.

    Raises:
        ImportError: ``transformers`` is missing.
    """
    from benchmarks import gpu_plain

    return {
        "plain: pretrain": (bench, gpu_plain.pretraining),
        "plain: finetune": (bench, gpu_plain.finetuning),
        "plain: embed": (bench, gpu_plain.embedding),
    }


def option_rows(bench: Bench, batches: tuple[int, ...]) -> dict[str, tuple[Bench, Maker]]:
    """What else was tried."""
    bf16 = {"precision": "bf16"}
    rows: dict[str, tuple[Bench, Maker]] = {
        "pretrain, fed from the corpus": (bench, training(PretrainTask, fed=True, **bf16)),
        "finetune, fed from the corpus": (bench, training(FinetuneTask, fed=True, **bf16)),
        "embed, fed from the corpus": (bench, embedding(fed=True, backend="bf16")),
        "pretrain, attention on the grid": (bench, _on_the_grid(training(PretrainTask, **bf16))),
        "pretrain, padding counted, attention on the grid": (
            bench,
            _on_the_grid(training(PretrainTask, count_padding=True, **bf16)),
        ),
        "pretrain, checkpointing": (bench, training(PretrainTask, checkpointing=True, **bf16)),
        "pretrain, no dropout": (bench, training(PretrainTask, dropout=0.0, **bf16)),
    }
    for videos in batches:
        other = replace(bench, batch=videos)
        rows[f"pretrain, batch {videos}"] = (other, training(PretrainTask, **bf16))
        rows[f"embed, batch {videos}"] = (other, embedding(backend="bf16"))
    return rows


def gpu_rows(bench: Bench) -> dict[str, tuple[Bench, Maker]]:
    """What takes a GPU, or too long to compile without one."""
    compiled = {"precision": "bf16", "compile": True}
    return {
        "pretrain, compile": (bench, training(PretrainTask, **compiled)),
        "finetune, compile": (bench, training(FinetuneTask, **compiled)),
        f"pretrain, batch {BATCHES[-1]}, compile": (
            replace(bench, batch=BATCHES[-1]),
            training(PretrainTask, **compiled),
        ),
        "pretrain, CUDA graph of one batch": (bench, graphed_training),
    }


def _on_the_grid(make: Maker) -> Maker:
    def made(bench: Bench) -> Work:
        work = make(bench)

        def run() -> None:
            with on_the_grid():
                work.run()

        return replace(work, run=run)

    return made


class Session:
    """Runs sections one after the other; keeps what they find, and what went wrong.

    Args:
        findings: To be filled.
        seconds: After which no further section is begun.
    """

    def __init__(self, findings: Findings, seconds: float) -> None:
        self._findings, self._ends = findings, time.monotonic() + seconds

    def section(self, name: str, act: Callable[[], object]) -> None:
        """Does it, if there is time; an error is noted, and the memory freed."""
        if time.monotonic() > self._ends:
            self._findings.skipped.append(name)
            return
        began = time.monotonic()
        try:
            act()
        except Exception as error:
            self._findings.failures[name] = traceback.format_exc(limit=-6)
            error.__traceback__ = None
            print(f"FAILED {name}: {error}", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"{time.monotonic() - began:6.1f} s  {name}", flush=True)

    def rows(self, rows: dict[str, tuple[Bench, Maker]]) -> None:
        """Measures rows."""
        for name, (bench, make) in rows.items():
            self.section(
                f"{bench.label}: {name}", lambda n=name, b=bench, m=make: self._row(n, b, m)
            )

    def _row(self, name: str, bench: Bench, make: Maker) -> None:
        timing = measure(name, bench, make)
        self._findings.timings.append(timing)
        rate = self._findings.rates.get("bf16", float("nan"))
        print(_speed_row(timing.row(rate)), flush=True)


def run(options: argparse.Namespace, folder: Path) -> Findings:
    """All sections, the most wanted first."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tiny = options.tiny
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"
    machine = {"device": name, "torch": torch.__version__, "Python": platform.python_version()}
    findings = Findings(machine)
    session = Session(findings, 60 * options.minutes)
    videos, wide = (96, {"frame_size": 24}) if tiny else (4096, {})
    corpus = make_corpus(folder / "corpus", videos, pairs=videos, **wide)
    size = 256 if tiny else 8192
    session.section("matrix rates", lambda: findings.rates.update(matrix_rates(device, size)))
    for group, check in check_groups(corpus, device).items():
        session.section(f"checks: {group}", lambda c=check: findings.checks.extend(c()))
    benches = [Bench(device, corpus, *each) for each in SIZES]
    batches = BATCHES
    if tiny:
        benches = [Bench(device, corpus, "tiny", "2 × 128", batch=4, pairs=2, steps=2, rounds=1)]
        batches = (6,)
    for bench in benches:
        session.rows(main_rows(bench))
        session.section(f"{bench.label}: plain side", lambda b=bench: session.rows(plain_rows(b)))
    session.rows(option_rows(benches[0], batches))
    if device.type == "cuda":
        session.rows(gpu_rows(benches[0]))
    return findings


def compare_gpu(folder: Path, rounds: int) -> Iterator[Comparison]:
    """For ``benchmarks.run``: vidvec's bfloat16 against the plain way's TF32, one after the other.

    Args:
        folder: For the made corpus.
        rounds: How often each side is timed.
    """
    corpus = make_corpus(folder / "gpu", 4096, pairs=4096)
    for size in SIZES:
        bench = Bench(torch.device("cuda"), corpus, *size, rounds=rounds)
        rows = {**main_rows(bench), **plain_rows(bench)}
        wanted = [name for name in rows if name in TARGETS or name.startswith("plain")]
        seconds = {name: measure(name, *rows[name]) for name in wanted}
        for name in TARGETS:
            plain = seconds[f"plain: {name.split(',')[0]}"]
            key = f"gpu_{name.replace(', ', '_').replace(' ', '_')}_{size[1].replace(' × ', 'x')}"
            what = f"{name}, {size[1]}, GPU, bfloat16 against TF32"
            fast = seconds[name]
            yield Comparison(key, what, plain.seconds, fast.seconds, fast.videos)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--minutes", type=float, default=8.0, help="begin nothing after these")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> Findings:
    """Measures, prints, writes."""
    options = arguments(given)
    with tempfile.TemporaryDirectory() as folder:
        findings = run(options, Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(findings.to_json(), ensure_ascii=False, indent=1) + "\n"
    (options.out / "gpu.json").write_text(text, "utf-8")
    (options.out / "gpu.md").write_text(findings.to_markdown(), "utf-8")
    print("\n" + findings.to_markdown())
    return findings


if __name__ == "__main__":
    main()
