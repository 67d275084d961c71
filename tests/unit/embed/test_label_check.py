"""Checked labels: planted errors come first, figures by hand, the command and its files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from tests.corpora import made_pairs, made_videos, write_corpus
from vidvec.cli import main
from vidvec.data.balanced import FILE
from vidvec.data.corpus import Corpus
from vidvec.data.labels import coverage, score_facts
from vidvec.data.splits import rank_normalise
from vidvec.embed.label_check import check_labels
from vidvec.embed.score_curve import ScoreCurve, cross_fitted
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import UsageError
from vidvec.records import Pair

VIDEOS = made_videos(60)
HOSTILE = "=1+1</p><script>alert(1)</script>"


def points(ids: list[str]) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(len(ids), 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)


class Table:
    def __init__(self, ids: list[str]) -> None:
        self.ids, self.matrix = ids, points(ids)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self.ids

    def row(self, video_id: str) -> int:
        return self.ids.index(video_id)


def true_pairs(count: int, noise: float = 0.05) -> list[Pair]:
    """Different pairs scored by their points."""
    random = np.random.default_rng(2)
    ids = [video.id for video in VIDEOS]
    every = np.array([(a, b) for a in range(len(ids)) for b in range(a)])
    chosen = every[random.permutation(len(every))[:count]]
    matrix = points(ids)
    alike = (1 + (matrix[chosen[:, 0]] * matrix[chosen[:, 1]]).sum(axis=1)) / 2
    scores = np.clip(alike + noise * random.normal(size=count), 0, 1).round(2).tolist()
    return [Pair(ids[a], ids[b], s) for (a, b), s in zip(chosen.tolist(), scores, strict=True)]


@pytest.mark.parametrize("with_vectors", [True, False])
def test_planted_errors_come_first(tmp_path, with_vectors):
    pairs = true_pairs(900, noise=0.02)
    wrong = np.random.default_rng(0).choice(len(pairs), 30, replace=False).tolist()
    for at in wrong:
        pairs[at] = replace(pairs[at], score=1.0 if pairs[at].score < 0.5 else 0.0)
    corpus = write_corpus(tmp_path, VIDEOS, pairs)
    tables = [Table(corpus.ids)] if with_vectors else []
    report = check_labels(corpus, vectors=tables)
    worst = {frozenset((each.id_1, each.id_2)) for each in report.suspects[:30]}
    planted = {frozenset((pairs[at].id_1, pairs[at].id_2)) for at in wrong}
    # By chance it is one of thirty.
    assert len(worst & planted) >= (29 if with_vectors else 18)
    assert report.broken > 0
    assert report.judged == (900 if with_vectors else 0)
    assert report.agreement is None
    suspicions = [each.suspicion for each in report.suspects]
    assert suspicions == sorted(suspicions, reverse=True)


def test_repeated_ratings_and_copies_speak_against_a_score(tmp_path):
    videos = [*VIDEOS[:20], replace(VIDEOS[1], id="copy")]
    pairs = [Pair(VIDEOS[0].id, VIDEOS[2].id, 1.0), Pair("copy", VIDEOS[1].id, 0.25)]
    pairs += [Pair(VIDEOS[4].id, VIDEOS[5].id, 0.0), Pair(VIDEOS[5].id, VIDEOS[4].id, 0.6)]
    report = check_labels(write_corpus(tmp_path, videos, pairs))
    first, second = report.suspects
    assert {first.id_1, first.id_2} == {"copy", VIDEOS[1].id}
    assert first.against == {"copies": 0.75}
    assert second.ratings == (0.0, 0.6)
    assert second.against == pytest.approx({"ratings": 0.6})
    assert second.score == pytest.approx(0.3)
    assert report.duplicates == 1
    assert report.agreement.repeated == 1


def test_ratings_that_the_corpus_keeps_once_are_read_from_the_files(tmp_path):
    """Two files agree on a pair; the corpus has it once, agreement twice."""
    folder = tmp_path / "source"
    folder.mkdir()
    ids = [video.id for video in VIDEOS]
    lines = [json.dumps({"id": v, "title": "a title"}) for v in ids]
    (folder / "videos.jsonl").write_text("\n".join(lines))
    text = f"{ids[0]},{ids[1]},0.5\n{ids[2]},{ids[3]},1\n"
    for name in ("ann.csv", "bob.csv"):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / "ann.csv"), str(tmp_path / "bob.csv")]
    given = [argument for file in files for argument in ("--pairs", file)]
    run(["ingest", str(folder / "videos.jsonl"), str(tmp_path / "corpus"), *given])
    corpus = Corpus(tmp_path / "corpus")
    assert len(corpus.pairs()) == 2
    report = check_labels(corpus)
    # The file of the second is known to the corpus by no pair: it is given.
    both = check_labels(corpus, [tmp_path / "ann.csv", tmp_path / "bob.csv"])
    assert (report.ratings, both.ratings) == (2, 4)
    assert both.agreement.difference.value == 0
    assert {rater.name for rater in both.agreement.raters} == {"ann.csv", "bob.csv"}


def test_vectors_judge_only_the_pairs_of_the_split(tmp_path):
    corpus = write_corpus(tmp_path, VIDEOS, true_pairs(400))
    held = check_labels(corpus, vectors=[Table(corpus.ids)], split="clean", duplicates=False)
    facts = {each.name: each for each in held.splits}
    assert held.judged == facts["clean"].validation
    assert held.duplicates is None
    assert not (tmp_path / FILE).exists()
    assert facts["balanced"].dropped <= facts["clean"].dropped
    assert facts["published"].dropped == 0


def test_the_curve_is_isotonic_regression():
    random = np.random.default_rng(0)
    x = random.random(300).round(2)
    y = x**2 + 0.3 * random.normal(size=300)
    expected = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    at = np.linspace(-0.2, 1.2, 50)
    assert np.abs(ScoreCurve.fit(x, y)(at) - expected.predict(at)).max() < 1e-9
    with pytest.raises(UsageError, match="no scored pairs"):
        ScoreCurve.fit([], [])


def test_a_pair_does_not_foretell_itself():
    x, y = np.arange(20.0), np.zeros(20)
    y[19] = 1.0
    assert ScoreCurve.fit(x, y)(19.0) == 1
    assert cross_fitted(x, y)[19] == 0


def test_scores_and_graph_by_hand():
    pairs = [Pair("a", "b", 0.0), Pair("b", "c", 0.0), Pair("a", "c", 1.0), Pair("d", "e", 0.5)]
    facts = score_facts(pairs)
    assert facts.ties == pytest.approx(1 / 6)
    assert facts.ranks == ((0.0, 2, 0.0), (0.5, 1, 0.6), (1.0, 1, 1.0))
    assert facts.histogram == (("0", 2), ("0.5", 1), ("1", 1))
    graph = coverage(pairs, 9)
    assert (graph.videos, graph.scored, graph.components) == (9, 5, 2)
    assert (graph.largest_pairs, graph.largest_videos) == (0.75, 0.6)
    assert (graph.median_degree, graph.most_degree) == (2, 2)
    many = score_facts([Pair("a", "b", score / 40) for score in range(41)])
    assert len(many.histogram) == 10
    assert sum(count for _, count in many.histogram) == 41


def test_the_command_and_its_files(tmp_path, capsys):
    videos = [replace(VIDEOS[0], title=HOSTILE), *VIDEOS[1:]]
    pairs = [*true_pairs(400), Pair(VIDEOS[0].id, VIDEOS[1].id, 0.9)]
    corpus = write_corpus(tmp_path / "corpus", videos, pairs)
    ids = corpus.ids
    writer = VectorWriter(tmp_path / "vectors", 6, {"normalised": True, "made_by": {}})
    writer.append(ids, points(ids))
    writer.finish()
    out = {name: tmp_path / name for name in ("s.csv", "r.csv", "l.html")}
    files = ["--csv", out["s.csv"], "--ranks", out["r.csv"], "--html", out["l.html"]]
    more = ["--vectors", tmp_path / "vectors"]
    run(["labels", *map(str, [tmp_path / "corpus", *more, *files])])
    shown = capsys.readouterr().out
    assert "balanced" in shown
    assert "likely wrong" in shown
    run(["labels", *map(str, [tmp_path / "corpus", *more]), "--json"])
    facts = json.loads(capsys.readouterr().out)
    with out["s.csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == facts["suspect_pairs"]
    assert [row["id_1"] for row in rows[:5]] == [each["id_1"] for each in facts["suspects"][:5]]
    assert not any(row["title_1"].startswith("=") for row in rows)
    with out["r.csv"].open(newline="") as file:
        ranks = {float(row["score"]): float(row["rank_target"]) for row in csv.DictReader(file)}
    expected = rank_normalise([pair.score for pair in pairs]).tolist()
    assert [ranks[pair.score] for pair in pairs] == pytest.approx(expected, abs=1e-8)
    page = out["l.html"].read_text()
    assert "<script" not in page
    assert "Krippendorff" in page or "No pair was rated twice" in page


def test_a_corpus_without_pairs_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no scored pairs: ingest it with --pairs"):
        check_labels(write_corpus(tmp_path, VIDEOS[:10]))


def test_ratings_of_other_videos_are_refused_and_named(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", VIDEOS, made_pairs(VIDEOS, 30))
    (tmp_path / "r.csv").write_text("nobody,1001,0.5\n")
    with pytest.raises(UsageError, match="no ratings of videos"):
        check_labels(corpus, [tmp_path / "r.csv"])
    (tmp_path / "r.csv").write_text("nobody,1001,0.5\n1000,1001,1\n")
    report = check_labels(corpus, [tmp_path / "r.csv"])
    assert [reject.reason for reject in report.rejects] == ["pair-unknown-id"]
    assert report.ratings == 1
