"""The command that says what a number of videos costs: plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vidvec.cli.shared import SetOption, out, print_json


def plan(
    *,
    videos: float = 1e6,
    gpus: float | None = None,
    cores: float | None = None,
    assume: Path | None = None,
    settings: SetOption = [],  # noqa: B006 - never changed
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Say what videos cost on machines: bytes, hours, machines and money of each stage.

    A model with rates that were measured on one machine, and prices that are examples: give your
    own. docs/scale.md says where each number comes from and what the model was held to.

    Args:
        videos: How many, such as 1e9.
        gpus: In all; 0: none, cores do their work.
        cores: In all.
        assume: TOML file with numbers of your own, as --json prints them.
        settings: Numbers of your own, such as --set machines.memory_gb=512.
        as_json: Print JSON.
    """
    from vidvec import console_scale
    from vidvec.errors import UsageError
    from vidvec.pipeline.scale.assumptions import load_assumptions
    from vidvec.pipeline.scale.limits import limits
    from vidvec.pipeline.scale.stages import stage_costs

    if not 1 <= videos <= 1e15:
        raise UsageError(f"--videos {videos:g}: expected 1 … 1e15")
    fleet = {"gpus": gpus, "cores": cores}
    given = [f"machines.{name}={value}" for name, value in fleet.items() if value is not None]
    known = load_assumptions(assume, [*settings, *given])
    costs, ends = stage_costs(videos, known), limits(known)
    scales = {each: stage_costs(each, known) for each in (1e6, 1e8, 1e10)}
    if as_json:
        print_json(
            {
                "videos": videos,
                "stages": [asdict(cost) | {"bound_by": cost.bound_by} for cost in costs],
                "limits": [asdict(limit) for limit in ends],
                "assumptions": known.model_dump(),
            }
        )
        return
    for part in console_scale.forecast(videos, costs, scales, ends, known):
        out.print(part)
