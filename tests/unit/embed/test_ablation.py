"""Models evaluated without some of what they read, where one modality carries what matters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.corpora import (
    AUDIO_WIDTH,
    WIDTH,
    WORDS,
    made_pairs,
    made_videos,
    with_more,
    write_corpus,
)
from tests.tiny import tiny_recipe
from tests.unit.train.runs import FAST
from vidvec import console, metrics
from vidvec.cli import app
from vidvec.data.corpus import Corpus
from vidvec.embed.ablation import ablate, evaluate_model
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.evaluate import evaluate
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.records import Video
from vidvec.train.finetune import finetune

MORE = {"max_audio": 8, "max_speech_tokens": 12, "max_screen_tokens": 8}
MODALITIES = ["frames", "audio", "title", "speech", "screen"]


def telling(carrier: str, count: int = 240) -> list[Video]:
    """Videos whose topic shows in one modality; the others are drawn without regard to it."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(len(WORDS) + 1, WIDTH))
    videos = []
    for video in with_more(made_videos(count)):
        # All but the carrier are of a topic of their own, which is the same in all videos.
        topics = dict.fromkeys(MODALITIES, len(WORDS)) | {carrier: int(video.category)}
        noise = 0.7 * random.normal(size=(4, WIDTH))
        words = {**WORDS, len(WORDS): "some more of the same here there any"}
        said = {
            name: random.choice(words[topics[name]].split(), 4)
            for name in ("title", "speech", "screen")
        }
        videos.append(
            replace(
                video,
                frames=(centres[topics["frames"]] + noise).astype(np.float16),
                frame_times_seconds=np.arange(4, dtype=np.float32),
                audio=(centres[topics["audio"]] + noise)[:, :AUDIO_WIDTH].astype(np.float16),
                title=" ".join(said["title"]),
                speech_text=" ".join(said["speech"]),
                screen_text=" ".join(said["screen"]),
            )
        )
    return videos


@pytest.fixture(scope="module", params=["audio", "speech"])
def tuned(request, tmp_path_factory) -> tuple[str, Corpus, Path]:
    """What carries the topic, the corpus, and a run tuned on its pairs."""
    root = tmp_path_factory.mktemp(f"telling-{request.param}")
    videos = telling(request.param)
    corpus = write_corpus(root / "corpus", videos, made_pairs(videos, 2000))
    recipe = tiny_recipe(
        model={**MORE, "dropout": 0.0, "tag_from": "embedding"},
        finetune={"epochs": 6, "batch_size": 32, "modality_dropout": 0.15, **FAST},
    )
    finetune(corpus.path, root / "run", recipe)
    return request.param, corpus, root / "run"


def test_the_table_says_which_modality_carries_the_topic(tuned):
    carrier, corpus, run = tuned
    found = ablate(run, corpus, resamples=200)
    assert found.rows[0].name == "everything"
    assert found.rows[0].difference is None
    rows = {row.name: row for row in found.rows[1:]}
    assert list(rows) == [f"without {m}" for m in MODALITIES] + [f"{m} alone" for m in MODALITIES]
    assert found.absent == ()
    assert found.rows[0].spearman.value > 0.45
    assert rows[f"{carrier} alone"].spearman.value > 0.45
    # Without what carries it, all is lost, and the interval says that it is no chance.
    assert rows[f"without {carrier}"].difference.high < -0.15
    assert abs(rows[f"without {carrier}"].spearman.value) < 0.3
    for other in set(MODALITIES) - {carrier}:
        assert rows[f"without {other}"].difference.low > -0.15
        assert rows[f"{other} alone"].difference.high < -0.1
        assert rows[f"{other} alone"].read == (other,)
        assert other not in rows[f"without {other}"].read
        assert rows[f"without {other}"].share == 1


