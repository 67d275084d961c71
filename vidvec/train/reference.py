"""Holding a recipe against reference numbers of the published code.

A reference is a folder of weights, inputs with the masks already drawn, and what the published code
computes from them:

    weights.safetensors    under the published names
    inputs.safetensors     input_ids, attention_mask (B, T), frames (B, F, D), frame_mask,
                           tag_targets (B, C), masked_input_ids, mlm_labels, masked_frames,
                           mfm_labels (labels are −100 where there is no loss)
    expected.safetensors   loss/<task+task…>, grad_norm/<parameter> of the full loss, tag_logits,
                           embedding, embedding_in_pretrain, cosine_pairs
    meta.json              ``job``: whose numbers they are
    config.json            of the BERT that gave the shape; also looked for in folders beside
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vidvec import storage
from vidvec.config import PretrainConfig, Recipe
from vidvec.model.bert import bert_shape
from vidvec.model.encoder import Encoded, VideoEncoder
from vidvec.model.heads import PretrainingHeads
from vidvec.model.importing import find_bert, shaped, weight_sizes
from vidvec.model.published import our_name, translate
from vidvec.model.weights import load_parameters, read_tensors
from vidvec.records import Batch
from vidvec.train.masking import Masked
from vidvec.train.objectives.pretraining import LossWeights, pretraining_losses

LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
# A bias on the keys moves all scores of a query alike: its gradient is rounding around zero.
ZERO_GRADIENT = 1e-6
# The published code divides the sum of the tasks' losses by their number, or (these jobs) by 3
# whichever tasks there are; the weights of a recipe are those of the full sum of three.
DIVIDED_BY_THREE = (3, 4, 5)
FULL_SUM = 3
# What a task weighs where a reference asks for it and the recipe has it off, as job 3 has one.
PUBLISHED = PretrainConfig()
# The masked frame model goes by two names there.
_TASKS = {"tag": "tag", "mlm": "mlm", "mfm": "mfm", "mvm": "mfm"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One expected number (or array of them) and how far ours is from it.

    Attributes:
        name: As in ``expected.safetensors``.
        relative: Largest relative difference; infinite where ours is missing.
        tolerance: What is allowed.
    """

    name: str
    relative: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance (NaN is not)."""
        return self.relative <= self.tolerance


@dataclass(slots=True)
class Reference:
    """A reference folder, read.

    Attributes:
        encoder, heads: With the reference's weights, in evaluation mode.
        batch: Its videos without padding.
        masked: The masks that were drawn; positions count the padding.
        expected: By name.
        job: Whose numbers they are.
    """

    encoder: VideoEncoder
    heads: PretrainingHeads
    batch: Batch
    masked: Masked
    expected: dict[str, Tensor]
    job: int


def check_reference(folder: Path, recipe: Recipe) -> list[Difference]:
    """Computes everything a reference expects, in the published way, and compares.

    Args:
        folder: The reference.
        recipe: Gives order, pool, what the tag head reads, and the loss weights; all sizes come
            from the reference's weights.

    Returns:
        A difference for every expected entry, in its order.

    Raises:
        FormatError: A file is missing or damaged, or weights do not fit the recipe's model.
    """
    reference = load_reference(folder, recipe)
    computed = _computed(reference, recipe)
    return [
        _difference(name, expected, computed.get(name))
        for name, expected in reference.expected.items()
    ]


def _difference(name: str, expected: Tensor, found: Tensor | None) -> Difference:
    gradient = name.startswith("grad_norm/")
    tolerance = GRADIENT_TOLERANCE if gradient else LOSS_TOLERANCE
    if found is None or found.numel() != expected.numel():
        return Difference(name, float("inf"), tolerance)
    expected, found = expected.double().flatten(), found.double().flatten()
    # An entry of a vector may be near zero; what counts is its error against the vector's size.
    size = expected.abs().max() if expected.numel() > 1 else expected.abs()
    error = (found - expected).abs().max()
    if gradient and max(float(size), float(found.abs().max())) < ZERO_GRADIENT:
        return Difference(name, 0.0, tolerance)
    return Difference(name, float(error / size.clamp(min=1e-12)), tolerance)


def _computed(reference: Reference, recipe: Recipe) -> dict[str, Tensor]:
    settings = recipe.pretrain
    weights = {
        task: getattr(settings, f"{task}_weight") or getattr(PUBLISHED, f"{task}_weight")
        for task in ("tag", "mlm", "mfm")
    }
    encoder, heads = reference.encoder, reference.heads
    batch, masked = encoder.filled(reference.batch), reference.masked
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        encoded = encoder(batch)
        found["embedding"] = encoded.vectors
        first, second = encoded.vectors.chunk(2)
        found["cosine_pairs"] = (first * second).sum(-1)
        logits = heads.tag_logits(encoded)
        if logits is not None:
            found["tag_logits"] = logits
    names = [name for name in reference.expected if name.startswith("loss/")]
    for name in sorted(names, key=lambda name: name.count("+")):
        published = name.removeprefix("loss/").split("+")
        tasks = {_TASKS[task] for task in published if task in _TASKS}
        if len(tasks) != len(published):
            continue  # a task that vidvec does not know: reported as missing
        encoder.zero_grad(set_to_none=True)
        heads.zero_grad(set_to_none=True)
        encoded = _encode_masked(encoder, batch, masked, tasks)
        chosen = LossWeights(**{task: weight * (task in tasks) for task, weight in weights.items()})
        loss = pretraining_losses(heads, encoded, batch, masked, chosen)["loss"]
        divided = FULL_SUM if reference.job in DIVIDED_BY_THREE else len(tasks)
        found[name] = (loss * FULL_SUM / divided).detach()
        # The list with the most tasks comes last: its gradients are the full loss's.
        loss.backward()  # type: ignore[no-untyped-call]
        found["embedding_in_pretrain"] = encoded.vectors.detach()
    found |= _gradient_norms(reference)
    return found


def _encode_masked(encoder: VideoEncoder, batch: Batch, masked: Masked, tasks: set[str]) -> Encoded:
    """Encodes with those masks on that the tasks draw."""
    encoded: Encoded = encoder(
        batch,
        token_ids=masked.token_ids if "mlm" in tasks else None,
        frames=masked.frames if "mfm" in tasks else None,
    )
    return encoded


def _gradient_norms(reference: Reference) -> dict[str, Tensor]:
    gradients = {
        name: parameter.grad
        for prefix, module in (("encoder", reference.encoder), ("heads", reference.heads))
        for name, parameter in module.named_parameters(prefix=prefix)
        if parameter.grad is not None
    }
    norms = {}
    for name in reference.expected:
        if not name.startswith("grad_norm/"):
            continue
        gradient = _gradient(gradients, our_name(name.removeprefix("grad_norm/")) or "")
        if gradient is not None:
            norms[name] = gradient.norm()
    return norms


def _gradient(gradients: Mapping[str, Tensor], name: str) -> Tensor | None:
    """A parameter's gradient; query, key and value are thirds of one matrix."""
    for third, part in enumerate(("query", "key", "value")):
        joined = gradients.get(name.replace(f".{part}.", ".qkv."))
        if f".{part}." in name and joined is not None:
            return joined.chunk(3)[third]
    return gradients.get(name)


