"""vidvec's own way, without padding, on the reference's weights, inputs and masks.

Held against a plain computation: one video after the other, the published names straight from the
file, nothing of vidvec's but the loss weights of the recipe.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vidvec.config import load_recipe
from vidvec.model.published import our_name
from vidvec.train.masking import Masked
from vidvec.train.objectives.pretraining import LossWeights, pretraining_losses
from vidvec.train.reference import load_reference

pytestmark = pytest.mark.shared
HEADS, EPS = 4, 1e-12


class Plain:
    """The published model in plain operations, for a single video at a time.

    Args:
        weights: Under the published names, with gradients on.
        frames_first: Jobs 2 and 3 put the frames before ``[CLS]`` and read tags from the vector.
        attention_pool: Jobs 4 and 5.
    """

    def __init__(self, weights: dict[str, Tensor], frames_first: bool, attention_pool: bool):
        self.weights, self.frames_first, self.attention_pool = weights, frames_first, attention_pool

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, (x.shape[-1],), weight, bias, EPS)

    def embed(self, name: str, x: Tensor) -> Tensor:
        name = f"roberta.bert.{name}"
        x = x + self.weights[f"{name}.position_embeddings.weight"][: len(x)]
        return self.norm(
            f"{name}.LayerNorm", x + self.weights[f"{name}.token_type_embeddings.weight"][0]
        )

    def hidden(self, tokens: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states of all positions, of the tokens, of the frames."""
        words = self.weights["roberta.bert.embeddings.word_embeddings.weight"][tokens]
        words = self.embed("embeddings", words)
        frames = self.embed(
            "video_embeddings", self.linear("roberta.bert.video_fc", frames.float())
        )
        lead = 0 if self.frames_first else 1
        x = torch.cat([words[:lead], frames, words[lead:]])
        for layer in range(2):
            x = self.block(f"roberta.bert.encoder.layer.{layer}", x)
        end = lead + len(frames)
        return x, torch.cat([x[:lead], x[end:]]), x[lead:end]

    def block(self, name: str, x: Tensor) -> Tensor:
        heads = []
        q, k, v = (
            self.linear(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value")
        )
        width = x.shape[1] // HEADS
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = q[:, part] @ k[:, part].T / width**0.5
            heads.append(scores.softmax(1) @ v[:, part])
        attended = self.linear(f"{name}.attention.output.dense", torch.cat(heads, 1))
        x = self.norm(f"{name}.attention.output.LayerNorm", x + attended)
        up = self.linear(f"{name}.intermediate.dense", x)
        up = up * 0.5 * (1 + torch.erf(up / 2**0.5))
        return self.norm(f"{name}.output.LayerNorm", x + self.linear(f"{name}.output.dense", up))

    def projected(self, x: Tensor) -> Tensor:
        if self.attention_pool:
            scores = self.linear("newemb_att.2", self.linear("newemb_att.0", x).tanh())
            x = (scores.softmax(0) * x).sum(0)
        else:
            x = x.mean(0)
        return self.linear("newfc_hidden", x)

    def head(self, name: str, x: Tensor) -> Tensor:
        x = self.linear(f"{name}.predictions.transform.dense", x)
        x = self.norm(
            f"{name}.predictions.transform.LayerNorm", x * 0.5 * (1 + torch.erf(x / 2**0.5))
        )
        return (
            x @ self.weights[f"{name}.predictions.decoder.weight"].T
            + self.weights[f"{name}.predictions.bias"]
        )


def plain_losses(plain: Plain, inputs: dict[str, Tensor], masked: bool) -> dict[str, Tensor]:
    """Tag, masked-word and masked-frame loss, and the (B, E) vectors, video after video."""
    real_frames = [f[m.bool()] for f, m in zip(inputs["frames"], inputs["frame_mask"], strict=True)]
    every_frame = torch.cat(real_frames).float()
    first = 0
    tags, words, frames, vectors = [], [], [], []
    for video in range(len(inputs["input_ids"])):
        tokens = inputs["attention_mask"][video].bool()
        count = len(real_frames[video])
        ids = inputs["masked_input_ids" if masked else "input_ids"][video][tokens]
        shown = inputs["masked_frames" if masked else "frames"][video][:count]
        x, of_tokens, of_frames = plain.hidden(ids, shown)
        projected = plain.projected(x)
        vectors.append(projected / projected.norm())
        read = projected if plain.frames_first else of_tokens[0]
        logits = plain.linear("newfc_tag", read.relu())
        target = inputs["tag_targets"][video].float()
        tags.append(
            -(target * logits.sigmoid().log() + (1 - target) * (-logits).sigmoid().log()).mean()
        )
        labels = inputs["mlm_labels"][video][tokens]
        for place in (labels >= 0).nonzero().flatten():
            logits = plain.head("roberta.cls", of_tokens[place])
            words.append(logits.logsumexp(0) - logits[labels[place]])
        for place in (inputs["mfm_labels"][video][:count] >= 0).nonzero().flatten():
            scores = every_frame @ plain.head("roberta_mvm_lm_header", of_frames[place])
            frames.append(scores.logsumexp(0) - scores[first + place])
        first += count
    mean = {"tag": tags, "mlm": words, "mfm": frames}
    return {
        **{name: torch.stack(some).mean() for name, some in mean.items()},
        "vectors": torch.stack(vectors),
    }


@pytest.fixture(params=[1, 2, 4], ids=lambda job: f"job{job}")
def sides(request, shared):
    """The reference in vidvec, without padding, and the plain model of the same weights."""
    job, folder = request.param, shared / "reference" / f"job{request.param}"
    recipe = load_recipe(f"aiac2021/job{job}", ["model.count_padding=false"])
    reference = load_reference(folder, recipe)
    weights = {n: w.requires_grad_() for n, w in load_file(folder / "weights.safetensors").items()}
    plain = Plain(weights, recipe.model.order == "frames_first", recipe.model.pool == "attention")
    return recipe, reference, plain, load_file(folder / "inputs.safetensors")


def without_padding(masked: Masked, inputs: dict[str, Tensor]) -> Masked:
    """The masks that were drawn, their positions counted without the padding."""
    tokens = inputs["attention_mask"].bool().flatten()
    frames = inputs["frame_mask"].bool().flatten()
    return replace(
        masked,
        token_ids=masked.token_ids[tokens],
        token_targets=(tokens.cumsum(0) - 1)[masked.token_targets],
        frames=masked.frames[frames],
        frame_targets=(frames.cumsum(0) - 1)[masked.frame_targets],
    )


def test_vectors(sides):
    _, reference, plain, inputs = sides
    with torch.no_grad():
        ours = reference.encoder(reference.batch).vectors
        theirs = plain_losses(plain, inputs, masked=False)["vectors"]
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    # Which is another vector than with padding counted: the case is none of the published one.
    assert not torch.allclose(ours, reference.expected["embedding"], rtol=1e-2, atol=1e-4)


def test_losses_and_gradients(sides):
    recipe, reference, plain, inputs = sides
    settings = recipe.pretrain
    weights = LossWeights(settings.tag_weight, settings.mlm_weight, settings.mfm_weight)
    masked = without_padding(reference.masked, inputs)
    encoder, heads = reference.encoder, reference.heads
    encoded = encoder(reference.batch, token_ids=masked.token_ids, frames=masked.frames)
    ours = pretraining_losses(heads, encoded, reference.batch, masked, weights)
    theirs = plain_losses(plain, inputs, masked=True)
    total = sum(theirs[name] * getattr(weights, name) for name in ("tag", "mlm", "mfm"))
    for name in ("tag", "mlm", "mfm"):
        assert float(ours[name].detach()) == pytest.approx(float(theirs[name].detach()), rel=1e-4)
    assert float(ours["loss"].detach()) == pytest.approx(float(total.detach()), rel=1e-4)
    ours["loss"].backward()
    total.backward()
    found = {
        f"{prefix}.{name}": parameter.grad
        for prefix, module in (("encoder", encoder), ("heads", heads))
        for name, parameter in module.named_parameters()
    }
    compared = 0
    for name, weight in plain.weights.items():
        if weight.grad is None or float(weight.grad.norm()) < 1e-6:
            continue
        our = our_name(name)
        assert our is not None, name
        for third, part in enumerate(("query", "key", "value")):
            if f".{part}." in our:
                gradient = found[our.replace(f".{part}.", ".qkv.")].chunk(3)[third]
                break
        else:
            gradient = found[our]
        error = (gradient - weight.grad).norm() / weight.grad.norm()
        assert float(error) < 1e-3, name
        compared += 1
    assert compared > 50
