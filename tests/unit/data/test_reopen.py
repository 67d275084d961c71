"""Encoders opened again by their identity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.search.clips import film, onnx_model, scene
from vidvec import storage
from vidvec.data.audio import LogMelEncoder
from vidvec.data.classic import ClassicEncoder
from vidvec.data.corpus import Corpus
from vidvec.data.frames import open_frame_encoder
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.reencode import ReencodeOptions, reencode
from vidvec.data.reopen import (
    absolute_spec,
    noted_specs,
    reopen_audio_encoder,
    reopen_frame_encoder,
)
from vidvec.errors import UsageError


def stored(identity: dict[str, object]) -> dict[str, object]:
    """An identity as a manifest holds it."""
    return dict(json.loads(json.dumps(identity)))


def test_encoders_without_weights():
    assert isinstance(reopen_frame_encoder(stored(ClassicEncoder().identity)), ClassicEncoder)
    assert isinstance(reopen_audio_encoder(stored(LogMelEncoder().identity)), LogMelEncoder)
    older = stored(ClassicEncoder().identity) | {"revision": "0"}
    with pytest.raises(
        UsageError, match=r"classic \(revision 0, .* cannot be made here: classic is"
    ):
        reopen_frame_encoder(older)
    older = stored(LogMelEncoder().identity) | {"revision": "0"}
    with pytest.raises(UsageError, match=r"audio of log-mel \(revision 0, .*: log-mel is log-mel"):
        reopen_audio_encoder(older)


def test_a_file_with_the_settings_that_it_was_used_with(tmp_path):
    options = {"mean": 0.25, "std": [0.5, 0.25, 0.5], "resize": "crop"}
    file = onnx_model(tmp_path / "a.onnx")
    encoder = open_frame_encoder(f"onnx:{file}", options=options)
    # Other settings beside the file since: those of the identity go before them.
    (tmp_path / "a.onnx.json").write_text('{"mean": 0.9}')
    again = reopen_frame_encoder(stored(encoder.identity), ["classic", f"onnx:{file}"])
    assert stored(again.identity) == stored(encoder.identity)
    pictures = [scene(number) for number in range(3)]
    assert np.array_equal(again.encode(pictures), encoder.encode(pictures))
    other = onnx_model(tmp_path / "b.onnx", seed=1)
    specs = [f"onnx:{other}", f"onnx:{tmp_path / 'gone.onnx'}", f"onnx:{file}"]
    assert stored(reopen_frame_encoder(stored(encoder.identity), specs).identity) == stored(
        encoder.identity
    )
    with pytest.raises(UsageError) as caught:
        reopen_frame_encoder(stored(encoder.identity), specs[:2])
    said = str(caught.value)
    assert "b.onnx is onnx:b.onnx (revision" in said
    assert "gone.onnx: there is no such file" in said
    assert said.endswith("give its file or folder with --encoder")


def test_models_that_nobody_can_open():
    with pytest.raises(UsageError, match=r"frames that were computed elsewhere"):
        reopen_frame_encoder({"name": "precomputed", "frame_size": 4})
    with pytest.raises(UsageError, match=r"does not note where onnx:a\.onnx is"):
        reopen_frame_encoder({"name": "onnx:a.onnx", "revision": "7", "frame_size": 4})


def test_what_a_corpus_notes(tmp_path, monkeypatch):
    file = onnx_model(tmp_path / "a.onnx")
    (tmp_path / "clips").mkdir()
    for number in range(2):
        film(tmp_path / "clips" / f"{number}.mp4", number, 1.0)
    monkeypatch.chdir(tmp_path)  # the spec is relative, what is noted must not be
    ingest(Path("clips"), Path("corpus"), IngestOptions(encoder="onnx:a.onnx", audio="none"))
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.manifest["made_with"] == {
        "encoder": f"onnx:{file}",
        "options": {},
        "precision": "auto",
        "audio": "none",
    }
    assert noted_specs(tmp_path / "corpus") == [f"onnx:{file}"]
    reencode(Path("corpus"), ReencodeOptions(encoder="classic", name="plain"))
    assert noted_specs(tmp_path / "corpus") == [f"onnx:{file}", "classic"]
    assert noted_specs(tmp_path / "corpus", "audio") == ["none"]
    assert noted_specs(tmp_path / "nowhere") == []
    # Of a corpus that is older than the note nothing is known.
    manifest = storage.read_manifest(tmp_path / "corpus", "corpus")
    del manifest["made_with"], manifest["kind"], manifest["format_version"]
    storage.write_manifest(tmp_path / "corpus", "corpus", **manifest)
    assert noted_specs(tmp_path / "corpus") == ["classic"]


def test_specs_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").touch()
    assert absolute_spec("onnx:m.onnx") == f"onnx:{tmp_path / 'm.onnx'}"
    assert absolute_spec("onnx:none.onnx") == "onnx:none.onnx"
    assert absolute_spec("siglip2") == "hf:google/siglip2-base-patch16-224"
    assert absolute_spec("classic") == "classic"
    assert absolute_spec("log-mel") == "log-mel"
