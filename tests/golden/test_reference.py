"""Losses, gradients and embeddings of the published code, on its weights and its masks."""

from __future__ import annotations

import pytest
import torch

from tests.golden.reference import Reference, load_reference
from vidvec.model.published import our_name
from vidvec.train.objectives import LossWeights, pretraining_losses

pytestmark = pytest.mark.shared
JOBS = [1, 2, 4]
WEIGHTS = LossWeights(tag=1250 / 3, mlm=1 / 3.75, mfm=1 / 9)


@pytest.fixture(scope="module", params=JOBS, ids=lambda job: f"job{job}")
def reference(request: pytest.FixtureRequest, shared) -> Reference:
    return load_reference(shared / "reference" / f"job{request.param}")


def full_losses(reference: Reference) -> dict[str, torch.Tensor]:
    batch = reference.encoder.filled(reference.batch)
    masked = reference.masked
    encoded = reference.encoder(batch, token_ids=masked.token_ids, frames=masked.frames)
    return {
        **pretraining_losses(reference.heads, encoded, batch, masked, WEIGHTS),
        "embedding": encoded.vectors,
    }


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs() / expected.abs().clamp(min=1e-6)).max().item()


def test_filling_gives_the_published_layout(reference):
    batch = reference.encoder.filled(reference.batch)
    assert torch.equal(batch.token_ids.view(6, 36), reference.inputs["input_ids"])
    assert torch.equal(batch.frames.view(6, 32, -1), reference.inputs["frames"])
    assert torch.equal(batch.frame_mask.view(6, 32), reference.inputs["frame_mask"].bool())


def test_embeddings_and_cosines(reference):
    with torch.no_grad():
        encoded = reference.encoder(reference.batch)
    expected = reference.expected["embedding"]
    assert torch.allclose(encoded.vectors, expected, rtol=1e-4, atol=1e-6)
    cosines = (encoded.vectors[:3] * encoded.vectors[3:]).sum(1)
    assert torch.allclose(cosines, reference.expected["cosine_pairs"], rtol=1e-4, atol=1e-6)


def test_tag_logits(reference):
    with torch.no_grad():
        logits = reference.heads.tag_logits(reference.encoder(reference.batch))
    assert torch.allclose(logits, reference.expected["tag_logits"], rtol=1e-4, atol=1e-6)


def test_losses(reference):
    with torch.no_grad():
        losses = full_losses(reference)
    key = next(key for key in reference.expected if key.startswith("loss/") and key.count("+") == 2)
    assert relative(losses["loss"], reference.expected[key]) < 1e-4
    expected = reference.expected["embedding_in_pretrain"]
    assert torch.allclose(losses["embedding"], expected, rtol=1e-4, atol=1e-6)


def test_gradient_norms(reference):
    reference.encoder.zero_grad()
    reference.heads.zero_grad()
    full_losses(reference)["loss"].backward()
    ours = {f"encoder.{n}": p.grad for n, p in reference.encoder.named_parameters()}
    ours |= {f"heads.{n}": p.grad for n, p in reference.heads.named_parameters()}
    names = [name for name in reference.expected if name.startswith("grad_norm/")]
    assert len(names) > 50
    for name in names:
        norm = _gradient(ours, our_name(name.removeprefix("grad_norm/"))).norm()
        # A bias on the keys moves all scores of a query alike: its gradient is rounding, near 0.
        expected = float(reference.expected[name][0])
        assert float(norm) == pytest.approx(expected, rel=1e-3, abs=1e-7), name


def _gradient(ours: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """The gradient of a parameter; query, key and value are thirds of one matrix."""
    for third, part in enumerate(("query", "key", "value")):
        if f".{part}." in name:
            return ours[name.replace(f".{part}.", ".qkv.")].chunk(3)[third]
    return ours[name]
