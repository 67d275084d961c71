"""A published-style checkpoint, imported, gives the published vectors through corpus and embed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from vidvec.config import load_recipe
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError
from vidvec.model.importing import import_checkpoint

pytestmark = pytest.mark.shared


def features_table(folder: Path, path: Path) -> None:
    """The reference's videos as a user would hand them in: titles and frame features."""
    titles = json.loads((folder / "meta.json").read_text("utf-8"))["titles"]
    inputs = load_file(folder / "inputs.safetensors")
    frames = [
        list(some[mask.bool()].numpy())
        for some, mask in zip(inputs["frames"], inputs["frame_mask"], strict=True)
    ]
    column = pa.array(
        [[row.tolist() for row in some] for some in frames], pa.list_(pa.list_(pa.float32()))
    )
    ids = [str(number) for number in range(len(titles))]
    pq.write_table(pa.table({"id": ids, "title": titles, "frames": column}), path)


@pytest.mark.parametrize("job", [1, 2, 4])
def test_vectors_are_the_published_ones(shared, tmp_path, job):
    folder = shared / "reference" / f"job{job}"
    features_table(folder, tmp_path / "videos.parquet")
    ingest(tmp_path / "videos.parquet", tmp_path / "corpus", IngestOptions())
    recipe = load_recipe(f"aiac2021/job{job}")
    report = import_checkpoint(folder / "model_finetune_1.pth", recipe, tmp_path / "checkpoint")
    assert (report.missing, report.unknown) == ([], [])
    embed(tmp_path / "checkpoint", tmp_path / "corpus", tmp_path / "vectors")
    expected = load_file(folder / "expected.safetensors")["embedding"].numpy()
    np.testing.assert_allclose(Vectors(tmp_path / "vectors").matrix, expected, rtol=1e-4, atol=1e-6)


def test_buffers_and_strangers_are_listed_and_a_missing_trunk_refused(shared, tmp_path):
    folder = shared / "reference" / "job1"
    state = torch.load(folder / "model_finetune_1.pth", weights_only=True)
    state["roberta.bert.embeddings.position_ids"] = torch.arange(96)[None]
    state["something.else"] = torch.zeros(1)
    del state["newfc_tag.bias"]
    torch.save(state, tmp_path / "changed.pth")
    recipe, bert = load_recipe("aiac2021/job1"), shared / "reference" / "bert_tiny"
    report = import_checkpoint(tmp_path / "changed.pth", recipe, tmp_path / "out", bert)
    assert (report.missing, report.unknown) == (["heads.tag.bias"], ["something.else"])
    del state["roberta.bert.video_fc.bias"]
    torch.save(state, tmp_path / "changed.pth")
    with pytest.raises(FormatError, match=r"frame_projection\.bias"):
        import_checkpoint(tmp_path / "changed.pth", recipe, tmp_path / "out2", bert)
    assert not (tmp_path / "out2").exists()
