"""Duplicates across folders: against those of all vectors together, whatever the split."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora import made_videos, write_corpus
from tests.unit.embed.test_fusion_parts import Shuffled, Stopped
from tests.unit.search.test_dedup import made, same
from vidvec.cli import app
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import UsageError
from vidvec.search import dedup_parts, dedup_workers, groups, joining
from vidvec.search.building import build_index
from vidvec.search.dedup import deduplicate
from vidvec.search.dedup_blocks import Blocks, Layout
from vidvec.search.dedup_workers import dedup_shards
from vidvec.search.engine import SearchIndex
from vidvec.search.groups import default_threshold, groups_of
from vidvec.search.types import IndexedVideo
from vidvec.workers import Here


def write(path: Path, ids: list[str], matrix: np.ndarray, shard: int = 10**9) -> Path:
    made_by = {"stage": "import", "name": "made"}
    writer = VectorWriter(path, matrix.shape[1], {"normalised": False, "made_by": made_by})
    for start in range(0, len(ids), shard):
        writer.append(ids[start : start + shard], matrix[start : start + shard])
    writer.finish()
    return path


def names(count: int) -> list[str]:
    return [f"v{(37 * row) % 1000:03d}" for row in range(count)]


def split(root: Path, matrix: np.ndarray, cuts: list[int]) -> list[Path]:
    ids = names(len(matrix))
    bounds = [0, *cuts, len(matrix)]
    return [
        write(root / f"shard-{number}", ids[start:stop], matrix[start:stop], 17)
        for number, (start, stop) in enumerate(pairwise(bounds))
    ]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 32 rows and lists of a few, so that there is much to put together."""
    monkeypatch.setattr(dedup_workers, "FEWEST_ROWS", 32)
    monkeypatch.setattr(dedup_workers, "COSINES_A_PART", 500)
    monkeypatch.setattr(dedup_parts, "HELD", 24)


@pytest.mark.parametrize(
    ("cuts", "exact", "length"),
    [
        ([40], True, "any"),
        ([1, 50, 90], False, "any"),
        ([0, 60, 60], True, "one"),
        ([40], False, "one"),
    ],
)
def test_groups_are_those_of_all_together(tmp_path, cuts, exact, length):
    matrix = made(110, sum(cuts), noise=0.1)
    matrix[7] = 0
    if length == "one":
        matrix[7] = matrix[8]
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    folders = split(tmp_path, matrix, cuts)
    found, gone = dedup_shards(folders, 0.9, workers=Shuffled(), exact=exact)
    wanted = deduplicate(names(110), matrix, 0.9, exact=exact)
    same(found.groups, wanted.groups)
    assert len(found.groups) > 5
    assert (found.compared, found.left_out) == (wanted.compared, wanted.left_out)
    assert found.recall == wanted.recall
    assert gone == 0
    assert [each.name for each in (folders[0] / "groups").iterdir()] == []


@settings(deadline=None, max_examples=25)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=80),
    parts=st.integers(1, 5),
    most=st.integers(1, 60),
)
def test_forests_of_parts_join_what_the_pairs_do(pairs, parts, most):
    """Against sets that are merged one by one."""
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    labels = joining.Labels(31)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup_parts, "MOST_WAITING", most)
        for part in np.array_split(edges, parts):
            found = dedup_parts.forest(
                iter([(part[:4, 0], part[:4, 1]), (part[4:, 0], part[4:, 1])])
            )
            assert len(found) < len(np.unique(part)) or not len(found)
            labels.add(found[:, 0], found[:, 1])
    labels.merge()
    sets = [{row} for row in range(31)]
    for one, other in pairs:
        both = sets[one] | sets[other]
        for row in both:
            sets[row] = both
    for row in range(31):
        assert {other for other in range(31) if labels.values[other] == labels.values[row]} == sets[
            row
        ]


