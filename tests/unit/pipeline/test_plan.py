"""What a plan's stages are, and when one has to run again."""

from __future__ import annotations

import os

import pytest
import torch

from tests.plans import write_competition
from vidvec.config import load_recipe
from vidvec.errors import ConfigError, UsageError
from vidvec.pipeline.plan import Job, Stage, fusion_stages, load_plan, training_stages
from vidvec.pipeline.run import default_devices, forecast


@pytest.fixture
def data(tmp_path):
    return write_competition(tmp_path / "data")


def keys(data, out, *overrides: str, plan: str = "aiac2021/tiny-all") -> dict[str, str]:
    _, jobs = load_plan(plan, overrides)
    return {stage.name: stage.key for stage in training_stages(jobs, data, out, strict=False)}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def kinds(names: set[str]) -> set[str]:
    return {name.split()[0] for name in names}


def test_the_published_plan_is_the_six_jobs():
    plan, jobs = load_plan("recipes/aiac2021/all.toml")
    assert [job.recipe for job in jobs] == [load_recipe(f"aiac2021/job{n}") for n in range(1, 7)]
    assert plan.fuse_best == (2, 3, 5, 6)
    assert plan.size == 256
    # system.md, section 5.
    assert plan.published["aiac2021/job6"].spearman == 0.886289
    assert max(job.spearman for job in plan.published.values()) == 0.886289


def test_stages_come_behind_what_they_read(data, tmp_path):
    _, jobs = load_plan("aiac2021/tiny-all")
    stages = training_stages(jobs, data, tmp_path / "out", strict=False)
    assert len(stages) == 1 + 3 * 6
    seen = set()
    for stage in stages:
        assert set(stage.needs) <= seen
        seen.add(stage.name)
    assert len({stage.output for stage in stages}) == len(stages)


def test_a_setting_changes_the_stages_that_read_it_and_those_behind(data, tmp_path):
    out = tmp_path / "out"
    before = keys(data, out)
    assert changed(before, keys(data, out)) == set()
    assert kinds(changed(before, keys(data, out, "finetune.epochs=3"))) == {"finetune", "embed"}
    three = {"pretrain", "finetune", "embed"}
    assert kinds(changed(before, keys(data, out, "pretrain.epochs=3"))) == three
    assert kinds(changed(before, keys(data, out, "seed=3"))) == three


@pytest.mark.parametrize("file", ["pointwise/pointwise_0.tfrecords", "pairwise/label.tsv"])
def test_changed_data_changes_everything(data, tmp_path, file):
    before = keys(data, tmp_path / "out")
    os.utime(data / file, (1, 1))
    after = keys(data, tmp_path / "out")
    assert changed(before, after) == set(before)


def test_other_data_of_the_same_names_elsewhere_is_the_same(data, tmp_path):
    before = keys(data, tmp_path / "out")
    data.rename(tmp_path / "moved")
    assert keys(tmp_path / "moved", tmp_path / "out") == before


def test_a_recipe_is_a_plan_of_one():
    plan, jobs = load_plan("aiac2021/tiny-job3")
    assert [job.name for job in jobs] == ["tiny-job3"]
    assert plan.name == "aiac2021/tiny-job3"


def test_start_weights_by_name_are_a_stage_of_their_own(data, tmp_path):
    _, jobs = load_plan("aiac2021/all")
    stages = training_stages(jobs, data, tmp_path / "out", strict=False)
    name = "download hfl/chinese-roberta-wwm-ext-large"
    assert [stage.name for stage in stages if stage.kind == "download"] == [name]
    readers = {stage.name for stage in stages if name in stage.needs}
    assert readers == {f"pretrain job{number}" for number in range(1, 7)}


def test_a_folder_of_start_weights_is_not_downloaded(data, tmp_path):
    _, jobs = load_plan("aiac2021/all", [f"model.init={tmp_path}"])
    stages = training_stages(jobs, data, tmp_path / "out", strict=False)
    assert not [stage for stage in stages if stage.kind == "download"]


def test_missing_parts_are_named_and_pairwise_is_needed(data, tmp_path):
    _, jobs = load_plan("aiac2021/tiny-job1")
    (data / "test_b" / "test_b_0.tfrecords").unlink()
    expected = forecast(jobs, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert expected.missing_parts == ["test_b"]
    embed = next(stage for stage in expected.stages if stage.kind == "embed")
    assert embed.command[-2:] == ("pairwise", "test_a")
    (data / "pairwise" / "pairwise_0.tfrecords").unlink()
    with pytest.raises(UsageError, match="nothing to tune on"):
        forecast(jobs, data, tmp_path / "out")
    with pytest.raises(UsageError, match="none of the folders pointwise, pairwise"):
        forecast(jobs, tmp_path, tmp_path / "out")


def test_a_plan_with_an_unknown_key_or_no_jobs_is_refused(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('name = "x"\njobs = ["base"]\nfuze = 3\n')
    with pytest.raises(ConfigError, match="fuze"):
        load_plan(str(path))
    path.write_text('name = "x"\njobs = []\n')
    with pytest.raises(ConfigError, match="jobs"):
        load_plan(str(path))
    path.write_text('name = "x"\njobs = ["base", "base"]\n')
    with pytest.raises(ConfigError, match="two jobs named base"):
        load_plan(str(path))


def embed_stages(tmp_path, count: int) -> list[Stage]:
    return [
        Stage(f"embed job{n}", ("embed",), tmp_path / f"job{n}", f"{n:012d}", job=f"job{n}")
        for n in range(count)
    ]


def test_fusions_take_the_best_of_those_that_are_there(data, tmp_path):
    plan, _ = load_plan("aiac2021/all")
    ranked = embed_stages(tmp_path, 6)[::-1]
    stages = fusion_stages(plan, ranked, data, tmp_path)
    assert [stage.name for stage in stages] == ["fuse 2", "fuse 3", "fuse 5", "fuse 6", "submit"]
    assert stages[1].needs == ("embed job5", "embed job4", "embed job3")
    assert stages[-1].needs == ("fuse 6",)
    four = fusion_stages(plan, ranked[:4], data, tmp_path)
    assert [stage.name for stage in four] == ["fuse 2", "fuse 3", "fuse 4", "submit"]
    one = fusion_stages(plan, ranked[:1], data, tmp_path)
    assert [stage.name for stage in one] == ["submit"]


def test_an_estimate_grows_with_the_work(data, tmp_path):
    def seconds(*overrides: str) -> float:
        _, jobs = load_plan("aiac2021/job1", overrides)
        return forecast(jobs, data, tmp_path / "out").estimates["pretrain job1"].seconds

    assert seconds("pretrain.epochs=40000") > 5 * seconds("pretrain.epochs=4000")
    assert seconds() > seconds("model.size=tiny", "model.init=")


def test_devices_are_those_that_the_user_lets_us_see(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in default_devices()] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in default_devices()] == ["3", "GPU-5a"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_devices() == [{}]


def test_job_names_are_short():
    _, jobs = load_plan("aiac2021/tiny-all")
    assert [job.name for job in jobs] == [f"tiny-job{number}" for number in range(1, 7)]
    assert all(isinstance(job, Job) for job in jobs)
