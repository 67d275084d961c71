"""A second set of frames: ingest, reencode, and a model that finds what it was trained on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_cli import PROJECT, vidvec
from tests.models import SMALLEST
from tests.unit.data.media import render, steady
from tests.unit.data.test_onnx_int8 import convolutions
from vidvec import cli, storage
from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors


def model_file(folder: Path) -> Path:
    """The real MobileNetV2 where it is there, else a small convolution."""
    shared = Path(os.environ.get("VIDVEC_SHARED", PROJECT.parent / "shared"))
    real = shared / "data" / "models" / "mobilenet_v2_1.0_224.onnx"
    return real if real.is_file() else convolutions(folder / "small.onnx")


@pytest.mark.slow
def test_reencode_train_and_embed(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    videos = tmp_path / "videos"
    videos.mkdir()
    rows = []
    for number in range(12):
        file = render(videos / f"{number}.mp4", steady(10 + number), codec="mpeg4")
        rows.append({"id": str(number), "file": file.name, "title": f"clip number {number}"})
    (videos / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = f"onnx:{model_file(tmp_path)}"
    settings = [part for one in (*SMALLEST, "pretrain.epochs=1") for part in ("--set", one)]

    def ran(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            cli.main([str(part) for part in arguments])
        said = capsys.readouterr()
        assert caught.value.code in (0, None), said.err
        return said.out

    ran("ingest", "videos", "corpus")
    said = ran("reencode", "corpus", "--encoder", encoder, "--encoder-precision", "int8")
    name = next(iter(Corpus(tmp_path / "corpus").feature_sets))
    assert name.endswith("-int8")
    assert f"feature set {name} of onnx:" in said
    assert "12 videos (12 added), 0 rejected" in said
    assert "(0 added)" in ran("reencode", "corpus", "--name", name)
    ran("pretrain", "corpus", "own", *settings)
    ran("pretrain", "corpus", "other", *settings, "--features", name)
    ran("embed", "own", "corpus", "vectors-own")
    ran("embed", "other", "corpus", "vectors-other")

    made_by = storage.read_manifest(tmp_path / "vectors-other", "vectors")["made_by"]
    assert made_by["features"] == name
    own, other = (Vectors(tmp_path / f"vectors-{each}") for each in ("own", "other"))
    assert own.ids == other.ids == [row["id"] for row in rows]
    assert not np.allclose(own.matrix, other.matrix)

    (videos / "more").mkdir()
    render(videos / "more" / "late.mp4", steady(12), codec="mpeg4")
    ran("ingest", "videos/more", "corpus")
    refused = vidvec(tmp_path, "embed", "other", "corpus", "vectors-late")
    assert refused.returncode == 1
    assert f"run vidvec reencode corpus --name {name} again" in refused.stderr
    assert "13 videos (1 added)" in ran("reencode", "corpus", "--name", name)
    assert "13 vectors" in ran("embed", "other", "corpus", "vectors-late")
