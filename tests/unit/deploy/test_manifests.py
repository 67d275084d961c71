"""The manifests of ``deploy/``: held to their schemas, to each other, and to the command line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from cyclopts import CycloptsError

from tests.deploying import (
    VERSIONS,
    Manifest,
    check,
    commands,
    containers,
    everything,
    of_file,
    parse,
    templates,
)
from vidvec.search.server.config import ServerConfig

ALL = everything()
WITH_PODS = {
    f"{name}, {what}": template
    for name, manifest in ALL.items()
    for what, template in templates(manifest)
}
SEARCH = ("search.yaml", "search-milvus.yaml")


@pytest.mark.parametrize("name", ALL)
def test_a_manifest_fits_its_schema(name):
    for version in VERSIONS:
        check(ALL[name], version)
    assert ALL[name]["kind"] == "Namespace" or ALL[name]["metadata"]["namespace"] == "vidvec"


def _put(*path: Any, value: Any) -> Callable[[Manifest], None]:
    def put(manifest: Manifest) -> None:
        for each in path[:-1]:
            manifest = manifest[each]
        manifest[path[-1]] = value

    return put


_POD = ("spec", "template", "spec")
_RAY = ("spec", "rayClusterSpec")
_BROKEN = {
    "a number for a text": ("search.yaml", "Deployment", _put("metadata", "name", value=5)),
    "an unknown field": (
        *("search.yaml", "Deployment"),
        _put(*_POD, "containers", 0, "imagePolicy", value="Always"),
    ),
    "a probe at no known place": (
        *("search.yaml", "Deployment"),
        _put(*_POD, "containers", 0, "readynessProbe", value={"httpGet": {"port": 1}}),
    ),
    "no selector": ("search.yaml", "Deployment", lambda each: each["spec"].pop("selector")),
    "a port of no number": (
        *("search-service.yaml", "Service"),
        _put("spec", "ports", 0, "port", value="eighty"),
    ),
    "an unknown kind": ("search-service.yaml", "Service", _put("kind", value="Servise")),
    "an older version": (
        *("search-service.yaml", "HorizontalPodAutoscaler"),
        _put("apiVersion", value="autoscaling/v2beta1"),
    ),
    "a field of a cluster at the job": (
        "ray-embed.yaml",
        "RayJob",
        _put("spec", "rayVersion", value="2"),
    ),
    "an unknown mode": ("ray-embed.yaml", "RayJob", _put("spec", "submissionMode", value="Mail")),
    "a number among Ray's parameters": (
        *("ray-embed.yaml", "RayJob"),
        _put(*_RAY, "headGroupSpec", "rayStartParams", "num-cpus", value=0),
    ),
    "a group without a name": (
        *("ray-embed.yaml", "RayJob"),
        lambda each: each["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"),
    ),
    "an unknown field in Ray's pods": (
        *("ray-embed.yaml", "RayJob"),
        _put(*_RAY, "workerGroupSpecs", 0, "template", "spec", "containers", 0, "gpus", value=1),
    ),
}


@pytest.mark.parametrize("what", _BROKEN)
def test_a_broken_manifest_does_not_pass(what):
    file, kind, breaks = _BROKEN[what]
    manifest = copy.deepcopy(of_file(file, kind))
    breaks(manifest)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError)):
        check(manifest)


@pytest.mark.parametrize("name", WITH_PODS)
def test_pods_keep_to_the_restricted_standard(name):
    """Kubernetes's pod security standard ``restricted``, and a root that nothing is written to."""
    spec = WITH_PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    # Ray's autoscaler, which KubeRay puts beside the head, talks to Kubernetes; nothing else does.
    assert name.endswith(", head") or spec["automountServiceAccountToken"] is False
    for container in containers(WITH_PODS[name]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        mounted = {each["name"] for each in container["volumeMounts"]}
        assert mounted <= {each["name"] for each in spec["volumes"]}
    for volume in spec["volumes"]:
        assert volume.keys() - {"name"} in ({"persistentVolumeClaim"}, {"emptyDir"})
        if "persistentVolumeClaim" in volume:
            claim = of_file("namespace.yaml", "PersistentVolumeClaim")["metadata"]["name"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim


@pytest.mark.parametrize("name", ALL)
def test_command_lines_are_those_of_vidvec(name):
    found = list(commands(ALL[name]))
    assert bool(found) == (ALL[name]["kind"] in ("Deployment", "Job", "CronJob", "RayJob"))
    for words in found:
        assert parse(words)


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "/data/vectors", "--hots=0.0.0.0"],
        ["serve", "/data/vectors", "--workers=two"],
        ["index", "/data/vectors", "--kind=ivf"],
        ["indecks", "/data/vectors"],
        ["fuse", "--out"],
    ],
)
def test_a_renamed_option_does_not_pass(words):
    with pytest.raises(CycloptsError):
        parse(words)


@pytest.mark.parametrize("file", SEARCH)
def test_the_search_server_ends_in_its_own_time_and_has_a_key(file):
    pod = of_file(file, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = parse(container["args"])
    assert given["host"] == "0.0.0.0"  # noqa: S104 - in a pod, behind a NetworkPolicy
    key = next(each for each in container["env"] if each["name"] == "VIDVEC_API_KEY")
    assert "secretKeyRef" in key["valueFrom"]
    assert given["port"] == container["ports"][0]["containerPort"] == 8000
    # As vidvec.search.server.running has uvicorn wait, and before it preStop.
    config = ServerConfig(vectors=None, timeout_seconds=given["timeout"])
    wait = int(config.timeout_seconds + config.upload_seconds) + 5
    wait += container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait <= pod["terminationGracePeriodSeconds"] <= wait + 15
    uploads = given["workers"] * config.uploads * given.get("max_upload_mb", config.max_upload_mb)
    scratch = next(each for each in pod["volumes"] if each["name"] == "scratch")
    assert uploads / 1024 < int(scratch["emptyDir"]["sizeLimit"].removesuffix("Gi"))


def test_both_search_servers_are_one_deployment():
    """Applied one over the other, they are a rolling update."""
    one, other = (of_file(file, "Deployment") for file in SEARCH)
    assert one["metadata"] == other["metadata"]
    assert one["spec"]["selector"] == other["spec"]["selector"]
    labels = one["spec"]["template"]["metadata"]["labels"]
    assert labels == other["spec"]["template"]["metadata"]["labels"]
    assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
    # A copy of what index.yaml has made, searched where no other pod writes.
    pod = one["spec"]["template"]["spec"]
    (made,) = commands(of_file("index.yaml", "Job"))
    *_, source, target = pod["initContainers"][0]["command"]
    assert source == made[1]
    assert pod["containers"][0]["args"][1] == target + source.rsplit("/", 1)[1]
    put = parse(next(commands(of_file("index-milvus.yaml", "Job"))))
    served = parse(other["spec"]["template"]["spec"]["containers"][0]["args"])
    assert put["to"] == served["index"]


def test_what_stands_around_the_search_server_finds_it():
    deployment = of_file("search.yaml", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    service = of_file("search-service.yaml", "Service")["spec"]
    assert service["selector"].items() <= labels.items()
    assert service["ports"][0]["targetPort"] == port["name"]
    budget = of_file("search-service.yaml", "PodDisruptionBudget")["spec"]
    scaler = of_file("search-service.yaml", "HorizontalPodAutoscaler")["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # an apply would undo the scaler's
    assert scaler["minReplicas"] > budget["maxUnavailable"]
    policy = of_file("search-service.yaml", "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert [each["port"] for each in policy["ingress"][0]["ports"]] == [port["containerPort"]]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
