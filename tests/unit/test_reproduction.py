"""Arms, intervals and verdicts of `make reproduce`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.reproduction.arms import CHAINS, JOBS, Scale, recipe_of
from benchmarks.reproduction.chains import fused_cosines, subset_name
from benchmarks.reproduction.claims import CLAIMS, CONTRASTS, ROWS, TITLES
from benchmarks.reproduction.measure import Contrast, Difference, Measured, spearmans
from benchmarks.reproduction.report import BEGIN, END, write_figures
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.metrics import Interval
from vidvec.records import Pair

SEEDS, PAIRS = 3, 400


def made_cosines(noise: float, seed: int) -> np.ndarray:
    """(SEEDS, PAIRS) scores of 0 … 1 with this much noise."""
    random = np.random.default_rng(seed)
    return SCORES + noise * random.standard_normal((SEEDS, PAIRS))


SCORES = np.random.default_rng(0).integers(0, 21, PAIRS) / 20
COSINES = {"good": made_cosines(0.2, 1), "same": made_cosines(0.2, 2), "bad": made_cosines(0.6, 3)}


@pytest.fixture(scope="module")
def measured() -> Measured:
    rows = {**{name: [name] for name in COSINES}, "both": ["good", "bad"]}
    return Measured(COSINES, rows, SCORES, resamples=400)


def test_spearman_is_scipys():
    for cosines in COSINES.values():
        expected = [stats.spearmanr(row, SCORES).statistic for row in cosines]
        assert spearmans(cosines, SCORES) == pytest.approx(np.array(expected))


def test_a_row_of_several_models_is_their_mean(measured):
    by_seed = np.array([measured.by_seed(name) for name in ("good", "bad", "both")])
    assert by_seed[2] == pytest.approx(by_seed[:2].mean(axis=0))
    assert measured.row("both").value == pytest.approx(by_seed[2].mean())


def test_verdicts_follow_the_interval(measured):
    def verdict(better: str, worse: str, margin: float = 0.0) -> str:
        return measured.difference(Contrast(1, "", better, worse, margin=margin)).verdict

    assert verdict("good", "bad") == "shown"
    assert verdict("bad", "good") == "opposite"
    assert verdict("good", "same") == "not shown"
    assert verdict("same", "good", margin=0.1) == "shown"
    assert verdict("bad", "good", margin=0.1) == "opposite"


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.001, 0.02, 0.0, "shown"),
        (-0.001, 0.02, 0.0, "not shown"),
        (-0.02, -0.001, 0.0, "opposite"),
        (-0.004, -0.001, 0.005, "shown"),
        (-0.006, -0.001, 0.005, "not shown"),
        (-0.009, -0.006, 0.005, "opposite"),
    ],
)
def test_verdicts_by_hand(low, high, margin, verdict):
    contrast = Contrast(7, "", "a", "b", margin=margin)
    assert Difference(contrast, Interval((low + high) / 2, low, high), ()).verdict == verdict


def test_the_interval_of_a_difference_is_the_paired_bootstraps():
    cosines = {name: values[:1] for name, values in COSINES.items()}
    rows = {name: [name] for name in cosines}
    ours = Measured(cosines, rows, SCORES, resamples=2000).difference(
        Contrast(1, "", "good", "bad")
    )

    def difference(good, bad, scores):
        return stats.spearmanr(good, scores).statistic - stats.spearmanr(bad, scores).statistic

    theirs = stats.bootstrap(
        (cosines["good"][0], cosines["bad"][0], SCORES),
        *(difference,),
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.interval.low == pytest.approx(theirs.low, abs=0.12 * width)
    assert ours.interval.high == pytest.approx(theirs.high, abs=0.12 * width)


def test_a_row_against_itself_differs_by_nothing(measured):
    itself = measured.difference(Contrast(1, "", "bad", "bad"))
    assert itself.interval == Interval(0.0, 0.0, 0.0)
    assert itself.verdict == "not shown"


def test_every_contrast_is_between_rows_that_are_trained():
    arms = {arm for chain in CHAINS for arm in [*chain.tuned, chain.untuned] if arm}
    fused = {model for row, models in ROWS.items() if row.startswith("fused") for model in models}
    assert arms | fused | {"plain"} == {model for models in ROWS.values() for model in models}
    assert set(TITLES) == set(ROWS)
    assert {each.claim for each in CONTRASTS} == set(CLAIMS)
    assert {row for each in CONTRASTS for row in (each.better, each.worse)} <= set(ROWS)


def test_no_chain_learns_from_what_it_is_measured_on():
    for chain in CHAINS:
        recipe = recipe_of(chain, Scale(), 1, 1000)
        assert recipe.finetune.split == "clean"
        assert recipe.pretrain.videos == "train"
        read = {part for group in recipe.pretrain.parts for part in group}
        assert chain.recipe == "tiny-job5" or not read & {"test_a", "test_b"}
    # The mean over a tenth of the classes, weighted a tenth: a tag counts as it did.
    assert recipe.pretrain.tag_weight == pytest.approx(1250 / 3 / 10)


def test_an_arm_differs_from_the_one_it_is_held_against_in_nothing_else():
    def settings(chain: str) -> dict[str, object]:
        recipe = recipe_of(chains[chain], Scale(), 1, 1000).model_dump()
        recipe.pop("name")
        return {
            f"{section}.{key}": value
            for section, values in recipe.items()
            if isinstance(values, dict)
            for key, value in values.items()
        }

    def differing(one: str, other: str) -> set[str]:
        first, second = settings(one), settings(other)
        return {key for key in first if first[key] != second[key]}

    chains = {chain.name: chain for chain in CHAINS}
    assert differing("job2", "half") == differing("double", "job2") == {"pretrain.epochs"}
    assert differing("job3", "tag") == {"pretrain.mlm_weight"}
    assert differing("job2", "job3") == {"pretrain.mfm_weight"}
    assert differing("job2", "cls") == differing("attention", "cls") == {"model.pool"}
    assert differing("job2", "scratch") == set()  # but for the rate of its finetuning


def test_epochs_are_the_shares_that_the_claims_speak_of():
    epochs = {
        chain.name: recipe_of(chain, Scale(pretrain_epochs=20), 1, 1000).pretrain.epochs
        for chain in CHAINS
    }
    assert (epochs["half"], epochs["job2"], epochs["double"]) == (10, 20, 40)
    assert epochs["job5"] == 16


def test_fused_cosines_of_one_model_are_its_own_and_of_all_their_mean(tmp_path):
    random = np.random.default_rng(4)
    ids = [str(number) for number in range(40)]
    pairs = [Pair(ids[one], ids[two], 0.0) for one, two in random.integers(0, 40, (60, 2))]
    members = []
    for job in JOBS:
        writer = VectorWriter(tmp_path / job, 8, {"normalised": True, "made_by": {}})
        vectors = random.standard_normal((40, 8)).astype(np.float32)
        writer.append(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        writer.finish()
        members.append(Vectors(tmp_path / job))
    found = fused_cosines(members, pairs)
    own = []
    for place, vectors in enumerate(members):
        one, two = (
            vectors.matrix[[vectors.row(getattr(pair, side)) for pair in pairs]]
            for side in ("id_1", "id_2")
        )
        own.append((one * two).sum(axis=1))
        assert found[subset_name([place])] == pytest.approx(own[-1], abs=1e-5)
    assert found["plain"] == pytest.approx(np.mean(own, axis=0), abs=1e-5)
    # 256 numbers hold all 48 of the six models, and so leave the cosines as they are.
    assert found["fused-1-2-3-4-5-6"] == pytest.approx(found["plain"], abs=1e-5)
    assert len(found) == 2**6


def test_figures_go_between_the_marks_and_nowhere_else(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n", "utf-8")
    write_figures(path, "new")
    write_figures(path, "newer")
    assert path.read_text("utf-8") == f"# Title\n\n{BEGIN}\n\nnewer\n\n{END}\n\nmore\n"
    (tmp_path / "other.md").write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        write_figures(tmp_path / "other.md", "new")
