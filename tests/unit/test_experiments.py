"""What `make experiments` measures on the made corpus and on real clips, and how it says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.experiments import (
    clips,
    clips_measures,
    clips_report,
    made_report,
    made_trials,
)
from benchmarks.experiments.clips import Plan as ClipPlan
from benchmarks.experiments.clips_arms import ARMS, MEAN, PUBLISHED, ClipArm
from benchmarks.experiments.clips_measures import Clips, joined, mean_interval, unit
from benchmarks.experiments.made_arms import (
    BEST,
    BEST_CHAIN,
    DEEP_CHAIN,
    PUBLISHED_CHAIN,
    STUDENTS,
    Plan,
    student_recipe,
)
from benchmarks.experiments.made_report import TITLES, Outcome, closed
from benchmarks.reproduction.arms import Scale, recipe_of
from benchmarks.reproduction.measure import Contrast
from tests.corpora import made_pairs, made_videos, write_corpus
from vidvec import load_recipe
from vidvec.metrics import Interval

pytestmark = pytest.mark.benchmark


def test_the_best_recipe_takes_the_published_ones_steps_and_learns_from_the_same():
    theirs = recipe_of(PUBLISHED_CHAIN, Scale(), 1, 1000)
    for chain, more in ((BEST_CHAIN, ()), (DEEP_CHAIN, ()), (BEST_CHAIN, BEST_CHAIN.tuned[BEST])):
        ours = recipe_of(chain, Scale(), 1, 1000, more)
        for stage in ("pretrain", "finetune"):
            own, other = getattr(ours, stage), getattr(theirs, stage)
            for key in ("epochs", "batch_size", "accumulate", "adversarial"):
                assert getattr(own, key) == getattr(other, key)
        assert ours.pretrain.parts == theirs.pretrain.parts
        assert (ours.pretrain.videos, ours.finetune.split) == ("train", "clean")
        assert not ours.pretrain.then.epochs
        assert not ours.finetune.r_drop_weight
        shape = ("layers", "hidden_size", "ffn_size", "embedding_size", "max_frames", "max_tokens")
        assert all(getattr(ours.model, key) == getattr(theirs.model, key) for key in shape)


def test_the_recipe_for_tagged_videos_is_the_best_one_but_for_what_fits_two_epochs():
    best = recipe_of(BEST_CHAIN, Scale(), 1, 1000)
    shipped, base = load_recipe("vidvec/tagged"), load_recipe("base")
    for key in ("pool", "tag_from", "tag_input", "linear_size", "linear_share"):
        assert getattr(shipped.model, key) == getattr(best.model, key)
    for key in ("mlm_weight", "mfm_weight"):
        assert getattr(shipped.pretrain, key) == getattr(best.pretrain, key) == 0
    # What the trials chose for a tiny model and two epochs is not carried over to forty.
    assert best.model.dropout < shipped.model.dropout == base.model.dropout
    assert shipped.finetune == base.finetune


def test_students_have_one_jobs_shape_and_see_no_held_out_video():
    job = recipe_of(PUBLISHED_CHAIN, Scale(), 1, 1000).model
    for student in STUDENTS:
        recipe = student_recipe(student, Plan(), 1, 1000)
        assert recipe.distill.videos == "train"
        assert recipe.model == job.model_copy(update={"embedding_size": student.size})


def test_the_best_recipe_is_its_transformer_with_a_linear_reading_beside():
    best, deep = (recipe_of(chain, Scale(), 1, 1000) for chain in (BEST_CHAIN, DEEP_CHAIN))
    assert best.model.linear_size
    same = best.model.model_copy(update={"linear_size": 0})
    assert (same, best.pretrain, best.finetune) == (deep.model, deep.pretrain, deep.finetune)
    assert best.model.embedding_size == deep.model.embedding_size


def test_trials_cost_no_more_steps_than_the_best_recipe():
    deep, names = recipe_of(DEEP_CHAIN, Scale(), 1, 1000), [t.name for t in made_trials.TRIALS]
    assert len(set(names)) == len(names)

    def videos(recipe):
        """Passes over a corpus whose pairs' videos are a quarter of it, for a step of 32 each."""
        twice = 2 if recipe.finetune.adversarial or recipe.finetune.r_drop_weight else 1
        several = 2 if recipe.pretrain.cross_weight else 1
        return several * recipe.pretrain.epochs + 0.27 * twice * recipe.finetune.epochs

    for trial in made_trials.TRIALS:
        settings = (*DEEP_CHAIN.settings, *trial.pretrained)
        chain = replace(DEEP_CHAIN, settings=settings)
        found = recipe_of(chain, Scale(), 1, 1000, trial.tuned)
        assert videos(found) <= 1.08 * videos(deep), trial.name


