"""Sound, speech and text on screen, from files into a corpus."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import transformers

from tests.unit.data.media import render, steady
from tests.unit.data.sounds import pitches, second_of, write_sound
from tests.unit.data.test_ocr import needs_reader
from tests.unit.data.whisper import write_whisper
from vidvec.data import modalities as module
from vidvec.data.asr import SpeechRecognizer
from vidvec.data.audio import LogMelEncoder, open_audio_encoder, read_audio
from vidvec.data.corpus import Corpus
from vidvec.data.extras import read_extras
from vidvec.data.ingest import IngestOptions, ingest, read_video
from vidvec.data.media import Media, MediaRequest, read_media
from vidvec.data.modalities import Modalities
from vidvec.data.sound import read_waveform, read_windows
from vidvec.errors import OfflineError, UsageError, VidvecError
from vidvec.records import Video

OPTIONS = IngestOptions(workers=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Three videos: with sound, without, and with words of its own."""
    folder = tmp_path_factory.mktemp("source")
    write_sound(folder / "loud.mp4", pitches(4), codec="aac", video_seconds=4)
    render(folder / "mute.mp4", steady(30))
    write_sound(folder / "told.mp4", pitches(3), codec="aac", video_seconds=3)
    rows = [{"file": f"{name}.mp4", "title": name} for name in ("loud", "mute", "told")]
    rows[2] |= {"speech_text": "as the table says", "screen_text": "SALE", "language": "zh"}
    (folder / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> str:
    return f"hf:{write_whisper(tmp_path_factory.mktemp('whisper'))}"


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wav2vec2")
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(20, 16),
        conv_kernel=(40, 16),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return f"hf:{folder}"


def test_audio_frames_are_in_the_corpus_and_in_read_video(source, tmp_path) -> None:
    ingest(source, tmp_path / "corpus", OPTIONS)
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.audio_encoder == LogMelEncoder().identity
    assert corpus.audio_size == 192
    assert corpus.audio_counts.tolist() == [4, 0, 3]
    for row, name in enumerate(["loud", "mute", "told"]):
        video, file = corpus.video(row), source / f"{name}.mp4"
        assert video.file == str(file.absolute())
        alone = read_video(file, title=name)
        assert (corpus.audio(row) == alone.audio.reshape(-1, 192)).all()
        assert (corpus.frames(row) == alone.frames).all()
        assert video.audio_times_seconds.tolist() == alone.audio_times_seconds.tolist()
    wanted = read_audio(source / "loud.mp4")
    assert (corpus.audio(0) == wanted.frames.astype(np.float16)).all()
    assert corpus.audio(1).shape == (0, 192)
    with pytest.raises(ValueError, match="read-only"):
        corpus.audio(0)[0, 0] = 1


def test_without_audio(source, tmp_path) -> None:
    ingest(source, tmp_path / "corpus", replace(OPTIONS, audio="none"))
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.audio_encoder == {"name": "none", "frame_size": 0}
    assert corpus.audio_counts.tolist() == [0, 0, 0]
    assert len(read_video(source / "loud.mp4", audio="none").audio) == 0


def test_a_model_hears_the_same_windows(source, tmp_path, wav2vec2) -> None:
    ingest(source, tmp_path / "corpus", replace(OPTIONS, audio=wav2vec2))
    corpus = Corpus(tmp_path / "corpus")
    encoder = open_audio_encoder(wav2vec2)
    assert corpus.audio_encoder == encoder.identity
    wanted = encoder.encode(read_windows(source / "loud.mp4"))
    assert (corpus.audio(0) == wanted.astype(np.float16)).all()
    alone = read_video(source / "loud.mp4", audio=encoder)
    assert (corpus.audio(0) == alone.audio).all()


def test_audio_of_two_encoders_is_not_mixed(source, tmp_path, wav2vec2) -> None:
    ingest(source, tmp_path / "corpus", OPTIONS)
    other = tmp_path / "other"
    other.mkdir()
    write_sound(other / "more.mp4", pitches(2), codec="aac", video_seconds=2)
    with pytest.raises(UsageError, match=r"holds audio frames of log-mel .* use the same --audio"):
        ingest(other, tmp_path / "corpus", replace(OPTIONS, audio=wav2vec2))
    # Another encoder is no matter where nothing is heard; nor is none.
    ingest(other, tmp_path / "corpus", replace(OPTIONS, audio="none"))
    assert Corpus(tmp_path / "corpus").audio_counts.tolist() == [4, 0, 3, 0]


def test_speech_is_written_where_there_is_no_text(source, tmp_path, whisper) -> None:
    ingest(source, tmp_path / "corpus", replace(OPTIONS, asr=whisper))
    corpus = Corpus(tmp_path / "corpus")
    loud, mute, told = (corpus.video(row) for row in range(3))
    recognizer = SpeechRecognizer(whisper.removeprefix("hf:"))
    wanted = recognizer.transcribe(read_waveform(source / "loud.mp4", max_seconds=60))
    assert wanted.text
    assert (loud.speech_text, loud.language) == (wanted.text, wanted.language)
    assert (mute.speech_text, mute.language) == ("", "")
    assert (told.speech_text, told.language) == ("as the table says", "zh")
    assert corpus.audio_counts.tolist() == [4, 0, 3]


@needs_reader
def test_text_on_screen_is_read_where_there_is_none(tmp_path, source) -> None:
    import av

    folder = tmp_path / "written"
    folder.mkdir()
    with av.open(str(folder / "sign.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(8):
            image = np.full((720, 1280, 3), 240, np.uint8)
            cv2.putText(image, "Fresh bread", (100, 300), 0, 2, (20, 20, 20), 5)
            if number >= 4:
                cv2.putText(image, "Open at 9", (100, 500), 0, 2, (20, 20, 20), 5)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    ingest(folder, tmp_path / "corpus", replace(OPTIONS, ocr=True))
    plain = read_video(folder / "sign.mp4")
    video = Corpus(tmp_path / "corpus").video(0)
    # At 256 pixels of height, as the frame encoder sees it, words run together.
    assert video.screen_text == "Fresh bread\nOpen at 9"
    assert (video.frames == plain.frames).all()
    request = MediaRequest(screen_text=True)
    media = read_media(source / "told.mp4", request)
    told = Video(id="t", screen_text="SALE")
    assert Modalities("none", ocr=True).wanted(told)["screen_text"] is False
    assert media.screen_text == Modalities("none").complete(Video(id="t"), media)[0].screen_text


def test_what_fails_costs_itself_alone(source, tmp_path, monkeypatch, whisper) -> None:
    class Failing:
        frame_size = 2

        def __init__(self) -> None:
            self.identity = {"name": "failing", "frame_size": 2}

        def encode(self, windows):
            raise RuntimeError("no luck")

    media = read_media(source / "loud.mp4", MediaRequest(sound="windows", speech_seconds=9))
    assert [second_of(some) for some in media.windows] == [0, 1, 2, 3]
    video = Video(id="1", title="t")
    found, heard, notes = Modalities(Failing()).complete(video, media)
    assert found == video
    assert not heard
    assert notes == ("sound left out, RuntimeError: no luck",)

    class Infinite(Failing):
        def encode(self, windows):
            return np.full((len(windows.samples), 2), 1e6, np.float32)

    found, _, [note] = Modalities(Infinite()).complete(video, media)
    assert found == video
    assert "no finite float16" in note
    modalities = Modalities("none", whisper)
    monkeypatch.setattr(SpeechRecognizer, "transcribe", lambda *_: 1 / 0)
    found, _, [note] = modalities.complete(video, media)
    assert found == video
    assert note.startswith("speech left out, ZeroDivisionError")


def test_damaged_sound_is_a_note(tmp_path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no media" * 50)
    for request in (
        MediaRequest(sound="log-mel"),
        MediaRequest(sound="windows"),
        MediaRequest(speech_seconds=5),
    ):
        media = Media()
        read_extras(tmp_path / "a.mp4", request, media)
        [note] = media.notes
        assert "left out, not-a-video: a.mp4" in note


def test_what_is_asked_for_and_cannot_be_had(source, tmp_path, monkeypatch) -> None:
    for options in (
        replace(OPTIONS, audio="mel"),
        replace(OPTIONS, asr="whisper"),
        replace(OPTIONS, asr=f"hf:{tmp_path}"),
    ):
        with pytest.raises((UsageError, OfflineError)):
            ingest(source, tmp_path / "corpus", options)
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    with pytest.raises(VidvecError, match="--no-deps"):
        ingest(source, tmp_path / "corpus", replace(OPTIONS, ocr=True))
    # Nothing was read; the same folder can be used.
    assert ingest(source, tmp_path / "corpus", OPTIONS).videos == 3


def test_no_model_is_opened_for_features(tmp_path, monkeypatch) -> None:
    video = Video(id="1", audio=np.ones((2, 4), np.float16), screen_text="x")
    wanted = Modalities().wanted(video)
    assert wanted == {"sound": "", "speech_seconds": 0.0, "screen_text": False}
    assert module.NO_AUDIO["name"] == "none"
