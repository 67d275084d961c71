"""Stages as real processes: order, devices, skipping, failures, locks, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidvec.errors import UsageError
from vidvec.pipeline.estimate import Estimate
from vidvec.pipeline.plan import Stage
from vidvec.pipeline.run import seconds_left
from vidvec.pipeline.runner import Runner, State, is_done, locked, wanted

# A stage of these tests: sleeps, writes who ran when into its output, exits as told.
SCRIPT = """
import json, os, sys, time
output, seconds, status = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
began = time.monotonic()
time.sleep(seconds)
print("line of", output)
if status:
    print("it went wrong")
    sys.exit(status)
facts = {"began": began, "ended": time.monotonic(), "device": os.environ.get("DEVICE")}
open(output, "w").write(json.dumps(facts))
"""
COMMAND = (sys.executable, "-c", SCRIPT)
PROJECT = Path(__file__).resolve().parents[3]


def stage(out: Path, name: str, *needs: str, seconds: float = 0.0, status: int = 0, key="k" * 12):
    output = out / f"{name}-{key[:2]}.json"
    return Stage(name, (str(output), str(seconds), str(status)), output, key, needs)


def run(out: Path, stages: list[Stage], devices=({},)) -> tuple[State, list[str]]:
    state, told = State(), []
    with locked(out) as lock:
        runner = Runner(out, lock, devices, COMMAND)
        runner.run(stages, state, lambda _, name: told.append(name) if name else None)
    return state, told


def facts(each: Stage) -> dict:
    return json.loads(each.output.read_text())


def test_stages_run_in_order_and_are_skipped_the_second_time(tmp_path):
    stages = [stage(tmp_path, "a"), stage(tmp_path, "b", "a"), stage(tmp_path, "c", "b")]
    state, told = run(tmp_path, stages)
    assert told == ["a", "a", "b", "b", "c", "c"]
    assert set(state.done) == {"a", "b", "c"}
    assert facts(stages[0])["ended"] <= facts(stages[1])["began"]
    times = [each.output.stat().st_mtime_ns for each in stages]
    state, told = run(tmp_path, stages)
    assert (told, state.skipped) == ([], ["a", "b", "c"])
    assert [each.output.stat().st_mtime_ns for each in stages] == times


def test_another_key_runs_again_and_keeps_what_was_there(tmp_path):
    old = stage(tmp_path, "a", key="1" * 12)
    run(tmp_path, [old])
    new = stage(tmp_path, "a", key="2" * 12)
    state, _ = run(tmp_path, [new])
    assert not state.skipped
    assert old.output.exists()
    state, _ = run(tmp_path, [old])
    assert state.skipped == ["a"]


def test_an_output_that_is_gone_is_made_again_only_where_it_is_needed(tmp_path):
    stages = [stage(tmp_path, "a"), stage(tmp_path, "b", "a"), stage(tmp_path, "c", "b")]
    run(tmp_path, stages)
    stages[0].output.unlink()
    assert run(tmp_path, stages)[1] == []
    stages[2].output.unlink()
    assert run(tmp_path, stages)[1] == ["c", "c"]
    stages[1].output.unlink()
    stages[2].output.unlink()
    assert [each.name for each in wanted(stages, lambda s: is_done(tmp_path, s))] == ["a", "b", "c"]


def test_a_failure_stops_only_what_needs_it(tmp_path):
    stages = [
        stage(tmp_path, "a"),
        stage(tmp_path, "bad", "a", status=3),
        stage(tmp_path, "after", "bad"),
        stage(tmp_path, "later", "after"),
        stage(tmp_path, "other", "a"),
    ]
    state, _ = run(tmp_path, stages)
    assert set(state.done) == {"a", "other"}
    assert state.blocked == {"after": "bad", "later": "bad"}
    failure = state.failed["bad"]
    assert failure.status == 3
    assert failure.tail == [f"line of {stages[1].output}", "it went wrong"]
    assert failure.command.startswith("vidvec ")
    assert failure.log.read_text().endswith("it went wrong\n")
    mended = [*stages]
    mended[1] = stage(tmp_path, "bad", "a")
    state, told = run(tmp_path, mended)
    assert told == ["bad", "bad", "after", "after", "later", "later"]


def test_a_stage_that_makes_nothing_has_failed(tmp_path):
    lying = Stage("a", (str(tmp_path / "elsewhere"), "0", "0"), tmp_path / "output", "k" * 12)
    state, _ = run(tmp_path, [lying])
    assert "did not make" in state.failed["a"].tail[-1]


def test_stages_share_the_devices_that_are_there(tmp_path):
    devices = [{"DEVICE": "0"}, {"DEVICE": "1"}]
    stages = [stage(tmp_path, f"s{n}", seconds=0.6) for n in range(4)]
    run(tmp_path, stages, devices)
    ran = [facts(each) for each in stages]
    assert sorted(each["device"] for each in ran) == ["0", "0", "1", "1"]
    for device in ("0", "1"):  # never two at once on one device
        first, second = sorted(
            (each for each in ran if each["device"] == device), key=lambda each: each["began"]
        )
        assert first["ended"] <= second["began"]
    overlapping = [
        (a, b) for a in ran for b in ran if a is not b and a["began"] < b["ended"] < a["ended"]
    ]
    assert overlapping


def test_a_folder_in_use_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match=str(os.getpid())), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


RUNNER = """
import sys
from pathlib import Path
from tests.unit.pipeline.test_runner import run, stage
out = Path(sys.argv[1])
run(out, [stage(out, "a"), stage(out, "b", "a", seconds=float(sys.argv[2]))])
"""


def test_a_killed_runner_takes_its_stage_along_and_the_next_one_does_the_rest(tmp_path):
    command = [sys.executable, "-c", RUNNER, str(tmp_path), "600"]
    runner = subprocess.Popen(command, cwd=PROJECT)
    waiting = time.monotonic() + 60
    while not (tmp_path / "a-kk.json").exists() or not children(runner.pid):
        assert time.monotonic() < waiting
        time.sleep(0.05)
    time.sleep(0.5)
    (child,) = children(runner.pid)
    with pytest.raises(UsageError, match=str(runner.pid)), locked(tmp_path):
        pass
    runner.kill()
    runner.wait()
    os.kill(child, signal.SIGKILL)  # this stage is no vidvec, which would die of itself
    waiting = time.monotonic() + 10
    while time.monotonic() < waiting:
        try:
            with locked(tmp_path):
                break
        except UsageError:
            time.sleep(0.05)
    state, _ = run(tmp_path, [stage(tmp_path, "a"), stage(tmp_path, "b", "a")])
    assert state.skipped == ["a"]
    assert set(state.done) == {"a", "b"}


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.mark.skipif(sys.platform != "linux", reason="the wish to die with a parent is Linux's")
def test_a_command_dies_with_the_runner_that_started_it(tmp_path):
    parent = (
        "import os, subprocess, sys, time\n"
        "code = 'from vidvec.pipeline.child import bind_to_parent; import time; bind_to_parent(); "
        "print(1, flush=True); time.sleep(600)'\n"
        "env = {**os.environ, 'VIDVEC_PARENT': str(os.getpid())}\n"
        "child = subprocess.Popen([sys.executable, '-c', code], env=env, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    runner = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    child = int(runner.stdout.readline())
    assert alive(child)
    runner.kill()
    runner.wait()
    waiting = time.monotonic() + 10
    while alive(child) and time.monotonic() < waiting:
        time.sleep(0.05)
    assert not alive(child)


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def test_time_left_by_hand(tmp_path):
    stages = [stage(tmp_path, name) for name in "abcd"]
    guesses = {name: Estimate(10.0, 0.0) for name in "abcd"}
    assert seconds_left(stages, guesses, State(), 0.0) == 40
    # a took twice its guess, so that b, c and d will.
    state = State(done={"a": 20.0})
    assert seconds_left(stages, guesses, state, 0.0) == 60
    # b has done a quarter in 3 s: 9 s more, whatever the guess.
    state.running, state.started = {"b": 0.25}, {"b": 100.0}
    assert seconds_left(stages, guesses, state, 103.0) == pytest.approx(9 + 40)
    # What was done before this run says nothing about its pace.
    assert seconds_left(stages, guesses, State(done={"a": 20.0}, skipped=["a"]), 0.0) == 30
