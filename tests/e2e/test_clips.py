"""Real clips of many containers and codecs, through the same commands that a user runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidvec import Corpus, Encoder, Video
from vidvec.data.lists import frequent_tags

pytestmark = [pytest.mark.shared, pytest.mark.slow]
CHANCE = 0.13  # that a Panda clip drawn from another group shares the topic
DUPLICATES = 8  # clips with an altered copy among the others


def vidvec(*arguments: object) -> str:
    command = [sys.executable, "-m", "vidvec.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clips(shared) -> dict[str, dict]:
    lines = [
        line
        for table in sorted((shared / "data" / "videos").glob("*/meta.jsonl"))
        for line in table.read_text("utf-8").splitlines()
    ]
    return {clip["id"]: clip for clip in map(json.loads, lines)}


@pytest.fixture(scope="module")
def corpus(shared, tmp_path_factory) -> Corpus:
    path = tmp_path_factory.mktemp("clips") / "corpus"
    videos = shared / "data" / "videos"
    model = shared / "data" / "models" / "mobilenet_v2_1.0_224.onnx"
    pairs = videos / "pairs_rule_graded.tsv"
    printed = vidvec("ingest", videos, path, "--encoder", f"onnx:{model}", "--pairs", pairs)
    opened = Corpus(path)
    assert f"{len(opened)} videos" in printed
    return opened


@pytest.fixture(scope="module")
def trained(corpus) -> Path:
    folder = corpus.path.parent
    few = ("--recipe", "vidvec/few")
    vidvec("pretrain", corpus.path, folder / "pretrained", *few)
    vidvec("finetune", corpus.path, folder / "tuned", "--from", folder / "pretrained", *few)
    return folder / "tuned"


def nearest(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    return cosines


def copies_found(ids: list[str], vectors: np.ndarray, clips: dict[str, dict]) -> int:
    groups = [clips[video]["group"] for video in ids]
    first = nearest(vectors).argmax(1)
    altered = [row for row, group in enumerate(groups) if group.startswith("dup:")]
    assert len(altered) == DUPLICATES
    return sum(groups[first[row]] == groups[row] for row in altered)


def topic_precision(ids: list[str], vectors: np.ndarray, clips: dict[str, dict]) -> float:
    cosines = nearest(vectors)
    panda = [row for row, video in enumerate(ids) if clips[video]["source"] == "panda70m"]
    hits = []
    for row in panda:
        group = clips[ids[row]]["group"]
        others = [other for other in panda if clips[ids[other]]["group"] != group]
        found = max(others, key=lambda other: cosines[row, other])
        hits.append(clips[ids[found]]["category"] == clips[ids[row]]["category"])
    return float(np.mean(hits))


def test_every_clip_is_in_or_named(corpus, clips):
    lines = (corpus.path / "rejects.jsonl").read_text("utf-8").splitlines()
    rejected = [json.loads(line)["id"] for line in lines]
    assert sorted([*corpus.ids, *rejected]) == sorted(clips)
    assert len(corpus) > 0.95 * len(clips)
    assert corpus.frame_size == 1280


def test_frames_are_one_a_second(corpus, clips):
    for row, video in enumerate(corpus.ids):
        known = clips[video]["frames"] / clips[video]["fps"]  # the header's duration may lie
        times = corpus.video(row).frame_times_seconds
        assert len(times) == corpus.frame_counts[row]
        assert abs(len(times) - min(32, max(1, np.ceil(known)))) <= 1, video
        assert (np.diff(times) > 0).all()


def test_frames_alone_find_copies_and_topics_before_training(corpus, clips, capsys):
    means = np.stack([corpus.frames(row).astype(np.float32).mean(0) for row in range(len(corpus))])
    copies, topics = (
        copies_found(corpus.ids, means, clips),
        topic_precision(corpus.ids, means, clips),
    )
    print(f"plain mean of frame features: {copies} of 8 copies, topic precision {topics:.3f}")
    assert copies >= 7
    assert topics > 0.35


@pytest.mark.parametrize("frames_only", [True, False], ids=["frames", "frames and title"])
def test_training_keeps_copies_and_topics(corpus, trained, clips, frames_only):
    videos = [corpus.video(row) for row in range(len(corpus))]
    if frames_only:
        videos = [Video(id=video.id, frames=video.frames) for video in videos]
    vectors = Encoder.load(trained).encode(videos)
    copies = copies_found(corpus.ids, vectors, clips)
    topics = topic_precision(corpus.ids, vectors, clips)
    print(f"trained: {copies} of 8 copies, topic precision {topics:.3f}")
    assert copies >= 7
    assert topics > 1.5 * CHANCE


def test_commands_go_on_from_there(corpus, trained):
    vectors = corpus.path.parent / "vectors"
    vidvec("embed", trained, corpus.path, vectors)
    figures = json.loads(
        vidvec("evaluate", vectors, "--corpus", corpus.path, "--split", "all", "--json")
    )
    assert figures[str(vectors)]["pairs"] == len(corpus.pairs())
    hits = json.loads(vidvec("search", vectors, "--id", corpus.ids[0], "-k", 3, "--json"))
    assert len(hits) == 3
    hits = json.loads(vidvec("search", vectors, "--title", "a person cooking", "--json"))
    assert len(hits) == 10
    page = corpus.path.parent / "page.html"
    assert str(len(corpus)) in vidvec("inspect", corpus.path, "--html", page)
    assert page.stat().st_size > 100_000  # it carries pictures


def test_tags_of_one_clip_only_are_not_learned(corpus):
    assert set(frequent_tags(corpus)) <= {"again", "help", "walk"}
