"""What users can rely on: names of the package, commands and options, a light start."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import vidvec
from vidvec.cli import app

PROJECT = Path(__file__).resolve().parents[2]
NAMES = [
    "Client",
    "Corpus",
    "Encoder",
    "ExactIndex",
    "IngestOptions",
    "Pair",
    "Recipe",
    "SearchIndex",
    "Vectors",
    "Video",
    "VidvecError",
    "build_index",
    "compress",
    "distill",
    "embed_corpus",
    "evaluate",
    "export_vectors",
    "finetune",
    "fuse",
    "import_vectors",
    "ingest",
    "load_recipe",
    "open_index",
    "pretrain",
    "read_video",
    "soup",
]
COMMANDS = {
    "ingest": [
        *["SOURCE", "CORPUS", "--encoder", "--encoder-precision", "--keyframes"],
        *["--size", "--mean", "--std", "--output", "--resize", "--audio", "--asr", "--ocr"],
        *["--tokenizer", "--pairs", "--tag-list", "--strict", "--workers"],
        *["--file-seconds", "--file-memory-mb"],
        *["--fetch", "--fetch-private", "--fetch-max-mb", "--fetch-seconds", "--keep", "--update"],
        *["--on", "--on-workers", "--on-cpus", "--on-gpus", "--part-rows"],
    ],
    "reencode": [
        *["CORPUS", "--encoder", "--encoder-precision", "--size", "--mean", "--std", "--output"],
        *["--resize", "--name", "--restart", "--strict", "--workers"],
    ],
    "compact": ["CORPUS"],
    "inspect": [
        *["CORPUS", "--html", "--sample", "--duplicates", "--no-duplicates", "--threshold"],
        *["--rejects", "--json", "--verify"],
    ],
    "labels": [
        *["CORPUS", "--ratings", "--vectors", "--split", "--duplicates", "--no-duplicates"],
        *["--csv", "--ranks", "--html", "--json"],
    ],
    "doctor": ["PATHS", "--folder", "--offline", "--json"],
    "pretrain": [
        *["CORPUS", "RUN", "--recipe", "--size", "--init", "--seed", "--features", "--set"],
        "--restart",
    ],
    "finetune": [
        *["CORPUS", "RUN", "--from", "--recipe", "--size", "--init", "--seed", "--features"],
        *["--adapter", "--fold", "--set", "--restart"],
    ],
    "distill": [
        *["CORPUS", "VECTORS", "RUN", "--from", "--recipe", "--size", "--init", "--seed"],
        *["--features", "--set", "--restart"],
    ],
    "pseudo-label": [
        *["CORPUS", "VECTORS", "OUT", "--neighbours", "--positives", "--graded", "--random"],
        *["--split", "--seed", "--check", "--from", "--recipe", "--set", "--seeds", "--json"],
    ],
    "tune": [
        *["RECIPE", "CORPUS", "SEARCH", "--from", "--stages", "--trials", "--hours", "--workers"],
        *["--features", "--set", "--restart", "--json"],
    ],
    "embed": [
        *["CHECKPOINT", "CORPUS", "VECTORS", "--parts", "--backend", "--without", "--size"],
        *["--on", "--on-workers", "--on-cpus", "--on-gpus", "--part-rows"],
    ],
    "evaluate": [
        *["VECTORS", "--corpus", "--split", "--without", "--ablation", "--backend", "--worst"],
        *["--json", "--scorecard", "--against", "--groups", "--copies", "--altered", "--positive"],
        *["--compare", "--sizes", "--dtypes", "--candidates"],
    ],
    "fuse": [
        *["MEMBERS", "--out", "--weights", "--size", "--method", "--fit-weights", "--corpus"],
        *["--split", "--report", "--html", "--workers", "--on", "--json"],
    ],
    "soup": ["RUNS", "--out", "--corpus", "--split", "--greedy", "--json"],
    "compress": ["VECTORS", "OUT", "--size", "--dtype", "--json"],
    "index": [
        *["VECTORS", "INTO", "--corpus", "--kind", "--restart", "--to", "--shards", "--roll-back"],
        "--json",
    ],
    "search": [
        *["VECTORS", "--index", "--id", "--title", "--file", "--unlike-id", "--words"],
        *["-k", "--k", "--tag"],
        *["--category", "--language", "--min-seconds", "--max-seconds", "--after", "--before"],
        *["--exact", "--explain", "--corpus", "--encoder", "--json"],
    ],
    "calibrate": [
        *["VECTORS", "--corpus", "--pairs", "--positive", "--precision", "--split", "--json"]
    ],
    "dedup": [
        *["VECTORS", "--threshold", "--precision", "--corpus", "--csv", "--html", "--workers"],
        *["--on", "--parts", "--json"],
    ],
    "map": [
        *["VECTORS", "--out", "--points", "--themes", "--method", "--corpus", "--seed", "--json"]
    ],
    "serve": [
        *["VECTORS", "--index", "--corpus", "--encoder", "--host", "--port", "--workers"],
        "--api-key",
        *["--max-upload-mb", "--rate", "--timeout", "--log-format", "--log-queries"],
    ],
    "import-vectors": [
        *["SOURCE", "VECTORS", "--ids", "--name", "--id-column", "--vector-column", "--corpus"],
        *["--strict", "--json"],
    ],
    "export-vectors": ["VECTORS", "OUT", "--to", "--corpus"],
    "push": ["FOLDER", "URL"],
    "pull": ["URL", "FOLDER"],
    "submit": ["SUBMISSION", "--vectors", "--data", "--check", "--strict"],
    "plan": ["--videos", "--gpus", "--cores", "--assume", "--set", "--json"],
    "run": ["PLAN", "--data", "--out", "--set", "--strict", "--dry-run"],
    "bench": ["CORPUS", "--profile", "--recipe", "--set", "--steps", "--json"],
    "demo": ["FOLDER", "--videos", "--seed"],
    "make-competition": ["FOLDER", "--videos", "--seed"],
    "import-checkpoint": ["FILE", "CHECKPOINT", "--recipe", "--bert", "--tag-list", "--set"],
    "check-reference": ["FOLDER", "--recipe", "--set", "--all"],
    "recipes": [],
    "download": ["SOURCES", "--to"],
}
HEAVY = ["torch", "pyarrow", "scipy", "cv2", "av", "transformers", "onnxruntime", "faiss"]
HEAVY += ["optuna", "sqlalchemy"]


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after some code."""
    shown = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    return set(done.stderr.split())


