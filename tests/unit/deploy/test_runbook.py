"""The runbook: its commands are real, its files are there, its messages are those of vidvec."""

from __future__ import annotations

import ast
import re

import pytest
from cyclopts import CycloptsError

from tests.deploying import (
    DEPLOY,
    KUBERNETES,
    PROJECT,
    RUNBOOK,
    commands,
    everything,
    manifests,
    parse,
    words_of,
)

TEXT = RUNBOOK.read_text("utf-8")
BLOCKS = "".join(re.findall(r"```sh\n(.*?)```", TEXT, re.S)).replace("\\\n", "")
FAILURES = TEXT[TEXT.index("## When something fails") : TEXT.index("## What was tried")]
MESSAGES = re.findall(r"^\| `([^`]+)` \|", FAILURES, re.M)
INLINE = re.findall(r"`([^`]+)`", re.sub(r"```sh\n.*?```", "", TEXT, flags=re.S))
LINES = {
    found
    for line in {*BLOCKS.splitlines(), *(" ".join(each.split()) for each in INLINE)} - {*MESSAGES}
    for found in re.findall(r"\bvidvec [a-z].*", line.replace("-n vidvec", ""))
}
# Others are a command's name alone, as in `vidvec serve`.
COMPLETE = sorted(line for line in LINES if len(words_of(line)) > 1)


def test_it_has_command_lines():
    assert len(COMPLETE) >= 12


@pytest.mark.parametrize("line", COMPLETE)
def test_a_command_line_is_one_of_vidvec(line):
    assert parse(words_of(line))


def test_a_command_by_its_name_is_there():
    from vidvec.cli import app

    for line in set(LINES) - set(COMPLETE):
        assert line.split()[1] in app, line
    with pytest.raises(CycloptsError):
        parse(words_of("vidvec index --to http://milvus:19530/vidvec --roll-forward"))


def test_what_it_says_of_a_file_is_what_the_file_runs():
    said = re.findall(r"^kubectl (?:create|replace --force) -f (\S+) +# (vidvec .*)$", BLOCKS, re.M)
    assert len(said) >= 6
    for file, line in said:
        found = [
            parse(each) for manifest in manifests(KUBERNETES / file) for each in commands(manifest)
        ]
        ours = parse(words_of(line))
        # Where it runs is said by the file alone.
        assert any(ours.items() <= {**each}.items() for each in found), (file, line)


def test_files_are_there():
    named = set(re.findall(r"[\w/-]+\.yaml", TEXT)) - {"ray-.yaml"}
    there = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert there <= {each.rsplit("/", 1)[-1] for each in named}
    for name in named:
        found = [KUBERNETES / name, DEPLOY / name, PROJECT / name]
        assert any(path.is_file() for path in found), name


def test_names_are_those_of_the_manifests():
    all_of_them = everything().values()
    names = {f"{each['kind']}/{each['metadata']['name']}".lower() for each in all_of_them}
    used = set(re.findall(r"\b(deployment/[a-z-]+)", TEXT))
    used |= {
        each.replace("deploy/", "deployment/") for each in re.findall(r"deploy/vidvec[a-z-]*", TEXT)
    }
    assert used <= names
    secrets = set(re.findall(r"[Ss]ecret(?: generic)? `?(vidvec-[a-z]+)", TEXT))
    text = "".join(path.read_text("utf-8") for path in KUBERNETES.glob("*.yaml"))
    assert secrets == {"vidvec-search", "vidvec-cluster", "vidvec-storage"}
    assert all(re.search(rf"(secretKeyRef|secretRef): {{name: {each}", text) for each in secrets)


def _sentences(beginnings: list[str]) -> list[str]:
    """Texts in the files of vidvec that have one of some beginnings, … for what is put in."""
    found = []
    for path in (PROJECT / "vidvec").rglob("*.py"):
        code = path.read_text("utf-8")
        if not any(each in code for each in beginnings):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    str(each.value) if isinstance(each, ast.Constant) else "…"
                    for each in node.values
                )
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_are_those_of_vidvec():
    """But for the system's own: of a file system that is read-only, of memory that is used up."""
    ours = [each for each in MESSAGES if not each.startswith("Read-only file system")]
    assert len(ours) == len(MESSAGES) - 1 >= 14
    longest = [max(message.split("…"), key=len).strip() for message in ours]
    sentences = _sentences([" ".join(each.split()[:2]) for each in longest])
    for message in ours:
        assert any(message in sentence for sentence in sentences), message
    assert not any("is unfinished: begin anew" in sentence for sentence in sentences)