@pytest.mark.parametrize("exact", [True, False])
def test_a_stopped_search_does_only_what_is_missing(tmp_path, exact):
    matrix = made(110, 3, noise=0.1)
    folders = split(tmp_path, matrix, [30, 70])
    whole = Shuffled()
    wanted, _ = dedup_shards(folders, 0.9, workers=whole, exact=exact)
    runs = [Shuffled(after) for after in (3, 4, 10**9)]
    for workers in runs[:-1]:
        with pytest.raises(Stopped):
            dedup_shards(folders, 0.9, workers=workers, exact=exact)
    found, _ = dedup_shards(folders, 0.9, workers=runs[-1], exact=exact)
    made_by_all = [name for run in runs for name in run.made]
    assert sorted(made_by_all) == sorted(whole.made)
    assert found == wanted


def test_other_vectors_or_another_threshold_begin_anew(tmp_path):
    matrix = made(60, 3, noise=0.1)
    folders = split(tmp_path, matrix, [30])
    with pytest.raises(Stopped):
        dedup_shards(folders, 0.9, workers=Shuffled(4))
    found, _ = dedup_shards(folders, 0.8, workers=Shuffled())
    same(found.groups, deduplicate(names(60), matrix, 0.8).groups)
    matrix[30:] = made(30, 4)
    for file in (folders[1] / "shards").iterdir():
        file.unlink()
    (folders[1] / "manifest.json").unlink()
    write(folders[1], names(60)[30:], matrix[30:], 17)
    found, _ = dedup_shards(folders, 0.9, workers=Shuffled())
    same(found.groups, deduplicate(names(60), matrix, 0.9).groups)


def test_a_video_in_two_folders_is_named_with_both(tmp_path):
    matrix = made(60, 3)
    folders = split(tmp_path, matrix, [20, 40])
    other = write(tmp_path / "more", ["new", names(60)[25]], matrix[:2])
    with pytest.raises(UsageError, match=f"'{names(60)[25]}' is in .*shard-1 and in .*more"):
        dedup_shards([*folders, other], 0.9, workers=Here())


def test_folders_of_another_size_are_refused(tmp_path):
    one, other = made(10, 1), made(10, 1, width=7)
    folders = [write(tmp_path / "a", ["a"], one[:1]), write(tmp_path / "b", ["b"], other[:1])]
    with pytest.raises(UsageError, match=r"vectors of 6 numbers, .*b of 7"):
        dedup_shards(folders, 0.9, workers=Here())
    with pytest.raises(UsageError, match="cosine above 0"):
        dedup_shards(folders[:1], 1.5, workers=Here())


def test_what_an_index_added_and_deleted_counts(tmp_path):
    matrix = made(60, 5, noise=0.1)
    folders = split(tmp_path, matrix, [30])
    ids = names(60)
    build_index(folders[1])
    with SearchIndex.open(folders[1], writable=True) as index:
        index.delete([ids[35]])
        index.add(
            ["added", ids[40]], matrix[[3, 50]], [IndexedVideo("added"), IndexedVideo(ids[40])]
        )
    kept = [row for row in range(60) if row not in (35, 40)]
    together = np.concatenate([matrix[kept], matrix[[3, 50]]])
    wanted = deduplicate([*(ids[row] for row in kept), "added", ids[40]], together, 0.9)
    found, _ = dedup_shards(folders, 0.9, workers=Shuffled())
    same(found.groups, wanted.groups)
    assert any("added" in [hit.id for hit in group.members] for group in found.groups)


def test_nothing_is_found_where_nothing_is(tmp_path):
    folders = [
        write(tmp_path / "a", ["x"], np.zeros((1, 4), np.float32)),
        write(tmp_path / "b", [], np.zeros((0, 4), np.float32)),
    ]
    found, _ = dedup_shards(folders, 0.9, workers=Here(), exact=False)
    assert (found.compared, found.groups, found.left_out) == (0, [], ("x",))


