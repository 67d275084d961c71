"""Which checks there are, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from vidvec.doctor import software
from vidvec.doctor.findings import Check, Finding, run_checks

SIDE_BY_SIDE = 2


def checks(paths: Sequence[Path], folder: Path, *, offline: bool) -> list[Check]:
    """The checks of a machine.

    Args:
        paths: Corpora, runs, checkpoints, vectors to open.
        folder: Where data is to go.
        offline: Do not ask the hub.
    """
    code = "vidvec.doctor.software"
    machine = "vidvec.doctor.machine"
    found = [
        Check("Python", f"{code}:python", basic=True),
        Check("packages", f"{code}:packages", basic=True),
        *_loads(),
        Check("torch", f"{code}:torch_build", seconds=120, basic=True),
        Check("CPU", f"{machine}:cpu", seconds=120, alone=True),
        Check("threads", f"{machine}:threads", seconds=120),
        Check("decoders", "vidvec.doctor.decoders:decoders", basic=True),
        Check("memory", f"{machine}:memory"),
        Check("disk", f"{machine}:disk", (str(folder),), seconds=120, basic=True, alone=True),
        Check("limits", f"{machine}:limits"),
        Check("text", f"{machine}:text_encoding"),
    ]
    if not offline:
        # The connection has its own limit; names that do not resolve may take longer.
        found.append(Check("hub", f"{code}:hub", seconds=4 * software.HUB_SECONDS))
    if paths:
        given = tuple(map(str, paths))
        found.append(
            Check("folders", "vidvec.doctor.folders:folders", given, seconds=300, basic=True)
        )
    return found


def _loads() -> Iterator[Check]:
    """An import of each package that is there and asked for, or loaded by one that is."""
    try:
        wanted = {each.name: each.extra for each in software.requirements()}
    except metadata.PackageNotFoundError:
        return
    for package, extra in (software.BYSTANDERS | wanted).items():
        module = software.module_of(package)
        if module:
            target, basic = "vidvec.doctor.software:load", not extra
            arguments = (package, module, extra)
            yield Check(f"load {package}", target, arguments, seconds=120, basic=basic)


def examine(paths: Sequence[Path], folder: Path, *, offline: bool) -> Iterator[Finding]:
    """Looks at the machine; what is found comes as soon as it is known, in the order of the report.

    Packages that load are one finding; each that does not is its own.

    Args:
        paths: Corpora, runs, checkpoints, vectors to open.
        folder: Where data is to go.
        offline: Do not ask the hub.
    """
    to_run = checks(paths, folder, offline=offline)
    loaded: list[str] = []
    loading = False
    for check, findings in zip(to_run, run_checks(to_run, SIDE_BY_SIDE), strict=True):
        imports = check.target.endswith(":load")
        if loading and not imports and loaded:
            yield Finding("loading", "ok", f"{', '.join(loaded)} load")
        loading = imports
        for finding in findings:
            if imports and finding.status == "ok":
                loaded.append(check.arguments[0])
            else:
                yield finding
