"""What serving needs, and what it leaves behind."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile

import pytest

from vidvec.errors import MissingExtraError
from vidvec.search.server import running


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    running.require_libraries()
    monkeypatch.setattr(running, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(MissingExtraError, match=r"uvicorn is not installed.*vidvec\[serve\]"):
        running.require_libraries()


def test_what_a_killed_server_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders = {name: tmp_path / f"vidvec-serve-{name}" for name in ("dead", "alive", "young")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "upload.mp4").touch()
    for name in ("dead", "alive"):
        (folders[name] / "lock").touch()
    with (folders["alive"] / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with running._scratch() as mine:
            assert mine.parent == tmp_path
            assert not folders["dead"].exists()
            assert (folders["alive"] / "upload.mp4").exists()
            assert folders["young"].exists()  # its server may not have locked it yet
            with running._scratch():
                assert mine.exists()
    assert not mine.exists()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("vidvec.search.client", {"torch", "faiss", "pyarrow", "scipy", "fastapi", "av"}),
        ("vidvec.cli.serve", {"torch", "faiss", "pyarrow", "scipy", "fastapi", "av"}),
    ],
)
def test_what_is_light_stays_light(module, heavy):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