def load_reference(folder: Path, recipe: Recipe) -> Reference:
    """Reads a reference into a model of the recipe's kind.

    Raises:
        FormatError: A file is missing or damaged, or weights do not fit the recipe's model.
    """
    weights, _ = translate(read_tensors(folder / "weights.safetensors"))
    sizes = weight_sizes(weights, folder / "weights.safetensors")
    bert = find_bert(folder, sizes["hidden_size"])
    config = shaped(recipe, {**bert_shape(bert), **sizes}).model
    encoder, heads = VideoEncoder(config), PretrainingHeads(config)
    # Job 3 was trained without the masked frame model, and its weights may lack that head.
    spare = {
        f"heads.{name}": value
        for name, value in heads.state_dict().items()
        if name.startswith("mfm.") and not recipe.pretrain.mfm_weight
    }
    parameters = {
        **{f"encoder.{name}": value for name, value in encoder.named_parameters()},
        **{f"heads.{name}": value for name, value in heads.named_parameters()},
    }
    load_parameters(parameters, {**spare, **weights}, str(folder))
    batch, masked = _inputs(read_tensors(folder / "inputs.safetensors"))
    expected = read_tensors(folder / "expected.safetensors")
    job = int(storage.read_json(folder / "meta.json")["job"])
    return Reference(encoder.eval(), heads.eval(), batch, masked, expected, job)


def _inputs(inputs: Mapping[str, Tensor]) -> tuple[Batch, Masked]:
    tokens, frames = inputs["attention_mask"].bool(), inputs["frame_mask"].bool()
    tags = inputs["tag_targets"].bool()
    batch = Batch(
        frames=inputs["frames"][frames],
        frame_counts=frames.sum(1),
        token_ids=inputs["input_ids"][tokens],
        token_counts=tokens.sum(1),
        tag_positions=tags.nonzero()[:, 1],
        tag_counts=tags.sum(1),
    )
    masked = Masked(
        token_ids=inputs["masked_input_ids"].reshape(-1),
        token_targets=(inputs["mlm_labels"].reshape(-1) >= 0).nonzero().squeeze(1),
        frames=inputs["masked_frames"].flatten(0, 1),
        frame_targets=(inputs["mfm_labels"].reshape(-1) >= 0).nonzero().squeeze(1),
    )
    return batch, masked
