"""Fetching pretrained models, from a hub on loopback by the hub's own library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from tests.corpora import made_videos, write_corpus
from tests.hub import COMMIT, Hub, environment, running, sha256, small_bert, vidvec

NAME = "someone/small-bert"
NOT_WANTED = [
    "pytorch_model.bin",
    "README.md",
    "tf_model.h5",
    "flax_model.msgpack",
    "onnx/model.onnx",
    "onnx/config.json",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> dict[str, bytes]:
    """A BERT's files as hubs have them: with other frameworks' weights, and pickled ones."""
    files = small_bert(tmp_path_factory.mktemp("bert"))
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json"}
    return files | dict.fromkeys(NOT_WANTED, b"not for vidvec")


@pytest.fixture
def hub(bert) -> Iterator[Hub]:
    with running(Hub(models={NAME: dict(bert)})) as started:
        yield started


@pytest.fixture
def env(hub, tmp_path) -> dict[str, str]:
    return environment(hub.url, tmp_path / "home")


def snapshot(tmp_path: Path, name: str = NAME) -> Path:
    """Where huggingface_hub documents that a model's files are."""
    folder = "models--" + name.replace("/", "--")
    return tmp_path / "home" / "hub" / folder / "snapshots" / COMMIT


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What was printed, without the line breaks of a terminal."""
    return " ".join((done.stdout + done.stderr).split())


def test_a_model_is_fetched_and_a_rerun_downloads_nothing(hub, bert, env, tmp_path):
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_bytes() for path in snapshot(tmp_path).iterdir()}
    assert found == {
        name: bert[name] for name in ("config.json", "model.safetensors", "tokenizer.json")
    }
    total = sum(map(len, found.values()))
    assert f"complete: 3 files, {total:,} bytes, {total:,} of them came now" in said(done)
    for name, content in found.items():
        assert f"{name} {len(content):,} fetched" in said(done)
    assert parts(tmp_path) == []

    hub.requests.clear()
    again = vidvec("download", NAME, env=env)
    assert again.returncode == 0, again.stderr
    assert f"{total:,} bytes, 0 of them came now" in said(again)
    assert said(again).count("was there") == len(found)
    assert hub.bodies() == []
    # The hub's own library, and so all that use it, finds the model without a connection.
    code = f"import huggingface_hub; print(huggingface_hub.snapshot_download({NAME!r}))"
    asked = vidvec(env=env | {"HF_HUB_OFFLINE": "1"}, code=code)
    assert Path(asked.stdout.strip()) == snapshot(tmp_path)


def test_a_connection_that_is_cut_is_taken_up_again(hub, bert, env, tmp_path):
    hub.cut["model.safetensors"] = 11_000_000
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 0, done.stderr
    first, second = hub.bodies("model.safetensors")
    assert first.range == ""
    assert 0 < int(second.range.removeprefix("bytes=").removesuffix("-")) <= 11_000_000
    assert (snapshot(tmp_path) / "model.safetensors").read_bytes() == bert["model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("plain_folder", [False, True])
def test_a_killed_download_carries_on_where_it_was(hub, bert, env, tmp_path, plain_folder):
    to = ["--to", str(tmp_path / "plain")] if plain_folder else []
    hub.stall["model.safetensors"] = 11_000_000
    command = [sys.executable, "-m", "vidvec.cli", "download", NAME, *to]
    process = subprocess.Popen(command, env=env)
    until = time.monotonic() + 60
    while not any(part.stat().st_size > 1_000_000 for part in parts(tmp_path)):
        assert time.monotonic() < until, "the weights do not come"
        time.sleep(0.02)
    process.kill()
    process.wait()
    (part,) = parts(tmp_path)
    have = part.stat().st_size
    assert 0 < have < len(bert["model.safetensors"])

    hub.stall.clear()
    hub.requests.clear()
    done = vidvec("download", NAME, *to, env=env)
    assert done.returncode == 0, done.stderr
    assert [each.range for each in hub.bodies("model.safetensors")] == [f"bytes={have}-"]
    folder = tmp_path / "plain" if plain_folder else snapshot(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == bert["model.safetensors"]
    assert f"{len(bert['model.safetensors']) - have:,} of them came now" in said(done)
    assert parts(tmp_path) == []


def test_what_came_before_a_hub_breaks_off_is_kept(hub, bert, env, tmp_path):
    hub.busy = True
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 1
    assert "model.safetensors broke off after 0 of" in said(done)
    assert "the same command carries on" in said(done)
    assert f"{NAME}: not complete" in said(done)
    hub.busy = False
    hub.requests.clear()
    assert vidvec("download", NAME, env=env).returncode == 0
    assert [Path(each.path).name for each in hub.bodies()] == ["model.safetensors"]


def test_a_part_of_something_else_is_not_carried_on_with(hub, bert, env, tmp_path):
    weights = bert["model.safetensors"]
    blobs = snapshot(tmp_path).parents[1] / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f".{sha256(weights)}.part").write_bytes(b"\0" * 1000)
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 0, done.stderr
    assert [each.range for each in hub.bodies("model.safetensors")] == ["bytes=1000-", ""]
    assert (snapshot(tmp_path) / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_two_processes_fetch_a_model_once(hub, env, tmp_path):
    command = [sys.executable, "-m", "vidvec.cli", "download", NAME]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    assert len(hub.bodies("model.safetensors")) == 1


def test_a_file_of_another_size_is_refused(hub, bert, env, tmp_path):
    size = len(bert["model.safetensors"])
    hub.stated_sizes["model.safetensors"] = size + 7
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 1
    assert f"model.safetensors came, but has {size:,} bytes, expected {size + 7:,}" in said(done)
    assert not (snapshot(tmp_path) / "model.safetensors").exists()
    assert parts(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_with_other_content_is_refused(hub, bert, env, tmp_path, name):
    content = bert[name]
    hub.sent[name] = content[:-1] + bytes([content[-1] ^ 1])
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 1
    kind = "SHA-256" if name == "model.safetensors" else "git blob id"
    assert f"{name} came, but has the {kind}" in said(done)
    assert parts(tmp_path) == []
    hub.sent.clear()
    assert vidvec("download", NAME, env=env).returncode == 0
    assert (snapshot(tmp_path) / name).read_bytes() == content


@pytest.mark.slow
def test_a_file_that_is_damaged_in_the_cache_is_fetched_anew(hub, bert, env, tmp_path):
    assert vidvec("download", NAME, env=env).returncode == 0
    weights = (snapshot(tmp_path) / "model.safetensors").resolve()
    with weights.open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"\xff\xff\xff\xff")
    offline = vidvec("download", NAME, env=env | {"HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 1
    assert "model.safetensors has the SHA-256" in said(offline)
    assert "HF_ENDPOINT" in said(offline)
    hub.requests.clear()
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 0, done.stderr
    assert "fetched anew: it was damaged" in said(done)
    assert [Path(each.path).name for each in hub.bodies()] == ["model.safetensors"]
    assert (snapshot(tmp_path) / "model.safetensors").read_bytes() == bert["model.safetensors"]


@pytest.mark.slow
def test_a_mirror_that_states_no_digests(hub, bert, env, tmp_path):
    hub.bare = True
    done = vidvec("download", NAME, env=env)
    assert done.returncode == 0, done.stderr
    assert "nothing says what its files should be" in said(done)
    assert (snapshot(tmp_path) / "model.safetensors").read_bytes() == bert["model.safetensors"]


def test_a_token_goes_to_the_hub_alone(hub, env):
    assert vidvec("download", NAME, env=env | {"HF_TOKEN": "hf_secret"}).returncode == 0
    weights = [each for each in hub.requests if each.path.endswith("model.safetensors")]
    onward = [each for each in weights if "/content/" in each.path]
    assert onward
    assert not any(each.authorised for each in onward)
    assert all(each.authorised for each in weights if each not in onward)


REFUSALS = {
    "gone": ((404, "RepoNotFound"), ["no model 'someone/gone'", "(404)", "Check the name"]),
    "plain-404": ((404, ""), ["no model 'someone/plain-404'", "(404)"]),
    "private": ((401, ""), ["does not give 'someone/private'", "(401)", "HF_TOKEN"]),
    "hidden": ((401, "RepoNotFound"), ["does not give 'someone/hidden'", "(401)", "private"]),
    "gated": ((403, "GatedRepo"), ["someone/gated is gated", "accepted its terms", "HF_TOKEN"]),
    "x@old": ((404, "RevisionNotFound"), ["someone/x@old", "not this revision"]),
    "busy": ((503, ""), ["no model 'someone/busy'", "status 503", "HF_ENDPOINT", "--init FOLDER"]),
}


def test_a_hub_that_does_not_give_a_model(hub, env):
    for name, (status, _) in REFUSALS.items():
        hub.status[f"someone/{name.partition('@')[0]}"] = status
    names = [f"someone/{name}" for name in REFUSALS]
    done = vidvec("download", *names, "no name / of one", NAME, env=env)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = said(done).split("error: ")[1].split(" | ")
    for error, (_, expected) in zip(errors, REFUSALS.values(), strict=False):
        assert [words for words in expected if words not in error] == []
    assert "no name on a hub: expected OWNER/NAME" in errors[-1]
    # One that is refused does not keep the others from coming.
    assert said(done).count("complete:") == 1


def test_a_hub_that_cannot_be_reached(env, tmp_path):
    for change in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}):
        done = vidvec("download", NAME, env=env | change)
        assert done.returncode == 1
        expected = [
            "no folder on this disk",
            str(tmp_path / "home" / "hub"),
            "cannot be reached",
            "Set HF_ENDPOINT to a hub or mirror",
            f"vidvec download {NAME} --to FOLDER",
            "--init FOLDER",
            "HF_HOME",
        ]
        assert [words for words in expected if words not in said(done)] == []
        assert change.get("HF_ENDPOINT", "HF_HUB_OFFLINE is set") in said(done)


def test_a_whole_cache_needs_no_hub(env):
    assert vidvec("download", NAME, env=env).returncode == 0
    done = vidvec("download", NAME, env=env | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 0, done.stderr
    assert "the hub cannot be reached; this is what an earlier download left" in said(done)
    assert "each file has the size and the digest" in said(done)


@pytest.mark.slow
def test_a_plain_folder_to_carry(hub, bert, env, tmp_path):
    plain = tmp_path / "plain"
    done = vidvec("download", NAME, "--to", plain, env=env)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in plain.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"}
    assert (plain / "model.safetensors").read_bytes() == bert["model.safetensors"]
    assert not snapshot(tmp_path).exists()

    hub.requests.clear()
    assert vidvec("download", NAME, "--to", plain, env=env).returncode == 0
    assert hub.bodies() == []
    away = env | {"HF_HUB_OFFLINE": "1"}
    carried = shutil.copytree(plain, tmp_path / "carried")
    done = vidvec("download", carried, env=away)
    assert done.returncode == 0, done.stderr
    assert "each file has the size and the digest" in said(done)
    with (carried / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)
    done = vidvec("download", carried, env=away)
    assert done.returncode == 1
    assert f"has 1,000,000 bytes, expected {len(bert['model.safetensors']):,}" in said(done)
    done = vidvec("download", NAME, "--to", tmp_path, env=env)
    assert "holds something else: give a new or an empty folder" in said(done)


@pytest.mark.slow
def test_a_plain_folder_is_filled_from_the_cache(hub, bert, env, tmp_path):
    assert vidvec("download", NAME, env=env).returncode == 0
    away = env | {"HF_HUB_OFFLINE": "1"}
    done = vidvec("download", NAME, "--to", tmp_path / "plain", env=away)
    assert done.returncode == 0, done.stderr
    assert said(done).count("copied") == 3
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() == bert["model.safetensors"]


def test_a_folder_whose_download_was_stopped(hub, env, tmp_path):
    hub.busy = True
    assert vidvec("download", NAME, "--to", tmp_path / "plain", env=env).returncode == 1
    done = vidvec("download", tmp_path / "plain", env=env)
    assert done.returncode == 1
    assert f"is not whole: its download was stopped. Run `vidvec download {NAME} --to" in said(done)


def test_recipes_say_what_they_need(hub, env, tmp_path):
    recipes = [tmp_path / "first.toml", tmp_path / "second.toml"]
    for recipe in recipes:
        recipe.write_text(f'base = "base"\n[model]\ninit = "{NAME}"\n')
    done = vidvec("download", *recipes, "vidvec/few", NAME, env=env)
    assert done.returncode == 0, done.stderr
    assert "vidvec/few: needs nothing, it starts from scratch" in said(done)
    assert said(done).count("complete:") == 1
    assert len(hub.bodies("model.safetensors")) == 1
    # What the published recipes start from is not on this hub; the others still come.
    done = vidvec("download", "aiac2021/all", recipes[0], "aiac2021/jo1", env=env)
    assert done.returncode == 1
    assert "no model 'hfl/chinese-roberta-wwm-ext-large'" in said(done)
    assert said(done).count("not complete") == 2
    assert "did you mean the recipe 'aiac2021/job1'" in said(done)
    assert said(done).count("complete:") == 1


def test_two_models_do_not_go_into_one_folder(env, tmp_path):
    done = vidvec("download", NAME, "someone/other", "--to", tmp_path / "plain", env=env)
    assert "--to takes one model a run" in said(done)
    assert "nothing to fetch" in said(vidvec("download", env=env))


START = """
import sys, torch
from vidvec.config import load_recipe
from vidvec.data.corpus import Corpus
from vidvec.train.start import new_model
corpus, out, *sources = sys.argv[1:]
started = [new_model(load_recipe("base", [f"model.init={s}"]), Corpus(corpus)) for s in sources]
torch.save([{name: value.detach() for name, value in m.named_parameters()} for m in started], out)
"""


@pytest.mark.slow
def test_training_starts_from_a_downloaded_model_without_a_connection(hub, bert, env, tmp_path):
    plain, corpus, out = (tmp_path / name for name in ("plain", "corpus", "parameters.pt"))
    assert vidvec("download", NAME, env=env).returncode == 0
    assert vidvec("download", NAME, "--to", plain, env=env).returncode == 0
    write_corpus(corpus, made_videos(20))
    away = env | {"HF_HUB_OFFLINE": "1"}
    done = vidvec(corpus, out, NAME, plain, env=away, code=START)
    assert done.returncode == 0, done.stderr
    expected = load_file(snapshot(tmp_path) / "model.safetensors")
    for parameters in torch.load(out, weights_only=True):
        up = expected["bert.encoder.layer.1.intermediate.dense.weight"]
        assert torch.equal(parameters["encoder.blocks.1.up.weight"], up)
        words = parameters["encoder.word.weight"]
        assert torch.equal(words, expected["bert.embeddings.word_embeddings.weight"][: len(words)])
        assert len(words) == len(json.loads(bert["tokenizer.json"])["model"]["vocab"])


ENCODE = """
import sys, numpy as np
from vidvec.data.frames import open_frame_encoder
picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
by_name, by_folder = (open_frame_encoder(spec).encode([picture]) for spec in sys.argv[1:])
assert by_name.shape == (1, 16) and np.array_equal(by_name, by_folder)
"""


@pytest.mark.slow
def test_a_frame_encoder_is_fetched_too(hub, env, tmp_path):
    vit = tmp_path / "vit"
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(vit)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(vit)
    files = {path.name: path.read_bytes() for path in vit.iterdir()}
    hub.models["someone/vit"] = files | {"pytorch_model.bin": b"pickled"}
    done = vidvec("download", "hf:someone/vit", env=env)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in snapshot(tmp_path, "someone/vit").iterdir()} == set(files)
    away = env | {"HF_HUB_OFFLINE": "1"}
    run = vidvec("hf:someone/vit", f"hf:{vit}", env=away, code=ENCODE)
    assert run.returncode == 0, run.stderr
