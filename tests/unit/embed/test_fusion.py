"""Fusion: against the published numbers, scikit-learn, and what a concatenation must do."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy import stats

from vidvec import metrics
from vidvec.embed import fusion as module
from vidvec.embed.fusion import (
    Fusion,
    GramMatrix,
    concatenate,
    fit,
    fuse,
    load_fusion,
    normalised_weights,
)
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError

RANDOM = np.random.default_rng(0)
EQUAL = normalised_weights(None, 2)


def members(count: int = 300, dimensions: tuple[int, ...] = (20, 12)) -> list[np.ndarray]:
    """Vectors of several models that see something in common."""
    random = np.random.default_rng(count)
    common = random.normal(size=(count, 6)) * [3, 2, 2, 1, 1, 0.5] + 0.4
    return [
        (common @ random.normal(size=(6, d)) + 0.3 * random.normal(size=(count, d))).astype(
            np.float32
        )
        for d in dimensions
    ]


def fitted(vectors: list[np.ndarray], weights=EQUAL, size: int = 8, method="exact") -> Fusion:
    dimensions = [each.shape[1] for each in vectors]
    return fit(iter([vectors]), weights, dimensions, size, method)


def written(path, vectors: np.ndarray, made_by: str, ids: list[str] | None = None):
    writer = VectorWriter(path, vectors.shape[1], {"normalised": True, "made_by": {"by": made_by}})
    writer.append(ids or [str(row) for row in range(len(vectors))], vectors)
    writer.finish()
    return path


@pytest.fixture
def folders(tmp_path):
    return [written(tmp_path / f"model-{i}", each, f"{i}") for i, each in enumerate(members())]


@pytest.mark.shared
@pytest.mark.parametrize("method", ["exact", "streaming"])
def test_the_published_ensemble(shared, method):
    with np.load(shared / "reference" / "pipeline" / "ensemble.npz") as file:
        data = dict(file)
    vectors = [data[f"emb{number}"] for number in range(3)]
    weights = normalised_weights(data["weights"].tolist(), 3)
    fused = fitted(vectors, weights, int(data["n_components"]), method).apply(vectors)
    a, b = data["pairs"].T
    found = metrics.cosines(fused[a], fused[b])
    assert np.abs(found - data["expected_cosine"]).max() < 1e-3
    assert stats.spearmanr(found, data["expected_cosine"]).statistic > 0.9999
    clear = np.abs(np.subtract.outer(data["expected_cosine"], data["expected_cosine"])) > 2e-3
    order = np.sign(np.subtract.outer(found, found))
    wanted = np.sign(np.subtract.outer(data["expected_cosine"], data["expected_cosine"]))
    assert (order == wanted)[clear].all()


def test_cosines_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = members()
    weights = normalised_weights([2, 1], 2)
    svd = decomposition.TruncatedSVD(8, algorithm="arpack", random_state=0)
    expected = svd.fit_transform(concatenate(vectors, weights))
    fused = fitted(vectors, weights).apply(vectors)
    a, b = np.random.default_rng(1).integers(0, 300, (2, 500))
    assert (
        np.abs(
            metrics.cosines(fused[a], fused[b]) - metrics.cosines(expected[a], expected[b])
        ).max()
        < 1e-6
    )


@pytest.mark.parametrize("size", [1, 3, 8, 20, 32, 256])
@pytest.mark.parametrize("count", [300, 10])
def test_streaming_is_exact(size, count):
    vectors = members(count)
    exact, streamed = (
        fitted(vectors, size=size, method=method) for method in ("exact", "streaming")
    )
    assert exact.projection.shape == streamed.projection.shape == (32, min(size, 32))
    one, other = exact.apply(vectors), streamed.apply(vectors)
    assert np.abs(one @ one.T - other @ other.T).max() < 1e-6
    assert exact.kept == pytest.approx(streamed.kept, abs=1e-9)
    for fusion in (exact, streamed):
        gram = fusion.projection.T @ fusion.projection
        assert np.abs(gram - np.eye(len(gram))).max() < 1e-9


def test_it_does_not_matter_how_rows_come_in_blocks():
    vectors = members()
    blocks = [[each[start : start + 70] for each in vectors] for start in range(0, 300, 70)]
    for method in ("exact", "streaming"):
        whole = fitted(vectors, method=method)
        parts = fit(iter(blocks), EQUAL, [20, 12], 8, method)
        assert np.abs(abs(parts.projection.T @ whole.projection) - np.eye(8)).max() < 1e-8
        assert parts.kept == pytest.approx(whole.kept)


def test_cosines_of_the_concatenation_are_the_weighted_mean_of_cosines():
    vectors = members(dimensions=(20, 12, 5))
    weights = normalised_weights([3, 0, 1], 3)
    joined = concatenate(vectors, weights)
    assert joined.shape == (300, 37)
    assert np.linalg.norm(joined, axis=1) == pytest.approx(np.ones(300))
    a, b = np.random.default_rng(2).integers(0, 300, (2, 400))
    mean = sum(w * metrics.cosines(v[a], v[b]) for w, v in zip(weights, vectors, strict=True))
    assert metrics.cosines(joined[a], joined[b]) == pytest.approx(mean)


def test_all_dimensions_keep_all_cosines():
    vectors = members()
    fusion = fitted(vectors, size=500)
    assert fusion.kept == pytest.approx(1)
    fused, joined = fusion.apply(vectors), concatenate(vectors, EQUAL)
    assert np.abs(fused @ fused.T - joined @ joined.T).max() < 1e-6


def test_the_projection_keeps_as_much_as_any_can():
    vectors = members()
    joined = concatenate(vectors, EQUAL)
    fusion = fitted(vectors, size=4)
    kept = ((joined @ fusion.projection) ** 2).sum() / (joined**2).sum()
    assert fusion.kept == pytest.approx(kept)
    for _ in range(20):
        other = np.linalg.qr(RANDOM.normal(size=(32, 4)))[0]
        assert ((joined @ other) ** 2).sum() / (joined**2).sum() < kept
    values = np.linalg.svd(joined, compute_uv=False) ** 2
    assert fusion.kept == pytest.approx(values[:4].sum() / values.sum())


def test_the_length_of_members_does_not_matter():
    vectors = members()
    longer = [vectors[0] * 7, vectors[1] * np.linspace(0.1, 9, 300)[:, None].astype(np.float32)]
    assert np.abs(concatenate(longer, EQUAL) - concatenate(vectors, EQUAL)).max() < 1e-6


def test_zero_vectors_stay_zero():
    vectors = members(20)
    for each in vectors:
        each[3] = 0
    vectors[0][5] = 0
    fused = fitted(vectors, size=4).apply(vectors)
    assert (fused[3] == 0).all()
    assert np.linalg.norm(np.delete(fused, 3, 0), axis=1) == pytest.approx(np.ones(19))
    nothing = [np.zeros((5, 4), np.float32)] * 2
    for method in ("exact", "streaming"):
        fusion = fitted(nothing, size=3, method=method)
        assert fusion.kept == 1
        assert (fusion.apply(nothing) == 0).all()


def test_sums_of_shards_can_be_added_up():
    rows = RANDOM.normal(size=(200, 9))
    whole = GramMatrix(9)
    whole.add(rows)
    shards = [GramMatrix(9) for _ in range(3)]
    for shard, part in zip(shards, np.array_split(rows, 3), strict=True):
        for block in np.array_split(part, 4):
            shard.add(block)
    total = GramMatrix(9)
    for shard in shards:
        total.merge(shard)
    assert total.rows == whole.rows == 200
    assert total.sum == pytest.approx(rows.T @ rows)
    found, kept = total.right_singular_vectors(4)
    right = np.linalg.svd(rows)[2][:4].T
    assert np.abs(found.T @ right) == pytest.approx(np.eye(4), abs=1e-8)
    assert kept == pytest.approx(whole.right_singular_vectors(4)[1])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1], "1 weights for 2 models"),
        ([1, 2, 3], "3 weights for 2 models"),
        ([0, 0], "expected numbers ≥ 0, not all 0"),
        ([1, -1], "expected numbers ≥ 0"),
        ([1, float("nan")], "expected numbers ≥ 0"),
        ([1, float("inf")], "expected numbers ≥ 0"),
    ],
)
def test_weights_that_cannot_be_used(folders, tmp_path, weights, said):
    with pytest.raises(UsageError, match=said):
        fuse(folders, tmp_path / "fused", weights)
    assert not (tmp_path / "fused").exists()


def test_weights_sum_to_one():
    assert normalised_weights(None, 4).tolist() == [0.25] * 4
    assert normalised_weights([1, 3], 2).tolist() == [0.25, 0.75]


def test_folders_are_fused_into_a_folder(folders, tmp_path):
    fusion = fuse(folders, tmp_path / "fused", [2, 1], 8)
    fused = Vectors(tmp_path / "fused")
    assert fused.ids == Vectors(folders[0]).ids
    assert fused.dimension == 8
    assert fused.normalised
    assert np.array_equal(fused.matrix, fusion.apply(members()))
    assert np.linalg.norm(fused.matrix, axis=1) == pytest.approx(np.ones(300), abs=1e-6)
    assert fused.manifest["made_by"]["members"] == [str(each.resolve()) for each in folders]
    again = load_fusion(tmp_path / "fused")
    assert np.array_equal(again.projection, fusion.projection)
    assert again.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert again.kept == pytest.approx(fusion.kept)


def test_new_videos_are_fused_like_those_that_are_there(folders, tmp_path):
    fuse(folders, tmp_path / "fused", size=8)
    some = [each[40:45] for each in members()]
    expected = Vectors(tmp_path / "fused").matrix[40:45]
    assert np.abs(load_fusion(tmp_path / "fused").apply(some) - expected).max() < 1e-6


def test_a_fusion_can_be_larger_than_its_members_together(folders, tmp_path):
    assert fuse(folders, tmp_path / "fused", size=256).projection.shape == (32, 32)
    assert Vectors(tmp_path / "fused").dimension == 32


@pytest.mark.parametrize("method", ["exact", "streaming"])
def test_fewer_videos_than_dimensions(tmp_path, method):
    vectors = members(5)
    folders = [written(tmp_path / f"{i}", each, f"{i}") for i, each in enumerate(vectors)]
    fusion = fuse(folders, tmp_path / "fused", size=10, method=method)
    assert fusion.projection.shape == (32, 10)
    assert fusion.kept == pytest.approx(1)
    joined, fused = concatenate(vectors, EQUAL), Vectors(tmp_path / "fused").matrix
    assert np.abs(fused @ fused.T - joined @ joined.T).max() < 1e-6


def test_one_model_alone(folders, tmp_path):
    fuse(folders[:1], tmp_path / "fused", size=20)
    unit = concatenate(members()[:1], np.ones(1))
    fused = Vectors(tmp_path / "fused").matrix
    assert np.abs(fused @ fused.T - unit @ unit.T).max() < 1e-5


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_fusion_carries_on_to_the_same_vectors(
    folders, tmp_path, monkeypatch, after
):
    monkeypatch.setattr(module, "SHARD_ROWS", 64)
    fuse(folders, tmp_path / "whole", size=8)
    append = VectorWriter.append
    done = []

    def stopping(self, ids, vectors):
        if len(done) == after:
            raise Stopped
        done.append(append(self, ids, vectors))

    with monkeypatch.context() as context:
        context.setattr(VectorWriter, "append", stopping)
        with pytest.raises(Stopped):
            fuse(folders, tmp_path / "stopped", size=8)
    if after:
        # Rows must come from one projection: it is not fitted a second time.
        monkeypatch.setattr(module, "fit", None)
    fusion = fuse(folders, tmp_path / "stopped", size=8)
    whole, stopped = Vectors(tmp_path / "whole"), Vectors(tmp_path / "stopped")
    assert stopped.ids == whole.ids
    assert stopped.matrix.tobytes() == whole.matrix.tobytes()
    assert [len(ids) for ids, _ in stopped.shards()] == [64, 64, 64, 64, 44]
    assert np.array_equal(fusion.projection, load_fusion(tmp_path / "whole").projection)


def test_fusing_again_changes_nothing(folders, tmp_path):
    first = fuse(folders, tmp_path / "fused", size=8)
    shard = tmp_path / "fused" / "shards" / "000000.arrow"
    before = shard.stat().st_mtime_ns
    again = fuse(folders, tmp_path / "fused", size=8)
    assert np.array_equal(again.projection, first.projection)
    assert again.kept == pytest.approx(first.kept)
    assert shard.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["size", "weights", "method", "members", "vectors"])
def test_another_fusion_is_not_taken_for_the_one_that_is_there(folders, tmp_path, change):
    fuse(folders, tmp_path / "fused", size=8)
    options = {"size": 8, "weights": None, "method": "streaming"}
    if change == "members":
        folders = folders[::-1]
    elif change == "vectors":
        shutil.rmtree(folders[0])
        written(folders[0], members()[0][::-1], "trained longer", [str(i) for i in range(300)])
    else:
        options[change] = {"size": 4, "weights": [1, 2], "method": "exact"}[change]
    with pytest.raises(UsageError, match="give a new folder"):
        fuse(folders, tmp_path / "fused", **options)


@pytest.mark.parametrize("change", ["order", "fewer", "other"])
def test_only_videos_that_all_have_are_fused(folders, tmp_path, change, monkeypatch):
    """As if each folder had held just these videos, in the order of the first."""
    monkeypatch.setattr(module, "SHARD_ROWS", 64)
    matrices = members()
    ids = [str(row) for row in range(300)]
    theirs, rows, left_out = list(ids), list(range(300)), None
    if change == "order":
        rows = np.random.default_rng(5).permutation(300).tolist()
        theirs = [ids[row] for row in rows]
    elif change == "fewer":
        rows, theirs, left_out = rows[:-40], ids[:-40], [40, 0]
    else:
        theirs[7], left_out = "another", [1, 1]
    other = written(tmp_path / "other", matrices[1][rows], "other", theirs)
    fuse([folders[0], other], tmp_path / "fused", size=5)
    found = Vectors(tmp_path / "fused")
    common = [row for row in range(300) if ids[row] in set(theirs)]
    assert found.ids == [ids[row] for row in common]
    assert found.manifest["made_by"].get("left_out") == left_out
    plain = [
        written(tmp_path / name, matrices[place][common], name, found.ids)
        for place, name in enumerate(("left", "right"))
    ]
    fuse(plain, tmp_path / "expected", size=5)
    assert np.array_equal(found.matrix, Vectors(tmp_path / "expected").matrix)


def test_vectors_without_a_common_video_are_refused(folders, tmp_path):
    theirs = [f"clip-{row}" for row in range(300)]
    other = written(tmp_path / "other", members()[1], "other", theirs)
    with pytest.raises(UsageError, match=r"no video is in all of them: .* holds '0', .*'clip-0'"):
        fuse([folders[0], other], tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_cannot_be(folders, tmp_path, size):
    with pytest.raises(UsageError, match=f"size {size}: expected 1 or more"):
        fuse(folders, tmp_path / "fused", size=size)


@pytest.mark.parametrize("method", ["exact", "streaming"])
def test_nothing_to_fuse(tmp_path, method):
    with pytest.raises(UsageError, match="give at least one folder"):
        fuse([], tmp_path / "fused", method=method)
    empty = written(tmp_path / "empty", np.zeros((0, 4), np.float32), "none")
    with pytest.raises(UsageError, match="holds no vectors"):
        fuse([empty], tmp_path / "fused", method=method)


def test_a_projection_that_is_gone_or_damaged(folders, tmp_path):
    with pytest.raises(FormatError, match=r"projection\.safetensors cannot be read"):
        load_fusion(folders[0])
    fuse(folders, tmp_path / "fused", size=8)
    (tmp_path / "fused" / "projection.safetensors").write_bytes(b"damaged")
    with pytest.raises(FormatError, match=r"projection\.safetensors cannot be read"):
        load_fusion(tmp_path / "fused")
