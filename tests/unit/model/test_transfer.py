"""What is fetched of a model and how it is checked, without a hub."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
from collections import namedtuple

import pytest
import torch
from safetensors.torch import save_file

from vidvec.errors import FormatError, OfflineError, UsageError
from vidvec.model.hub import download, fetch_pretrained
from vidvec.model.hub_errors import explain
from vidvec.model.hub_listing import choose
from vidvec.model.transfer import HubFile, check_space, fault, partial_path

SMALL = ["config.json", "vocab.txt"]
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
PICKLED = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (["pytorch_model.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (["model.safetensors.index.json", *SHARDS], ["model.safetensors.index.json", *SHARDS]),
        (
            ["pytorch_model.bin.index.json", *PICKLED],
            ["pytorch_model.bin.index.json", *PICKLED],
        ),
        # A shard is missing; but the same weights are there in another form.
        (["model.safetensors.index.json", *SHARDS[:2], "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["model.safetensors", *SHARDS, "model.safetensors.index.json"], ["model.safetensors"]),
    ],
)
def test_one_set_of_weights_is_chosen(weights, expected):
    assert choose([*SMALL, *weights], "text", "a/b") == [*SMALL, *expected]


@pytest.mark.parametrize(
    ("names", "kind", "lacking"),
    [
        ([*SMALL, "tf_model.h5"], "text", "model.safetensors or pytorch_model.bin"),
        ([*SMALL, *SHARDS], "text", "model.safetensors or pytorch_model.bin"),
        (["config.json", "model.safetensors"], "text", "tokenizer.json or vocab.txt"),
        (["vocab.txt", "model.safetensors"], "text", "config.json"),
        (["config.json", "onnx/model.safetensors", "vocab.txt"], "text", "model.safetensors"),
        (["config.json", "preprocessor_config.json", "pytorch_model.bin"], "frames", "model.safe"),
        (["config.json", "model.safetensors"], "frames", "preprocessor_config.json"),
        ([], "text", "It holds: nothing"),
    ],
)
def test_a_model_that_lacks_something_is_refused(names, kind, lacking):
    with pytest.raises(UsageError, match=rf"a/b lacks .*{lacking}"):
        choose(names, kind, "a/b")


def test_a_hub_cannot_write_outside_the_folder():
    names = ["config.json", "preprocessor_config.json", "model.safetensors"]
    evil = [
        "../processor_config.json",
        "/etc/processor_config.json",
        "a/../../processor_config.json",
    ]
    assert choose([*names, *evil], "frames", "a/b") == names


def test_a_file_is_held_against_what_is_stated(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"[PAD]\n[UNK]\n")
    stated = hashlib.sha256(b"[PAD]\n[UNK]\n").hexdigest()
    assert fault(path, HubFile("vocab.txt", 12, stated)) == ""
    assert fault(path, HubFile("vocab.txt", None, stated)) == ""
    assert fault(path, HubFile("vocab.txt")) == ""
    assert "has 12 bytes, expected 13" in fault(path, HubFile("vocab.txt", 13, stated))
    assert "SHA-256" in fault(path, HubFile("vocab.txt", 12, "0" * 64))
    assert fault(tmp_path / "none", HubFile("none")) == "is missing"


def test_the_blob_id_is_gits(tmp_path):
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    path = tmp_path / "config.json"
    path.write_bytes(b'{"hidden_size": 16}' * 100_000)
    done = subprocess.run([git, "hash-object", path], capture_output=True, text=True, check=True)
    assert fault(path, HubFile("config.json", None, done.stdout.strip())) == ""
    assert "git blob id" in fault(path, HubFile("config.json", None, "0" * 40))


def test_weights_that_are_cut_short_are_noticed_without_a_digest(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    assert fault(path, HubFile("model.safetensors")) == ""
    with path.open("r+b") as file:
        file.truncate(3000)
    assert "cannot be read" in fault(path, HubFile("model.safetensors"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(FormatError, match=r"model.safetensors cannot be read .*copy it again"):
        download(str(tmp_path))


def test_a_disk_that_is_too_small_is_said_before_anything_comes(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2000, 1000, 1000))
    destination = tmp_path / "deep" / "model.safetensors"
    with pytest.raises(
        UsageError, match=r"1,500 bytes are to come, 1,000 are free.*HF_HOME or --to"
    ):
        check_space(tmp_path / "deep", [(HubFile("model.safetensors", 1500), destination)])
    destination.parent.mkdir()
    partial_path(destination).write_bytes(b"0" * 600)
    check_space(tmp_path / "deep", [(HubFile("model.safetensors", 1500), destination)])


def test_a_disk_that_fills_up_is_no_fault_of_the_hub():
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/cache/blob"), "a/b", False)
    assert isinstance(full, UsageError)
    assert "/cache/blob is too full: No space left on device" in str(full)
    # Other errors of the disk say enough; those without a number come from the connection.
    assert explain(PermissionError(errno.EACCES, "Permission denied"), "a/b", False) is None
    assert isinstance(explain(OSError("SSL"), "a/b", False), OfflineError)


def test_no_such_model_and_no_hub(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OfflineError, match=r"no folder on this disk.*HF_HUB_OFFLINE is set"):
        fetch_pretrained("nobody/nothing-of-this-name")
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        fetch_pretrained("no folder / no name")
