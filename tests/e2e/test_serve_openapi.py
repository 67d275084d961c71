"""The description of the API against the server: what it says is true, and nothing breaks it."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from jsonschema_rs import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serving import COUNT, Server

pytestmark = pytest.mark.slow
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
EXAMPLES = 60
OPERATIONS = [
    *[("POST", f"/api/v1/{each}") for each in ("search", "similar", "embed")],
    *[("POST", f"/api/v1/{each}") for each in ("search/upload", "embed/upload")],
    *[("GET", f"/api/v1/{each}") for each in ("video", "video/neighbours", "picture")],
    *[("GET", f"/api/v1/{each}") for each in ("facets", "groups", "pairs")],
    *[("POST", f"/api/v1/shard/{each}") for each in ("search", "videos", "words", "facets")],
]
# In a request that says nothing, nothing can be wrong.
QUIET = [
    ("GET", each)
    for each in (
        *("/api/v1/info", "/api/v1/map", "/healthz", "/readyz", "/metrics"),
        "/api/v1/shard",
    )
]


@pytest.fixture(scope="module")
def described(server: Server) -> dict:
    return server.http.get("/openapi.json").json()


@pytest.fixture(scope="module")
def api(server: Server) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


CASES = [(*operation, GenerationMode.POSITIVE) for operation in [*OPERATIONS, *QUIET]] + [
    (*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS
]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_whatever_is_asked_the_answer_is_as_described(api, method, path, mode):
    asked = Counter()

    @given(case=api[path][method].as_strategy(generation_mode=mode), known=strategies.booleans())
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    def ask(case, known):
        if known and mode is GenerationMode.POSITIVE:
            of_known_videos(case)
        response = case.call(timeout=60)
        asked[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()
    assert not set(asked) & {429, 503}


def of_known_videos(case) -> None:
    """Names videos that are there in the place of made-up ones."""
    if "id" in (case.query or {}):
        case.query["id"] = f"clip{len(case.query['id']) % COUNT}"
    for name in ("ids", "unlike_ids"):
        if isinstance(case.body, dict) and case.body.get(name):
            case.body[name] = [f"clip{number % COUNT}" for number in range(len(case.body[name]))]


def test_every_path_is_described(described):
    paths = {
        *["/api/v1/info", "/api/v1/search", "/api/v1/search/upload", "/api/v1/similar"],
        *["/api/v1/embed", "/api/v1/embed/upload", "/api/v1/video", "/api/v1/video/neighbours"],
        *["/api/v1/picture", "/api/v1/facets", "/api/v1/groups", "/api/v1/pairs", "/api/v1/map"],
        *[f"/api/v1/shard{each}" for each in ("", "/search", "/videos", "/words", "/facets")],
        *["/healthz", "/readyz", "/metrics"],
    }
    assert set(described["paths"]) == paths
    for path, methods in described["paths"].items():
        for method in methods.values():
            assert method.get("description"), path
            if path.startswith("/api/"):
                assert {"200", "401", "429", "503"} <= set(method["responses"]), path


def test_nothing_comes_from_elsewhere(described):
    assert not re.findall(r"https?://[^\s\"]+", json.dumps(described))


def test_bodies_in_the_description_have_examples_that_work(server, described):
    tried = 0
    for name, found in described["components"]["schemas"].items():
        validator = Draft202012Validator({**found, "components": described["components"]})
        for example in found.get("examples", []):
            problems = [problem.message for problem in validator.iter_errors(example)]
            assert problems == [], name
            tried += 1
    assert tried > 15
    for path, body in (
        ("search", "SearchBody"),
        ("similar", "SimilarBody"),
        ("embed", "EmbedBody"),
    ):
        for example in described["components"]["schemas"][body]["examples"]:
            text = re.sub(
                r"100\d", lambda found: f"clip{int(found[0]) % COUNT}", json.dumps(example)
            )
            response = server.http.post(f"/api/v1/{path}", json=json.loads(text))
            assert response.status_code == 200, response.text