def test_a_folder_that_cannot_be_written_to(tmp_path):
    matrix = made(20, 5, noise=0.1)
    folders = split(tmp_path, matrix, [10])
    (folders[0] / "groups").write_text("in the way")
    with pytest.raises(UsageError, match="--parts"):
        dedup_shards(folders, 0.9, workers=Here())
    found, _ = dedup_shards(folders, 0.9, workers=Here(), parts=tmp_path / "parts")
    same(found.groups, deduplicate(names(20), matrix, 0.9).groups)
    assert not list((tmp_path / "parts").iterdir())


def test_rows_come_from_their_blocks(tmp_path):
    """Each from the right one, where some are empty and few files may be open."""
    matrix = made(50, 2)
    layout = Layout(str(tmp_path), (0, 0, 20, 20, 45, 50), 6, as_is=False)
    for number, (start, stop) in enumerate(pairwise(layout.bounds)):
        matrix[start:stop].tofile(layout.file(number))
    wanted = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = np.random.default_rng(0).integers(0, 50, (40, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidvec.search.dedup_blocks.FILES_OPEN", 1)
        patch.setattr("vidvec.search.dedup_blocks.ROWS_AT_ONCE", 7)
        blocks = Blocks(layout)
        assert np.abs(blocks[rows] - wanted[rows]).max() < 1e-6
    assert blocks.shape == (50, 6)


def test_of_several_calibrations_the_strictest_counts(tmp_path, monkeypatch):
    known = {"a": 0.7, "b": 0.8, "c": None}
    monkeypatch.setattr("vidvec.search.groups._calibrated", lambda path: known[path.name])
    assert default_threshold(Path("a"), Path("b"), Path("c")) == 0.8
    assert default_threshold(Path("c")) == 0.9


def test_the_command_says_of_shards_what_it_says_of_the_whole(tmp_path, capsys):
    """With videos of two corpora against one that has them all: table, page, JSON."""
    videos, matrix = made_videos(60), made(60, 5, noise=0.1)
    ids = [video.id for video in videos]
    folders = []
    for name, some in {"whole": slice(0, 60), "a": slice(0, 25), "b": slice(25, 60)}.items():
        corpus = write_corpus(tmp_path / f"corpus-{name}", videos[some], []).path
        made_by = {"stage": "embed", "checkpoint": "c", "weights": "w", "corpus": str(corpus)}
        writer = VectorWriter(tmp_path / name, 6, {"normalised": False, "made_by": made_by})
        writer.append(ids[some], matrix[some])
        writer.finish()
        folders.append(str(tmp_path / name))
    said = []
    for named in ([folders[0]], folders[1:]):
        files = [tmp_path / f"{len(named)}.{end}" for end in ("csv", "html")]
        options = ["--threshold", "0.9", "--csv", str(files[0]), "--html", str(files[1])]
        app(["dedup", *named, *options], result_action="return_value")
        printed = capsys.readouterr().out
        app(["dedup", *named, "--threshold", "0.9", "--json"], result_action="return_value")
        read = json.loads(capsys.readouterr().out)
        page = files[1].read_text("utf-8").replace(", ".join(named), "NAME")
        said.append([files[0].read_bytes(), page, printed.splitlines()[:-2], read])
    assert said[0] == said[1]
    assert len(said[0][3]["groups"]) > 3
    assert any(video.title in said[0][1] for video in videos[30:])
    for wrong, message in ((folders[:2], "is in"), ([], "at least one folder")):
        with pytest.raises(UsageError, match=message):
            app(["dedup", *wrong], result_action="return_value", exit_on_error=False)


def test_groups_of_one_folder_are_kept_for_the_server(tmp_path, monkeypatch):
    (folder,) = split(tmp_path, made(60, 5, noise=0.1), [])
    found, _ = dedup_shards([folder], 0.9, workers=Here())
    monkeypatch.setattr(groups, "find_groups", None)
    assert groups_of(folder, 0.9) == found.groups
    assert found.groups