def test_the_public_names_are_these_and_sorted():
    assert vidvec.__all__ == NAMES
    assert sorted(NAMES) == NAMES
    assert set(NAMES) <= set(dir(vidvec))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_what_it_says(name):
    found = getattr(vidvec, name)
    assert callable(found)
    assert found.__module__.startswith("vidvec.")
    assert found.__doc__
    assert getattr(import_module(found.__module__), found.__name__) is found


def test_public_names_stay_what_they_are():
    # Importing a package binds it as an attribute of vidvec, which would hide a function of the
    # same name from the second look on.
    first = {name: getattr(vidvec, name) for name in NAMES}
    assert {name: getattr(vidvec, name) for name in NAMES} == first
    folders = {path.name for path in (PROJECT / "vidvec").iterdir()}
    assert not folders & set(NAMES)


def test_every_public_name_is_described():
    assert vidvec.__doc__ is not None
    # Options of ingest are described where it is.
    assert [name for name in NAMES if name not in vidvec.__doc__] == ["IngestOptions"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'encode'"):
        _ = vidvec.encode


def test_the_version_is_the_projects():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert vidvec.__version__ == project["version"]
    assert project["scripts"]["vidvec"] == "vidvec.cli:main"


def test_importing_vidvec_loads_nothing_heavy():
    loaded = loaded_after("import vidvec; vidvec.Video; vidvec.VidvecError")
    assert not loaded & {*HEAVY} - {"torch"}
    assert not loaded & {"torch", "rich", "cyclopts", "pydantic"}


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"from vidvec.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    loaded = loaded_after(code)
    assert "vidvec.cli" in loaded
    assert not loaded & {*HEAVY}


def test_recipes_are_listed_without_loading_torch():
    code = "from vidvec.cli import main\ntry: main(['recipes'])\nexcept SystemExit: pass"
    assert "torch" not in loaded_after(code)


def test_the_commands_are_these():
    assert [name for name in app if not name.startswith("-")] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_are_these(command):
    arguments = app[command].assemble_argument_collection()
    names = [name for argument in arguments for name in argument.names]
    assert [name for name in names if name != "*"] == COMMANDS[command]  # a group's own name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_says_what_it_does(command):
    assert app[command].help
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help, argument.names
