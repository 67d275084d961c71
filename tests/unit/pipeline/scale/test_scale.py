"""What stages cost: hand-worked cases, how it grows, bad input; the simulated cluster beside it."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulate import Cluster, Trouble, training_hours
from vidvec.cli import app
from vidvec.config import load_recipe
from vidvec.errors import ConfigError
from vidvec.model.flops import encoder_flops
from vidvec.pipeline.scale.assumptions import load_assumptions
from vidvec.pipeline.scale.limits import limits
from vidvec.pipeline.scale.stages import stage_costs
from vidvec.recipe_files import toml_table

PLAIN = [
    "videos.seconds=100",
    "videos.frames_per_second=10",
    "videos.megabytes=20",
    "work.audio=false",
    "work.picture_gflops=0",
    "measured.decode_ms=3.5",
    "measured.file_ms=100",
    "machines.gpus=0",
    "machines.cores=10",
    "machines.cores_each=5",
    "machines.network_gbit=8",
]


def test_ingest_by_hand():
    # 100 s × 10 frames × 3.5 ms + 100 ms = 3.6 s of a core; 1,000 videos on 10 cores: 0.1 h.
    [ingest, *_] = stage_costs(1000, load_assumptions(None, PLAIN))
    assert ingest.bounds["decoding"] == pytest.approx(0.1)
    assert (ingest.bound_by, ingest.hours, ingest.machines) == ("decoding", pytest.approx(0.1), 2)
    # 32 frames × 1,536 numbers of two bytes, 300 bytes of text, 12,000 of pictures.
    assert ingest.written == 1000 * (32 * 1536 * 2 + 300 + 12_000)
    assert ingest.read == 20e9
    # Two machines read 1 GB/s each.
    assert ingest.bounds["network"] == pytest.approx((20e9 + ingest.written) / 2e9 / 3600)
    assert ingest.money == pytest.approx(0.1 * 10 * 0.04)
    slow = load_assumptions(None, [*PLAIN, "machines.network_gbit=0.08"])
    assert stage_costs(1000, slow)[0].bound_by == "network"


def test_pictures_cost_their_operations():
    given = load_assumptions(None, [*PLAIN, "work.picture_gflops=2", "machines.core_share=0.5"])
    [ingest, *_] = stage_costs(1000, given)
    # 32 × 2 GFLOP at 10 × 172 × 0.5 GFLOP/s for each video.
    assert ingest.bounds["frame encoder"] == pytest.approx(1000 * 64 / 860 / 3600)
    both = ingest.bounds["frame encoder"] + 0.1
    assert ingest.hours == pytest.approx(both)  # the same cores
    gpus = load_assumptions(None, [*PLAIN, "work.picture_gflops=2", "machines.gpus=1"])
    assert stage_costs(1000, gpus)[0].hours == pytest.approx(0.1)


def test_embedding_is_counted_as_the_model_says():
    given = load_assumptions(None, [*PLAIN, "videos.tokens=17"])
    embed = stage_costs(1e6, given)[2]
    shape = load_recipe("base").model.model_copy(update={"frame_size": 1536})
    rate = 10 * 172e9 * 0.45
    wanted = 1e6 * encoder_flops(shape, 32, 20) / rate / 3600
    assert embed.bounds["products"] == pytest.approx(wanted)
    assert embed.written == 1e6 * 256 * 4


def test_search_has_memory_for_all_and_cores_for_the_peak():
    given = load_assumptions(
        None, ["work.copies=3", "machines.memory_gb=100", "work.queries_per_second=10"]
    )
    search = stage_costs(1e9, given)[-1]
    assert search.written == 3 * 1e9 * (268 + 330)
    assert search.bounds["memory"] == pytest.approx(3 * 598 / 80)
    few = stage_costs(1000, given)[-1]
    assert (few.machines, few.bound_by) == (3, "copies")
    busy = load_assumptions(None, ["work.queries_per_second=1e6", "work.shard_videos=1e6"])
    # 1e6 queries × 0.57 ms in one shard of a million, half of each machine's 64 cores.
    assert stage_costs(1e6, busy)[-1].machines == pytest.approx(2 * 570 / 64)


@settings(max_examples=20)
@given(st.floats(1e3, 1e11), st.floats(1.5, 100))
def test_more_videos_cost_more_and_more_machines_take_less_time(videos, times):
    few, many = load_assumptions(), load_assumptions(None, [f"machines.cores={256 * times}"])
    for less, more in zip(stage_costs(videos, few), stage_costs(videos * times, few), strict=True):
        assert more.hours >= less.hours
        assert more.money >= less.money
        assert more.written >= less.written
    assert stage_costs(videos, many)[0].hours <= stage_costs(videos, few)[0].hours


def test_what_breaks_comes_in_order_and_moves_with_memory():
    small, large = load_assumptions(), load_assumptions(None, ["machines.memory_gb=2560"])
    found = limits(small)
    assert [limit.videos for limit in found] == sorted(limit.videos for limit in found)
    by_name = {limit.what: limit.videos for limit in limits(large)}
    opened = "one process with a corpus open"
    before = next(limit.videos for limit in found if limit.what == opened)
    assert by_name[opened] == pytest.approx(10 * before)


def test_a_failed_machine_sets_training_back():
    given = load_assumptions(None, ["machines.hours_between_failures=50", "machines.gpus=64"])
    pretrain = stage_costs(1e9, given)[1]
    plain = max(pretrain.bounds.values())
    runs = [training_hours(given, plain, seed) for seed in range(60)]
    assert pretrain.hours > 1.01 * plain
    assert pretrain.hours == pytest.approx(sum(runs) / len(runs), rel=0.03)


def test_without_trouble_the_simulated_cluster_takes_as_long_as_the_model_says():
    given = load_assumptions(None, ["machines.gpus=16", "machines.cores=512"])
    model = stage_costs(1e6, given)[0].hours
    run = Cluster(given, 1e6, 1e6 / 2000, Trouble("none"), seed=0)
    assert run.run() == pytest.approx(model, rel=0.03)
    assert (run.again, run.failures) == (0, 0)


def test_a_simulated_cluster_that_fails_loses_nothing():
    given = load_assumptions(None, ["machines.gpus=16", "machines.cores=512"])
    trouble = Trouble("often", mtbf_hours=1.0, repair_hours=0.1)
    run = Cluster(given, 1e7, 1e7 / 800, trouble, seed=1)
    hours = run.run()
    assert run.done == set(range(800))
    assert run.failures > 5
    assert run.again > 0
    assert hours > stage_costs(1e7, given)[0].hours


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("machines.gpuz=1", "machines has gpus, cores"),
        ("maschines.gpus=1", "sections are videos, work"),
        ("work.index=hnsw", "work.index"),
        ("videos.seconds=0", "videos.seconds"),
        ("measured.query_ms.sq8=-1", "measured.query_ms.sq8"),
        ("work.recipe=nowhere", "nowhere"),
    ],
)
def test_wrong_numbers_are_named(setting, words):
    with pytest.raises(ConfigError, match=words):
        load_assumptions(None, [setting])


def test_the_command_prints_and_takes_back_its_numbers(tmp_path, capsys):
    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as status:
            app(["plan", *arguments])
        assert status.value.code == 0
        return capsys.readouterr().out

    text = said("--videos", "1e9", "--gpus", "64")
    for word in ("ingest", "pretrain", "embed", "index", "search", "would break first", "10 G"):
        assert word in text
    first = json.loads(said("--videos", "1e9", "--gpus", "64", "--json"))
    assert first["assumptions"]["machines"]["gpus"] == 64
    given = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in first["assumptions"].items()
    }
    (tmp_path / "own.toml").write_text(toml_table(given))
    assert tomllib.loads(toml_table(given)) == given
    assert (
        json.loads(said("--videos", "1e9", "--assume", str(tmp_path / "own.toml"), "--json"))
        == first
    )
