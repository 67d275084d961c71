"""A run's checkpoints: all that exact resumption needs, there whole or not at all.

    RUN/
      run.json               which checkpoint is last, which is best, and the best score
      checkpoints/step-N/    a checkpoint (see ``vidvec.model.weights``) and state/
      metrics.jsonl          one line a logged step or validation
      tensorboard/           the same as curves

``run.json`` is replaced by rename after a checkpoint is complete, so a run killed at any moment has
its last complete checkpoint. Only the last and the best are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vidvec import storage
from vidvec.errors import FormatError
from vidvec.model.adapter import has_low_rank
from vidvec.model.shards import laid_out_like, whole
from vidvec.model.weights import RUN_FILE, VideoModel, put_weights, read_tensors, save_model
from vidvec.train.averaging import WeightAverage

STAGE_FILE = "stage.safetensors"


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Steps done.
        best: Lowest validation score so far, ``None`` before the first.
        best_step: When that was.
        metrics_bytes: Length of ``metrics.jsonl`` that belongs to the steps done.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    metrics_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WholeState:
    """A training's state put together out of shards, on the CPU.

    Attributes:
        weights: That are trained, by name.
        mean: Of them over steps, where there is one.
        moments: Of the optimizer, as ``optimizer_tensors`` gives them.
    """

    weights: dict[str, torch.Tensor]
    mean: dict[str, torch.Tensor] | None
    moments: dict[str, torch.Tensor]


def save_checkpoint(
    run: Path,
    model: VideoModel,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    facts: dict[str, Any],
    *,
    average: WeightAverage | None = None,
    more: dict[str, torch.Tensor] | None = None,
    together: WholeState | None = None,
) -> None:
    """Writes the checkpoint of ``progress.step`` and points ``run.json`` at it.

    Args:
        run: The run's folder.
        model, optimizer, progress: Their state now.
        facts: What a resumed run must have in common with this one.
        average: The mean weights, where there are some: the checkpoint is then of them, and the
            model's own are part of the state.
        more: State of the stage's own.
        together: What model, mean and optimizer hold, where these lie in shards.
    """
    name = f"step-{progress.step:08d}"
    with storage.atomic_path(run / "checkpoints" / name) as folder:
        state = folder / "state"
        state.mkdir(parents=True)
        if together is None:
            _save_weights(folder, state, model, average)
            moments = optimizer_tensors(model, optimizer)
        else:
            save_model(folder, model, together.weights if together.mean is None else together.mean)
            if together.mean is not None:
                _save(together.weights, state / "weights.safetensors")
            moments = together.moments
        save_file(moments, state / "optimizer.safetensors")
        save_file(_rng_tensors(), state / "rng.safetensors")
        if more:
            on_host = {name: value.cpu().contiguous() for name, value in more.items()}
            save_file(on_host, state / STAGE_FILE)
        storage.write_json(state / "progress.json", asdict(progress))
    best = f"step-{progress.best_step:08d}" if progress.best is not None else None
    storage.write_json(run / RUN_FILE, {"last": name, "best": best, "facts": facts})
    for folder in (run / "checkpoints").iterdir():
        if folder.name not in (name, best):
            shutil.rmtree(folder, ignore_errors=True)


def restore_checkpoint(
    run: Path,
    model: VideoModel,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    *,
    average: WeightAverage | None = None,
    restore: Callable[[dict[str, torch.Tensor]], None] | None = None,
) -> Progress | None:
    """Puts a run's last checkpoint back, mean weights too; ``None`` where the run has none.

    Args:
        run: The run's folder.
        model, optimizer, average: Get their state back.
        facts: As they were saved.
        restore: Called with the state of the stage's own, where it was saved.

    Raises:
        FormatError: The run was made with other settings or another corpus, or the checkpoint is
            damaged.
    """
    if not (run / RUN_FILE).is_file():
        return None
    pointers = storage.read_json(run / RUN_FILE)
    then = pointers["facts"]
    different = [key for key in sorted({*facts, *then}) if then.get(key) != facts.get(key)]
    if different:
        found = ", ".join(f"{key} {then.get(key)}, now {facts.get(key)}" for key in different)
        raise FormatError(
            f"run {run} was made with other settings ({found}): give a new folder, or --restart to "
            "throw it away"
        )
    folder = run / "checkpoints" / pointers["last"]
    _restore_weights(folder, model, average)
    _restore_optimizer(model, optimizer, read_tensors(folder / "state" / "optimizer.safetensors"))
    if restore is not None and (folder / "state" / STAGE_FILE).is_file():
        restore(read_tensors(folder / "state" / STAGE_FILE))
    _restore_rng(read_tensors(folder / "state" / "rng.safetensors"))
    return Progress(**storage.read_json(folder / "state" / "progress.json"))


def _save_weights(
    folder: Path, state: Path, model: VideoModel, average: WeightAverage | None
) -> None:
    """The model to use, and beside it what goes on being trained where that is another."""
    low_rank = has_low_rank(model.encoder)
    if average is None:
        save_model(folder, model)
        own = {name: value.detach() for name, value in model.named_parameters()}
    else:
        with average.in_place() as own:
            save_model(folder, model)
        if low_rank:  # what is saved has them merged
            _save(average.weights, state / "average.safetensors")
    if average is not None or low_rank:
        _save(own, state / "weights.safetensors")


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)


def _restore_weights(folder: Path, model: VideoModel, average: WeightAverage | None) -> None:
    """Puts back what ``_save_weights`` wrote."""
    saved, state = folder / "model.safetensors", folder / "state"
    low_rank = has_low_rank(model.encoder)
    own = saved if average is None and not low_rank else state / "weights.safetensors"
    put_weights(model, read_tensors(own), str(own))
    if average is not None:
        mean = read_tensors(state / "average.safetensors" if low_rank else saved)
        average.weights = {
            name: laid_out_like(value, mean[name]) for name, value in average.weights.items()
        }


def optimizer_tensors(
    model: VideoModel, optimizer: torch.optim.Optimizer, keep: bool = True
) -> dict[str, torch.Tensor]:
    """The optimizer's state by parameter and key, whole, on the CPU.

    Args:
        model, optimizer: In shards or not.
        keep: Whether this process wants them; else it helps those that do to put shards together.
    """
    names: dict[torch.Tensor, str] = {
        parameter: name for name, parameter in model.named_parameters()
    }
    found: dict[str, torch.Tensor] = {}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            one = whole(value.detach())
            if keep:
                found[f"{names[parameter]}/{key}"] = one.cpu().contiguous()
    return found


def _restore_optimizer(
    model: VideoModel, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        moment = tensor.shape == parameter.shape
        optimizer.state[parameter][key] = (
            laid_out_like(parameter, tensor) if moment else tensor.to(parameter.device)
        )


def _rng_tensors() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_rng(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
