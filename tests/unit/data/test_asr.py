"""Speech: the text that transformers' own pipeline gives, chunk by chunk."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from tests.unit.data.whisper import LANGUAGES, write_whisper
from vidvec.data import asr
from vidvec.data.asr import CHUNK_SECONDS, Speech, SpeechRecognizer, split
from vidvec.errors import MissingExtraError, OfflineError, UsageError
from vidvec.model.hub_listing import choose

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(write_whisper(tmp_path_factory.mktemp("whisper")))


@pytest.fixture(scope="module")
def recognizer(folder) -> SpeechRecognizer:
    return SpeechRecognizer(folder)


@pytest.fixture(scope="module")
def pipeline(folder):
    return transformers.pipeline("automatic-speech-recognition", model=folder, device="cpu")


def noise(seconds: float, seed: int) -> NDArray[np.int16]:
    random = np.random.default_rng(seed)
    swell = np.sin(np.arange(round(seconds * RATE)) * (seed + 1) / 700)
    sound = random.normal(0, 0.2, round(seconds * RATE)) * swell
    return (sound.clip(-1, 1) * 32767).astype(np.int16)


def said(pipeline, samples: NDArray[np.int16], language: str) -> str:
    """What the pipeline hears, by taking the likeliest token each time as we do."""
    settings = {"num_beams": 1, "language": language, "task": "transcribe"}
    return pipeline(samples.astype(np.float32) / 32767, generate_kwargs=settings)["text"].strip()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seed", range(4))
def test_the_text_is_that_of_the_pipeline(recognizer, pipeline, language, seed) -> None:
    samples = noise(3 + 4 * seed, seed)
    speech = recognizer.transcribe(samples, f"{language}-Latn")
    assert speech == Speech(said(pipeline, samples, language), language)
    assert speech.text


def test_the_texts_are_not_all_the_same(recognizer) -> None:
    texts = {recognizer.transcribe(noise(5, seed), "en").text for seed in range(12)}
    assert len(texts) > 2


def test_the_language_is_the_one_that_the_model_hears(recognizer, pipeline, folder) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    for seed in range(4):
        samples = noise(6, seed)
        features = extractor(
            samples.astype(np.float32) / 32767, sampling_rate=RATE, return_tensors="pt"
        ).input_features
        start = torch.tensor([[model.config.decoder_start_token_id]])
        with torch.no_grad():
            logits = model(features, decoder_input_ids=start).logits[0, 0]
        likely = {code: float(logits[number]) for code, number in recognizer.languages.items()}
        wanted = max(likely, key=likely.__getitem__)
        for language in ("", "tlh"):  # not known, and one that the model does not know
            speech = recognizer.transcribe(samples, language)
            assert speech == Speech(said(pipeline, samples, wanted), wanted)


def test_a_model_of_one_language(tmp_path) -> None:
    folder = str(write_whisper(tmp_path, multilingual=False, seed=2))
    recognizer = SpeechRecognizer(folder)
    assert recognizer.languages == {}
    pipeline = transformers.pipeline("automatic-speech-recognition", model=folder, device="cpu")
    for seed in range(3):
        samples = noise(4, seed)
        wanted = pipeline(samples.astype(np.float32) / 32767, generate_kwargs={"num_beams": 1})
        for language in ("", "zh"):
            speech = recognizer.transcribe(samples, language)
            assert speech == Speech(wanted["text"].strip(), "")


def test_long_sound_is_the_text_of_its_chunks(recognizer, pipeline, monkeypatch) -> None:
    monkeypatch.setattr(asr, "_BATCH", 2)
    samples = noise(70, 5)
    parts = list(split(samples.astype(np.float32) / 32767))
    assert len(parts) == 3
    texts = [said(pipeline, np.round(part * 32767).astype(np.int16), "de") for part in parts]
    assert recognizer.transcribe(samples, "de").text == " ".join(filter(None, texts))


def test_nobody_speaks(recognizer) -> None:
    assert recognizer.transcribe(np.zeros(0, np.int16)) == Speech("", "")
    assert recognizer.transcribe(np.zeros(50 * RATE, np.int16)) == Speech("", "")
    assert recognizer.transcribe(noise(5, 0) // 5000, "en") == Speech("", "")
    # A chunk of silence says nothing, and the others what they say without it.
    joined = np.concatenate([np.zeros(31 * RATE, np.int16), noise(3, 1)])
    first, last = split(joined.astype(np.float32) / 32767)
    assert not first.any()
    loud = np.round(last * 32767).astype(np.int16)
    assert recognizer.transcribe(joined, "en") == recognizer.transcribe(loud, "en")


def test_chunks_end_where_it_is_quiet() -> None:
    sound = np.ones(65 * RATE, np.float32)
    sound[27 * RATE : 27 * RATE + RATE // 2] = 0
    parts = list(split(sound))
    assert (np.concatenate(parts) == sound).all()
    assert 27 <= len(parts[0]) / RATE <= 27.5
    assert all(len(part) <= CHUNK_SECONDS * RATE for part in parts)
    # Where it is as loud everywhere, as late as may be.
    assert len(next(split(np.ones(40 * RATE, np.float32)))) > 29.9 * RATE
    assert [len(part) for part in split(np.ones(30 * RATE, np.float32))] == [30 * RATE]
    assert list(split(np.zeros(0, np.float32))) == []


def test_models_that_cannot_be_used(tmp_path, folder, monkeypatch) -> None:
    with pytest.raises(UsageError, match="cannot be opened as a transformers speech recogniser"):
        SpeechRecognizer(str(tmp_path))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**settings, "encoder_layers": 2}))
    with pytest.raises(UsageError, match=r"lacks \d+ of its model's weights, such as"):
        SpeechRecognizer(str(copy))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidvec\[hf\]'"):
        SpeechRecognizer(folder)


def test_what_is_fetched_of_a_model_is_all_that_it_needs(folder, tmp_path) -> None:
    names = [file.name for file in Path(folder).iterdir()]
    chosen = choose([*names, "flax_model.msgpack", "README.md"], "frames", "x")
    assert "flax_model.msgpack" not in chosen
    for name in chosen:
        shutil.copy(Path(folder) / name, tmp_path)
    samples = noise(4, 3)
    here = SpeechRecognizer(str(tmp_path)).transcribe(samples, "de")
    assert here == SpeechRecognizer(folder).transcribe(samples, "de")
    for name in asr._FILES:
        assert name in chosen or not (Path(folder) / name).is_file()
    # Of an image model, which writes nothing, no tokenizer.
    image = ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"]
    assert "tokenizer.json" not in choose(image, "frames", "x")


def test_without_a_hub(monkeypatch, tmp_path) -> None:
    from huggingface_hub import constants

    # Nothing listens on port 9 of this machine.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OfflineError, match="no speech recogniser hf:openai/whisper-none") as caught:
        SpeechRecognizer("openai/whisper-none")
    assert "generation_config.json" in str(caught.value)