def test_figures_are_those_of_vectors_made_without(tuned, tmp_path):
    carrier, corpus, run = tuned
    left_out = "title" if carrier == "speech" else "speech"
    rows = {row.name: row for row in ablate(run, corpus, resamples=20).rows}
    embed(run, corpus.path, tmp_path / "all")
    embed(run, corpus.path, tmp_path / "less", without=[left_out])
    manifest = json.loads((tmp_path / "less" / "manifest.json").read_text())
    assert manifest["made_by"]["without"] == [left_out]
    assert "without" not in json.loads((tmp_path / "all" / "manifest.json").read_text())["made_by"]
    whole = evaluate(Vectors(tmp_path / "all"), corpus.pairs())
    less = evaluate(Vectors(tmp_path / "less"), corpus.pairs())
    for figures, row, without in (
        (whole, rows["everything"], []),
        (less, rows[f"without {left_out}"], [left_out]),
    ):
        # Batches differ, and with them the rounding of vectors: a rank or two.
        assert row.spearman.value == pytest.approx(figures.spearman.value, abs=2e-3)
        again = evaluate_model(run, corpus, without=without)
        assert again.spearman.value == row.spearman.value
        assert (again.pairs, again.shared) == (figures.pairs, figures.shared)
    difference = rows[f"without {left_out}"].difference
    assert difference.value == pytest.approx(
        rows[f"without {left_out}"].spearman.value - rows["everything"].spearman.value
    )
    # The vectors are those of videos that have no such thing.
    column = "title" if left_out == "title" else "speech_text"
    bare = [replace(corpus.video(row), **{column: ""}) for row in range(10)]
    expected = Encoder.load(run).encode(bare)
    found = Vectors(tmp_path / "less").matrix[:10]
    assert np.allclose(found, expected, atol=1e-5)


def test_vectors_made_with_all_are_not_carried_on_with_less(tuned, tmp_path):
    _, corpus, run = tuned
    embed(run, corpus.path, tmp_path / "vectors")
    with pytest.raises(UsageError, match="holds vectors"):
        embed(run, corpus.path, tmp_path / "vectors", without=["title"])


def test_encoding_reads_all_that_a_video_has(tuned, tmp_path):
    _, corpus, run = tuned
    encoder = Encoder.load(run)
    videos = [corpus.video(row) for row in range(20)]
    embed(run, corpus.path, tmp_path / "vectors")
    vectors = encoder.encode(videos, batch_size=7)
    assert np.allclose(vectors, Vectors(tmp_path / "vectors").matrix[:20], atol=1e-5)
    for name, empty in (
        ("audio", np.zeros((0, 0), np.float16)),
        ("speech_text", ""),
        ("screen_text", ""),
    ):
        without = encoder.encode([replace(video, **{name: empty}) for video in videos])
        assert np.abs(without - vectors).max() > 1e-3
    wide = replace(videos[0], audio=np.zeros((2, AUDIO_WIDTH + 1), np.float16))
    with pytest.raises(UsageError, match=r"audio frames have 11 numbers, the model expects 10"):
        encoder.encode([wide])
    nan = replace(videos[0], audio=np.full((2, AUDIO_WIDTH), np.nan, np.float16))
    with pytest.raises(UsageError, match="audio frames hold NaN"):
        encoder.encode([nan])
    # What it does not read may be anything.
    deaf = tmp_path / "deaf"
    finetune(corpus.path, deaf, tiny_recipe(finetune={"epochs": 1}))
    assert np.isfinite(Encoder.load(deaf).encode([nan, wide])).all()


# --- models of frames and title -----------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Corpus, Path]:
    root = tmp_path_factory.mktemp("plain")
    videos = made_videos(60)
    corpus = write_corpus(root / "corpus", videos, made_pairs(videos, 250))
    finetune(corpus.path, root / "run", tiny_recipe(finetune={"epochs": 2}))
    return corpus, root / "run"


def test_of_two_modalities_without_one_is_the_other_alone(plain):
    corpus, run = plain
    found = ablate(run, corpus, resamples=20)
    assert [row.name for row in found.rows] == [
        "everything",
        "without frames = title alone",
        "without title = frames alone",
    ]
    shares = [row.share for row in found.rows]
    assert shares[0] is None
    assert 0.8 < shares[1] < 1
    assert 0.8 < shares[2] < 1


def test_a_modality_that_no_video_has_is_said_to_be_absent(plain, tmp_path):
    corpus, _ = plain
    finetune(corpus.path, tmp_path / "run", tiny_recipe(model=MORE, finetune={"epochs": 1}))
    found = ablate(tmp_path / "run", corpus, resamples=20)
    assert found.absent == ("speech", "screen")
    assert len(found.rows) == 3


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (["audio"], "without audio: the model reads no such; it reads frames, title"),
        (["frames", "title"], "without frames, title nothing is left"),
    ],
)
def test_what_cannot_be_left_out(plain, tmp_path, without, said):
    corpus, run = plain
    with pytest.raises(UsageError, match=said):
        embed(run, corpus.path, tmp_path / "vectors", without=without)
    with pytest.raises(UsageError, match=said):
        evaluate_model(run, corpus, without=without)


