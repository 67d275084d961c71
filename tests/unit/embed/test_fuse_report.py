"""What a fusion is worth: every figure by plain loops, prices known and not known."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec import metrics
from vidvec.cli import main
from vidvec.embed.embedder import embed
from vidvec.embed.fuse_page import rows, sentences, short_names
from vidvec.embed.fuse_report import fuse_report
from vidvec.embed.fusion import concatenate, fuse
from vidvec.embed.import_vectors import import_vectors
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import UsageError

FEW = 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    videos = made_videos(60)
    folder = tmp_path_factory.mktemp("report")
    return write_corpus(folder / "corpus", videos, made_pairs(videos, 400))


@pytest.fixture(scope="module")
def ours(tmp_path_factory, corpus):
    """Vectors of two models that are there."""
    folder = tmp_path_factory.mktemp("ours")
    for name, pool in (("a", "mean"), ("b", "attention")):
        write_checkpoint(folder / f"{name}-model", corpus, f"model.pool={pool}", seed=ord(name))
        embed(folder / f"{name}-model", corpus.path, folder / name)
    return [folder / "a", folder / "b"]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, corpus):
    """Imported vectors, of other lengths, in another order, and not of all videos."""
    folder = tmp_path_factory.mktemp("foreign")
    random = np.random.default_rng(0)
    ids = random.permutation(corpus.ids)[:57]
    topics = np.array([int(corpus.video(corpus.row(video)).category) for video in ids])
    vectors = 3 * np.eye(4)[topics] + random.normal(size=(57, 4))
    np.savez(folder / "clip.npz", ids=ids, vectors=vectors.astype(np.float32))
    import_vectors(folder / "clip.npz", folder / "clip")
    return folder / "clip"


def figures(folders, weights, pairs, some):
    """Spearman of some members' weighted concatenation, by a loop over pairs."""
    opened = [Vectors(folders[at]) for at in some]
    cosines = []
    for pair in pairs:
        one, other = (
            concatenate(
                [each.matrix[each.row(video)][None] for each in opened], np.array(weights)[some]
            )
            for video in (pair.id_1, pair.id_2)
        )
        cosines.append(metrics.cosines(one, other)[0])
    return spearmanr(cosines, [pair.score for pair in pairs]).statistic


def test_every_figure_as_a_loop(corpus, ours, foreign, tmp_path):
    folders, weights = [*ours, foreign], [0.5, 0.2, 0.3]
    fuse(folders, tmp_path / "fused", weights, 6)
    report = fuse_report(tmp_path / "fused", corpus, resamples=FEW)
    fused, clip = Vectors(tmp_path / "fused"), Vectors(foreign)
    validation = [p for p in corpus.pairs() if int(p.id_1) % 5 == int(p.id_2) % 5 == 0]
    pairs = [p for p in validation if p.id_1 in clip and p.id_2 in clip]
    assert report.pairs == len(pairs)
    assert report.missing == len(validation) - len(pairs)

    def figure(*some: int) -> float:
        return figures(folders, weights, pairs, list(some))

    assert report.concatenated.value == pytest.approx(figure(0, 1, 2))
    own = [fused.matrix[fused.row(p.id_1)] @ fused.matrix[fused.row(p.id_2)] for p in pairs]
    expected = spearmanr(own, [p.score for p in pairs]).statistic
    assert report.fused.value == pytest.approx(expected, abs=1e-3)
    assert report.svd.value == pytest.approx(report.fused.value - report.concatenated.value)
    others = [(1, 2), (0, 2), (0, 1)]
    for at, member in enumerate(report.members):
        assert member.path == str(folders[at])
        assert member.weight == pytest.approx(weights[at])
        assert member.spearman.value == pytest.approx(figure(at))
        gain = figure(0, 1, 2) - figure(*others[at])
        assert member.without.value == pytest.approx(gain)
        assert member.without.low <= member.without.high
        assert member.so_far.value == pytest.approx(figure(*range(at + 1)))
        if at:
            assert member.added.value == pytest.approx(figure(*range(at + 1)) - figure(*range(at)))
    assert report.members[0].added is None
    assert [member.numbers for member in report.members] == [16, 16, 4]
    assert (report.concatenated_numbers, report.numbers, report.bytes) == (36, 6, 24)


def test_what_is_known_of_the_price(corpus, ours, foreign, tmp_path):
    fuse(ours, tmp_path / "two", size=8)
    report = fuse_report(tmp_path / "two", corpus, resamples=FEW)
    prices = [member.milliseconds for member in report.members]
    assert all(price > 0 for price in prices)
    assert report.milliseconds == pytest.approx(sum(prices) + report.fusing_milliseconds)
    assert report.sampled == 60
    fuse([foreign, tmp_path / "two"], tmp_path / "nested", size=8)
    nested = fuse_report(tmp_path / "nested", corpus, resamples=FEW)
    assert nested.members[0].milliseconds is None
    assert nested.members[0].unpriced == "imported"
    assert nested.members[1].milliseconds > 0  # of the two that it was fused from
    assert nested.milliseconds is None
    assert any("Price not known" in said and "imported" in said for said in sentences(nested))


