"""The submission: what is written, by json, zipfile and numpy alone; and what a check finds."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.competition import IDS, write_folder, write_part
from vidvec.cli import main
from vidvec.embed import submission
from vidvec.embed.submission import check_submission, write_submission
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import UsageError

TEST_IDS = [str(one) for part in ("test_a", "test_b") for one in IDS[part]]
HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


def write_vectors(path: Path, ids: list[str], matrix: np.ndarray, normalised: bool = True) -> Path:
    facts = {"normalised": normalised, "made_by": {"stage": "test"}}
    writer = VectorWriter(path, matrix.shape[1], facts)
    writer.append(ids, matrix.astype(np.float32))
    writer.finish()
    return path


def made_matrix(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    matrix = np.random.default_rng(seed).normal(size=(count, width))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def read_json(path: Path) -> dict[str, list[float]]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["result.json"]
        pairs = json.loads(archive.read("result.json"), object_pairs_hook=list)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def zipped(path: Path, text: str | bytes, name: str = "result.json", **more: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
        for member, content in more.items():
            archive.writestr(member, content)
    return path


# --- written ------------------------------------------------------------------------------------


def test_vectors_of_the_test_videos_as_float16(tmp_path):
    ids = ["7", *TEST_IDS[::-1], "8"]
    matrix = made_matrix(len(ids))
    vectors = write_vectors(tmp_path / "vectors", ids, matrix)
    done = write_submission(vectors, TEST_IDS, tmp_path / "out" / "submission.zip")
    assert (done.videos, done.dimension, done.filled) == (9, 16, ())
    found = read_json(tmp_path / "out" / "submission.zip")
    assert list(found) == TEST_IDS
    for video, numbers in found.items():
        expected = matrix[ids.index(video)].astype(np.float16)
        assert np.array(numbers).astype(np.float16).tobytes() == expected.tobytes()
    report = check_submission(tmp_path / "out" / "submission.zip", TEST_IDS)
    assert (report.videos, report.dimension, report.problems) == (9, 16, ())
    assert [*(tmp_path / "out").iterdir()] == [tmp_path / "out" / "submission.zip"]


def test_every_float16_comes_back_from_its_shortest_form(tmp_path):
    finite = HALVES[np.isfinite(HALVES)]
    matrix = finite.reshape(-1, 256)
    matrix = matrix[matrix.any(axis=1)]
    ids = [str(row) for row in range(len(matrix))]
    vectors = write_vectors(tmp_path / "vectors", ids, matrix, normalised=False)
    write_submission(vectors, ids, tmp_path / "submission.zip")
    found = np.array(list(read_json(tmp_path / "submission.zip").values()))
    assert found.astype(np.float16).tobytes() == matrix.tobytes()
    assert check_submission(tmp_path / "submission.zip", ids).problems == ()
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        texts = json.loads(archive.read("result.json"), parse_float=lambda text: text.lstrip("-"))
    digits = [text for row in texts.values() for text in row]
    for text, value in zip(digits, np.abs(matrix.ravel()).tolist(), strict=True):
        shown = text.split("e")[0].replace(".", "").strip("0")
        if len(shown) > 1:  # the nearest number with one digit less is another float16
            with np.errstate(over="ignore"):
                assert np.float16(float(f"{value:.{len(shown) - 2}e}")) != np.float16(value)


def test_the_same_vectors_give_the_same_bytes(tmp_path):
    vectors = write_vectors(tmp_path / "vectors", TEST_IDS, made_matrix(9))
    code = "import sys; from pathlib import Path; from vidvec.embed import submission as s; "
    code += "s.write_submission(Path(sys.argv[1]), sys.argv[3:], Path(sys.argv[2]))"
    for name in ("a.zip", "b.zip"):
        command = [sys.executable, "-c", code, str(vectors), str(tmp_path / name), *TEST_IDS]
        subprocess.run(command, check=True)
    write_submission(vectors, [*TEST_IDS, TEST_IDS[0]], tmp_path / "c.zip")  # one twice: once
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "c.zip").read_bytes()


def test_a_video_without_a_vector_gets_the_mean(tmp_path):
    matrix = made_matrix(8)
    vectors = write_vectors(tmp_path / "vectors", TEST_IDS[:8], matrix)
    path = tmp_path / "submission.zip"
    with pytest.raises(UsageError, match=r"no vector .* for 1 test video \(404\)"):
        write_submission(vectors, TEST_IDS, path, strict=True)
    assert not path.exists()
    assert write_submission(vectors, TEST_IDS, path).filled == ("404",)
    mean = matrix.mean(axis=0) / np.linalg.norm(matrix.mean(axis=0))
    assert np.abs(np.array(read_json(path)["404"]) - mean).max() < 1e-3
    assert check_submission(path, TEST_IDS).problems == ()


def test_a_mean_of_nothing_but_zeros_is_not_written(tmp_path):
    vectors = write_vectors(tmp_path / "vectors", ["1", "2"], np.array([[1.0, 0.5], [-1.0, -0.5]]))
    write_submission(vectors, ["1", "2", "3"], tmp_path / "submission.zip")
    assert read_json(tmp_path / "submission.zip")["3"] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((9, 257)), "257 numbers, a submission takes at most 256"),
        (np.eye(9) * 1e6, "video 300 holds a number that is no finite float16"),
        (np.eye(9) * np.nan, "video 300 holds a number that is no finite float16"),
        (np.eye(9) * 1e-9, "video 300 is zero as float16"),
    ],
)
def test_vectors_that_no_submission_can_hold(tmp_path, matrix, message):
    vectors = write_vectors(tmp_path / "vectors", TEST_IDS, matrix)
    with pytest.raises(UsageError, match=message):
        write_submission(vectors, TEST_IDS, tmp_path / "submission.zip")
    assert not (tmp_path / "submission.zip").exists()


def test_vectors_of_other_videos(tmp_path):
    vectors = write_vectors(tmp_path / "vectors", ["1", "2"], made_matrix(2))
    with pytest.raises(UsageError, match="none of the 9 test videos has a vector"):
        write_submission(vectors, TEST_IDS, tmp_path / "submission.zip")


# --- checked ------------------------------------------------------------------------------------

LONG = "1" * 5000
# The JSON text, and what the check finds first.
TEXTS = {
    '{"1": [0.5, 1], "2": [0.0999755859375, -2]}': "",
    '\r\n\t {"1":[0.1,1e-1],\n"2":[1,2]} \n': "",
    "": "result.json is no JSON object: expected '{', found its end",
    "[]": "result.json is no JSON object: expected '{', found '[]'",
    "{}": "result.json holds no vectors",
    '\ufeff{"1": [1]}': "result.json is no JSON object: expected '{'",
    '{"1": [1]': "result.json is no JSON object: expected ',}', found its end",
    '{"1": [1],}': "result.json is no JSON object: expected '\"', found '}'",
    '{"1": [1]} x': "result.json goes on behind its JSON object",
    '{"1": [1] "2": [2]}': "result.json is no JSON object: expected ',}'",
    '{"1": [1,, 2]}': "result.json is no JSON at '[1,, 2]}'",
    '{"1": [01]}': "result.json is no JSON at '[01]}'",
    "{'1': [1]}": "result.json is no JSON object: expected '\"'",
    "{1: [1]}": "result.json is no JSON object: expected '\"'",
    '{"1": [1], "1": [2]}': "more than once: 1 video (1)",
    '{"1": [1], "\\u0031": [2]}': "more than once: 1 video (1)",
    '{"1": [NaN], "2": [1]}': "NaN or infinity: 1 video (1)",
    '{"1": [-Infinity], "2": [1e999], "3": [1]}': "NaN or infinity: 2 videos (1, 2)",
    '{"1": [0.1234567], "2": [1]}': "a number that is no float16: 1 video (1)",
    '{"1": [1e6], "2": [1]}': "a number that is no float16: 1 video (1)",
    f'{{"1": [{"9" * 400}]}}': "NaN or infinity: 1 video (1)",
    f'{{"1": [{LONG}]}}': "result.json is no JSON at '[1111",
    '{"1": [0, -0.0], "2": [1, 0]}': "nothing but zeros: 1 video (1)",
    '{"1": [], "2": []}': "no numbers: 2 videos (1, 2)",
    '{"1": [1, 2], "2": [1], "3": [1, 3]}': "1 numbers, where most have 2: 1 video (2)",
    '{"1": [1, true]}': "no list of numbers: 1 video (1)",
    '{"1": [1, "2"]}': "no list of numbers: 1 video (1)",
    '{"1": [1, null]}': "no list of numbers: 1 video (1)",
    '{"1": {"0": 1}}': "no list of numbers: 1 video (1)",
    '{"1": 1}': "no list of numbers: 1 video (1)",
    '{"1": [[1]]}': "no list of numbers: 1 video (1)",
    '{"1": ' + "[" * 100_000 + "}": "result.json is no JSON at '[[[",
    '{"1": [' + ", ".join(["1"] * 257) + "]}": "more than 256 numbers: 1 video (1)",
    '{"' + "a" * 2**19 + '": [1]}': "result.json is no JSON at '\"aaaa",
    '{"\\ud800\\u001b[31m": [NaN]}': "NaN or infinity: 1 video ('\\ud800\\x1b[31m')",
    " " * 2**20 + "{}": "result.json holds more blanks in a row",
}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_a_check_finds_in_the_text(tmp_path, text):
    found = check_submission(zipped(tmp_path / "submission.zip", text)).problems
    if not TEXTS[text]:
        assert found == ()
    else:
        assert found[0].startswith(TEXTS[text])
        assert all("\n" not in line and line.isprintable() for line in found)


def test_text_that_is_not_utf8(tmp_path):
    path = zipped(tmp_path / "submission.zip", b'{"1": [1], "\xff": [1]}')
    assert check_submission(path).problems[0].startswith("result.json is not UTF-8")


def test_missing_and_unknown_ids_are_counted_and_the_first_named(tmp_path):
    ids = [str(one) for one in range(20)]
    held = json.dumps({one: [1.0] for one in [*ids[7:], "x", "y"]})
    path = zipped(tmp_path / "submission.zip", held)
    assert check_submission(path).problems == ()
    assert check_submission(path, ids).problems == (
        "missing: 7 videos (0, 1, 2, 3, 4, …)",
        "no test video: 2 videos (x, y)",
    )


def test_members_that_should_not_be_there(tmp_path):
    good = '{"1": [1]}'
    for name in ("a/result.json", "../result.json", "/result.json", "RESULT.JSON", "result.json/"):
        path = zipped(tmp_path / "submission.zip", good, name)
        first, second = check_submission(path).problems
        assert name in first
        assert second == "expected one result.json at the top of the zip, found 0"
    path = zipped(tmp_path / "submission.zip", good, **{"__MACOSX/._x": "", "notes.txt": "x"})
    assert check_submission(path).problems == (
        "the zip holds more than result.json: 2 other members ('__MACOSX/._x', 'notes.txt')",
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("result.json", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("result.json", good)
    assert check_submission(path).problems == (
        "expected one result.json at the top of the zip, found 2",
    )


def test_a_file_that_is_no_zip(tmp_path):
    path = tmp_path / "submission.zip"
    for data in (b"", b"no zip at all", b"PK\x03\x04" + bytes(100), b'{"1": [1]}'):
        path.write_bytes(data)
        assert check_submission(path).problems[0].startswith("no zip that can be read")
    with pytest.raises(UsageError, match="does not exist"):
        check_submission(tmp_path / "nowhere.zip")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "MOST_BYTES", 2**20)
    monkeypatch.setattr(submission, "MOST_VIDEOS", 30_000)
    large = json.dumps({str(one): [1.0] * 256 for one in range(1000)})
    path = zipped(tmp_path / "submission.zip", large)
    assert "unpacks to 1,2" in check_submission(path).problems[0]
    # One that lies about its size: what it says is read, and then the checksum is wrong.
    data = path.read_bytes()
    assert data.count(len(large).to_bytes(4, "little")) == 2
    path.write_bytes(data.replace(len(large).to_bytes(4, "little"), (2000).to_bytes(4, "little")))
    assert check_submission(path).problems
    path = zipped(tmp_path / "submission.zip", "{" + '"1":[],' * 40_000 + '"1":[]}')
    assert check_submission(path).problems[0] == "result.json holds more than 30,000 entries"


def test_what_is_packed_in_other_ways(tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("result.json", '{"1": [1]}')
    assert check_submission(path).problems == ("result.json is packed in another way than deflate",)
    data = bytearray(zipped(path, '{"1": [1]}').read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    path.write_bytes(data)
    assert check_submission(path).problems == ("result.json is encrypted",)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_zip_never_ends_the_check(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "submission.zip"
    text = json.dumps({str(one): [0.5, one / 4] for one in range(40)})
    content = bytearray(zipped(path, text).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    report = check_submission(path, [str(one) for one in range(40)])
    if not report.problems:  # what was damaged holds nothing, such as a time
        assert list(read_json(path)) == [str(one) for one in range(40)]


@given(st.text(alphabet='{}[]",:0123456789.eE+-NaIfity \\u"x', max_size=60))
def test_no_text_passes_that_is_no_json(tmp_path_factory, text):
    path = zipped(tmp_path_factory.mktemp("text") / "submission.zip", '{"1": [1' + text)
    report = check_submission(path)
    if not report.problems:
        found = read_json(path)
        lengths = {len(numbers) for numbers in found.values()}
        assert len(lengths) == 1
        assert all(np.isfinite(numbers).all() for numbers in found.values())


def test_windows_of_any_size_read_the_same(tmp_path, monkeypatch):
    matrix = made_matrix(9, 5)
    vectors = write_vectors(tmp_path / "vectors", TEST_IDS, matrix)
    write_submission(vectors, TEST_IDS, tmp_path / "submission.zip")
    for size in (60, 61, 64, 97, 300):
        monkeypatch.setattr(submission, "_MOST_CHARACTERS", size)
        report = check_submission(tmp_path / "submission.zip", TEST_IDS)
        assert (report.videos, report.problems) == (9, ())


# --- the command --------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return int(caught.value.code or 0)


def test_the_command_writes_and_checks(tmp_path, capsys):
    data = write_folder(tmp_path / "data")
    write_part(data, "test_b", IDS["test_b"][:4])
    (data / "test_b" / "ids.txt").write_text("".join(f"{one}\n" for one in IDS["test_b"]))
    vectors = write_vectors(tmp_path / "vectors", TEST_IDS[:8], made_matrix(8))
    path = tmp_path / "submission.zip"
    assert run("submit", path, "--vectors", vectors, "--data", data) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "1 without a vector of their own got the mean vector: 404" in said
    assert "valid, 9 videos of 16 numbers" in said
    assert list(read_json(path)) == TEST_IDS
    for arguments in ((path, "--check"), ("--check", path), ("--check", path, "--data", data)):
        assert run("submit", *arguments) == 0
    capsys.readouterr()
    zipped(path, '{"300": [NaN], "1": [0.5]}')
    assert run("submit", "--check", path, "--data", data) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{path}: ") for line in lines] == [
        "NaN or infinity: 1 video (300)",
        "missing: 8 videos (301, 302, 303, 400, 401, …)",
        "no test video: 1 video (1)",
    ]
    assert run("submit", path, "--vectors", vectors, "--data", data, "--strict") == 1
    assert run("submit", path) == 1
    assert run("submit", path, "--check", "--vectors", vectors) == 1
