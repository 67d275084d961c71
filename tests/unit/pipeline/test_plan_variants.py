"""Plans with folds and seeds."""

from __future__ import annotations

import pytest

from tests.plans import write_competition
from vidvec.config import load_recipe
from vidvec.errors import ConfigError
from vidvec.pipeline.plan import load_plan, training_stages


def plan_of(tmp_path, *lines: str) -> str:
    path = tmp_path / "plan.toml"
    path.write_text("\n".join(['name = "x"', 'jobs = ["aiac2021/tiny-job1"]', *lines]))
    return str(path)


def test_folds_of_each_seed_share_its_pretraining(tmp_path):
    source = plan_of(tmp_path, "folds = 3", "seeds = [1, 2]", "fuse_best = [6]")
    _, jobs = load_plan(source, ["finetune.epochs=4"])
    assert [job.name for job in jobs] == [
        f"tiny-job1-seed{seed}-fold{fold}" for seed in (1, 2) for fold in (1, 2, 3)
    ]
    for job in jobs:
        assert job.name.endswith(f"-fold{job.recipe.finetune.fold}")
        assert job.recipe.finetune.folds == 3
        assert job.recipe.finetune.epochs == 4
        assert f"seed{job.recipe.seed}" in job.name
    data = write_competition(tmp_path / "data")
    stages = training_stages(jobs, data, tmp_path / "out", strict=False)
    pretraining = [stage.name for stage in stages if stage.kind == "pretrain"]
    assert pretraining == ["pretrain tiny-job1-seed1", "pretrain tiny-job1-seed2"]
    finetuning = [stage for stage in stages if stage.kind == "finetune"]
    assert len({stage.key for stage in finetuning}) == len({s.output for s in finetuning}) == 6
    outputs = {stage.name: str(stage.output) for stage in stages}
    for stage, job in zip(finetuning, jobs, strict=True):
        first = f"pretrain tiny-job1-seed{job.recipe.seed}"
        assert first in stage.needs
        assert stage.command[stage.command.index("--from") + 1] == outputs[first]
    names = [stage.name for stage in stages]
    assert all(names.index(need) < at for at, s in enumerate(stages) for need in s.needs)


def test_a_plan_without_either_is_what_its_recipes_are(tmp_path):
    _, jobs = load_plan(plan_of(tmp_path))
    assert [job.recipe for job in jobs] == [load_recipe("aiac2021/tiny-job1")]
    _, seeded = load_plan(plan_of(tmp_path, "seeds = [7]"))
    assert [job.name for job in seeded] == ["tiny-job1-seed7"]
    assert seeded[0].recipe.seed == 7


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("folds = 1", "fold 1 of folds 1: expected"),
        ("folds = -1", "folds"),
        ("seeds = [-1]", "seeds"),
        ("seeds = [1, 1]", "two jobs named tiny-job1-seed1"),
    ],
)
def test_folds_and_seeds_that_cannot_be(tmp_path, line, said):
    with pytest.raises(ConfigError, match=said):
        load_plan(plan_of(tmp_path, line))
