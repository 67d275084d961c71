"""The search server of ``deploy/``: its own command line, run here, and what looks after it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploying import DEPLOY, Manifest, of_file
from tests.serving import COUNT, Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
KEY = "a key of sixteen"


@pytest.fixture(scope="module")
def container() -> Manifest:
    (found,) = of_file("search.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def deployed(served, container, tmp_path_factory) -> Iterator[Server]:
    """A server with the arguments of the Deployment, but for folder, address and port.

    Its vectors are a copy, as the pod has one; what they were made from can be read alone.
    """
    folder = tmp_path_factory.mktemp("deployed")
    shutil.copytree(served / "vectors", folder / "vectors")
    command, vectors, *options = container["args"]
    assert (command, vectors) == ("serve", "/index/vectors")
    options = [each for each in options if not each.startswith(("--host=", "--port="))]
    with serving(folder / "vectors", folder, *options, VIDVEC_API_KEY=KEY) as server:
        yield server


def _path(container: Manifest, probe: str) -> str:
    return container[probe]["httpGet"]["path"]


def test_the_probes_are_answered_without_a_key(deployed, container):
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert deployed.http.get(_path(container, probe)).status_code == 200
    assert deployed.http.get("/api/v1/info").status_code == 401


def test_the_containers_health_check_passes_and_fails(deployed, container):
    """The words of the HEALTHCHECK, at the port of this server, and at one where nothing is."""
    (script,) = re.findall(r'CMD \["python", "-c", "(.*)"\]', _containerfile())
    usual = container["ports"][0]["containerPort"]
    exec(script.replace(f":{usual}/", f":{deployed.port}/"))  # noqa: S102 - the project's own
    with pytest.raises(OSError, match="refused"):
        exec(script.replace(f":{usual}/", ":1/"))  # noqa: S102


def _containerfile() -> str:
    return (DEPLOY / "Containerfile").read_text("utf-8")


def test_every_number_of_an_alarm_is_exported(deployed, served):
    key = {"Authorization": f"Bearer {KEY}"}  # as `authorization` of a scrape_config sends it
    clip = (served / "clips" / "clip1.mp4").read_bytes()
    with httpx.Client(base_url=deployed.url, headers=key, timeout=60) as http:
        assert http.post("/api/v1/search", json={"ids": ["clip0"]}).status_code == 200
        for content in (clip, b"no video"):
            http.post("/api/v1/search/upload", files={"file": ("clip.mp4", content)})
        assert deployed.http.get("/metrics").status_code == 401
        text = http.get("/metrics").text
    exported: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            exported.setdefault(sample.name, []).append(sample.labels)
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))
    wanted = {
        (name, label)
        for rule in rules["groups"][0]["rules"]
        for name, labels in re.findall(r"\b(vidvec_\w+)\{([^}]*)\}", rule["expr"])
        for label in re.findall(r'(\w+)=~?"', labels)
    }
    # Of sharded servers alone; tests/e2e/test_sharded.py reads it of one.
    wanted -= {("vidvec_shard_up", "job")}
    assert len(wanted) == 10
    for name, label in wanted:
        assert exported[name], name
        assert label == "job" or any(label in labels for labels in exported[name]), (name, label)
    # Alarms pick out these.
    assert {"route": "/api/v1/search", "le": "1.0"} in exported["vidvec_request_seconds_bucket"]
    outcomes = {labels["outcome"] for labels in exported["vidvec_uploads_total"]}
    assert outcomes == {"ok", "not-a-video"}
    assert {labels["code"] for labels in exported["vidvec_requests_refused_total"]} == {
        "unauthorised"
    }
    assert f"vidvec_index_videos {float(COUNT)}" in text
    assert not any("pid" in labels for labels in exported["vidvec_index_videos"])
