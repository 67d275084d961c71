"""The corpus: what goes in comes out, mapped, and damage is found and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.corpora import WIDTH, made_pairs, made_videos, write_corpus
from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.corpus import Corpus
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair, Video

FRAMES = np.arange(3 * WIDTH, dtype=np.float16).reshape(3, WIDTH) / 7
VIDEOS = [
    Video(
        id="一",
        title="小猫 🐈 on the sofa",
        speech_text="说了什么",
        screen_text="AD",
        tags=("猫", "cat"),
        category="101",
        language="zh",
        duration_seconds=12.5,
        frame_times_seconds=np.array([0, 1.04, 2.08], np.float32),
        frames=FRAMES,
        thumbnails=(b"\xff\xd8first", b"", b"\x00third"),
    ),
    Video(id="2", tags=(), title="  spaces\tand\nlines  "),
    Video(id="3", tags=None, frames=FRAMES[:1]),
    Video(id="4", tags=("cat", "cat", "rare"), title="d\u0301e\u0301compose\u0301", frames=FRAMES),
    Video(id="5", tags=("猫",), title="", frames=-FRAMES),
]


def same(found: Video, wanted: Video, thumbnails: tuple[bytes, ...]) -> None:
    for name in Video.__slots__:
        value, other = getattr(found, name), getattr(wanted, name)
        if name == "thumbnails":
            assert thumbnails == other
        elif name == "frames":
            assert value.dtype == np.float16
            assert value.shape == (len(other), WIDTH)
            assert (value == other.reshape(-1, WIDTH)).all()
        elif name == "audio":
            assert value.dtype == np.float16
            assert value.shape == (0, 1)
        elif name.endswith("times_seconds"):
            assert value.dtype == np.float32
            assert value.tolist() == other.tolist()
        else:
            assert value == other
            assert type(value) is type(other)


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_videos_come_back_as_they_went_in(tmp_path, shards):
    corpus = write_corpus(tmp_path / "corpus", VIDEOS, shards=shards)
    assert len(corpus) == len(VIDEOS)
    assert corpus.ids == ["一", "2", "3", "4", "5"]
    assert corpus.frame_counts.tolist() == [3, 0, 1, 3, 3]
    for row, video in enumerate(VIDEOS):
        same(corpus.video(row), video, corpus.thumbnails(row))
        assert corpus.row(video.id) == row
        assert video.id in corpus
    texts = [video.speech_text for video in VIDEOS] + [video.screen_text for video in VIDEOS]
    expected = [video.title for video in VIDEOS] + [text for text in texts if text]
    assert list(store.iterate_texts(corpus)) == expected


def test_an_id_that_is_not_there(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", VIDEOS)
    assert "6" not in corpus
    assert 2 not in corpus
    with pytest.raises(UsageError, match=r"no video '6' in .*corpus"):
        corpus.row("6")


def test_odd_float16_values_come_back_bit_for_bit(tmp_path):
    bits = np.arange(WIDTH * 4, dtype=np.uint16) * 331
    frames = bits.view(np.float16).reshape(4, WIDTH)  # subnormal ones and −0 among them
    corpus = write_corpus(tmp_path / "corpus", [Video(id="1", frames=frames)], shards=1)
    assert (corpus.frames(0).view(np.uint16) == frames.view(np.uint16)).all()


def test_frames_are_a_view_of_the_mapped_file(tmp_path):
    videos = made_videos(400)
    corpus = write_corpus(tmp_path / "corpus", videos)
    before = pa.total_allocated_bytes()
    views = [corpus.frames(row) for row in range(len(corpus))]
    assert pa.total_allocated_bytes() == before
    assert sum(view.nbytes for view in views) > 50_000
    for view, video in zip(views, videos, strict=True):
        assert not view.flags.owndata
        assert not view.flags.writeable
        assert (view == video.frames.reshape(-1, WIDTH)).all()
    with pytest.raises(ValueError, match="read-only"):
        views[0][0, 0] = 1


def test_frames_of_a_shard_lie_in_one_piece(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", made_videos(30), shards=1)
    views = [corpus.frames(row) for row in range(30) if corpus.frame_counts[row]]
    starts = [view.__array_interface__["data"][0] for view in views]
    assert np.diff(starts).tolist() == [view.nbytes for view in views[:-1]]


def test_any_arrow_reader_reads_a_shard(tmp_path):
    write_corpus(tmp_path / "corpus", VIDEOS, shards=1)
    with pa.OSFile(str(tmp_path / "corpus" / "shards" / "000000.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.schema == pa.schema(
        {
            "id": pa.string(),
            "title": pa.string(),
            "speech_text": pa.string(),
            "screen_text": pa.string(),
            "tags": pa.list_(pa.string()),
            "category": pa.string(),
            "language": pa.string(),
            "duration_seconds": pa.float32(),
            "date": pa.string(),
            "file": pa.string(),
            "stamp": pa.string(),
            "frame_times_seconds": pa.list_(pa.float32()),
            "frames": pa.list_(pa.list_(pa.float16(), WIDTH)),
            "audio_times_seconds": pa.list_(pa.float32()),
            "audio": pa.list_(pa.list_(pa.float16(), 1)),
        }
    )
    rows = table.to_pylist()
    assert rows[0]["title"] == VIDEOS[0].title
    assert [row["tags"] for row in rows] == [
        ["猫", "cat"],
        [],
        None,
        ["cat", "cat", "rare"],
        ["猫"],
    ]
    assert rows[1]["duration_seconds"] is None
    assert np.array_equal(np.array(rows[3]["frames"], np.float16), FRAMES)
    with pa.OSFile(str(tmp_path / "corpus" / "thumbnails" / "000000.arrow")) as file:
        pictures = pa.ipc.open_file(file).read_all().to_pylist()
    assert pictures[0] == {"id": "一", "thumbnails": [b"\xff\xd8first", b"", b"\x00third"]}


def plain_positions(corpus: Corpus) -> tuple[list[int], list[int]]:
    place = {tag: position for position, tag in enumerate(corpus.tag_vocabulary)}
    positions, counts = [], []
    for row in range(len(corpus)):
        tags = corpus.video(row).tags
        known = [place[tag] for tag in tags or () if tag in place]
        positions += known
        counts.append(-1 if tags is None else len(known))
    return positions, counts


@pytest.mark.parametrize("vocabulary", [["cat", "猫"], ["rare"], ["never seen"], []])
def test_tag_positions_are_those_of_plain_python(tmp_path, vocabulary):
    for name, videos in (("few", VIDEOS), ("many", made_videos(200))):
        path = tmp_path / name
        write_corpus(path, videos, shards=3)
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        words = vocabulary + (["topic2", "fish", "海"] if name == "many" else [])
        manifest["tag_vocabulary"] = words
        storage.write_json(path / "manifest.json", manifest)
        positions, counts = Corpus(path).tag_positions()
        assert (positions.tolist(), counts.tolist()) == plain_positions(Corpus(path))
        assert positions.dtype == counts.dtype == np.int64


def test_tag_positions_by_hand(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", VIDEOS)
    assert corpus.tag_vocabulary == ["cat", "猫"]  # two videos each; "rare" is outside
    positions, counts = corpus.tag_positions()
    assert counts.tolist() == [2, 0, -1, 2, 1]
    assert positions.tolist() == [1, 0, 0, 0, 1]


def test_pairs_are_those_that_the_manifest_counts(tmp_path):
    pairs = [Pair("2", "3", 0.35), Pair("一", "2", 1.0), Pair("一", "2", 0.0)]
    corpus = write_corpus(tmp_path / "corpus", VIDEOS, pairs)
    assert corpus.pairs() == pairs
    manifest = json.loads((corpus.path / "manifest.json").read_text("utf-8"))
    storage.write_json(corpus.path / "manifest.json", {**manifest, "pairs": 2})
    assert Corpus(corpus.path).pairs() == pairs[:2]
    (corpus.path / "pairs.parquet").unlink()
    assert Corpus(corpus.path).pairs() == []


def test_a_corpus_without_videos(tmp_path):
    corpus = empty_corpus(tmp_path)
    assert len(corpus) == 0
    assert corpus.ids == []
    assert corpus.pairs() == []
    assert corpus.verify() == []
    assert corpus.frame_counts.tolist() == []
    assert list(store.iterate_texts(corpus)) == []
    positions, counts = corpus.tag_positions()
    assert (positions.tolist(), counts.tolist()) == ([], [])
    assert corpus.column("frames").to_pylist() == []
    assert "1" not in corpus


def empty_corpus(path: Path) -> Corpus:
    manifest = {
        "frame_encoder": {"name": "none", "frame_size": 0},
        "tag_vocabulary": ["a"],
        "shards": [],
        "rejects_bytes": 0,
        "pairs": 0,
        "ingests": [],
    }
    storage.write_manifest(path, store.KIND, **manifest)
    return Corpus(path)


def test_videos_without_any_frames(tmp_path):
    videos = [Video(id=str(number), title=f"title {number}") for number in range(4)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    assert [corpus.frames(row).shape for row in range(4)] == [(0, WIDTH)] * 4


def test_a_corpus_says_what_it_is(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", VIDEOS)
    assert repr(corpus) == f"Corpus({str(corpus.path)!r}, 5 videos, frames made×{WIDTH})"


def test_an_unfinished_corpus_is_not_opened_by_accident(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", VIDEOS)
    manifest = json.loads((corpus.path / "manifest.json").read_text("utf-8"))
    manifest["ingests"] = [{"complete": True}, {"complete": False}]
    storage.write_json(corpus.path / "manifest.json", manifest)
    with pytest.raises(FormatError, match=r"corpus is unfinished: run its vidvec ingest again"):
        Corpus(corpus.path)
    assert len(Corpus(corpus.path, unfinished=True)) == len(VIDEOS)
    assert not Corpus(corpus.path, unfinished=True).complete


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    videos = made_videos(40)
    return write_corpus(
        tmp_path_factory.mktemp("sound") / "corpus", videos, made_pairs(videos, 5)
    ).path


@pytest.fixture
def shard(sound, tmp_path) -> Path:
    """The second shard of a copy of a sound corpus."""
    shutil.copytree(sound, tmp_path / "corpus")
    return tmp_path / "corpus" / "shards" / "000001.arrow"


def refusal(shard: Path) -> str:
    with pytest.raises(FormatError) as caught:
        Corpus(shard.parents[1])
    said = str(caught.value)
    assert str(shard) in said
    assert "\n" not in said
    return said


def test_a_missing_shard_is_named(shard):
    shard.unlink()
    assert "is missing" in refusal(shard)


def test_a_short_shard_is_named(shard):
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    assert f"is {size - 10} bytes, the manifest says {size} bytes" in refusal(shard)


@pytest.mark.parametrize("damage", ["zeros", "end", "text"])
def test_a_damaged_shard_of_the_right_size_is_named(shard, damage):
    data = bytearray(shard.read_bytes())
    if damage == "zeros":
        data = bytearray(len(data))
    elif damage == "end":
        data[-40:] = b"\xff" * 40
    else:
        place = data.index(b"topic")
        data[place : place + 5] = b"\xff\xfe\xff\xfe\xff"
    shard.write_bytes(data)
    assert "cannot be opened" in refusal(shard)


def test_an_offset_that_leads_out_of_the_file_is_found(shard):
    # Followed blindly, it ends the process without a word.
    table = pa.ipc.open_file(pa.memory_map(str(shard))).read_all()
    offsets = table.column("title").chunk(0).buffers()[1].to_pybytes()
    data = bytearray(shard.read_bytes())
    place = data.index(offsets) + 4
    data[place : place + 4] = b"\xff\xff\xff\x7f"
    del table
    shard.write_bytes(data)
    assert "cannot be opened" in refusal(shard)


def test_a_shard_of_another_corpus_is_found(shard):
    other = [Video(id="1", title="x", frames=np.ones((2, 8), np.float16))]
    entry = store.write_shard(
        shard.parents[1], shard.name, store.video_table(other, 8), store.thumbnail_table(other)
    )
    manifest = json.loads((shard.parents[1] / "manifest.json").read_text("utf-8"))
    manifest["shards"][1] = {**entry, "rows": 20}
    storage.write_json(shard.parents[1] / "manifest.json", manifest)
    assert "other columns" in refusal(shard)


def test_a_shard_with_another_number_of_rows_is_found(shard):
    manifest = json.loads((shard.parents[1] / "manifest.json").read_text("utf-8"))
    manifest["shards"][1]["rows"] = 21
    storage.write_json(shard.parents[1] / "manifest.json", manifest)
    assert "has 20 rows, the manifest says 21" in refusal(shard)


def test_verify_finds_a_flipped_bit(shard):
    corpus = Corpus(shard.parents[1])
    assert corpus.verify() == []
    data = bytearray(shard.read_bytes())
    frames = corpus.frames(len(corpus) - 1)
    assert len(frames)
    place = data.rindex(frames.tobytes())
    data[place] ^= 1
    del frames
    shard.write_bytes(data)
    assert Corpus(shard.parents[1]).verify() == ["000001.arrow"]


def test_a_damaged_file_of_thumbnails_is_named(shard):
    pictures = shard.parents[1] / "thumbnails" / shard.name
    pictures.write_bytes(b"no pictures")
    with pytest.raises(FormatError, match="thumbnails"):
        Corpus(shard.parents[1]).thumbnails(30)
    pictures.unlink()
    assert Corpus(shard.parents[1]).thumbnails(30) == ()


def test_the_checksum_is_crc32c(tmp_path):
    (tmp_path / "file").write_bytes(b"123456789")
    assert store.checksum(tmp_path / "file") == "e3069283"  # the check value of RFC 3720's CRC-32C
    (tmp_path / "file").write_bytes(b"")
    assert store.checksum(tmp_path / "file") == "00000000"


def test_a_folder_that_is_no_corpus(tmp_path):
    with pytest.raises(FormatError, match=r"is not a corpus folder: it has no manifest\.json"):
        Corpus(tmp_path)
