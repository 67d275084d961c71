"""The report and the picture against the corpus, vectors and figures that they show."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidvec import metrics, storage
from vidvec.data import corpus as store
from vidvec.data.splits import fold
from vidvec.demo import report
from vidvec.demo.neighbours import choose_queries, nearest, pair_scores
from vidvec.demo.picture import film_strip
from vidvec.embed.evaluate import Evaluation, evaluate
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import UsageError
from vidvec.records import Pair, Video

HOSTILE = "<script>alert(1)</script>"
TOPICS = ["sea", "city", "forest", "", "sport"]


def jpeg(colour: tuple[int, int, int]) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((90, 160, 3), colour[::-1], np.uint8))[1])


def made_videos(count: int = 60) -> list[Video]:
    return [
        Video(
            id=f"{1000 + number}",
            title=f"{TOPICS[number % 5]} 海边 {number}",
            tags=(f"tag{number % 3}",),
            category=TOPICS[number % 5],
            frames=np.ones((0 if number % 9 == 4 else 2, 4), np.float16),
            frame_times_seconds=np.zeros(0 if number % 9 == 4 else 2, np.float32),
            thumbnails=() if number % 9 == 4 else (jpeg((250, 0, 0)), jpeg((0, 0, 250))),
        )
        for number in range(count)
    ]


def write_corpus(path: Path, videos: list[Video], pairs: list[Pair]) -> store.Corpus:
    tables = store.video_table(videos, 4), store.thumbnail_table(videos)
    entries = [store.write_shard(path, "000000.arrow", *tables)] if videos else []
    path.mkdir(exist_ok=True)
    if pairs:
        pq.write_table(pa.Table.from_pylist([asdict(p) for p in pairs]), path / "pairs.parquet")
    storage.write_manifest(
        path,
        store.KIND,
        frame_encoder={"name": "made", "frame_size": 4},
        tag_vocabulary=[],
        shards=entries,
        rejects_bytes=0,
        pairs=len(pairs),
        ingests=[],
    )
    return store.Corpus(path)


def write_vectors(path: Path, ids: list[str], seed: int = 0) -> Vectors:
    writer = VectorWriter(path, 8, {"normalised": True, "made_by": {"stage": "embed"}})
    matrix = np.random.default_rng(seed).normal(size=(len(ids), 8)).astype(np.float32)
    writer.append(ids, matrix)
    writer.finish()
    return Vectors(path)


@pytest.fixture
def corpus(tmp_path: Path) -> store.Corpus:
    random = np.random.default_rng(0)
    videos = made_videos()
    pairs = []
    for _ in range(400):
        a, b = random.choice(len(videos), 2, replace=False)
        pairs.append(Pair(videos[a].id, videos[b].id, float(random.integers(0, 21)) / 20))
    return write_corpus(tmp_path / "corpus", videos, pairs)


@pytest.fixture
def vectors(tmp_path: Path, corpus: store.Corpus) -> dict[str, Vectors]:
    names = ("untrained", "mean", "fused")
    return {
        name: write_vectors(tmp_path / name, corpus.ids, seed) for seed, name in enumerate(names)
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = []
    for step in range(10, 101, 10):
        figures = {"epoch": step / 50, "loss": 5 / step, "tag": 1 / step, "learning_rate": 0.1}
        lines.append({"step": step, "kind": "train", **figures, "videos_per_second": 300.0})
        if step % 50 == 0:
            figures = {"tag": 2 / step, "loss": 7 / step, "score": 7 / step, "spearman": 0.5}
            lines.append({"step": step, "kind": "validation", **figures})
    lines[3]["tag"] = float("nan")
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 110, "ki')
    return path.parent


def write(
    out: Path, corpus: store.Corpus, vectors: dict[str, Vectors], run: Path, **options: int
) -> str:
    table = [(name, evaluate(each, corpus.pairs())) for name, each in vectors.items()]
    report.write_report(out, corpus, vectors, table, {"mean": run}, title="A demo", **options)
    return out.read_text("utf-8")


def test_report_fetches_and_runs_nothing(
    tmp_path: Path, corpus: store.Corpus, vectors: dict[str, Vectors], run: Path
) -> None:
    text = write(tmp_path / "report.html", corpus, vectors, run)
    assert "<script" not in text
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s>)]*)', text)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "http:" not in text
    assert "https:" not in text


def test_report_shows_every_figure(
    tmp_path: Path, corpus: store.Corpus, vectors: dict[str, Vectors], run: Path
) -> None:
    text = write(tmp_path / "report.html", corpus, vectors, run)
    for name, each in vectors.items():
        figures = evaluate(each, corpus.pairs())
        assert f"<td>{name}</td><td>{figures.spearman.value:.4f}</td>" in text
        assert f"{figures.spearman.low:.4f} to {figures.spearman.high:.4f}" in text
        assert f"<td>{figures.mse.value:.4f}</td>" in text
    assert "No video of these pairs is in a pair of the training split." in text
    assert text.count("<polyline") == 5  # loss and tag, each twice, and Spearman
    assert text.count("<title>") == 1 + len(corpus)  # the page's, and one a dot


def test_report_shows_what_the_last_vectors_find(
    tmp_path: Path, corpus: store.Corpus, vectors: dict[str, Vectors], run: Path
) -> None:
    text = write(tmp_path / "report.html", corpus, vectors, run, queries=6, neighbours=4)
    blocks = re.findall(r'<div class="query">(.*?)</article></div>', text)
    matrix = vectors["fused"].matrix
    scores = pair_scores(corpus.pairs())
    assert len(blocks) == 6
    assert "scored" in "".join(blocks)
    for block in blocks:
        cards = block.split("</article>")
        shown = [re.findall(r'<p class="soft">(\d+) ', card)[0] for card in cards]
        query = corpus.row(shown[0])
        expected = metrics.cosines(np.repeat(matrix[[query]], len(matrix), 0), matrix)
        expected[query] = -2
        order = np.argsort(-expected)[:4]
        assert shown[1:] == [corpus.ids[row] for row in order]
        for card, row in zip(cards[1:], order, strict=True):
            assert f"<b>{expected[row]:.3f}</b>" in card
            score = scores.get(frozenset((shown[0], corpus.ids[row])))
            assert ("scored" in card) == (score is not None)
            if score is not None:
                assert f"scored {score:.3g}<" in card


def test_report_escapes_what_users_wrote(tmp_path: Path, run: Path) -> None:
    videos = [
        replace(video, title=HOSTILE, tags=(HOSTILE,), category=HOSTILE) for video in made_videos(8)
    ]
    corpus = write_corpus(tmp_path / "hostile", videos, [])
    named = {HOSTILE: write_vectors(tmp_path / "vectors", corpus.ids)}
    out = tmp_path / "report.html"
    report.write_report(out, corpus, named, [], {HOSTILE: run}, title=HOSTILE)
    text = out.read_text("utf-8")
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 20


def test_report_with_little_to_show(tmp_path: Path, corpus: store.Corpus) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(UsageError, match="no vectors"):
        report.write_report(out, corpus, {}, [], {}, title="none")
    assert not out.exists()

    strangers = write_vectors(tmp_path / "strangers", ["x", "y", *corpus.ids[:1]])
    report.write_report(
        out, corpus, {"few": strangers}, [], {"gone": tmp_path / "nowhere"}, title="few", queries=3
    )
    text = out.read_text("utf-8")
    assert "x is not in the corpus" in text
    assert "no figures were logged" in text

    nothing = write_vectors(tmp_path / "nothing", [])
    report.write_report(out, corpus, {"nothing": nothing}, [], {}, title="nothing")
    assert "There are no vectors." in out.read_text("utf-8")


def test_large_map_is_thinned(
    tmp_path: Path, corpus: store.Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAP_DOTS", 25)
    out = tmp_path / "report.html"
    named = {"all": write_vectors(tmp_path / "all", corpus.ids)}
    report.write_report(out, corpus, named, [], {}, title="thin")
    text = out.read_text("utf-8")
    assert text.count("<title>") == 1 + 25
    assert "25 of 60" in text


def test_metrics_by_hand(run: Path) -> None:
    curves = report.read_metrics(run)
    assert set(curves) == {"loss", "tag", "spearman"}
    assert curves["loss"]["train"][:2] == [(10, 0.5), (20, 0.25)]
    assert curves["loss"]["validation"] == [(50, 0.14), (100, 0.07)]
    assert curves["spearman"] == {"validation": [(50, 0.5), (100, 0.5)]}
    assert [step for step, _ in curves["tag"]["train"]] == [10, 20, 30, 50, 60, 70, 80, 90, 100]
    assert report.read_metrics(run / "nowhere") == {}


def test_finetuning_is_validated_by_its_own_loss(tmp_path: Path) -> None:
    lines = [
        {"step": 10, "kind": "train", "loss": 0.2, "pairs_per_second": 1.0},
        {"step": 10, "kind": "validation", "mse": 0.3, "score": 0.3, "spearman": 0.6},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report.read_metrics(tmp_path) == {
        "loss": {"train": [(10, 0.2)], "validation": [(10, 0.3)]},
        "spearman": {"validation": [(10, 0.6)]},
    }


def test_queries_vary_and_are_held_out(corpus: store.Corpus, vectors: dict[str, Vectors]) -> None:
    chosen = choose_queries(corpus, vectors["fused"], 5)
    videos = [corpus.video(corpus.row(each)) for each in chosen]
    assert {video.category for video in videos} == set(TOPICS)
    assert all(len(video.frames) for video in videos)
    for video in videos:
        others = (each for each in map(corpus.video, range(len(corpus))) if len(each.frames))
        if any(each.category == video.category and fold(each.id) == 0 for each in others):
            assert fold(video.id) == 0
    assert chosen == choose_queries(corpus, vectors["fused"], 5)
    assert chosen != choose_queries(corpus, vectors["fused"], 5, seed=1)
    everything = choose_queries(corpus, vectors["fused"], 1000)
    assert sorted(everything) == sorted(corpus.ids)


def test_scores_of_a_pair_are_averaged_either_way_round() -> None:
    pairs = [Pair("a", "b", 0.2), Pair("b", "a", 0.6), Pair("a", "c", 1.0)]
    scores = pair_scores(pairs)
    assert scores == {frozenset("ab"): pytest.approx(0.4), frozenset("ac"): 1.0}
    assert nearest(Vectors, [], 3) == []  # type: ignore[arg-type] - none is looked at


def test_table_text() -> None:
    def figures(value: float) -> Evaluation:
        interval = metrics.Interval(value, value - 0.1, value + 0.1)
        return Evaluation("clean", 791, 0, 0, interval, interval, interval, None)

    lines = report.table_text([("untrained", figures(0.25)), ("fused", figures(0.75))]).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["untrained", "0.2500 (0.1500 to 0.3500)", "0.2500", "0.2500", "791"]
    assert cells[3][0] == "fused"
    assert set("".join(cells[1])) == {"-", ":"}


def test_film_strip_shows_pictures_in_order_and_survives_damage() -> None:
    red, blue = jpeg((250, 0, 0)), jpeg((0, 0, 250))
    strip = film_strip([red, blue, b"no picture"], frames=3)
    height, width = strip.shape[:2]
    first, second, third = (
        strip[height // 2, int(width * share)] for share in (1 / 6, 1 / 2, 5 / 6)
    )
    assert first[0] > 200
    assert first[2] < 50
    assert second[2] > 200
    assert second[0] < 50
    assert third.max() < 50
    assert film_strip([]).max() < 50


def test_picture_has_a_row_a_query(
    tmp_path: Path, corpus: store.Corpus, vectors: dict[str, Vectors]
) -> None:
    out = tmp_path / "picture.png"
    report.write_picture(out, corpus, vectors["fused"], queries=3, neighbours=2)
    image = cv2.imread(str(out))[..., ::-1].astype(np.int64)
    height, width = image.shape[:2]
    assert abs(width / height - 3 * 3.2 / (3 * 1.15 + 0.15)) < 0.05
    red = (image[..., 0] > 200) & (image[..., 1] < 60) & (image[..., 2] < 60)
    for row in range(3):
        # The query has pictures: its strip begins with red, in the left third of its row.
        part = red[row * height // 3 : (row + 1) * height // 3, : width // 3]
        assert part.mean() > 0.15

    empty = write_corpus(tmp_path / "empty", [], [])
    report.write_picture(out, empty, write_vectors(tmp_path / "none", []))
    assert cv2.imread(str(out)) is not None


def test_picture_takes_any_title(tmp_path: Path) -> None:
    titles = ["$x_{$ for 5", "\u0a0f \U0001f3ac", "", "a\nb\x07", "\\frac{"]
    videos = [replace(video, title=titles[i]) for i, video in enumerate(made_videos(5))]
    corpus = write_corpus(tmp_path / "corpus", videos, [])
    out = tmp_path / "picture.png"
    report.write_picture(out, corpus, write_vectors(tmp_path / "vectors", corpus.ids))
    assert cv2.imread(str(out)) is not None