def test_a_corpus_without_pairs(plain, tmp_path):
    _, run = plain
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    with pytest.raises(UsageError, match="no pair to measure on"):
        ablate(run, corpus)
    with pytest.raises(UsageError, match="no pair to measure on"):
        evaluate_model(run, corpus)


# --- in the terminal ----------------------------------------------------------------------------


def test_evaluate_takes_models_and_vectors(plain, tmp_path, capsys):
    corpus, run = plain
    embed(run, corpus.path, tmp_path / "vectors")
    app(
        ["evaluate", str(tmp_path / "vectors"), str(run), "--corpus", str(corpus.path), "--json"],
        result_action="return_value",
    )
    first, second = json.loads(capsys.readouterr().out).values()
    assert first["pairs"] == second["pairs"]
    assert first["spearman"]["value"] == pytest.approx(second["spearman"]["value"], abs=5e-3)
    app(
        ["evaluate", str(run), "--without", "title", "--corpus", str(corpus.path), "--json"],
        result_action="return_value",
    )
    (named,) = json.loads(capsys.readouterr().out).items()
    assert named[0] == f"{run} without title"
    assert named[1]["spearman"]["value"] != second["spearman"]["value"]
    app(
        ["evaluate", str(run), "--ablation", "--corpus", str(corpus.path), "--json"],
        result_action="return_value",
    )
    found = json.loads(capsys.readouterr().out)[str(run)]
    assert found["rows"][2]["spearman"] == named[1]["spearman"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ablation"], "with --ablation videos are embedded anew"),
        (["--without", "title"], "with --without videos are embedded anew"),
        (["--ablation", "--without", "title"], "give it without --without"),
    ],
)
def test_vectors_cannot_be_made_without(plain, tmp_path, options, said):
    corpus, run = plain
    embed(run, corpus.path, tmp_path / "vectors")
    paths = [str(tmp_path / "vectors"), "--corpus", str(corpus.path)]
    with pytest.raises(UsageError, match=said):
        app(["evaluate", *paths, *options], result_action="return_value", exit_on_error=False)


def test_the_table_in_a_terminal(plain):
    corpus, run = plain
    shown = Console(width=140, record=True)
    shown.print(console.ablation("run [1]", ablate(run, corpus, resamples=20)))
    text = shown.export_text()
    assert "run [1]: cosine against scores, split: clean" in text
    assert "without title = frames alone" in text
    assert "in no video" not in text


def test_equal_vectors_have_no_rank(plain, tmp_path):
    """A title alone of videos without titles: one vector for all."""
    videos = [replace(video, title="") for video in made_videos(60)]
    videos[0] = replace(videos[0], title="sea")
    corpus = write_corpus(tmp_path / "corpus", videos, made_pairs(videos[1:], 250))
    figures = evaluate_model(plain[1], corpus, without=["frames"])
    assert np.isnan(figures.spearman.value)


# --- the paired interval ------------------------------------------------------------------------


def test_a_paired_interval_is_narrower_than_that_of_two_independent_ones():
    random = np.random.default_rng(0)
    y = random.normal(size=300)
    x = y + random.normal(size=300)
    other = x + 0.2 * random.normal(size=300)
    found = metrics.bootstrap_difference(metrics.spearman, x, other, y, seed=4)
    assert found.value == metrics.spearman(x, y) - metrics.spearman(other, y)
    assert found.low <= found.value <= found.high
    one, two = (metrics.bootstrap(metrics.spearman, some, y, seed=4) for some in (x, other))
    assert found.high - found.low < 0.5 * min(one.high - one.low, two.high - two.low)
    same = metrics.bootstrap_difference(metrics.spearman, x, x, y)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_paired_interval_resamples_both_sides_alike():
    """By hand: the same rows as ``bootstrap`` draws with this seed."""
    x, other, y = [1.0, 2, 3, 4, 6], [2.0, 1, 3, 5, 4], [1.0, 3, 2, 5, 4]
    generator = np.random.default_rng(9)
    differences = []
    for _ in range(200):
        rows = generator.integers(0, 5, 5)
        sides = [metrics.mse(np.array(some)[rows], np.array(y)[rows]) for some in (x, other)]
        differences.append(sides[0] - sides[1])
    found = metrics.bootstrap_difference(metrics.mse, x, other, y, resamples=200, seed=9)
    low, high = np.quantile(differences, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
