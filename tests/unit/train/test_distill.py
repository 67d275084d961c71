"""Distillation: the losses by loops, a student that comes near, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.cli import main
from vidvec.config import Recipe, load_recipe
from vidvec.data.corpus import Corpus
from vidvec.data.splits import fold
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import ConfigError, FormatError, UsageError
from vidvec.metrics import cosines
from vidvec.train.distill import DistillTask, distill
from vidvec.train.finetune import finetune
from vidvec.train.objectives.distillation import cosine_distance, relation_error
from vidvec.train.pretrain import pretrain
from vidvec.train.start import new_model


@dataclass
class Table:
    ids: list[str]
    matrix: np.ndarray


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    videos = made_videos(120)
    folder = tmp_path_factory.mktemp("distilled") / "corpus"
    return write_corpus(folder, videos, made_pairs(videos, 200))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, corpus) -> Vectors:
    """Of a model that was trained on the corpus's pairs."""
    folder = tmp_path_factory.mktemp("teacher")
    finetune(corpus.path, folder / "run", recipe(finetune={"epochs": 3, "split": "published"}))
    embed(folder / "run", corpus.path, folder / "vectors")
    return Vectors(folder / "vectors")


def recipe(**sections: dict[str, object]) -> Recipe:
    settings = {"batch_size": 32, "epochs": 2, **sections.pop("distill", {})}
    return tiny_recipe(distill=settings, **sections)


def test_losses_as_loops() -> None:
    torch.manual_seed(0)
    student, other = normalize(torch.randn(6, 5)), normalize(torch.randn(6, 9))
    same_size = normalize(torch.randn(6, 5))
    same_size[2] = 0
    expected = [1 - float(student[i] @ same_size[i]) for i in range(6) if i != 2]
    assert float(cosine_distance(student, same_size)) == pytest.approx(np.mean(expected), rel=1e-5)
    errors = [
        float(student[i] @ student[j] - other[i] @ other[j]) ** 2
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert float(relation_error(student, other)) == pytest.approx(np.mean(errors), rel=1e-5)
    assert float(relation_error(student[:1], other[:1])) == 0
    turn = torch.linalg.qr(torch.randn(5, 5))[0]
    assert float(relation_error(student, student @ turn)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("weights", [{}, {"cosine_weight": 0.0}])
def test_a_student_comes_near_its_teacher(tmp_path, corpus, teacher, weights) -> None:
    settings = {"epochs": 30, "videos": "all", **weights}
    report = distill(corpus.path, tmp_path / "run", recipe(distill=settings), teacher)
    embed(tmp_path / "run", corpus.path, tmp_path / "vectors")
    found = Vectors(tmp_path / "vectors")
    assert found.ids == teacher.ids
    sides = np.random.default_rng(1).integers(0, 120, (2, 400))
    ours, theirs = (
        cosines(some.matrix[sides[0]], some.matrix[sides[1]]) for some in (found, teacher)
    )
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9
    if not weights:
        assert cosines(found.matrix, teacher.matrix).mean() > 0.9
    assert report.best is not None


def test_the_losses_of_a_step_are_of_its_videos(corpus, teacher) -> None:
    task = DistillTask(new_model(recipe(), corpus), corpus, teacher)
    task.model.encoder.eval()
    videos, taught = task.batch(0)
    expected = normalize(torch.from_numpy(teacher.matrix[videos.rows.numpy()]))
    assert torch.equal(taught, expected)
    with torch.no_grad():
        losses = task.losses((videos, taught), 0)
        vectors = task.model.encoder(videos).vectors
    plain = float(cosine_distance(vectors, expected) + relation_error(vectors, expected))
    assert losses["loss"].item() == pytest.approx(plain, rel=1e-5)
    assert set(losses) == {"cosine", "relation", "loss"}


def test_what_finetuning_validates_on_is_not_taught_unless_asked_for(corpus, teacher) -> None:
    scored = {video for pair in corpus.pairs() for video in (pair.id_1, pair.id_2)}
    for videos in ("train", "all"):
        task = DistillTask(new_model(recipe(distill={"videos": videos}), corpus), corpus, teacher)
        rows = {int(r) for step in range(task.order.steps) for r in task.order(step)}
        rows |= {int(row) for row in task._held}
        clean = not any(corpus.ids[r] in scored and fold(corpus.ids[r]) == 0 for r in rows)
        assert clean is (videos == "train")


def test_parts_of_a_batch_come_to_the_whole_where_only_directions_count(corpus, teacher) -> None:
    settings = {"relation_weight": 0.0, "accumulate": 3}
    task = DistillTask(new_model(recipe(distill=settings), corpus), corpus, teacher)
    task.model.encoder.eval()
    batch = task.batch(0)
    whole = task.losses(batch, 0)["loss"].item()
    parts = [part()["loss"].item() for part in task.parts(batch, 0)]
    assert len(parts) == 3
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_videos_without_a_vector_are_counted(tmp_path, corpus, teacher) -> None:
    some = Table(teacher.ids[30:], teacher.matrix[30:])
    settings = recipe(distill={"epochs": 1, "videos": "all"})
    report = distill(corpus.path, tmp_path / "run", settings, some)
    assert report.note == "30 videos have no vector of the teacher and were left out"
    with pytest.raises(FormatError, match=r"other settings.*teacher"):
        distill(corpus.path, tmp_path / "run", settings, teacher)
    strangers = Table(["x", "y"], teacher.matrix[:2])
    with pytest.raises(UsageError, match="no vector of any video"):
        distill(corpus.path, tmp_path / "other", settings, strangers)


def test_another_size_is_for_similarities_alone(tmp_path, corpus, teacher) -> None:
    wide = Table(teacher.ids, np.concatenate([teacher.matrix, teacher.matrix], axis=1))
    with pytest.raises(UsageError, match=r"distill\.cosine_weight=0"):
        DistillTask(new_model(recipe(), corpus), corpus, wide)
    task = DistillTask(new_model(recipe(distill={"cosine_weight": 0.0}), corpus), corpus, wide)
    assert set(task.losses(task.batch(0), 0)) == {"relation", "loss"}
    with pytest.raises(ConfigError, match="nothing to learn"):
        load_recipe("base", ["distill.cosine_weight=0", "distill.relation_weight=0"])


def test_the_command_from_a_pretrained_start_and_again(tmp_path, corpus, teacher, capsys) -> None:
    pretrain(corpus.path, tmp_path / "pre", recipe(pretrain={"epochs": 1}))
    given = ["distill", str(corpus.path), str(teacher.path), str(tmp_path / "run")]
    given += ["--from", str(tmp_path / "pre"), "--set", "distill.epochs=1"]
    for resumed in (False, True):
        with pytest.raises(SystemExit) as ended:
            main(given)
        assert not ended.value.code
        said = capsys.readouterr().out
        assert " steps" in said
        assert ("carried on" in said) is resumed
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["facts"]
    assert facts["start"] == str(tmp_path / "pre")


def test_other_stages_do_not_ask_what_distillation_is_set_to() -> None:
    plain, other = load_recipe("base"), load_recipe("base", ["distill.epochs=3"])
    assert plain.stage_hash("finetune") == other.stage_hash("finetune")
    assert plain.stage_hash("distill") != other.stage_hash("distill")
    assert plain.hash != other.hash
