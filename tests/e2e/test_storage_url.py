"""Corpora and vectors on object storage: a real S3 server, and what goes wrong on the way to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import corpora
from tests.corpora import made_pairs, made_videos, with_more, write_corpus
from tests.models import SMALLEST, write_checkpoint
from tests.s3_server import BUCKET, Faults, Proxy, s3_proxy, s3_server
from vidvec import cli, storage
from vidvec.data import corpus as store
from vidvec.data.corpus import Corpus
from vidvec.data.features import feature_schema
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.splits import corpus_split
from vidvec.embed import embedder
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, StorageError
from vidvec.storage import objects
from vidvec.storage.cache import BLOCK_BYTES
from vidvec.storage.folders import pull, push
from vidvec.storage.objects import filesystem

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

PROJECT = Path(__file__).resolve().parents[2]
COUNT, WIDTH, FRAMES, PART = 240, 512, 24, 24
VIDEOS = made_videos(160)
PAIRS = made_pairs([video for video in VIDEOS if len(video.frames)], 300)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def running(server) -> Iterator[Proxy]:
    with s3_proxy(server) as found:
        yield found


@pytest.fixture
def proxy(running, tmp_path, monkeypatch) -> Proxy:
    """The way to the server, without faults, and an empty cache."""
    running.faults = Faults()
    running.forget()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": running.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "VIDVEC_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """6 MB of frames in two shards, the first videos in a part of their own."""
    folder = tmp_path_factory.mktemp("wide")
    random = np.random.default_rng(1)
    times = np.arange(FRAMES, dtype=np.float32)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(corpora, "WIDTH", WIDTH)
        videos = [
            replace(
                video,
                frames=random.normal(size=(FRAMES, WIDTH)).astype(np.float16),
                frame_times_seconds=times,
                thumbnails=(video.id.encode(),),
            )
            for video in made_videos(COUNT)
        ]
        pairs = made_pairs(videos, 200)
        corpus = write_corpus(
            folder / "corpus", videos, pairs, parts={"few": PART, "": COUNT - PART}
        )
    write_checkpoint(folder / "run", corpus)
    embed(folder / "run", folder / "corpus", folder / "vectors")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    corpus = write_corpus(folder / "corpus", with_more(VIDEOS), PAIRS)
    write_checkpoint(folder / "run", corpus)
    embed(folder / "run", folder / "corpus", folder / "vectors")
    return folder


def url_of(name: str) -> storage.S3Path:
    """A URL; each test has one of its own, as the server is shared."""
    found = storage.located(f"s3://{BUCKET}/{name}")
    assert isinstance(found, storage.S3Path)
    return found


def shard_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "shards").iterdir())


def cached_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in (cache / "objects").rglob("*") if path.is_file())


def replaced(url: storage.S3Path, content: bytes) -> None:
    """Another object in the place of one, as nobody here would put it."""
    with filesystem(url.bucket).open_output_stream(url.object_name) as stream:
        stream.write(content)


def command(*arguments: object, before: str = "") -> subprocess.Popen[str]:
    """A command in a process of its own; with some Python before it."""
    code = f"{before}\nfrom vidvec.cli import main\nmain()"
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def here(capsys, *arguments: object, status: int = 0) -> str:
    """Runs a command in this process; what it printed, or said of an error."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(each) for each in arguments])
    told = capsys.readouterr()
    assert (caught.value.code or 0) == status, told.err
    return told.err if status else told.out


