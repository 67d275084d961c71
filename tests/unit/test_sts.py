"""The experiment on sentences that people scored: parts, start in two libraries, table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.experiments import sts, sts_data, sts_report, sts_runs, sts_theirs
from benchmarks.experiments.sts_arms import ARMS, PLANS, PUBLISHED, Arm, epochs_of, recipe_of
from benchmarks.experiments.sts_data import Scored, make_task
from benchmarks.experiments.sts_runs import Bench, Result, Trial
from benchmarks.experiments.sts_start import chinese_recipe, chinese_start
from benchmarks.reproduction.report import write_figures
from vidvec import Corpus, Encoder
from vidvec.data.splits import split_pairs

pytestmark = pytest.mark.benchmark

WORDS = ["red", "blue", "green", "cat", "dog", "bird", "runs", "eats", "猫", "狗", "海"]


def made(count: int, seed: int) -> list[Scored]:
    """Pairs of short sentences; the score is the share of words that they have in common."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        first, second = (set(random.choice(WORDS, 4, replace=False)) for _ in range(2))
        score = len(first & second) / 4
        pairs.append(Scored(" ".join(sorted(first)), " ".join(sorted(second)), score))
    return pairs


def sentences(pairs: list[Scored]) -> set[str]:
    return {sentence for pair in pairs for sentence in (pair.first, pair.second)}


