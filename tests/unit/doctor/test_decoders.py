"""Decoders that are there decode; one that is not, or gives the wrong pictures, is named."""

from __future__ import annotations

import av
import pytest

from vidvec.doctor import decoders
from vidvec.doctor.decoders import CODECS, Codec, decodes, has_codec


def test_what_can_be_made_here_is_decoded() -> None:
    found = list(decoders.decoders())
    assert [finding.status for finding in found] == ["ok"] * len(found)
    said = " ".join(finding.found for finding in found)
    assert all(codec.name in said for codec in CODECS)
    made = [codec for codec in CODECS if any(has_codec(name, "w") for name in codec.encoders)]
    assert {"h264", "mpeg4", "mjpeg", "gif"} <= {codec.name for codec in made}
    assert all(decodes(codec) for codec in made)


def test_codecs_are_looked_up() -> None:
    assert has_codec("h264", "r")
    assert not has_codec("no-such-codec", "r")
    assert not has_codec("libx264", "r")  # an encoder only


def test_without_an_encoder_the_decoder_is_only_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = has_codec
    monkeypatch.setattr(decoders, "has_codec", lambda name, mode: mode == "r" and real(name, mode))
    [found] = decoders.decoders()
    assert found.status == "ok"
    assert "no encoder to make a test video with" in found.found


def test_missing_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    real = has_codec
    gone = {("h264", "r"), ("av1", "r")}
    monkeypatch.setattr(
        decoders, "has_codec", lambda name, mode: (name, mode) not in gone and real(name, mode)
    )
    found = {finding.name: finding for finding in decoders.decoders()}
    assert found["decoder h264"].status == "problem"
    assert found["decoder av1"].status == "note"
    assert "pip install --force-reinstall av" in found["decoder h264"].advice
    assert "hevc" in found["decoders"].found


def test_a_decoder_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(codec: Codec) -> bool:
        if codec.name == "vp9":
            raise av.error.InvalidDataError(1, "broken")
        if codec.name == "mpeg4":
            raise ValueError("gave 1 of 4 pictures")
        return True

    monkeypatch.setattr(decoders, "decodes", broken)
    found = {finding.name: finding for finding in decoders.decoders()}
    assert found["decoder vp9"].status == "note"
    assert found["decoder mpeg4"].status == "problem"
    assert "gave 1 of 4 pictures" in found["decoder mpeg4"].found


def test_pictures_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops:
        """A container that gives one picture less."""

        def __init__(self, container: object) -> None:
            self._container = container

        def __enter__(self) -> Stops:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def decode(self, video: int) -> list[object]:
            return list(self._container.decode(video=video))[:-1]  # type: ignore[attr-defined]

    real = av.open
    monkeypatch.setattr(
        av, "open", lambda *args, **kw: real(*args, **kw) if len(args) > 1 else Stops(real(*args))
    )
    with pytest.raises(ValueError, match="3 of 4 pictures"):
        decodes(CODECS[0])