def wait_for(there, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def add_feature_set(corpus: Path, width: int = 5) -> None:
    """Frames of another encoder, of all videos but the first, in another order."""
    random = np.random.default_rng(2)
    videos = [
        replace(video, frames=random.normal(size=(len(video.frames), width)).astype(np.float16))
        for video in reversed(VIDEOS[1:])
    ]
    schema = feature_schema(width)
    table = store.video_table(videos, width).select(schema.names).cast(schema)
    path = corpus / "features" / "other" / "shards" / "000000.arrow"
    path.parent.mkdir(parents=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)
    size, crc = path.stat().st_size, store.checksum(path)
    entry = {"file": path.name, "rows": len(videos), "bytes": size, "crc32c": crc}
    facts = {"frame_encoder": {"name": "other", "frame_size": width}, "complete": True}
    storage.write_manifest(path.parents[1], "features", shards=[entry], **facts)


def test_a_feature_set_by_url(proxy, tmp_path):
    write_corpus(tmp_path / "corpus", VIDEOS[1:])
    add_feature_set(tmp_path / "corpus")
    push(tmp_path / "corpus", url_of("sets"))
    local = Corpus(tmp_path / "corpus", features="other")
    remote = Corpus(url_of("sets"), features="other")
    assert (local.frame_counts == remote.frame_counts).all()
    remote.fetch(np.arange(len(remote)))
    for row in range(len(local)):
        assert (local.frames(row) == remote.frames(row)).all()
        assert (local.video(row).frame_times_seconds == remote.video(row).frame_times_seconds).all()
    assert list(remote.feature_sets) == ["other"]
    assert Corpus(url_of("sets")).with_frames_of({"name": "other", "frame_size": 5}).features


def test_the_balanced_split_is_written_down_at_the_url(proxy, small):
    push(small / "corpus", url_of("split"))
    local = corpus_split(Corpus(small / "corpus"), "balanced")
    for _ in range(2):
        remote = corpus_split(Corpus(url_of("split")), "balanced")
        assert (remote.validation == local.validation).all()
    assert (url_of("split") / "splits" / "balanced.json").is_file()


def test_a_corpus_by_url_is_the_corpus(proxy, small):
    push(small / "corpus", url_of("same"))
    local, remote = Corpus(small / "corpus"), Corpus(f"s3://{BUCKET}/same")
    assert remote.ids == local.ids
    assert (remote.frame_counts == local.frame_counts).all()
    assert (remote.audio_counts == local.audio_counts).all()
    for row in range(len(local)):
        ours, theirs = local.video(row), remote.video(row)
        for name in ("frames", "audio", "frame_times_seconds", "audio_times_seconds"):
            assert (getattr(ours, name) == getattr(theirs, name)).all()
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        for name in ("id", "title", "speech_text", "screen_text", "tags", "category", "date"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert local.thumbnails(row) == remote.thumbnails(row)
    for name in ("title", "tags", "frames"):
        assert local.column(name).to_pylist() == remote.column(name).to_pylist()
    assert remote.pairs() == local.pairs()
    assert remote.content == local.content
    assert all(
        (a == b).all() for a, b in zip(remote.tag_positions(), local.tag_positions(), strict=True)
    )
    assert remote.verify() == []


def test_only_what_is_needed_is_read(proxy, wide, tmp_path):
    push(wide / "corpus", url_of("ranges"))
    whole = shard_bytes(wide / "corpus")
    proxy.forget()
    corpus = Corpus(url_of("ranges"))
    assert proxy.received("shards/") == 0, "opening reads no shard"
    assert corpus.ids == Corpus(wide / "corpus").ids
    assert proxy.received("shards/") <= 4 * BLOCK_BYTES, "head and foot of two shards"
    proxy.forget()
    embed(wide / "run", url_of("ranges"), tmp_path / "part", parts=["few"])
    wanted = PART * FRAMES * WIDTH * 2
    assert wanted < proxy.received("shards/") + 2 * BLOCK_BYTES
    assert proxy.received("shards/") <= wanted + 6 * BLOCK_BYTES < whole / 2
    ours = Vectors(tmp_path / "part")
    theirs = Vectors(wide / "vectors")
    assert (ours.matrix == theirs.matrix[[theirs.row(video) for video in ours.ids]]).all()


def test_the_cache_answers_the_second_time(proxy, wide, tmp_path):
    push(wide / "corpus", url_of("warm"))
    proxy.forget()
    embed(wide / "run", url_of("warm"), tmp_path / "cold")
    whole = shard_bytes(wide / "corpus")
    assert whole * 0.9 < proxy.received("shards/") <= whole, "each byte came once"
    proxy.forget()
    embed(wide / "run", url_of("warm"), tmp_path / "hot")
    assert proxy.received("shards/") == 0
    for made in ("cold", "hot"):
        assert (Vectors(tmp_path / made).matrix == Vectors(wide / "vectors").matrix).all()


def test_the_cache_keeps_to_its_limit(proxy, wide, tmp_path, monkeypatch):
    limit = 6 * BLOCK_BYTES
    monkeypatch.setenv("VIDVEC_CACHE_BYTES", str(limit))
    push(wide / "corpus", url_of("limit"))
    embed(wide / "run", url_of("limit"), tmp_path / "made")
    assert 0 < cached_bytes(tmp_path / "cache") <= limit + BLOCK_BYTES
    assert (Vectors(tmp_path / "made").matrix == Vectors(wide / "vectors").matrix).all()


def test_processes_share_a_cache_that_is_too_small(proxy, wide, monkeypatch):
    monkeypatch.setenv("VIDVEC_CACHE_BYTES", str(8 * BLOCK_BYTES))
    push(wide / "corpus", url_of("shared"))
    code = """
import sys, numpy as np
from vidvec.data.corpus import Corpus
ours, theirs = Corpus(sys.argv[1]), Corpus(sys.argv[2])
rows = np.random.default_rng(int(sys.argv[3])).permutation(len(ours))
assert all((ours.frames(row) == theirs.frames(row)).all() for row in rows)
"""
    # One is killed at any time: what it leaves is never taken for a block.
    where = [sys.executable, "-c", code, str(wide / "corpus"), str(url_of("shared"))]
    path = os.environ | {"PYTHONPATH": str(PROJECT)}
    readers = [subprocess.Popen([*where, str(seed)], env=path) for seed in range(3)]
    victim = subprocess.Popen([*where, "9"], env=path)
    time.sleep(1.5)
    victim.kill()
    victim.wait()
    assert [reader.wait(120) for reader in readers] == [0, 0, 0]


def test_damage_in_the_cache_is_found(proxy, wide, tmp_path):
    push(wide / "corpus", url_of("rot"))
    first = Corpus(url_of("rot"))
    expected = [first.frames(row).copy() for row in range(40)]
    for block in (tmp_path / "cache" / "objects").rglob("*.block"):
        content = bytearray(block.read_bytes())
        content[len(content) // 2] ^= 1
        block.write_bytes(content)
    second = Corpus(url_of("rot"))
    assert all((second.frames(row) == expected[row]).all() for row in range(40))


def test_a_shard_that_is_replaced_under_the_reader(proxy, wide):
    url = url_of("changed")
    push(wide / "corpus", url)
    corpus = Corpus(url)
    corpus.frames(0)
    shard = url / "shards" / "000000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    replaced(shard, bytes(content))
    with pytest.raises(FormatError, match=r"000000\.arrow changed while it was read"):
        [corpus.frames(row) for row in range(1, COUNT // 2)]
    # Opened anew, it is the new object's and no block of the old one's.
    held, anew = Corpus(wide / "corpus"), Corpus(url)
    differ = [int((anew.frames(row) != held.frames(row)).sum()) for row in range(COUNT // 2)]
    assert sum(differ) == 1
    assert anew.verify() == ["000000.arrow"]
    shard.unlink()
    with pytest.raises(FormatError, match=r"s3://videos/changed/shards/000000\.arrow is missing"):
        Corpus(url)
    replaced(shard, bytes(content[:-5]))
    with pytest.raises(FormatError, match="the manifest says"):
        Corpus(url)
    replaced(shard, bytes(len(content)))
    with pytest.raises(FormatError, match=r"shard s3://.*cannot be opened"):
        _ = Corpus(url).ids


def test_everything_comes_through_failures(proxy, wide, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "STALL_SECONDS", 1.0)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "8")
    objects._filesystem.cache_clear()
    proxy.faults = Faults(slow_down=0.12, cut=0.12, stall=0.02, stall_seconds=4)
    try:
        push(wide / "corpus", url_of("faults/corpus"))
        embed(wide / "run", url_of("faults/corpus"), url_of("faults/vectors"))
        assert (Vectors(url_of("faults/vectors")).matrix == Vectors(wide / "vectors").matrix).all()
        pull(url_of("faults/corpus"), tmp_path / "back")
        assert proxy.injected["slow_down"] > 2
        assert proxy.injected["cut"] > 2
    finally:
        objects._filesystem.cache_clear()
    for path in (tmp_path / "back" / "shards").iterdir():
        assert path.read_bytes() == (wide / "corpus" / "shards" / path.name).read_bytes()


REFUSALS = {
    (503, "SlowDown"): r"failed 2 times, at last with: SLOW_DOWN.*carries on",
    (403, "ExpiredToken"): r"credentials for .* have expired: get new ones",
    (403, "AccessDenied"): r"does not allow reading it with these credentials",
    (403, "InvalidAccessKeyId"): r"does not take these credentials: check AWS_ACCESS_KEY_ID",
    (403, "SignatureDoesNotMatch"): r"does not take these credentials: check AWS_ACCESS_KEY_ID",
}


@pytest.mark.parametrize("code", REFUSALS)
def test_what_the_server_refuses_is_said_in_one_line(proxy, small, monkeypatch, capsys, code):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.faults = Faults(code=code)
    told = here(capsys, "inspect", "s3://videos/refused", status=1)
    assert told.count("\n") == 1
    assert told.startswith("error: reading s3://videos/refused")
    assert proxy.url in told
    with pytest.raises(StorageError, match=REFUSALS[code]):
        Corpus("s3://videos/refused")
    with pytest.raises(StorageError, match=r"(reading|writing) s3://videos/refused/vectors"):
        embed(small / "run", small / "corpus", url_of("refused/vectors"))


def test_no_bucket_no_corpus_no_server(proxy, monkeypatch, capsys):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    told = here(capsys, "inspect", "s3://no-such-bucket/corpus", status=1)
    assert f"{proxy.url} has no bucket 'no-such-bucket'" in told
    told = here(capsys, "inspect", f"s3://{BUCKET}/nothing", status=1)
    assert f"s3://{BUCKET}/nothing is not a corpus folder: it has no manifest.json" in told
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    told = here(capsys, "inspect", f"s3://{BUCKET}/corpus", status=1)
    assert "http://127.0.0.1:9 failed 2 times, at last with: NETWORK_CONNECTION" in told


def test_a_stalled_upload_ends(proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "UPLOAD_SECONDS", 1.0)
    proxy.faults = Faults(stall=1.0, stall_seconds=6)
    (tmp_path / "file").write_bytes(b"some")
    with pytest.raises(StorageError, match="nothing was answered for 1 s"):
        objects.put(tmp_path / "file", url_of("stalled"))
    proxy.faults = Faults()


def test_a_killed_embed_goes_on(proxy, wide):
    url = url_of("killed/vectors")
    push(wide / "corpus", url_of("killed/corpus"))
    arguments = ("embed", wide / "run", url_of("killed/corpus"), url)
    smaller = "from vidvec.embed import embedder\nembedder.SHARD = 40"

    def puts(name: str) -> int:
        return sum(seen.method == "PUT" and name in seen.path for seen in list(proxy.requests))

    process = command(*arguments, before=smaller)
    wait_for(lambda: puts("vectors/shards/000001.arrow"), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(FormatError, match=r"unfinished|no manifest\.json"):
        Vectors(url)
    done = puts("vectors/shards/000000.arrow")
    process = command(*arguments, before=smaller)
    told = process.communicate(timeout=120)
    assert process.returncode == 0, told[1]
    assert puts("vectors/shards/000000.arrow") == done == 1, "what was committed is not made again"
    assert (Vectors(url).matrix == Vectors(wide / "vectors").matrix).all()
    assert Vectors(url).ids == Vectors(wide / "vectors").ids


def test_push_and_pull_copy_what_is_missing(proxy, wide, tmp_path):
    url = url_of("copied")
    report = push(wide / "corpus", url)
    assert report.copied == report.files > 5
    assert push(wide / "corpus", url).copied == 0
    order = [seen.path for seen in proxy.requests if seen.method in ("PUT", "POST")]
    manifest = next(place for place, path in enumerate(order) if "manifest.json" in path)
    assert all("checksums.json" in path for path in order[manifest + 1 :]), "the manifest is last"
    pull(url, tmp_path / "back")
    (tmp_path / "back" / "mine.txt").write_text("mine")
    assert pull(url, tmp_path / "back").copied <= 1
    assert (tmp_path / "back" / "mine.txt").read_text() == "mine"
    for path in (wide / "corpus").rglob("*"):
        if path.is_file() and "tokens" not in path.parts:
            copy = tmp_path / "back" / path.relative_to(wide / "corpus")
            assert copy.read_bytes() == path.read_bytes()
    shard = url / "shards" / "000001.arrow"
    content = bytearray(shard.read_bytes())
    content[99_999] ^= 4
    replaced(shard, bytes(content))
    with pytest.raises(FormatError, match=r"000001\.arrow has checksum .* expected"):
        pull(url, tmp_path / "third")
    assert not (tmp_path / "third" / "manifest.json").exists()


def test_ingest_into_a_url_goes_on_and_appends(proxy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "SHARD_BYTES", 20_000)
    for name, some in (("one", VIDEOS[:90]), ("two", VIDEOS[90:])):
        _write_source(tmp_path / f"{name}.parquet", some)
    options = IngestOptions(audio="none")
    url, local = url_of("ingested"), tmp_path / "corpus"
    ingest(tmp_path / "one.parquet", local, options)
    smaller = "from vidvec.data import corpus\ncorpus.SHARD_BYTES = 20_000"
    stopped = f"""{smaller}
import os
from vidvec.data.writer import CorpusWriter
commit = CorpusWriter.commit
def killed(self):
    commit(self)
    if len(self.manifest["shards"]) == 2:
        os._exit(9)
CorpusWriter.commit = killed
from vidvec.data import staged
staged.LOOK_SECONDS = 0.0
"""
    arguments = ("ingest", tmp_path / "one.parquet", url, "--audio", "none")
    process = command(*arguments, before=stopped)
    process.communicate(timeout=120)
    assert process.returncode == 9
    with pytest.raises(FormatError, match=r"no manifest\.json"):
        Corpus(url)
    assert "carried on at row" in here(capsys, *arguments)
    _assert_same(Corpus(url), Corpus(local))
    assert not list((tmp_path / "cache" / "staging").rglob("*.arrow"))
    ingest(tmp_path / "two.parquet", local, options)
    here(capsys, "ingest", tmp_path / "two.parquet", url, "--audio", "none")
    _assert_same(Corpus(url), Corpus(local))
    assert Corpus(url).verify() == []


def _write_source(path: Path, videos: list) -> None:
    columns = {
        "id": [video.id for video in videos],
        "title": [video.title for video in videos],
        "frames": [video.frames.astype(np.float32).tolist() for video in videos],
    }
    pq.write_table(pa.table(columns), path)


def _assert_same(ours: Corpus, theirs: Corpus) -> None:
    assert ours.ids == theirs.ids
    assert all((ours.frames(row) == theirs.frames(row)).all() for row in range(len(theirs)))
    tokenizers = [each.path / "tokenizer" / "tokenizer.json" for each in (ours, theirs)]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()


def test_commands_take_urls(proxy, small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    corpus, vectors = f"s3://{BUCKET}/commands/corpus", f"s3://{BUCKET}/commands/vectors"
    here(capsys, "push", small / "corpus", corpus)
    assert "160 vectors" in here(capsys, "embed", small / "run", corpus, vectors)
    found = json.loads(here(capsys, "inspect", corpus, "--json"))
    assert found == json.loads(here(capsys, "inspect", small / "corpus", "--json")) | {
        key: found[key] for key in ("path",) if key in found
    }
    ours = json.loads(here(capsys, "evaluate", vectors, "--corpus", corpus, "--json"))
    theirs = json.loads(
        here(capsys, "evaluate", small / "vectors", "--corpus", small / "corpus", "--json")
    )
    assert list(ours.values()) == list(theirs.values())
    here(capsys, "fuse", vectors, vectors, "--out", tmp_path / "fused", "--size", 8)
    assert len(Vectors(tmp_path / "fused")) == len(VIDEOS)
    assert "160 videos indexed" in here(capsys, "index", vectors)
    asked = ("--id", VIDEOS[1].id, "--json")
    ours = json.loads(here(capsys, "search", vectors, *asked))
    assert [hit["id"] for hit in ours] == [
        hit["id"] for hit in json.loads(here(capsys, "search", small / "vectors", *asked))
    ]
    assert ours[0]["title"] is not None, "titles come from the corpus at its URL"
    here(capsys, "dedup", vectors, "--threshold", 0.99)
    sets = [part for each in SMALLEST for part in ("--set", each)]
    sets += ["--set", "pretrain.epochs=1", "--set", "pretrain.batch_size=64"]
    here(capsys, "pretrain", corpus, tmp_path / "pre", *sets)
    assert (tmp_path / "pre" / "run.json").is_file() or list((tmp_path / "pre").iterdir())
    for refused in (
        ("compact", corpus),
        ("pretrain", small / "corpus", f"s3://{BUCKET}/run"),
        ("ingest", f"s3://{BUCKET}/source", tmp_path / "new"),
        ("fuse", vectors, "--out", f"s3://{BUCKET}/fused"),
    ):
        told = here(capsys, *refused, status=1)
        assert told.count("\n") == 1
        assert "not a URL: vidvec pull s3://" in told
    assert not list(tmp_path.glob("s3*"))
    assert "expected s3://BUCKET/KEY" in here(capsys, "inspect", f"{corpus}?region=x", status=1)


def test_embedding_by_url_gives_what_a_bigger_shard_gives(proxy, wide, tmp_path, monkeypatch):
    """Parts are fetched ahead of their use: whatever their size, the vectors are the same."""
    push(wide / "corpus", url_of("ahead"))
    monkeypatch.setattr(embedder, "SHARD", 32)
    embed(wide / "run", url_of("ahead"), tmp_path / "made")
    assert np.allclose(
        Vectors(tmp_path / "made").matrix, Vectors(wide / "vectors").matrix, atol=1e-6
    )
    assert proxy.received("shards/") <= shard_bytes(wide / "corpus")