def test_trials_share_pretrainings_and_are_told_once(tmp_path, monkeypatch):
    wanted = ("pretrained", "plain", "short")
    some = tuple(trial for trial in made_trials.TRIALS if trial.name in wanted)
    monkeypatch.setattr(made_trials, "TRIALS", some)
    made_trials.main(tmp_path, None, (), Scale(120, (1,), 1, 1))
    text = (tmp_path / "trials.md").read_text("utf-8")
    assert [line.split(" | ")[0].strip("| ") for line in text.splitlines() if " | 0." in line] == [
        trial.what for trial in some
    ]
    assert len(list((tmp_path / "pretrained").glob("*/run.json"))) == 1
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert len(trained) == 3
    made_trials.main(tmp_path, None, (), Scale(120, (1,), 1, 1))
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert (tmp_path / "trials.md").read_text("utf-8") == text


def test_shares_of_a_distance():
    assert closed(0.8, 0.7, 1.0) == pytest.approx(1 / 3)
    assert closed(0.7, 0.7, 1.0) == 0
    assert closed(0.6, 0.7, 0.9) == pytest.approx(-0.5)


def outcome(**noise: float) -> Outcome:
    """Made cosines, each row's with so much noise; a model taught everything has one seed."""
    random = np.random.default_rng(0)
    scores = random.integers(0, 21, 300) / 20
    cosines = {
        name: {
            seed: scores + noise[name] * random.standard_normal(300)
            for seed in ((1,) if name == "taught" else (1, 2))
        }
        for name in noise
    }
    plan = Plan(Scale(seeds=(1, 2)), resamples=40)
    ceiling = Interval(0.95, 0.94, 0.96)
    settings = {"model.pool": ("mean", "cls")}
    return Outcome(plan, cosines, scores, {BEST: 12.0}, ceiling, settings)


def test_what_is_said_of_the_made_corpus_follows_the_figures():
    rows = dict.fromkeys(TITLES, 0.3)
    text = made_report.markdown(outcome(**{**rows, BEST: 0.1}), "a command")
    assert "(the target, a third, is reached)" in text
    assert text.count("\n| ") == len(TITLES) + 1 + 2  # two heads, one setting
    assert "| `model.pool` | mean | cls |" in text
    poor = made_report.markdown(outcome(**{**rows, BEST: 0.29, "student": 0.6}), "a command")
    assert "**not reached**" in poor
    assert "not more than 0.002 worse: **not shown**" in poor


def test_what_is_not_done_yet_is_not_told():
    some = outcome(**dict.fromkeys((BEST, "job2"), 0.3))
    assert "alone" not in made_report.markdown(some, "a command")
    del some.cosines[BEST][2]
    assert "published one (seed 1 alone): " in made_report.markdown(some, "a command")
    text = made_report.markdown(some, "a command")
    assert "distilled model" not in text
    assert text.count("\n| ") == 2 + 1 + 2


def test_rows_are_compared_on_the_seeds_that_both_have():
    some = outcome(**{BEST: 0.2, "job2": 0.3, "taught": 0.1})
    assert (some.seeds(BEST, "job2"), some.seeds(BEST, "taught")) == ([1, 2], [1])
    found = some.difference(Contrast(0, "", "taught", BEST))
    expected = [stats.spearmanr(some.cosines[n][1], some.scores)[0] for n in ("taught", BEST)]
    assert found.by_seed == pytest.approx((expected[0] - expected[1],))


FACTS = [
    {"id": "a", "source": "panda70m", "group": "g1", "category": "cats"},
    {"id": "b", "source": "panda70m", "group": "g1", "category": "cats"},
    {"id": "c", "source": "panda70m", "group": "g2", "category": "cats"},
    {"id": "d", "source": "panda70m", "group": "g3", "category": "dogs"},
    {"id": "e", "source": "misc", "group": "dup:1", "category": "cats"},
    {"id": "f", "source": "misc", "group": "dup:1", "category": "cats"},
]
CLIPS = Clips(FACTS, np.array([0, 3, 3]), ["cropped", "cropped", "sepia"])
ANGLES = np.radians([0, 1, 10, 14, 40, 44])


def on_a_circle(degrees: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)


def test_hits_on_a_circle_by_hand():
    shown = on_a_circle(ANGLES)
    # a and b have one another nearest, which is of their group and does not count: then c, a cat.
    # c has d nearest, and d c.
    assert clips_measures.topics(CLIPS, shown).tolist() == [1, 1, 0, 0]
    assert clips_measures.known_copies(CLIPS, shown).tolist() == [1, 1]
    nearer = on_a_circle(np.radians([0, 1, 10, 38, 40, 44]))
    assert clips_measures.known_copies(CLIPS, nearer).tolist() == [0, 1]
    copies = on_a_circle(np.radians([0.2, 13, 11]))
    assert clips_measures.made_copies(CLIPS, copies, shown).tolist() == [1, 1, 0]
    pictures = on_a_circle(ANGLES + np.radians([0, 0, 0, 0, 3, 0]))
    assert clips_measures.own_pictures(pictures, shown).tolist() == [1, 1, 1, 1, 0, 1]


