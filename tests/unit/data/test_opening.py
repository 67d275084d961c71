"""Opening a corpus maps its shards and copies nothing of their frames."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tests.corpora import WIDTH, made_videos, write_corpus
from vidvec.data import corpus as store
from vidvec.data.corpus import Corpus
from vidvec.records import Video


def test_frames_are_not_copied(tmp_path):
    frames = np.ones((2000, WIDTH), np.float16)
    videos = [Video(id=str(number), title="x", frames=frames) for number in range(20)]
    write_corpus(tmp_path / "corpus", videos)
    before = pa.total_allocated_bytes()
    corpus = Corpus(tmp_path / "corpus")
    assert pa.total_allocated_bytes() - before < frames.nbytes
    assert len(corpus) == 20
    assert (corpus.frames(19) == frames).all()


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_a_shard_in_several_record_batches_opens_as_well(tmp_path, at_once):
    """Other writers may cut a shard into batches; its frames are then joined."""
    videos = made_videos(20)
    corpus = write_corpus(tmp_path / "corpus", videos, shards=1)
    path = corpus.path / "shards" / "000000.arrow"
    table = store.video_table(videos, WIDTH)
    size = path.stat().st_size
    del corpus
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=at_once):
            writer.write_batch(batch)
    manifest = (tmp_path / "corpus" / "manifest.json").read_text("utf-8")
    changed = manifest.replace(f'"bytes": {size}', f'"bytes": {path.stat().st_size}')
    (tmp_path / "corpus" / "manifest.json").write_text(changed, "utf-8")
    opened = Corpus(tmp_path / "corpus")
    for row, video in enumerate(videos):
        assert (opened.frames(row) == video.frames.reshape(-1, WIDTH)).all()
        assert opened.video(row).title == video.title
