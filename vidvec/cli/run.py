"""The command that runs a whole plan: run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vidvec.cli.shared import SetOption, err, out
from vidvec.errors import VidvecError

if TYPE_CHECKING:
    from vidvec.pipeline.estimate import Estimate
    from vidvec.pipeline.plan import Stage
    from vidvec.pipeline.run import Forecast, PlanReport
    from vidvec.pipeline.runner import State


def run(
    plan: str,
    /,
    *,
    data: Path,
    to: Annotated[Path | None, Parameter(name="--out")] = None,
    settings: SetOption = [],  # noqa: B006 - never changed
    strict: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Do a whole plan: ingest, each job's training and vectors, fusions, table, submission.

    What is done already, with the same data and settings, is not done again; started again after
    it was stopped or killed, it carries on.

    Args:
        plan: Name or path of a plan, such as aiac2021/all, or of a single recipe.
        data: The competition's folder: pointwise, pairwise, test_a, test_b, tag_list.txt.
        to: Folder for everything that is made; by default runs/NAME.
        settings: Settings over every recipe's, such as --set model.init=FOLDER.
        strict: Stop at the first record or row that cannot be used.
        dry_run: Print the stages with estimated time and disk, and run nothing.
    """
    from vidvec import console
    from vidvec.pipeline.plan import load_plan
    from vidvec.pipeline.run import default_devices, forecast, run_plan

    loaded, jobs = load_plan(plan, settings)
    folder = to or Path("runs") / loaded.name.replace("/", "-")
    if dry_run:
        expected = forecast(jobs, data, folder, strict)
        out.print(console.plan(expected))
        _print_needs(expected, folder, len(default_devices()))
        return
    with _watching() as watch:
        report = run_plan(loaded, jobs, data, folder, strict=strict, watch=watch)
    _print_report(report, folder)


def _print_needs(expected: Forecast, folder: Path, devices: int) -> None:
    """The whole plan's time and disk, and what is known to be missing."""
    from vidvec import console

    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    hours = console.duration(expected.seconds / devices)
    out.print(
        f"about {hours} on {devices} device{'s' * (devices > 1)}, "
        f"{expected.bytes / 1e9:.1f} GB of {free / 1e9:.0f} GB free",
        highlight=False,
    )
    for part in expected.missing_parts:
        out.print(f"no folder {part}: the plan goes on without it", highlight=False)
    if expected.bytes > free:
        raise VidvecError(f"{folder}: {expected.bytes / 1e9:.1f} GB needed, {free / 1e9:.1f} free")


Watcher = Callable[["Sequence[Stage]", "Mapping[str, Estimate]"], Callable[["State", str], None]]


@contextmanager
def _watching() -> Iterator[Watcher]:
    """Lines as stages begin and end; in a terminal a bar over the whole plan besides."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from vidvec import console
    from vidvec.pipeline.run import seconds_left

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:

        def watch(
            stages: Sequence[Stage], guesses: Mapping[str, Estimate]
        ) -> Callable[[State, str], None]:
            task = bar.add_task("", total=len(stages))
            known = {stage.name for stage in stages}

            def on_change(state: State, name: str) -> None:
                done = len(known & state.done.keys())
                seconds = seconds_left(stages, guesses, state, time.monotonic())
                left = f", about {console.duration(seconds)} left" if guesses else ""
                running = ", ".join(f"{n} {share:.0%}" for n, share in state.running.items())
                bar.update(
                    task,
                    completed=done + sum(state.running.values()),
                    description=f"{done} of {len(stages)} · {running}{left}",
                )
                if name and name not in state.blocked:  # those are told together in the end
                    line = console.stage_line(state, name)
                    line += f"  ({done} of {len(stages)}{left})"
                    out.print(line, soft_wrap=True, highlight=False)

            return on_change

        yield watch


def _print_report(report: PlanReport, folder: Path) -> None:
    from vidvec import console

    left_out = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
    if left_out:
        out.print(f"left out at ingest: {left_out} (named in the corpus's rejects.jsonl)")
    if report.rows:
        out.print(console.plan_table(report.rows))
    if report.submission:
        out.print(f"submission: {report.submission}", soft_wrap=True, highlight=False)
    for failure in report.failures:
        err.print(console.failure(failure), soft_wrap=True, highlight=False)
    for cause in dict.fromkeys(report.blocked.values()):
        waiting = ", ".join(name for name, why in report.blocked.items() if why == cause)
        err.print(f"not run, as {cause} failed: {waiting}", soft_wrap=True, highlight=False)
    if report.failures:
        names = ", ".join(failure.stage.name for failure in report.failures)
        raise VidvecError(
            f"failed: {names}; mended, the same command does what is left in {folder}"
        )
