"""Another program's vectors as a teacher: imported, of another size, of some of the videos."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny import tiny_recipe
from vidvec.cli import main
from vidvec.data.splits import fold
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.import_vectors import import_vectors
from vidvec.embed.vectors import Vectors
from vidvec.metrics import cosines


@pytest.fixture(scope="module")
def imported(corpus, tmp_path_factory):
    """Vectors that see a video's topic, not of length 1, of all but ten, and of two strangers."""
    folder = tmp_path_factory.mktemp("imported")
    random = np.random.default_rng(0)
    ids = [*random.permutation(corpus.ids)[10:], "x", "y"]
    topics = [int(corpus.video(corpus.row(each)).category) if each in corpus else 0 for each in ids]
    vectors = 5 * np.eye(12)[topics] + 0.3 * random.normal(size=(len(ids), 12))
    np.savez(folder / "clip.npz", ids=np.array(ids), vectors=vectors.astype(np.float32))
    import_vectors(folder / "clip.npz", folder / "clip")
    return folder / "clip"


def ran(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert not ended.value.code


def test_a_student_learns_what_an_imported_teacher_sees(corpus, imported, tmp_path, capsys):
    rates = {"learning_rate": 5e-3, "high_learning_rate": 5e-3}
    settings = tiny_recipe(distill={"epochs": 8, "cosine_weight": 0.0, "videos": "all", **rates})
    (tmp_path / "recipe.toml").write_text(settings.to_toml())
    given = ["distill", corpus.path, imported, tmp_path / "run", "--recipe"]
    ran(*given, tmp_path / "recipe.toml")
    assert "10 videos have no vector of the teacher" in " ".join(capsys.readouterr().out.split())
    embed(tmp_path / "run", corpus.path, tmp_path / "vectors")
    student, teacher = Vectors(tmp_path / "vectors"), Vectors(imported)
    assert len(student) == len(corpus)  # those that were not taught have vectors, too
    both = [video for video in corpus.ids if video in teacher]
    a, b = np.random.default_rng(1).integers(0, len(both), (2, 400))
    theirs, ours = (
        cosines(*(each.matrix[[each.row(both[at]) for at in side]] for side in (a, b)))
        for each in (teacher, student)
    )
    assert np.corrcoef(ours, theirs)[0, 1] > 0.5


def test_the_error_says_what_to_set(corpus, imported, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["distill", str(corpus.path), str(imported), str(tmp_path / "run")])
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "have 256 numbers, the teacher's 12: set model.embedding_size=12" in said


def test_videos_that_validate_are_counted_only_where_they_would_be_taught(corpus, imported):
    from vidvec.train.distill import DistillTask
    from vidvec.train.start import new_model

    teacher = Vectors(imported)
    scored = {video for pair in corpus.pairs() for video in (pair.id_1, pair.id_2)}
    without = [video for video in corpus.ids if video not in teacher]
    settings = tiny_recipe(distill={"cosine_weight": 0.0})
    task = DistillTask(new_model(settings, corpus), corpus, teacher)
    assert task.without == sum(not (v in scored and fold(v) == 0) for v in without)
    assert Encoder(task.model).dimension == 8
