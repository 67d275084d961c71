"""The whole: what cannot be measured is left out with a reason, and nothing else with it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.unit.search.indexed import write_vectors
from vidvec.cli import app, main
from vidvec.errors import UsageError
from vidvec.search.scorecard.build import HTML, JSON, write_scorecard
from vidvec.search.scorecard.figures import Scorecard
from vidvec.search.scorecard.material import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    videos = made_videos(50)
    write_corpus(folder / "corpus", videos, made_pairs(videos, 90))
    random = np.random.default_rng(0)
    for name in ("vectors", "other"):
        matrix = random.normal(size=(50, 6)).astype(np.float32)
        write_vectors(folder / name, [v.id for v in videos], matrix)
    return folder


def run(arguments: list[str]) -> None:
    app(arguments, result_action="return_value")


def test_vectors_from_elsewhere_get_all_sections_that_need_no_model(folder, tmp_path, capsys):
    arguments = ["evaluate", str(folder / "vectors"), "--scorecard", str(tmp_path / "a")]
    arguments += ["--corpus", str(folder / "corpus"), "--split", "all"]
    run([*arguments, "--against", str(folder / "other")])
    printed = capsys.readouterr().out
    card = Scorecard.load(tmp_path / "a" / JSON)
    left_out = {key for key, section in card.sections.items() if section.left_out}
    assert left_out == {"copies", "ablation"}
    assert "Whether altered copies find their original: left out" in printed
    assert (tmp_path / "a" / HTML).is_file()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [HTML, JSON]
    # The same again gives the same file, and against itself nothing differs.
    text = (tmp_path / "a" / JSON).read_text("utf-8")
    run([*arguments, "--against", str(folder / "other")])
    assert (tmp_path / "a" / JSON).read_text("utf-8") == text
    arguments[3] = str(tmp_path / "b")
    run([*arguments, "--against", str(folder / "vectors"), "--copies", "0"])
    same = Scorecard.load(tmp_path / "b" / JSON)
    figure = same.sections["agreement"].rows["spearman"].figures["over_clusters"]
    assert figure.difference is not None
    assert (figure.difference.low, figure.difference.high) == (0, 0)
    capsys.readouterr()
    run(["evaluate", "--compare", str(tmp_path / "a" / JSON), str(tmp_path / "b" / JSON)])
    compared = capsys.readouterr().out
    assert "Measured with different copies: 50 and 0." in compared


def test_of_a_bare_corpus_every_section_says_what_it_lacks(folder, tmp_path):
    videos = made_videos(50)
    for place, video in enumerate(videos):
        videos[place] = type(video)(id=video.id, frames=video.frames)
    corpus = write_corpus(tmp_path / "bare", videos)
    card = write_scorecard(folder / "vectors", corpus, tmp_path / "card")
    assert all(section.left_out for section in card.sections.values())
    assert "no scored pairs" in card.sections["agreement"].left_out
    assert "--groups" in card.sections["retrieval"].left_out
    page = (tmp_path / "card" / HTML).read_text("utf-8")
    assert page.count("Left out: ") == len(card.sections)


def test_settings_that_mean_nothing_are_refused(folder, tmp_path, capsys):
    from vidvec.data.corpus import Corpus

    corpus = Corpus(folder / "corpus")
    with pytest.raises(UsageError, match="-1 videos to copy"):
        write_scorecard(folder / "vectors", corpus, tmp_path / "x", settings=Settings(copies=-1))
    for arguments, said in (
        (["evaluate", "--scorecard", "x"], "one folder of vectors"),
        (["evaluate", "a", "--against", "b", "--corpus", "c"], "belongs to --scorecard"),
        (["evaluate", "--compare", "a.json"], "two scorecards"),
        (["evaluate", "a"], "give --corpus"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert said in capsys.readouterr().err
