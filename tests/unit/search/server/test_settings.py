"""Settings, schemas, errors, logs, files that are watched and handed in."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ValidationError

from vidvec.errors import BadRecord, FormatError, UsageError
from vidvec.search.server import answers, schemas, shards
from vidvec.search.server.config import ServerConfig, is_loopback
from vidvec.search.server.failures import STATUS, ApiError, of_user_error
from vidvec.search.server.limits import BodyTooLarge
from vidvec.search.server.logs import FIELDS, JsonLines, TextLines
from vidvec.search.server.metrics import Metrics, drop_dead
from vidvec.search.server.uploads import written
from vidvec.search.server.watched import Watched

CONFIG = ServerConfig(vectors=Path("vectors"))


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.1.1", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_which_addresses_are_this_machines_own(host, own):
    assert is_loopback(host) == own
    open_ = replace(CONFIG, host=host)
    if own:
        open_.check()
    else:
        with pytest.raises(
            UsageError, match=r"give them a key with --api-key KEY .*VIDVEC_API_KEY"
        ):
            open_.check()
        replace(open_, api_key="k").check()


def test_a_rate_where_others_come_in_and_none_where_they_do_not():
    assert CONFIG.requests_a_second == 0
    assert replace(CONFIG, host="::", api_key="k").requests_a_second == 50
    assert replace(CONFIG, rate=3).requests_a_second == 3
    assert replace(CONFIG, rate=3).burst == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"workers": 0}, "--workers 0: expected 1"),
        ({"port": 70_000}, "--port 70000"),
        ({"max_upload_mb": 0}, "--max-upload-mb 0"),
        ({"rate": -1}, "--rate -1"),
        ({"timeout_seconds": 0}, "--timeout 0"),
        ({"api_key": "ключ"}, "use ASCII"),
        ({"api_key": "a\nb"}, "use ASCII"),
    ],
)
def test_settings_that_cannot_be_served(change, says):
    with pytest.raises(UsageError, match=says):
        replace(CONFIG, **change).check()


def test_the_key_is_not_shown():
    assert "secret" not in repr(replace(CONFIG, api_key="secret"))


MODELS = [
    model
    for module in (schemas, answers, shards)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
]
EXAMPLES = [
    (model, example)
    for model in dict.fromkeys(MODELS)
    for example in (model.model_config.get("json_schema_extra") or {}).get("examples", [])
]


@pytest.mark.parametrize(("model", "example"), EXAMPLES)
def test_every_example_is_valid_and_says_all(model, example):
    made = model.model_validate(example)
    if model.__module__ == answers.__name__:
        assert json.loads(made.model_dump_json()) == json.loads(json.dumps(example))


def test_bodies_have_examples():
    asked = {model.__name__ for model, _ in EXAMPLES}
    assert {"SearchBody", "SimilarBody", "EmbedBody", "FilterBody", "HitsAnswer"} <= asked


@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize(
    ("date", "good"),
    [("", True), ("2021-05-03", True), ("2021-05-03T10:00:00Z", True), ("soon", False)],
)
def test_dates_of_a_filter(name, date, good):
    if good:
        schemas.FilterBody(**{name: date})
    else:
        with pytest.raises(ValidationError):
            schemas.FilterBody(**{name: date})


def test_a_body_is_strict_and_a_query_is_text():
    assert schemas.FilterQuery(min_seconds="3").asked().min_seconds == 3
    for odd in ("3", True):
        with pytest.raises(ValidationError):
            schemas.FilterBody(min_seconds=odd)
    assert schemas.FilterBody(min_seconds=3).asked() == schemas.FilterQuery(min_seconds="3").asked()


def test_errors_of_the_package_as_the_client_sees_them():
    assert of_user_error(BadRecord("truncated-video", "it ends")).status == 422
    assert str(of_user_error(BadRecord("truncated-video", "it ends"))) == "truncated-video: it ends"
    assert of_user_error(UsageError("no")).code == "bad-request"
    assert of_user_error(FormatError("damaged")).code == "not-available"


@pytest.mark.parametrize("code", STATUS)
def test_an_error_is_json_whatever_it_says(code):
    response = ApiError(code, "a \ud800 \0 \n 海", "hint").response()
    assert response.status_code == STATUS[code]
    error = json.loads(response.body)["error"]
    assert error == {"code": code, "message": "a \ud800 \0 \n 海", "hint": "hint"}


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("vidvec", logging.INFO, "", 0, message, (), None)
    setattr(made, FIELDS, fields)
    return made


@pytest.mark.parametrize("form", [JsonLines, TextLines])
def test_a_log_line_is_one_line(form):
    line = form().format(record("request", path='/a\n{"level":"error"}\u2028\x1b[2J', status=200))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert line.isprintable()


def test_a_log_line_as_json():
    found = json.loads(JsonLines().format(record("request", path="/海", ms=1.5)))
    assert (found["message"], found["path"], found["ms"]) == ("request", "/海", 1.5)
    assert found["level"] == "info"


def test_a_failure_is_logged_with_its_traceback():
    try:
        raise ValueError("odd")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    made = logging.LogRecord("vidvec", logging.ERROR, "", 0, "request", (), info)
    assert "ValueError: odd" in json.loads(JsonLines().format(made))["traceback"]


def test_metrics_are_prometheus_text():
    metrics = Metrics()
    metrics.started()
    metrics.started()
    metrics.finished("GET", "/api/v1/video", 200, 0.015)
    metrics.upload("ok", 100)
    metrics.batch(3)
    metrics.index(40, 7)
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        found |= {(s.name, *sorted(s.labels.values())): s.value for s in family.samples}
    assert found["vidvec_requests_total", "/api/v1/video", "200", "GET"] == 1
    assert found["vidvec_request_seconds_bucket", "/api/v1/video", "0.01"] == 0
    assert found["vidvec_request_seconds_bucket", "/api/v1/video", "0.02"] == 1
    assert found["vidvec_requests_in_flight",] == 1
    assert found["vidvec_uploads_total", "ok"] == 1
    assert found["vidvec_upload_bytes_total",] == 100
    assert found["vidvec_text_batch_size_sum",] == 3
    assert (found["vidvec_index_videos",], found["vidvec_index_generation",]) == (40, 7)


def test_a_worker_that_is_no_more_does_not_count(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        (tmp_path / f"gauge_livesum_{process}.db").touch()
        (tmp_path / f"counter_{process}.db").touch()
    drop_dead(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        f"gauge_livesum_{os.getpid()}.db",
        f"counter_{os.getpid()}.db",
        f"counter_{ended.pid}.db",
    }


def test_a_file_is_read_again_when_it_is_another(tmp_path):
    path, reads = tmp_path / "file", []

    def read() -> str | None:
        reads.append(1)
        text = path.read_text()
        if text == "bad":
            raise FormatError("it is bad")
        return text

    watched = Watched(path, read)
    assert watched.value is None
    for text, value, why_not in (
        ("one", "one", ""),
        ("bad", None, "it is bad"),
        ("two", "two", ""),
    ):
        path.write_text(text)
        os.utime(path, ns=(len(reads), len(reads)))
        watched.refresh()
        watched.refresh()
        assert (watched.value, watched.why_not) == (value, why_not)
    assert len(reads) == 3
    path.unlink()
    watched.refresh()
    assert watched.value is None
    assert len(reads) == 3


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("clip.mp4", ".mp4"),
        ("CLIP.MOV", ".mov"),
        ("../../etc/passwd", ""),
        ("a.mp4/../../b.sh", ""),
        ("x.m3u8", ""),
        ("", ""),
        (".mp4", ""),
        ("a" * 5_000 + ".webm", ".webm"),
        ("a\0.mp4", ".mp4"),
    ],
)
def test_a_file_handed_in_gets_a_name_of_ours(tmp_path, name, suffix):
    folder = tmp_path / "uploads"
    with written(io.BytesIO(b"content"), name, folder, 100) as path:
        assert path.parent == folder
        assert path.suffix == suffix
        assert len(path.stem) == 32
        assert path.read_bytes() == b"content"
    assert list(folder.iterdir()) == []


def test_a_file_handed_in_is_removed_whatever_happens(tmp_path):
    with pytest.raises(BadRecord), written(io.BytesIO(b"content"), "a.mp4", tmp_path, 100):
        raise BadRecord("damaged-video", "it is")
    with pytest.raises(BodyTooLarge), written(io.BytesIO(b"content"), "a.mp4", tmp_path, 6):
        pass
    with pytest.raises(ApiError, match="empty-file"), written(io.BytesIO(), "a.mp4", tmp_path, 6):
        pass
    assert list(tmp_path.iterdir()) == []