def test_a_model_that_is_gone_or_another_has_no_price(corpus, ours, tmp_path):
    shutil.copytree(ours[0].parent, tmp_path / "copy")
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / "copy" / name)
        embed(tmp_path / "copy" / f"{name}-model", corpus.path, tmp_path / "copy" / name)
    fuse([tmp_path / "copy" / "a", tmp_path / "copy" / "b"], tmp_path / "fused")
    shutil.rmtree(tmp_path / "copy" / "a-model")
    other = ours[0].parent / "a-model" / "model.safetensors"
    shutil.copy(other, tmp_path / "copy" / "b-model" / "model.safetensors")
    report = fuse_report(tmp_path / "fused", corpus, resamples=FEW)
    gone, changed = report.members
    assert gone.milliseconds is changed.milliseconds is None
    assert "no checkpoint" in gone.unpriced
    assert "other weights" in changed.unpriced
    assert np.isfinite(report.fused.value)


def plain(path, ids, matrix, by="made"):
    writer = VectorWriter(path, matrix.shape[1], {"normalised": False, "made_by": {"stage": by}})
    writer.append(ids, matrix.astype(np.float32))
    writer.finish()
    return path


def test_odd_members(corpus, tmp_path):
    """One that is alone, one without a weight, zero vectors, cosines that are all the same."""
    random = np.random.default_rng(1)
    some = random.normal(size=(60, 5))
    some[::7] = 0
    first = plain(tmp_path / "first", corpus.ids, some)
    same = plain(tmp_path / "same", corpus.ids, np.ones((60, 3)))
    fuse([first], tmp_path / "one")
    one = fuse_report(tmp_path / "one", corpus, resamples=FEW)
    assert one.members[0].without is None
    assert one.members[0].added is None
    assert one.svd.value == pytest.approx(0, abs=1e-3)
    assert one.members[0].unpriced == "made by made"
    fuse([same, first], tmp_path / "two", [0, 1], 4)
    two = fuse_report(tmp_path / "two", corpus, resamples=FEW)
    assert np.isnan(two.members[0].spearman.value)
    assert two.members[0].so_far is None
    assert two.members[0].without.value == 0
    assert two.members[1].without is None
    assert two.concatenated.value == pytest.approx(one.concatenated.value)
    assert "nan" not in str(rows(two))
    fuse([first, same], tmp_path / "mixed", [0.4, 0.6], 4)
    mixed = fuse_report(tmp_path / "mixed", corpus, resamples=FEW)
    pairs = [p for p in corpus.pairs() if int(p.id_1) % 5 == int(p.id_2) % 5 == 0]
    expected = figures([first, same], [0.4, 0.6], pairs, [0, 1])
    assert mixed.concatenated.value == pytest.approx(expected)


def test_what_is_no_fusion_or_has_changed(corpus, ours, tmp_path):
    with pytest.raises(UsageError, match="made by embed: expected fused vectors"):
        fuse_report(ours[0], corpus)
    first = plain(tmp_path / "first", corpus.ids, np.ones((60, 3)))
    fuse([first, ours[0]], tmp_path / "fused")
    shutil.rmtree(first)
    plain(first, corpus.ids, np.ones((60, 3)), "made anew")
    with pytest.raises(UsageError, match="holds other vectors"):
        fuse_report(tmp_path / "fused", corpus)
    unscored = [video for video in corpus.ids if int(video) % 5]
    fuse([plain(tmp_path / "some", unscored, np.ones((len(unscored), 3))), ours[0]], tmp_path / "f")
    with pytest.raises(UsageError, match=r"vectors of all members; .*some of 0"):
        fuse_report(tmp_path / "f", corpus)


def test_the_command_prints_and_writes_a_page(corpus, ours, foreign, tmp_path, capsys):
    folders = [str(ours[0]), str(foreign)]
    given = ["fuse", *folders, "--out", str(tmp_path / "fused"), "--corpus", str(corpus.path)]
    given += ["--size", "5", "--report", "--html", str(tmp_path / "report.html")]
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "2 models, 5 numbers" in said
    page = (tmp_path / "report.html").read_text()
    assert "fused to 5 numbers" in page
    assert all(folder in page for folder in folders)
    with pytest.raises(SystemExit):
        main([*given, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["report"]["members"][1]["unpriced"] == "imported"
    assert told["weights"] == [0.5, 0.5]
    assert told["fit"] is None


def test_names_are_as_short_as_tells_them_apart():
    assert short_names(["/x/a", "/x/b"]) == ["a", "b"]
    assert short_names(["/x/1/v", "/x/2/v", "/y/2/w"]) == ["1/v", "2/v", "2/w"]
    assert short_names(["/x/v", "/x/v"]) == ["/x/v", "/x/v"]
    assert short_names([]) == []
