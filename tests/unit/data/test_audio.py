"""Audio frames: the spectrum against another implementation and by hand; models against theirs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import audio_utils

from tests.unit.data.sounds import pitches, write_sound
from tests.unit.data.whisper import write_whisper
from vidvec.data.audio import (
    LogMelEncoder,
    log_mel,
    mel,
    mel_filters,
    open_audio_encoder,
    read_audio,
    statistics,
)
from vidvec.data.sound import AudioWindows, read_windows
from vidvec.errors import MissingExtraError, OfflineError, UsageError


def windows_of(*samples: np.ndarray) -> AudioWindows:
    return AudioWindows(list(samples), np.arange(len(samples), dtype=np.float32))


def tone(hertz: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)).astype(np.float32)


# --- log-mel ------------------------------------------------------------------------------------


def test_the_filters_are_those_of_transformers() -> None:
    theirs = audio_utils.mel_filter_bank(257, 64, 125.0, 7500.0, 16_000, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(), theirs, atol=1e-12)
    assert (mel_filters().sum(axis=0) > 0).all()  # no band is empty


@pytest.mark.parametrize("count", [400, 3_333, 16_000])
def test_the_spectrum_is_that_of_transformers(count: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, count).astype(np.float32)
    samples[: count // 2] *= 1e-7  # as quiet as the floor
    theirs = audio_utils.spectrogram(
        samples,
        audio_utils.window_function(400, "hann"),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        mel_filters=mel_filters(),
        mel_floor=1e-10,
        log_mel="log10",
    )
    ours = log_mel(samples)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, (theirs.T + 4) / 4, atol=1e-5)


def test_mel_by_hand() -> None:
    assert mel(0.0) == 0
    assert mel(700.0) == pytest.approx(2595 * 0.30102999566)  # log₁₀ 2
    assert mel(6300.0) == pytest.approx(2595)  # log₁₀ 10
    # 64 triangles: their middles are 65ths of the way from 185.16 to 2784.52 mel.
    middle = mel_filters()[:, 31]
    peak = np.argmax(middle) * 16_000 / 512
    wanted = 700 * (10 ** ((185.16 + 32 / 65 * (2784.52 - 185.16)) / 2595) - 1)
    assert abs(peak - wanted) <= 31.25


@pytest.mark.parametrize("hertz", [250.0, 1000.0, 4000.0])
def test_a_pure_tone_by_hand(hertz: float) -> None:
    spectrum = log_mel(tone(hertz))
    band = round((float(mel(hertz)) - 185.16) / (2784.52 - 185.16) * 65) - 1
    assert (np.abs(spectrum.argmax(axis=1) - band) <= 1).all()
    # At its own frequency, which is one of the FFT's, a tone of level a has the power
    # (a · Σ window / 2)²; the Hann window of 400 adds up to 200.
    power = 10 ** (4 * np.log10((0.5 * 200 / 2) ** 2) / 4)
    strongest = 10 ** (4 * float(spectrum.max()) - 4)
    assert power / 2 < strongest < 4 * power
    # Ten times as loud is a hundred times the power: log₁₀ 100 / 4 more in every band.
    louder = log_mel(tone(hertz, 0.05)) - log_mel(tone(hertz, 0.005))
    loud = log_mel(tone(hertz, 0.005)) > -0.9
    np.testing.assert_allclose(louder[loud], 0.5, atol=2e-3)


def test_statistics_by_hand() -> None:
    rows = np.array([[0.0], [1.0], [4.0]], np.float32)
    mean, std, slope_std = statistics(rows)
    assert mean == pytest.approx(5 / 3)
    assert std == pytest.approx(np.sqrt(((5 / 3) ** 2 + (2 / 3) ** 2 + (7 / 3) ** 2) / 3))
    slopes = [(1 * 1 + 2 * 4) / 10, (1 * 4 + 2 * 4) / 10, (1 * 3 + 2 * 4) / 10]
    assert slope_std == pytest.approx(np.std(slopes))
    assert statistics(np.full((1, 3), 7, np.float32)).tolist() == [7, 7, 7, 0, 0, 0, 0, 0, 0]


def test_silence_and_short_sound() -> None:
    frames = LogMelEncoder().encode(windows_of(np.zeros(16_000, np.float32), tone(440)[:100]))
    assert frames.shape == (2, 192)
    np.testing.assert_allclose(frames[0], [-1.5] * 64 + [0] * 128, atol=1e-6)
    assert np.isfinite(frames).all()
    assert LogMelEncoder().encode(windows_of()).shape == (0, 192)


def test_a_file_gives_its_windows_features(tmp_path) -> None:
    path = write_sound(tmp_path / "a.mp4", pitches(5), codec="aac", video_seconds=5)
    audio = read_audio(path)
    assert audio.times_seconds.tolist() == [0, 1, 2, 3, 4]
    assert audio.frames.dtype == np.float32
    assert (audio.frames == LogMelEncoder().encode(read_windows(path))).all()
    # Each second's tone is a little higher than the one before.
    assert (np.diff(audio.frames[:, :64].argmax(axis=1)) > 0).all()
    assert np.abs(audio.frames).max() < 3
    assert read_audio(path, duration_seconds=2.0).times_seconds.tolist() == [0, 1]


def test_what_a_log_mel_frame_is_stays_as_it_is() -> None:
    """The identity promises that these numbers never change without another revision."""
    samples = np.concatenate([tone(500)[:8000], tone(3000, 0.1)[:8000]])
    frame = LogMelEncoder().encode(windows_of(samples))[0]
    assert LogMelEncoder().identity["revision"] == "1"
    assert LogMelEncoder().identity["frame_size"] == 192
    theirs = audio_utils.spectrogram(
        samples,
        audio_utils.window_function(400, "hann"),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        mel_filters=mel_filters(),
        log_mel="log10",
    )
    np.testing.assert_allclose(frame[:64], (theirs.mean(axis=1) + 4) / 4, atol=1e-3)
    np.testing.assert_allclose(frame[64:128], theirs.std(axis=1) / 4, atol=1e-3)


# --- models -------------------------------------------------------------------------------------

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
SPEECH = {**TINY, "conv_dim": (8, 8), "conv_stride": (20, 16), "conv_kernel": (40, 16)}
SPEECH |= {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16}
SPEECH |= {"num_conv_pos_embedding_groups": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    made = {
        "wav2vec2": transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SPEECH)),
        "speaker": transformers.WavLMForXVector(
            transformers.WavLMConfig(
                **SPEECH,
                tdnn_dim=(8, 8),
                tdnn_kernel=(3, 1),
                tdnn_dilation=(1, 1),
                xvector_output_dim=12,
            )
        ),
        "ast": transformers.ASTModel(
            transformers.ASTConfig(**TINY, max_length=128, num_mel_bins=32)
        ),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
        if name == "ast":
            extractor = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=128)
        extractor.save_pretrained(folder / name)
    write_whisper(folder / "whisper")
    return {name: str(folder / name) for name in [*made, "whisper"]}


SAMPLES = [tone(300), tone(2000, 0.1), pitches(1, level=0.2)]


@pytest.mark.parametrize(("name", "size"), [("wav2vec2", 16), ("speaker", 12), ("ast", 16)])
def test_a_model_gives_what_transformers_gives(models, name, size) -> None:
    encoder = open_audio_encoder(f"hf:{models[name]}")
    found = encoder.encode(windows_of(*SAMPLES))
    assert found.shape == (3, size)
    assert encoder.frame_size == encoder.identity["frame_size"] == size
    assert found.dtype == np.float32
    extractor = transformers.AutoFeatureExtractor.from_pretrained(models[name])
    kind = transformers.WavLMForXVector if name == "speaker" else transformers.AutoModel
    model = kind.from_pretrained(models[name]).eval()
    for row, samples in zip(found, SAMPLES, strict=True):
        inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs)
        if name == "speaker":
            wanted = output.embeddings[0]
        elif name == "ast":
            wanted = output.pooler_output[0]
        else:
            wanted = output.last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(row, wanted.numpy(), atol=1e-5)


def test_of_a_transcriber_the_encoder_hears_its_second(models) -> None:
    encoder = open_audio_encoder(f"hf:{models['whisper']}")
    [row] = encoder.encode(windows_of(tone(700)))
    model = transformers.WhisperModel.from_pretrained(models["whisper"]).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(models["whisper"])
    inputs = extractor(tone(700), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = model.encoder(inputs.input_features).last_hidden_state[0]
    np.testing.assert_allclose(row, states[:50].mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)


def test_clap_hears_at_its_own_rate(tmp_path) -> None:
    torch.manual_seed(0)
    sound = transformers.ClapAudioConfig(
        spec_size=256,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        patch_embeds_hidden_size=16,
        num_hidden_layers=2,
        hidden_size=32,
    )
    words = transformers.ClapTextConfig(**TINY, vocab_size=50, max_position_embeddings=20)
    config = transformers.ClapConfig(
        audio_config=sound.to_dict(), text_config=words.to_dict(), projection_dim=12
    )
    model = transformers.ClapModel(config).eval()
    model.save_pretrained(tmp_path)
    extractor = transformers.ClapFeatureExtractor(truncation="rand_trunc")
    extractor.save_pretrained(tmp_path)
    assert extractor.sampling_rate == 48_000
    # A tone of 700 Hz made at 48 kHz, and the same at 16 kHz, which is brought to 48.
    high = np.sin(2 * np.pi * 700 * np.arange(48_000) / 48_000).astype(np.float32) / 2
    with torch.no_grad():
        inputs = extractor(high, sampling_rate=48_000, return_tensors="pt")
        [wanted] = model.get_audio_features(**inputs).pooler_output.numpy()
    [found] = open_audio_encoder(f"hf:{tmp_path}").encode(windows_of(tone(700)))
    assert np.dot(found, wanted) / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.999


def test_a_shorter_window_is_filled_up_with_silence(models) -> None:
    encoder = open_audio_encoder(f"hf:{models['wav2vec2']}")
    short = tone(500)[:4000]
    full = np.concatenate([short, np.zeros(12_000, np.float32)])
    assert (encoder.encode(windows_of(short)) == encoder.encode(windows_of(full))).all()
    assert encoder.encode(windows_of()).shape == (0, 16)


def test_the_identity_of_a_model(models) -> None:
    one, again = (open_audio_encoder(f"hf:{models['wav2vec2']}").identity for _ in range(2))
    other = open_audio_encoder(f"hf:{models['speaker']}").identity
    assert one == again
    assert json.loads(json.dumps(one)) == one
    assert one["name"] == "hf:wav2vec2"
    assert one["revision"] != other["revision"]
    assert one["preprocessing"]["sampling_rate"] == 16_000


def test_specs_that_cannot_be_used(tmp_path, models, monkeypatch) -> None:
    assert open_audio_encoder("none") is None
    assert isinstance(open_audio_encoder("log-mel"), LogMelEncoder)
    for spec in ("logmel", "hf:", "mel", "hf"):
        with pytest.raises(UsageError, match="expected log-mel, hf:NAME or none"):
            open_audio_encoder(spec)
    with pytest.raises(UsageError, match="cannot be opened as a transformers audio model"):
        open_audio_encoder(f"hf:{tmp_path}")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(Path(models["wav2vec2"]) / name, tmp_path)
    shutil.copy(Path(models["ast"]) / "model.safetensors", tmp_path)
    with pytest.raises(UsageError, match=r"lacks \d+ of its model's weights"):
        open_audio_encoder(f"hf:{tmp_path}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidvec\[hf\]'"):
        open_audio_encoder(f"hf:{models['ast']}")


def test_without_a_hub(monkeypatch, tmp_path) -> None:
    from huggingface_hub import constants

    # Nothing listens on port 9 of this machine.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OfflineError, match="no audio encoder hf:some/model"):
        open_audio_encoder("hf:some/model")
