"""The map: points against PCA, themes against planted ones, and folders that are hardly any."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score

from tests.corpora import write_corpus
from vidvec.cli import app
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import FormatError, MissingExtraError, UsageError
from vidvec.records import Video
from vidvec.search import layout, map_picture
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.grouping import group
from vidvec.search.layout import lay_out, place
from vidvec.search.map import FILE, load_map, make_map
from vidvec.search.map_picture import COLOURS, spread_labels, write_picture
from vidvec.search.themes import likelihood_ratio, name_themes, words_of
from vidvec.search.types import IndexedVideo

TOPICS = [
    ("sea", ["a boat on the waves", "blue sea today", "waves and a boat"], ["sea", "boat"]),
    ("cat", ["my cat sleeps", "kitten and cat", "a kitten plays"], ["cat", "pets"]),
    ("帆船", ["海边的帆船", "在海上看帆船", "帆船比赛"], ["帆船", "大海"]),
    ("火锅", ["今天吃火锅", "四川火锅做法", "火锅真好吃"], ["火锅", "美食"]),
    ("goal", ["the goal of the match", "a late goal", "match highlights"], ["football", "goal"]),
]
NOISE = ["2021", "funny", "vlog", "生活", "原创"]


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def planted(count: int, topics: int, width: int = 32, noise: float = 0.12, seed: int = 0):
    """Unit vectors around random centres, and the centre of each."""
    random = np.random.default_rng(seed)
    centres = unit(random.normal(size=(topics, width)))
    topic = random.integers(topics, size=count)
    return unit(centres[topic] + noise * random.normal(size=(count, width))), topic


def written(path: Path, ids: list[str], matrix: np.ndarray, **made_by: str) -> Path:
    facts = {"normalised": True, "made_by": {"stage": "import", **made_by}}
    writer = VectorWriter(path, matrix.shape[1], facts)
    if ids:
        writer.append(ids, matrix)
    writer.finish()
    return path


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """Vectors of five planted topics with a corpus whose words show them; and the topics."""
    root = tmp_path_factory.mktemp("map")
    matrix, topic = planted(240, len(TOPICS))
    random = np.random.default_rng(1)
    videos = []
    for row, each in enumerate(topic.tolist()):
        _, titles, tags = TOPICS[each]
        title = f"{random.choice(titles)} {random.choice(NOISE)}"
        tagged = (random.choice(tags), random.choice(NOISE)) if row % 5 else None
        videos.append(Video(id=f"{row}", title="" if row % 9 == 2 else title, tags=tagged))
    corpus = write_corpus(root / "corpus", videos)
    ids = [video.id for video in videos]
    return written(root / "vectors", ids, matrix, corpus=str(corpus.path)), topic


# --- points -------------------------------------------------------------------------------------


def test_neighbours_on_the_plane_are_neighbours_more_than_by_pca():
    matrix, _ = planted(600, 30, noise=0.1)
    found = lay_out(matrix, "tsne")
    plain = PCA(2).fit_transform(matrix)
    ours, theirs = (trustworthiness(matrix, each, n_neighbors=10) for each in (found, plain))
    assert ours > 0.95
    assert ours > theirs + 0.1
    assert np.abs(found).max() == pytest.approx(1, abs=1e-6)


def test_the_projection_is_that_of_scikit_learn():
    matrix, _ = planted(200, 4)
    found = lay_out(matrix, "pca")
    expected = PCA(2).fit_transform(matrix.astype(np.float64))
    for axis in range(2):
        assert abs(np.corrcoef(found[:, axis], expected[:, axis])[0, 1]) > 1 - 1e-6


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_same_seed_gives_the_same_points(method):
    matrix, _ = planted(150, 4)
    first, again = lay_out(matrix, method, seed=3), lay_out(matrix, method, seed=3)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 40])
@pytest.mark.parametrize("equal", [False, True])
def test_few_and_equal_vectors(count, equal):
    matrix, _ = planted(count, 2)
    matrix = np.repeat(matrix[:1], count, axis=0) if equal else matrix
    found = lay_out(matrix)
    assert found.shape == (count, 2)
    assert np.isfinite(found).all()
    if equal:
        assert (found == 0).all()
    elif count > 1:
        assert len(np.unique(found, axis=0)) == count


def test_equal_vectors_share_a_point():
    matrix, _ = planted(60, 3)
    rows = np.random.default_rng(0).integers(60, size=200)
    found = lay_out(matrix[rows])
    for row in range(200):
        assert (found[row] == found[rows == rows[row]]).all()


def test_others_lie_with_their_own_kind():
    matrix, topic = planted(600, 6)
    points = lay_out(matrix[:300])
    found = place(matrix[300:], matrix[:300], points)
    middles = np.stack([points[topic[:300] == each].mean(0) for each in range(6)])
    nearest = np.linalg.norm(found[:, None] - middles, axis=2).argmin(1)
    assert (nearest == topic[300:]).mean() > 0.99


def test_without_its_library_the_map_is_a_projection(monkeypatch):
    monkeypatch.setattr(layout, "find_spec", lambda name: None)
    matrix, _ = planted(100, 3)
    assert np.array_equal(lay_out(matrix, "auto"), lay_out(matrix, "pca"))
    with pytest.raises(MissingExtraError, match=r"vidvec\[map\]"):
        lay_out(matrix, "tsne")


# --- groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("topics", "noise"), [(2, 0.15), (5, 0.12), (12, 0.1), (20, 0.08)])
def test_planted_groups_are_found_and_counted(topics, noise):
    matrix, topic = planted(60 * topics, topics, noise=noise)
    found = group(matrix)
    assert found.max() + 1 == topics
    assert adjusted_rand_score(topic, found) > 0.98
    counts = np.bincount(found)
    assert (np.diff(counts) <= 0).all()
    assert np.array_equal(found, group(matrix))


@pytest.mark.parametrize("number", [1, 3, 9])
def test_as_many_groups_as_asked_for(number):
    matrix, _ = planted(100, 4)
    assert sorted(set(group(matrix, number=number).tolist())) == list(range(number))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_few_vectors_are_one_group(count):
    assert (group(planted(count, 2)[0]) == 0).all()


@pytest.mark.parametrize("number", [None, 5])
def test_equal_vectors_are_one_group(number):
    matrix = np.repeat(planted(1, 1)[0], 50, axis=0)
    assert (group(matrix, number=number) == 0).all()


# --- words --------------------------------------------------------------------------------------


def test_words_of_titles_and_tags():
    found = words_of("My cat's 2 Kittens, vlog 2021 a帆船比赛的", ["Sea  Side", "", "TV"])
    assert {"cat's", "kittens", "vlog", "sea side", "tv", "帆船", "比赛", "帆船比赛"} <= found
    assert not found & {"my", "2021", "2", "a", "", "赛的", "比赛的"}
    assert words_of("") == set()
    assert words_of("\U0001f600 !!! ...") == set()


def test_themes_are_named_by_what_sets_them_apart():
    videos = [{"vlog", "cat"}] * 10 + [{"vlog", "dog"}] * 10 + [words_of("vlog 海边的帆船")] * 10
    named = name_themes([0] * 10 + [1] * 10 + [2] * 10, videos, 3)
    assert [each.name for each in named][:2] == ["cat", "dog"]
    assert named[2].words == ("海边的帆",) or "帆船" in named[2].words
    assert all("vlog" not in each.words for each in named)


def test_a_longer_run_stands_for_those_within_it():
    videos = [words_of("帆船比赛"), words_of("帆船比赛 2"), words_of("看帆船比赛")] * 4
    named = name_themes([0] * 12 + [1] * 12, [*videos, *[{"cat"}] * 12], 2)
    assert named[0].words == ("帆船比赛",)


@pytest.mark.parametrize("table", [(45, 73, 0, 723), (30, 73, 10, 723), (10, 10, 0, 20)])
def test_the_ratio_is_that_of_scipy(table):
    count, videos, elsewhere, others = table
    counts = [[count, videos - count], [elsewhere, others - elsewhere]]
    expected = chi2_contingency(counts, correction=False, lambda_="log-likelihood").statistic
    assert likelihood_ratio(*table) == pytest.approx(expected)


def test_names_differ_even_where_words_do_not():
    words = [{"cat", "sofa", f"w{row % 2}"} for row in range(40)]
    rest = [{"dog"}] * 40
    named = name_themes([0] * 20 + [1] * 20 + [2] * 40, words + rest, 3)
    assert len({each.name for each in named}) == 3


def test_a_theme_without_words_has_a_number():
    named = name_themes([0, 0, 1], [set(), set(), set()], 2)
    assert [(each.name, each.words) for each in named] == [("#1", ()), ("#2", ())]


# --- the whole ----------------------------------------------------------------------------------


def test_planted_topics_and_their_words_are_found(house):
    vectors, topic = house
    made = make_map(vectors, method="pca")
    assert adjusted_rand_score(topic, made.theme_of) > 0.98
    assert len(made.themes) == len(TOPICS)
    for theme in made.themes:
        mine = topic[made.theme_of == theme.id]
        _, titles, tags = TOPICS[np.bincount(mine).argmax()]
        expected = set(tags).union(*(words_of(title) for title in titles))
        assert theme.name.split(", ")[0] in expected
        assert set(theme.words[:3]) <= expected
        assert not set(NOISE) & set(theme.name.split(", "))
        assert theme.count == len(mine)
        points = made.points[made.theme_of == theme.id]
        assert (np.abs(points - (theme.x, theme.y)).max(1) < 1e-6).any()


def test_the_map_is_kept_and_read_back(house):
    vectors, _ = house
    made = make_map(vectors, method="pca", seed=4)
    text = (vectors / FILE).read_text("utf-8")
    document = json.loads(text)
    assert {"points", "themes"} <= set(document)
    assert len(document["points"]) == 240
    assert [row[0] for row in document["points"]] == made.ids
    assert document["points"][0][3] == made.theme_of[0]
    assert set(document["themes"][0]) == {"id", "name", "words", "count", "x", "y"}
    found = load_map(vectors)
    assert found.ids == made.ids
    assert np.abs(found.points - made.points).max() <= 5.1e-5
    assert np.array_equal(found.theme_of, made.theme_of)
    assert [theme.name for theme in found.themes] == [theme.name for theme in made.themes]
    assert found.document()["points"] == document["points"]
    make_map(vectors, method="pca", seed=4)
    assert (vectors / FILE).read_text("utf-8") == text


def test_a_map_of_many_is_laid_out_on_a_sample(house):
    vectors, topic = house
    made = make_map(vectors, points=80)
    assert (made.laid_out, len(made.ids)) == (80, 240)
    assert trustworthiness(make_matrix(vectors), made.points, n_neighbors=5) > 0.9
    middles = np.stack([np.median(made.points[topic == each], axis=0) for each in range(5)])
    nearest = np.linalg.norm(made.points[:, None] - middles, axis=2).argmin(1)
    assert (nearest == topic).mean() > 0.98


def make_matrix(vectors: Path) -> np.ndarray:
    from vidvec.embed.vectors import Vectors

    return Vectors(vectors).matrix


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("equal", [False, True])
def test_a_map_of_hardly_any_videos(count, equal, tmp_path):
    matrix = planted(count, 1)[0]
    matrix = np.repeat(matrix[:1], count, axis=0) if equal else matrix
    vectors = written(tmp_path / "v", [f"{row}" for row in range(count)], matrix)
    made = make_map(vectors)
    assert made.ids == [f"{row}" for row in range(count)]
    assert [(theme.name, theme.count) for theme in made.themes] == [("#1", count)]
    assert np.isfinite(load_map(vectors).points).all()
    for name in ("m.png", "m.html"):
        write_picture(tmp_path / name, made, vectors)
        assert (tmp_path / name).stat().st_size > 500


def test_an_empty_folder_and_settings_that_cannot_be(tmp_path, house):
    vectors = written(tmp_path / "v", [], np.zeros((0, 4), np.float32))
    with pytest.raises(UsageError, match="nothing to map"):
        make_map(vectors)
    assert load_map(vectors) is None
    for settings in ({"points": 0}, {"themes": 0}):
        with pytest.raises(UsageError, match="expected 1 or more"):
            make_map(house[0], **settings)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"kind": "map", "format_version": 1}',
        '{"kind": "map", "format_version": 9, "points": [], "themes": []}',
        '{"kind": "map", "format_version": 1, "method": "pca", "laid_out": 1, "themes": [], '
        '"points": [["a", 1]]}',
    ],
)
def test_a_damaged_map_is_an_error(content, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(FormatError, match=FILE):
        load_map(tmp_path)


def test_vectors_of_no_direction_are_not_on_the_map(tmp_path):
    matrix = planted(20, 2)[0]
    matrix[3] = 0
    vectors = written(tmp_path / "v", [f"{row}" for row in range(20)], matrix)
    assert "3" not in make_map(vectors).ids


def test_what_an_index_added_and_deleted_is_on_the_map(house, tmp_path):
    _, topic = house
    vectors = written(tmp_path / "v", [f"{row}" for row in range(240)], make_matrix(house[0]))
    build_index(vectors, corpus=house[0].parent / "corpus")
    index = SearchIndex.open(vectors, writable=True)
    index.delete(["5", "6"])
    near = unit(make_matrix(house[0])[:1] + 0.01)
    index.add(["new"], near, [IndexedVideo("new", title="a new one")])
    index.close()
    made = make_map(vectors, method="pca")
    assert set(made.ids) == {f"{row}" for row in range(240)} - {"5", "6"} | {"new"}
    theme = dict(zip(made.ids, made.theme_of.tolist(), strict=True))
    assert theme["new"] == theme["0"]
    _, _, tags = TOPICS[topic[0]]
    assert set(tags) & set(made.themes[theme["0"]].words)


# --- pictures -----------------------------------------------------------------------------------


def test_labels_do_not_lie_over_one_another():
    random = np.random.default_rng(0)
    centres = random.uniform(300, 700, size=(25, 2))
    sizes = np.column_stack([random.uniform(40, 160, 25), np.full(25, 18.0)])
    found = spread_labels(centres, sizes, np.zeros(2), np.full(2, 1000.0))
    low, high = found - sizes / 2, found + sizes / 2
    for one in range(25):
        for other in range(one):
            apart = (low[one] >= high[other]) | (low[other] >= high[one])
            assert apart.any(), (one, other)
    assert (low >= -1e-9).all()
    assert (high <= 1000 + 1e-9).all()
    far = np.array([[100.0, 100], [800, 800]])
    assert np.array_equal(spread_labels(far, sizes[:2], np.zeros(2), np.full(2, 1e3)), far)


def test_the_picture_shows_each_theme_in_its_colour(house, tmp_path):
    vectors, _ = house
    made = make_map(vectors, method="pca")
    write_picture(tmp_path / "map.png", made, vectors)
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "map.png")), cv2.COLOR_BGR2RGB).reshape(-1, 3)
    for theme in made.themes:
        rgb = np.array([int(COLOURS[theme.id][i : i + 2], 16) for i in (1, 3, 5)])
        near = np.abs(image.astype(int) - (0.65 * rgb + 0.35 * 255)).max(1) <= 3
        assert near.sum() > 200


def test_the_page_has_every_video_and_fetches_nothing(house, tmp_path):
    vectors, _ = house
    made = make_map(vectors, method="pca")
    nasty = replace(made.themes[0], name="<script>alert(1)</script>")
    made = replace(made, themes=(nasty, *made.themes[1:]))
    write_picture(tmp_path / "map.html", made, vectors)
    text = (tmp_path / "map.html").read_text("utf-8")
    assert text.count("<circle") == 240
    assert "海边的帆船" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!#)', text)


def test_a_page_of_many_videos_draws_some(house, tmp_path, monkeypatch):
    vectors, _ = house
    made = make_map(vectors, method="pca")
    monkeypatch.setattr(map_picture, "POINTS", 100)
    write_picture(tmp_path / "map.html", made, vectors)
    text = (tmp_path / "map.html").read_text("utf-8")
    assert text.count("<circle") == 100
    assert "240 videos" in text
    assert "100 of them drawn" in text


def test_the_command_prints_themes_and_writes_a_picture(house, tmp_path, capsys):
    vectors, _ = house
    words = ["map", str(vectors), "--out", str(tmp_path / "m.png"), "--method", "pca", "--json"]
    app(words, result_action="return_value")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["videos"], shown["method"], len(shown["themes"])) == (240, "pca", 5)
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    app([*words[:-1], "--themes", "2"], result_action="return_value")
    table = capsys.readouterr().out
    assert "240 videos by pca" in table
    assert "theme" in table
