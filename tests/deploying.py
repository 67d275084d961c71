"""The manifests of ``deploy/``, and what they are held to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.kuberay import SCHEMAS
from vidvec.cli import app

PROJECT = Path(__file__).resolve().parents[1]
DEPLOY = PROJECT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RUNBOOK = PROJECT / "docs" / "runbook.md"
# The oldest and the newest that the manifests are for.
VERSIONS = ("1.31", "1.37")
Manifest = dict[str, Any]


def manifests(path: Path) -> list[Manifest]:
    """The documents of a file."""
    return [each for each in yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader) if each]


def everything() -> dict[str, Manifest]:
    """All manifests, by file, kind and name."""
    return {
        f"{path.name}: {each['kind']} {each['metadata']['name']}": each
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for each in manifests(path)
    }


def of_file(name: str, kind: str) -> Manifest:
    """The only manifest of a kind in a file."""
    (found,) = (each for each in manifests(KUBERNETES / name) if each["kind"] == kind)
    return found


def templates(manifest: Manifest) -> list[tuple[str, Manifest]]:
    """Pod templates of a manifest, each with what it is for."""
    if manifest["kind"] == "RayJob":
        cluster = manifest["spec"]["rayClusterSpec"]
        groups = {each["groupName"]: each["template"] for each in cluster["workerGroupSpecs"]}
        return [("head", cluster["headGroupSpec"]["template"]), *groups.items()]
    spec = manifest.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return [] if template is None else [("pods", template)]


def containers(template: Manifest) -> list[Manifest]:
    """All of a pod's."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def check(manifest: Manifest, version: str = VERSIONS[-1]) -> None:
    """Holds a manifest to its schemas of a version of Kubernetes; no unknown field passes.

    Raises:
        jsonschema.ValidationError: It does not fit.
        kubernetes_validate.SchemaNotFoundError: There is no such kind.
    """
    if manifest["apiVersion"].startswith("ray.io/"):
        jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        pods = [
            {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "metadata": {"name": name},
                "template": template,
            }
            for name, template in templates(manifest)
        ]
    else:
        pods = [manifest]
    for each in pods:
        kubernetes_validate.validate(each, version, strict=True)


def commands(manifest: Manifest) -> Iterator[list[str]]:
    """The words behind ``vidvec`` of each command line of a manifest."""
    if manifest["kind"] == "RayJob":
        yield words_of(manifest["spec"]["entrypoint"])
        return
    for _, template in templates(manifest):
        for container in containers(template):
            if "command" not in container:
                yield container["args"]
            elif container["command"] == ["torchrun"]:
                args = container["args"]
                yield args[args.index("vidvec.cli") + 1 :]


def words_of(line: str) -> list[str]:
    """The words behind ``vidvec`` of a line for a shell."""
    words = shlex.split(line, comments=True)
    return words[words.index("vidvec") + 1 :]


def parse(words: list[str]) -> dict[str, Any]:
    """The arguments that the command line makes of some words; nothing runs.

    Raises:
        cyclopts.CycloptsError: There is no such command or option, or one has no such value.
    """
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return dict(bound.arguments)
