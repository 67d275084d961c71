"""Parts of bulk work on disk, attempts at them, options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.corpora import made_videos, with_more
from vidvec.cli.bulk import Bulk
from vidvec.errors import FormatError, UsageError
from vidvec.pipeline.bulk.attempts import ROWS, WHOLE, Attempt
from vidvec.pipeline.bulk.connection import connected
from vidvec.pipeline.bulk.embed import _shards
from vidvec.pipeline.bulk.options import BulkOptions
from vidvec.pipeline.bulk.part_files import holds_rows, read_facts, read_part, write_part
from vidvec.pipeline.bulk.staging import Staging
from vidvec.records import Processed, Reject, Video

ODD = "no Unicode: \udcff, and 海 🎬\n"


@pytest.fixture
def results() -> list[Processed | Reject]:
    """Videos with all there is of them, with nothing, and with features of other widths."""
    videos = [*with_more(made_videos(20)), Video("bare"), Video("odd", title=ODD, file=ODD)]
    videos[3] = replace(videos[3], thumbnails=(b"\xff\xd8jpeg", b""), duration_seconds=0.1)
    videos[4] = replace(videos[4], frames=np.zeros((2, 5), np.float16), tags=())
    made = [
        Processed(f"t.csv:{n}", video, n % 2 == 0, "part" * (n % 3), n % 5 == 0)
        for n, video in enumerate(videos)
    ]
    return [*made[:7], Reject(ODD, "left", "crashed", ODD), *made[7:]]


def test_a_part_is_read_as_it_was_written(results, tmp_path):
    places = [*range(10, 20), *range(25, 25 + len(results) - 10)]
    facts = {"identity": {"name": "classic"}, "note": "", "notes": {"sound left out": 2}}
    for name in ("a.arrow", "b.arrow"):
        write_part(tmp_path / name, places, results, facts)
    path = tmp_path / "a.arrow"
    assert path.read_bytes() == (tmp_path / "b.arrow").read_bytes()
    assert {key: read_facts(path)[key] for key in facts} == facts
    assert holds_rows(read_facts(path), places[3:])
    assert not holds_rows(read_facts(path), [19, 20])
    part = read_part(path)
    assert [*part.results] == places
    for found, wanted in zip(part.results.values(), results, strict=True):
        if isinstance(wanted, Reject) or isinstance(found, Reject):
            assert found == wanted
            continue
        bare = replace(wanted, video=replace(wanted.video, frames=found.video.frames))
        names = ("frames", "frame_times_seconds", "audio", "audio_times_seconds")
        for name in names:
            one, two = getattr(found.video, name), getattr(wanted.video, name)
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())
        same = {name: getattr(found.video, name) for name in names}
        assert found == replace(bare, video=replace(wanted.video, **same))


def test_a_damaged_part_is_said_to_be_one(results, tmp_path):
    path = tmp_path / "a.arrow"
    write_part(path, range(len(results)), results, {})
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="cannot be read"):
            read_part(path)


def test_after_some_attempts_rows_are_done_one_by_one_and_poison_is_found(tmp_path):
    for number in range(WHOLE):
        assert Attempt(tmp_path, 3).begun == number + 1
        assert not Attempt(tmp_path, number + 10).row_by_row
    for _ in range(ROWS):  # each of these dies at row 7
        attempt = Attempt(tmp_path, 3)
        assert attempt.row_by_row
        for place in (5, 6, 7):
            assert not attempt.is_poison(place)
            attempt.begin(place)
    # Row 9 dies once: that may have been the machine.
    attempt = Attempt(tmp_path, 3)
    assert [place for place in range(5, 12) if attempt.is_poison(place)] == [7]
    attempt.begin(9)
    attempt = Attempt(tmp_path, 3)
    assert [place for place in range(5, 12) if attempt.is_poison(place)] == [7]
    attempt.begin(9)
    attempt.begin(10)
    attempt.end()
    assert not Attempt(tmp_path, 3).row_by_row


def test_staging_goes_on_with_the_same_job_only(tmp_path):
    staging = Staging(tmp_path)
    facts = {"of": {"source": "a"}, "encoder": "classic", "mean": (1, 2)}
    assert staging.open(facts, None, 256) == 256
    staging.part(2).parent.mkdir()
    staging.part(2).write_bytes(b"done")
    staging.note(source_rows=9)
    again = Staging(tmp_path)
    assert again.open(facts, None, 100) == 256
    assert (again.holds(2), again.holds(3), again.noted("source_rows")) == (True, False, 9)
    with pytest.raises(UsageError, match="encoder: 'classic', now 'siglip2'"):
        again.open({**facts, "encoder": "siglip2"}, None, 256)
    with pytest.raises(UsageError, match="parts of 256 rows, expected 64"):
        again.open(facts, 64, 256)
    assert again.open({**facts, "of": {"source": "b"}}, 64, 256) == 64  # what was left over is gone
    assert not again.holds(2)
    again.remove()
    assert [*tmp_path.iterdir()] == []


def test_vectors_of_parts_come_as_shards():
    whole = np.arange(46, dtype=np.float32).reshape(23, 2)
    for cuts in ([5, 10], [1], [3, 20, 21], []):
        shards = [*_shards(iter(np.split(whole, cuts)), 8)]
        assert [len(shard) for shard in shards] == [8, 8, 7]
        assert (np.concatenate(shards) == whole).all()
    assert [*_shards(iter([]), 8)] == []


@pytest.mark.parametrize(
    "on", ["", "nowhere", "host:", "host:99999", "http://a:1", "ray://a", "a b:1"]
)
def test_only_places_are_connected_to(on):
    with pytest.raises(UsageError, match="is no place to run"), connected(on):
        pass


def test_options_without_a_place_are_refused():
    assert Bulk().options() is None
    with pytest.raises(UsageError, match="--on-workers, --part-rows: only with --on"):
        Bulk(on_workers=2, part_rows=5).options()
    assert Bulk(on="ray", part_rows=5, on_gpus=0).options() == BulkOptions("ray", 5, gpus=0)
    with pytest.raises(UsageError, match="expected at least 1"):
        BulkOptions("ray", 0)
    with pytest.raises(UsageError, match="some CPU or GPU"):
        BulkOptions("ray", cpus=0).pool_size(1, 0)
    size = BulkOptions("ray", workers=3, gpus=0.5).pool_size(2, 1)
    assert (size.workers, size.cpus, size.gpus) == (3, 2, 0.5)