def test_the_interval_is_that_of_a_mean_of_coins():
    found = (np.random.default_rng(3).random((4, 400)) < 0.3).astype(float)
    interval = mean_interval(found)
    assert interval.value == found.mean()
    # Of 1,600 coins it would be ±0.022, and wider where queries are drawn for all seeds at once.
    half = (interval.high - interval.low) / 2
    assert 0.018 < half < 0.045
    sure = mean_interval(np.ones((3, 50)))
    assert (sure.value, sure.low, sure.high) == pytest.approx((1, 1, 1))
    alike = np.tile(found[:1], (4, 1))
    assert (mean_interval(alike).high - mean_interval(alike).low) / 2 == pytest.approx(
        1.96 * np.sqrt(alike[0].var() / 400), rel=0.1
    )


def test_cosines_of_joined_vectors_are_the_mean_of_both():
    random = np.random.default_rng(5)
    first, second = (
        {name: unit(random.standard_normal((6, size))) for name in ("frames", "both")}
        for size in (4, 7)
    )
    second["title"] = unit(random.standard_normal((6, 7)))
    found = joined(first, second)
    for name in ("frames", "both"):
        apart = [side[name] @ side[name].T for side in (first, second)]
        assert found[name] @ found[name].T == pytest.approx(np.mean(apart, axis=0), abs=1e-6)
    # A title has no frame features: only the trained vectors speak.
    expected = second["title"] @ second["both"].T / np.sqrt(2)
    assert found["title"] @ found["both"].T == pytest.approx(expected, abs=1e-6)


def test_clip_tables_mark_what_differs_from_the_plain_mean():
    random = np.random.default_rng(6)
    coins = (random.random((2, 200)) < 0.5).astype(float)
    found = {
        MEAN: {"topics by frames": coins, "topics by both": coins},
        "few": {"topics by frames": np.ones((2, 200)), "topics by title": coins},
    }
    for arm in ("few", MEAN):
        for measure in clips_report.HEADS:
            found[arm].setdefault(measure, coins)
    del found[MEAN]["topics by title"]
    arms = [ClipArm(MEAN, "plain", "", (), False, False), ClipArm("few", "trained")]
    lines = clips_report.markdown(arms, found, (1, 2), "a command").splitlines()
    trained = [line for line in lines if line.startswith("| trained")]
    assert len(trained) == len(clips_report.TABLES)
    assert trained[0].startswith("| trained | **1.00 (1.00 … 1.00)** | 0.")
    assert "**" not in trained[1] + trained[2]


def test_an_arm_encodes_clips_copies_and_pictures(tmp_path):
    videos = [video for video in made_videos(12) if len(video.frames) and video.title]
    copies = [replace(video, id=f"copy of {video.id}", title="") for video in videos[:3]]
    write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 20))
    write_corpus(tmp_path / "altered" / "corpus", [*copies, *videos])
    short = ("pretrain.epochs=1", "finetune.epochs=1", "finetune.batch_size=4")
    arm = ClipArm("few", "trained", settings=short)
    plan = ClipPlan((ClipArm(MEAN, "plain", "", (), False, False), arm), (1,))
    clips.run_arm(tmp_path, arm, 1)
    found, means = (clips.vectors_of(tmp_path, plan, each, 1) for each in (arm, plan.arms[0]))
    assert {name: len(values) for name, values in found.items()} == {
        **dict.fromkeys(("frames", "title", "both", "pictures"), len(videos)),
        "copies": 3,
    }
    # A copy that nothing was altered in is what its clip is by frames alone.
    assert found["copies"] == pytest.approx(found["frames"][:3], abs=1e-5)
    assert np.abs(found["both"] - found["frames"]).max() > 0.01
    middle = videos[4].frames[len(videos[4].frames) // 2].astype(np.float32)
    assert means["pictures"][4] == pytest.approx(middle / np.linalg.norm(middle), abs=1e-5)
    assert [path.name for path in clips.arm_folder(tmp_path, arm, 1).iterdir()] == [clips.VECTORS]
    both = ClipArm("joined", "joined", joined="few")
    cosines = clips.vectors_of(tmp_path, plan, both, 1)["both"]
    expected = (found["both"] @ found["both"].T + means["both"] @ means["both"].T) / 2
    assert cosines @ cosines.T == pytest.approx(expected, abs=1e-5)


def test_clip_arms_are_what_they_say():
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert all(not arm.joined or arm.joined in names for arm in ARMS)
    by_name = {arm.name: arm for arm in ARMS}
    few, published = (by_name[name].resolved(1) for name in ("few", "published"))
    assert by_name["published"].settings == PUBLISHED
    for stage in ("pretrain", "finetune"):
        own, other = getattr(few, stage), getattr(published, stage)
        for key in ("epochs", "batch_size", "learning_rate", "high_learning_rate"):
            assert getattr(own, key) == getattr(other, key), key
    assert few.model.embedding_size == published.model.embedding_size
    assert replace(by_name["few"], name="x").resolved(2).seed == 2
