"""The benchmarks: what they make, how they time, what they write. No figure is asserted."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("sklearn")

from benchmarks import fusion, loader, measure, picture, report, run, start, steps
from benchmarks.corpus import FRAMES, LETTERS, VOCABULARY, make_corpus
from benchmarks.measure import Comparison, alternate
from vidvec.data.batches import BatchBuilder
from vidvec.data.tokenizer import load_tokenizer

pytestmark = pytest.mark.benchmark

TINY = steps.Shape("2 × 128", "tiny", 6)
BY_HAND = Comparison("step", "a step", (6.0, 9.0, 8.0), (2.0, 1.0, 2.0), work=12)


def test_ratios_are_taken_round_by_round():
    assert BY_HAND.ratios == [3.0, 9.0, 4.0]
    assert BY_HAND.ratio == 4.0
    assert BY_HAND.speed(BY_HAND.plain) == 12 / 8
    once = replace(BY_HAND, plain=(8.0,))
    assert once.ratios == [4.0, 8.0, 4.0]


def test_sides_are_timed_in_turn(monkeypatch):
    order: list[str] = []
    clock = count()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(clock)))
    sides = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = alternate(sides, rounds=2)
    assert "".join(order) == "abc" * 3  # the first time does not count
    assert seconds == {"a": (1.0, 1.0), "b": (1.0, 1.0), "c": (1.0, 1.0)}


def test_a_made_corpus_has_the_published_lengths(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 5000, frame_size=8, pairs=50)
    assert corpus.verify() == []
    assert len(corpus) == len(set(corpus.ids)) == 5000
    assert len(corpus.manifest["shards"]) == 2
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    assert tokenizer.vocab_size == VOCABULARY
    config = steps.make_recipe(TINY).model.model_copy(update={"frame_size": 8})
    builder = BatchBuilder(corpus, tokenizer, config)
    assert 39 < builder.lengths.mean() < 41
    assert builder.frame_counts.min() == FRAMES[0]
    assert builder.frame_counts.max() == FRAMES[1]
    titles = corpus.column("title").to_pylist()
    assert {len(title) for title in titles} == set(range(LETTERS[0], LETTERS[1] + 1))
    assert (builder.build(np.arange(99)).token_ids != tokenizer.special_ids["unk"]).all()
    positions, counts = corpus.tag_positions()
    assert counts.min() >= 0
    assert 3 < counts.mean() < 5.5
    assert positions.max() < 10_000
    assert all(int(pair.id_1) % 5 for pair in corpus.pairs())
    again = make_corpus(tmp_path / "again", 5000, frame_size=8, pairs=50)
    assert again.manifest["shards"] == corpus.manifest["shards"]


def test_training_and_embedding_run_on_both_sides(tmp_path):
    found = [
        *steps.compare_training(tmp_path, TINY, rounds=2),
        *steps.compare_embedding(tmp_path, TINY, rounds=2),
    ]
    training = ["pretrain_step", "pretrain_step_padded", "finetune_step"]
    if steps.has_bf16_units():
        training[2:] = ["pretrain_step_bf16", "finetune_step", "finetune_step_bf16"]
    names = [*training, "embed_float32", "embed_bf16", "embed_int8"]
    assert [each.name for each in found] == [f"{name}_2x128" for name in names]
    for each in found:
        assert len(each.plain) == len(each.fast) == 2
        assert each.ratio > 0
    assert found[0].plain == found[1].plain


def test_both_fusions_are_near_the_exact_one(monkeypatch):
    sizes = {"VIDEOS": 3000, "WIDTH": 96, "SIZE": 48, "PAIRS": 500, "ITERATIONS": 6}
    for name, value in sizes.items():
        monkeypatch.setattr(fusion, name, value)
    comparisons, errors = fusion.compare_fusion(2, single=True)
    assert [each.name for each in comparisons] == ["fusion", "fusion_float32"]
    assert len(comparisons[0].ratios) == 2
    assert errors["fusion"] < 1e-6
    assert errors.keys() == {"fusion", "scikit-learn in float64", "scikit-learn in float32"}
    assert errors["fusion"] == min(errors.values())


def test_loading_runs_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "VIDEOS", 200)
    (found,) = loader.compare_loading(tmp_path, rounds=1)
    assert found.name == "loader"
    assert found.work == 200


def test_a_corpus_is_opened_in_a_fresh_process(tmp_path, monkeypatch):
    monkeypatch.chdir(run.PROJECT)
    found = loader.measure_start(tmp_path, 1, videos=3000)
    assert found.videos == 3000
    assert found.shards == 1
    for figures in (found.warm, found.cold):
        assert 0 < figures["open_seconds"] < figures["first_batch_seconds"]
        assert figures["first_batch_seconds"] < figures["process_seconds"]
        assert 0 < figures["anonymous_bytes"] < figures["resident_bytes"] < 20e9


@pytest.fixture
def made() -> report.Report:
    figures = dict.fromkeys(
        ["open_seconds", "first_batch_seconds", "process_seconds", "training_batch_seconds"], 1.25
    ) | dict.fromkeys(["resident_bytes", "anonymous_bytes", "training_resident_bytes"], 5e8)
    return report.Report(
        report.this_machine(),
        "python -m benchmarks.run",
        date="2026-11-25",
        comparisons=[BY_HAND, replace(BY_HAND, name="loader", plain=(300.0,), unit="pairs")],
        start=loader.StartUp(1_000_000, 16, 207, 10.0, 20.0, figures, figures),
        cosine_errors={"fusion": 2e-8},
    )


def test_a_report_says_everything_and_not_where_it_ran(made, tmp_path):
    path = report.write(made, tmp_path)
    text, values = path.read_text("utf-8"), json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert path.name == f"2026-11-25-{made.machine.slug}.md"
    assert values["ratios"] == {"step": 4.0, "loader": 150.0, "loader_videos_per_s": 6}
    assert values["comparisons"][0]["plain"] == [6.0, 9.0, 8.0]
    assert (values["comparisons"][0]["lowest"], values["comparisons"][0]["highest"]) == (3.0, 9.0)
    assert values["machine"]["cores"] >= 1
    assert {"torch", "transformers", "Python"} <= values["versions"].keys()
    assert "| a step | 4.0 | 3.0–9.0 | 8 s (2 videos/s) | 2 s (6 videos/s) | 3 |" in text
    assert "| 1 / 3 |" in text
    for said in ("2.0e-08", "1.25 s", "0.50 GB", "1,000,000"):
        assert said in text
    for word in (socket.gethostname(), str(Path.home()), str(tmp_path), str(run.PROJECT)):
        assert len(word) < 4 or word not in text + json.dumps(values)


def test_names_of_machines_are_plain():
    machine = report.Machine("Some CPU", 2, "AVX2", 24, "Linux x86_64")
    assert machine.slug == "2core-avx2"
    assert replace(machine, gpu="NVIDIA H100 80GB").slug == "2core-avx2-nvidiah10080gb"


def test_the_picture_fits_into_a_readme(made, tmp_path):
    import matplotlib.image

    picture.draw(made.comparisons, "a machine", tmp_path / "docs" / "speed.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "docs" / "speed.png").shape
    assert 800 < width < 1600
    assert height < width


def test_a_part_alone_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "compare_fusion", lambda *_: ([BY_HAND], {"fusion": 1e-9}))
    monkeypatch.setattr(run, "write", None)
    monkeypatch.setattr(run.picture, "draw", None)
    monkeypatch.setattr("sys.argv", ["run", "--only", "fusion", "--folder", str(tmp_path)])
    run.main()
    assert "| a step | 4.0 |" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_memory_is_the_kernels_count():
    assert 10e6 < start.resident("RssAnon") <= start.resident("VmHWM") < 100e9
