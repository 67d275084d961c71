"""Feature sets: another encoder's frames of a corpus's videos, read again from their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.unit.data.media import cut, read, render, render_sound, steady
from vidvec.data import feature_writer, features, reencode
from vidvec.data.classic import ClassicEncoder
from vidvec.data.corpus import Corpus
from vidvec.data.features import FeatureSet
from vidvec.data.frames import same_encoder
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.inspect import summarise
from vidvec.data.reencode import ReencodeOptions
from vidvec.data.reencode import reencode as run
from vidvec.errors import BadRecord, FormatError, UsageError

Picture = NDArray[np.uint8]


class Numbers:
    """An encoder that reads which frame a picture shows, and notes its batches."""

    def __init__(self, **identity: Any) -> None:
        self.frame_size, self.short_side, self.batch_size, self.note = 3, 96, 4, ""
        self.identity: dict[str, Any] = {
            "name": "hf:some/numbers@main",
            "revision": "1",
            "preprocessing": {},
            "precision": "float32",
            "frame_size": 3,
        } | identity
        self.batches: list[int] = []
        self.die_after = 10**9

    def encode(self, images: Sequence[Picture]) -> NDArray[np.float32]:
        if len(self.batches) >= self.die_after:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        # A batch's size shows in its features, as it may in a network's last bits.
        return np.array([[read(each), each.shape[0], len(images)] for each in images], np.float32)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Numbers:
    made = Numbers()
    real = reencode.open_frame_encoder

    def open_frame_encoder(spec: str, **more: Any) -> Any:
        return made if spec == "numbers" else real(spec, **more)

    monkeypatch.setattr(reencode, "open_frame_encoder", open_frame_encoder)
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of 1 to 4 seconds whose first frame shows their number, and a title alone."""
    folder = tmp_path_factory.mktemp("source")
    rows = []
    for number in range(7):
        render(folder / f"v{number}.mp4", steady(10 + 10 * (number % 4)), codec="mpeg4")
        rows.append({"id": f"v{number}", "file": f"v{number}.mp4", "title": f"clip {number}"})
    rows.insert(3, {"id": "words", "title": "no file"})
    (folder / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def made_corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "corpus"
    ingest(source, path, IngestOptions())
    return path


@pytest.fixture
def corpus(made_corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_corpus, tmp_path / "corpus"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_set_has_the_corpuss_frames_by_the_other_encoder(corpus: Path, encoder: Numbers) -> None:
    report = run(corpus, ReencodeOptions(encoder="numbers"))
    assert (report.name, report.videos, report.added, report.without_file) == ("numbers", 8, 8, 1)
    assert not report.rejected
    plain, other = Corpus(corpus), Corpus(corpus, features="numbers")
    assert other.frame_size == 3
    assert other.frame_encoder == encoder.identity
    assert other.frame_counts.tolist() == plain.frame_counts.tolist() == [1, 2, 3, 0, 4, 1, 2, 3]
    for row in range(8):
        video = other.video(row)
        assert video.title == plain.video(row).title
        assert video.frame_times_seconds.tolist() == plain.video(row).frame_times_seconds.tolist()
        # One frame a second of ten: frame 10 t is shown at t.
        assert other.frames(row)[:, 0].tolist() == [10 * t for t in video.frame_times_seconds]
    assert encoder.batches == [4, 4, 4, 4]  # 16 pictures of seven videos fill the batches
    assert plain.feature_sets["numbers"]["complete"]


@pytest.mark.usefixtures("encoder")
def test_a_file_of_sound_alone_has_no_frames_in_a_set_either(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    render_sound(folder / "song.mp4")
    render(folder / "clip.mp4", steady(10), codec="mpeg4")
    ingest(folder, tmp_path / "corpus", IngestOptions())
    report = run(tmp_path / "corpus", ReencodeOptions(encoder="numbers", strict=True))
    assert (report.added, dict(report.rejected)) == (2, {})
    assert Corpus(tmp_path / "corpus", features="numbers").frame_counts.tolist() == [1, 0]
    shutil.copy(folder / "song.mp4", folder / "clip.mp4")  # which had pictures
    report = run(tmp_path / "corpus", ReencodeOptions(encoder="numbers", restart=True))
    assert dict(report.rejected) == {"audio-only": 1}


def test_the_frames_of_a_set_are_views_of_the_mapped_file(corpus: Path, encoder: Numbers) -> None:
    run(corpus, ReencodeOptions(encoder="numbers"))
    opened = Corpus(corpus, features="numbers")
    frames = opened.frames(4)
    assert frames.dtype == np.float16
    assert not frames.flags.owndata
    assert not frames.flags.writeable


def test_any_arrow_reader_opens_a_set(corpus: Path, encoder: Numbers) -> None:
    run(corpus, ReencodeOptions(encoder="numbers"))
    [file] = (corpus / "features" / "numbers" / "shards").iterdir()
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    assert table.column("id").to_pylist() == Corpus(corpus).ids
    assert [row[0] for row in table.column("frames").to_pylist()[4]] == [0, 10, 20, 30]


@pytest.mark.parametrize("die_after", [1, 2, 3, 5])
def test_killed_and_carried_on_gives_the_same_bytes(
    corpus: Path, encoder: Numbers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, die_after: int
) -> None:
    monkeypatch.setattr(reencode, "CHUNK", 2)
    monkeypatch.setattr(feature_writer, "SHARD_VIDEOS", 3)
    whole = shutil.copytree(corpus, tmp_path / "whole")
    run(whole, ReencodeOptions(encoder="numbers"))
    monkeypatch.setattr(feature_writer, "COMMIT_SECONDS", 0.0)
    encoder.die_after = len(encoder.batches) + die_after
    with pytest.raises(KeyboardInterrupt):
        run(corpus, ReencodeOptions(encoder="numbers"))
    if die_after > 1:
        with pytest.raises(FormatError, match="unfinished: run vidvec reencode"):
            Corpus(corpus, features="numbers")
    encoder.die_after = 10**9
    report = run(corpus, ReencodeOptions(encoder="numbers"))
    assert report.videos == 8
    assert report.without_file == 1
    expected, found = (bytes_of(each / "features" / "numbers") for each in (whole, corpus))
    assert sorted(found) == sorted(expected)
    assert found == expected
    assert len(Corpus(corpus).feature_sets["numbers"]["shards"]) == 3


def test_a_run_that_dies_while_it_joins_parts_carries_on(
    corpus: Path, encoder: Numbers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reencode, "CHUNK", 2)
    whole = shutil.copytree(corpus, tmp_path / "whole")
    run(whole, ReencodeOptions(encoder="numbers"))
    monkeypatch.setattr(feature_writer, "COMMIT_SECONDS", 0.0)
    write = feature_writer.FeatureWriter._write_shard

    def die(self: Any, start: int, table: Any) -> Any:
        entry = write(self, start, table)
        if len(table) == 8:
            raise KeyboardInterrupt
        return entry

    with monkeypatch.context() as patched:
        patched.setattr(feature_writer.FeatureWriter, "_write_shard", die)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, ReencodeOptions(encoder="numbers"))
    before = len(encoder.batches)
    run(corpus, ReencodeOptions(encoder="numbers"))
    assert len(encoder.batches) == before  # everything had been encoded
    assert bytes_of(corpus / "features") == bytes_of(whole / "features")


def test_a_corpus_that_grew_gets_only_what_is_new(
    corpus: Path, encoder: Numbers, tmp_path: Path
) -> None:
    run(corpus, ReencodeOptions(encoder="numbers"))
    more = tmp_path / "more"
    more.mkdir()
    render(more / "late.mp4", steady(20), codec="mpeg4")
    ingest(more, corpus, IngestOptions())
    with pytest.raises(UsageError, match=r"lacks 1 of its 9 videos.*run vidvec reencode"):
        Corpus(corpus, features="numbers")
    seen = sum(encoder.batches)
    report = run(corpus, ReencodeOptions(encoder="numbers"))
    assert (report.videos, report.added) == (9, 1)
    assert sum(encoder.batches) == seen + 2
    grown = Corpus(corpus, features="numbers")
    assert grown.frames(grown.row("late"))[:, 0].tolist() == [0, 10]
    assert grown.frames(grown.row("v3"))[:, 0].tolist() == [0, 10, 20, 30]
    assert run(corpus, ReencodeOptions(encoder="numbers")).added == 0


def test_videos_are_found_where_the_order_differs_and_gone_ones_are_not_missed(
    corpus: Path, encoder: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpus, ReencodeOptions(encoder="numbers"))
    keys = features.video_keys(Corpus(corpus))
    turned = [keys[6], *keys[1:7], ("new", "")]
    monkeypatch.setattr(features, "video_keys", lambda _: turned)
    with pytest.raises(UsageError, match="lacks 1 of its 8 videos, which came or changed later"):
        FeatureSet(Corpus(corpus), "numbers")
    opened = Corpus(corpus)
    opened.manifest["gone"] = [[7, 1]]
    found = FeatureSet(opened, "numbers")
    assert found.frame_counts.tolist() == [2, 2, 3, 0, 4, 1, 2, 0]
    assert found.frames(0)[:, 0].tolist() == [0, 10]
    assert found.frames(7).shape == (0, 3)
    assert found.times_seconds(7).shape == (0,)


def test_a_video_that_changed_is_encoded_anew(
    corpus: Path, encoder: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = [f"{row}" for row in range(8)]
    column = Corpus.column
    monkeypatch.setattr(
        Corpus,
        "column",
        lambda self, name: pa.chunked_array([stamps]) if name == "stamp" else column(self, name),
    )
    run(corpus, ReencodeOptions(encoder="numbers"))
    stamps[4] = "new"
    with pytest.raises(UsageError, match="lacks 1 of its 8 videos"):
        Corpus(corpus, features="numbers")
    report = run(corpus, ReencodeOptions(encoder="numbers"))
    assert report.added == 1
    assert Corpus(corpus, features="numbers").frames(4)[:, 0].tolist() == [0, 10, 20, 30]


def test_files_that_are_gone_changed_or_damaged_are_named_and_counted(
    source: Path, encoder: Numbers, tmp_path: Path
) -> None:
    videos = Path(shutil.copytree(source, tmp_path / "videos"))
    corpus = tmp_path / "corpus"
    ingest(videos, corpus, IngestOptions())
    (videos / "v0.mp4").unlink()
    shutil.move(cut(videos / "v3.mp4", 0.3), videos / "v3.mp4")
    shutil.copy(videos / "v1.mp4", videos / "v2.mp4")
    report = run(corpus, ReencodeOptions(encoder="numbers", name="set"))
    folder = corpus / "features" / "set"
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").open()]
    assert [reject["id"] for reject in rejects] == ["v0", "v2", "v3"]
    assert [reject["reason"] for reject in rejects[:2]] == ["missing-file", "other-times"]
    assert rejects[0]["where"] == str(videos / "v0.mp4")
    assert report.rejected.total() == 3
    assert Corpus(corpus, features="set").frame_counts.tolist() == [0, 2, 0, 0, 0, 1, 2, 3]
    with pytest.raises(BadRecord, match="missing-file"):
        run(corpus, ReencodeOptions(encoder="numbers", name="strict", strict=True))


def test_features_that_are_not_finite_are_named(corpus: Path, encoder: Numbers) -> None:
    encode = encoder.encode

    def overflow(images: Sequence[Picture]) -> NDArray[np.float32]:
        features = encode(images)
        features[features[:, 0] == 30] = 1e9
        return features

    encoder.encode = overflow  # type: ignore[method-assign]
    report = run(corpus, ReencodeOptions(encoder="numbers"))
    assert report.rejected == {"nan": 1}
    opened = Corpus(corpus, features="numbers")
    assert opened.frame_counts.tolist() == [1, 2, 3, 0, 0, 1, 2, 3]
    assert opened.video(4).frame_times_seconds.tolist() == []


def test_a_disk_that_is_not_mounted_is_refused(
    source: Path, encoder: Numbers, tmp_path: Path
) -> None:
    videos = Path(shutil.copytree(source, tmp_path / "videos"))
    ingest(videos, tmp_path / "corpus", IngestOptions())
    videos.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="none of the 7 video files"):
        run(tmp_path / "corpus", ReencodeOptions(encoder="numbers"))
    assert not (tmp_path / "corpus" / "features").exists()


def test_a_set_keeps_to_its_encoder(corpus: Path, encoder: Numbers) -> None:
    run(corpus, ReencodeOptions(encoder="numbers", name="set"))
    encoder.identity |= {"precision": "fp16"}
    with pytest.raises(UsageError, match=r"frames of hf:some/numbers@main \(revision 1, fp16"):
        run(corpus, ReencodeOptions(encoder="numbers", name="set"))
    other = run(corpus, ReencodeOptions(encoder="numbers"))
    assert other.name == "numbers-fp16"
    encoder.identity |= {"precision": "float32", "revision": "2"}
    run(corpus, ReencodeOptions(encoder="numbers", name="set", restart=True))
    assert Corpus(corpus, features="set").frame_encoder["revision"] == "2"


def test_a_set_is_carried_on_by_its_name(corpus: Path, encoder: Numbers) -> None:
    run(corpus, ReencodeOptions(encoder="numbers", name="set"))
    assert run(corpus, ReencodeOptions(name="set")).added == 0
    with pytest.raises(UsageError, match=r"no feature set 'other' .*has set.*--encoder"):
        run(corpus, ReencodeOptions(name="other"))


def test_what_cannot_be_reencoded_is_refused(
    corpus: Path, encoder: Numbers, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"frames of .* are those of classic \(revision 1"):
        run(corpus, ReencodeOptions(encoder="classic"))
    with pytest.raises(UsageError, match="cannot name a feature set"):
        run(corpus, ReencodeOptions(encoder="numbers", name="../escape"))
    titles = tmp_path / "titles.jsonl"
    titles.write_text('{"id": "1", "title": "words"}\n')
    ingest(titles, tmp_path / "titles", IngestOptions())
    with pytest.raises(UsageError, match="names no video files"):
        run(tmp_path / "titles", ReencodeOptions(encoder="numbers"))
    with pytest.raises(UsageError, match="has no feature set 'none'; it has none: vidvec reencode"):
        Corpus(corpus, features="none")


def test_a_damaged_set_is_named(corpus: Path, encoder: Numbers) -> None:
    run(corpus, ReencodeOptions(encoder="numbers"))
    [shard] = (corpus / "features" / "numbers" / "shards").iterdir()
    data = shard.read_bytes()
    shard.write_bytes(data[:-8])
    with pytest.raises(FormatError, match=f"{len(data) - 8} bytes, the manifest says {len(data)}"):
        Corpus(corpus, features="numbers")


def test_a_flipped_bit_in_a_set_is_found_and_sets_are_looked_at(
    corpus: Path, encoder: Numbers
) -> None:
    run(corpus, ReencodeOptions(encoder="numbers", name="set"))
    assert Corpus(corpus).verify() == []
    [found] = summarise(Corpus(corpus)).feature_sets
    assert (found.name, found.frame_encoder, found.complete) == ("set", encoder.identity, True)
    assert (found.videos, found.left_out) == (len(Corpus(corpus)), 0)
    [shard] = (corpus / "features" / "set" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert Corpus(corpus).verify() == [f"features/set/shards/{shard.name}"]


def test_a_corpus_finds_the_frames_of_an_encoder(corpus: Path, encoder: Numbers) -> None:
    run(corpus, ReencodeOptions(encoder="numbers", name="set"))
    opened = Corpus(corpus)
    assert opened.with_frames_of(encoder.identity).features == "set"
    classic = ClassicEncoder().identity
    assert opened.with_frames_of(classic) is opened
    assert Corpus(corpus, features="set").with_frames_of(classic).features == ""
    assert opened.with_frames_of(encoder.identity | {"revision": "9"}) is opened


def test_a_corpus_from_before_the_field_takes_its_encoder_and_no_other(
    corpus: Path, source: Path, tmp_path: Path
) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    del manifest["frame_encoder"]["precision"]
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    more = tmp_path / "more"
    more.mkdir()
    render(more / "late.mp4", steady(20), codec="mpeg4")
    assert ingest(more, corpus, IngestOptions()).videos == 9
    assert same_encoder(Corpus(corpus).frame_encoder, ClassicEncoder().identity)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("precision", "bf16", r"classic \(revision 1, bf16, 652 numbers\)"),
        ("revision", "0", r"classic \(revision 0, 652 numbers\)"),
        ("preprocessing", {"size": [64, 64]}, r"preprocessing differs: resize .*size \[64, 64\]"),
    ],
)
def test_two_encoders_do_not_mix_in_a_corpus(
    corpus: Path, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["frame_encoder"][field] = value
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    more = tmp_path / "more"
    more.mkdir()
    render(more / "late.mp4", steady(20), codec="mpeg4")
    with pytest.raises(UsageError, match=message):
        ingest(more, corpus, IngestOptions())