def test_scores_are_read_as_shares_of_five(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text('"A cat, red",A dog. ,2.5\n一只猫,两只猫,5.0\n', "utf-8")
    assert sts_data.read_scored(file) == [
        Scored("A cat, red", "A dog.", 0.5),
        Scored("一只猫", "两只猫", 1.0),
    ]


def test_a_task_by_hand():
    train = [Scored(*ends, 0.5) for ends in ("ab", "bc", "de", "fx", "gg", "yh", "ij")]
    test = [Scored("x", "y", 1.0)]
    task = make_task(train, test, held=2)
    assert task.dropped == 2  # f–x and y–h; g–g teaches nothing, and is no loss
    assert task.test == test
    assert sorted(task.train + task.held, key=lambda p: p.first) == [
        Scored(*ends, 0.5) for ends in ("ab", "bc", "de", "ij")
    ]
    # a–b and b–c are tied together by b, and stay together.
    assert ({"a", "b"} <= sentences(task.held)) == ({"b", "c"} <= sentences(task.held))
    assert len(task.held) >= 2
    assert not sentences(task.train) & sentences(task.held)
    assert len(make_task(train, test, held=2, most=1).train) == 1


def test_parts_of_made_pairs_share_no_sentence():
    # Of sentences that each pair has to itself, but for some that come again.
    train = [Scored(f"a{n}", f"b{n % 150}", n / 200) for n in range(200)]
    test = [Scored(f"a{n}", f"c{n}", 0.5) for n in range(0, 200, 10)]
    task = make_task(train, test, held=30)
    parts = [sentences(part) for part in (task.train, task.held, task.test)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert len(task.train) + len(task.held) + task.dropped == len(train)
    assert 30 <= len(task.held) <= 31
    assert task.dropped == 20


def test_titles_that_are_measured_on_are_not_pretrained_on(tmp_path):
    for folder, name, lines in [
        ("tnews", "a.json", [{"sentence": "新闻"}, {"sentence": "猫"}, {"sentence": "新闻"}]),
        ("youtube_trending", "US.jsonl", [{"title": " a cat "}, {"title": ""}]),
    ]:
        (tmp_path / folder).mkdir()
        text = "\n".join(json.dumps(line) for line in lines)
        (tmp_path / folder / name).write_text(text, "utf-8")
    assert sts_data.read_titles(tmp_path, ["猫"]) == ["新闻", "a cat"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """Two dozen pairs, and a start of one layer that saw them without scores."""
    folder = tmp_path_factory.mktemp("sts") / "zh"
    train = [Scored(f"{a} {n}", f"{b} {n}", (n % 6) / 5) for n, (a, b) in enumerate(_ends(24))]
    task = make_task(train, made(12, 2), held=6)
    corpus = sts_data.write_corpus(task, folder / "pairs")
    start = chinese_start(corpus, folder / "start", chinese_recipe(1, hidden=16, layers=1))
    plan = replace(PLANS["zh"], rates=(1e-3, 1e-5), epochs=1, batch=8, seeds=(1, 2), arms=ARMS[:2])
    return Bench(folder, task, corpus, start, folder / "bert", plan)


def _ends(count: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(3)
    return [tuple(random.choice(WORDS, 2, replace=False)) for _ in range(count)]


def test_the_corpus_holds_out_what_the_task_holds_out(bench):
    corpus = Corpus(bench.corpus)
    pairs = corpus.pairs()
    split = split_pairs(pairs, "clean")
    titles = [
        (corpus.video(corpus.row(pair.id_1)).title, corpus.video(corpus.row(pair.id_2)).title)
        for pair in pairs
    ]
    for places, expected in ((split.train, bench.task.train), (split.validation, bench.task.held)):
        found = [(*titles[place], pairs[place].score) for place in places]
        assert sorted(found) == sorted((p.first, p.second, p.score) for p in expected)
    assert split.dropped == 0


def test_the_start_gives_in_transformers_what_it_gives_here(bench):
    from transformers import AutoTokenizer, BertModel

    folder = sts_theirs.bert_folder(bench.start, bench.bert)
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = Encoder.load(bench.start, "cpu")
    for title in ("red cat 猫", "unknown 海海", "", "dog " * 200):
        with torch.inference_mode():
            given = tokenizer(title, return_tensors="pt", truncation=True)
            hidden = bert(**given).last_hidden_state[0]
            projected = encoder.model.encoder.projection(hidden.mean(0))
        vector = torch.nn.functional.normalize(projected, dim=0).numpy()
        assert vector == pytest.approx(encoder.encode(title), abs=1e-5)


def test_trials_are_done_once_and_the_rate_is_chosen_on_held_out_pairs(bench):
    said: list[str] = []
    arm, plan = bench.plan.arms[0], bench.plan
    assert sts_runs.found(bench, arm) == {}
    first = sts_runs.result(bench, arm, 1, said.append)
    assert len(said) == 2
    again = sts_runs.result(bench, arm, 1, said.append)
    assert len(said) == 2
    assert again.trial == first.trial
    assert again.cosines.tolist() == first.cosines.tolist()
    tried = [sts_runs.trial(bench, arm, rate, 1, said.append) for rate in plan.rates]
    assert first.trial.held == max(each.held for each in tried)
    second = sts_runs.result(bench, arm, 2, said.append)
    assert len(said) == 3
    assert second.trial.rate == first.trial.rate
    assert second.cosines.tolist() != first.cosines.tolist()
    assert list(sts_runs.found(bench, arm)) == [1, 2]
    files = {file.name for file in (bench.folder / "results").iterdir()}
    assert len(files) == 3 + 2
    assert all(name.endswith(".json") for name in files)  # weights are gone


def test_arms_differ_in_their_losses_alone_and_cost_the_same():
    plan = replace(PLANS["zh"], epochs=4)
    base = recipe_of(ARMS[0], plan, 1e-4, 1).finetune.model_dump()
    assert base["mse_weight"] == 1
    assert ARMS[0].name == PUBLISHED
    for arm in ARMS:
        if arm.theirs:
            assert arm.theirs in sts_theirs.LOSSES
            continue
        recipe = recipe_of(arm, plan, 1e-4, 1).finetune.model_dump()
        differing = {key for key in recipe if recipe[key] != base[key]}
        named = {setting.split("=")[0].removeprefix("finetune.") for setting in arm.settings}
        weights = {key for key in base if key.endswith("_weight")}
        assert differing <= weights | named | ({"epochs"} if arm.passes > 1 else set())
        assert recipe["epochs"] * arm.passes == 4
    assert epochs_of(Arm("twice", "", passes=2), plan) == 2


def test_the_table_holds_each_arm_against_the_published_one(bench):
    scores = np.array([pair.score for pair in bench.task.test])
    noise = np.random.default_rng(5)
    results = {
        arm.name: {
            seed: Result(Trial(1e-3, 0.5, 2.0, cost), scores + 0.01 * noise.normal(size=12) + bias)
            for seed in (1, 2)
        }
        for arm, bias, cost in zip(
            (*ARMS[:2], Arm("st-cosine", "theirs", theirs="cosine")),
            (scores * 0, -2 * scores, scores * 0),
            (4.0, 4.0, 6.0),
            strict=True,
        )
    }
    arms = (*ARMS[:2], Arm("st-cosine", "theirs", theirs="cosine"))
    aside = Arm("mse-scores", "aside"), Arm("mse-plain", "not done")
    results |= {"mse-scores": {1: results["mse"][1]}, "mse-plain": {}}
    plan = replace(bench.plan, arms=arms, aside=aside)
    outcome = sts_report.Outcome(
        replace(bench, plan=plan), (1, 2), results, 0.1, noise.normal(size=12), 1e-6
    )
    text = sts_report.markdown([outcome], "made")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    named = {row[0].removeprefix("| "): row for row in rows}
    opposite = named[ARMS[1].title]
    assert opposite[3].startswith("−")
    assert float(opposite[4].split()[0].replace("−", "-")) < -1
    assert named[ARMS[0].title][4] == ""
    assert "theirs takes 1.50 times" in text
    (said,) = (line for line in text.splitlines() if line.startswith("- aside, seed 1 alone"))
    assert f"less {ARMS[0].title} +0.0000 (+0.0000 … +0.0000); less theirs " in said
    assert "not done" not in text


def test_figures_go_between_their_own_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# T\n\n{sts_report.BEGIN}\nold\n{sts_report.END}\n\nmore\n", "utf-8")
    write_figures(page, "new", (sts_report.BEGIN, sts_report.END))
    expected = f"# T\n\n{sts_report.BEGIN}\n\nnew\n\n{sts_report.END}\n\nmore\n"
    assert page.read_text("utf-8") == expected
    page.write_text("no marks", "utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        write_figures(page, "new", (sts_report.BEGIN, sts_report.END))


def test_both_libraries_run_side_by_side(bench, tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    arms = (ARMS[0], Arm("st-cosent", "theirs", theirs="cosent"))
    plan = replace(bench.plan, arms=arms, rates=(1e-3,), seeds=(7,))
    monkeypatch.setattr(sts, "make_bench", lambda *_: replace(bench, plan=plan))
    monkeypatch.setattr(sts_data, "texts_folder", lambda: tmp_path)
    (tmp_path / "stsb").mkdir()
    if not bench.bert.is_dir():
        sts_theirs.bert_folder(bench.start, bench.bert)
    sts.main(tmp_path, None, {"zh": plan})
    text = (tmp_path / "sts.md").read_text("utf-8")
    assert "| theirs | 0.001 |" in text
    assert json.loads((bench.folder / "start.json").read_text("utf-8"))["difference"] < 1e-5
