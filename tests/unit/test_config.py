"""Recipes: what is read, what is refused and how it is said, and the way back to TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from vidvec.config import (
    FinetuneConfig,
    ModelConfig,
    PhaseConfig,
    PretrainConfig,
    Recipe,
    load_recipe,
)
from vidvec.errors import ConfigError
from vidvec.recipe_files import recipe_names

PARTS = [
    *["frames", "frame_embeddings", "audio", "audio_embeddings", "text_kinds", "pool"],
    *["projection", "tag_head", "mlm_head", "mfm_head", "mam_head"],
    "match_head",
]
rates = st.floats(0, 1e6, allow_nan=False)
shares = st.floats(0, 1)
counts = st.integers(1, 10**9)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
groups = st.lists(st.lists(names, max_size=3).map(tuple), max_size=3).map(tuple)

recipes = st.builds(
    Recipe,
    name=st.text(st.characters(exclude_categories=["Cs"])),
    seed=st.integers(0, 2**63 - 1),
    model=st.builds(
        ModelConfig,
        init=st.text(st.characters(exclude_categories=["Cs"])),
        embedding_size=counts,
        layer_norm_eps=st.floats(1e-30, 1),
        dropout=shares,
        order=st.sampled_from(["cls_first", "frames_first"]),
        count_padding=st.booleans(),
    ),
    pretrain=st.builds(
        PretrainConfig,
        tag_weight=rates,
        mlm_rate=shares,
        epochs=counts,
        parts=groups,
        then=st.builds(PhaseConfig, epochs=st.integers(0, 9), parts=groups),
    ),
    finetune=st.builds(
        FinetuneConfig,
        learning_rate=rates,
        high_rate_parts=st.lists(st.sampled_from(PARTS)).map(tuple),
        rank_normalise=st.booleans(),
        split=st.sampled_from(["clean", "published"]),
    ),
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def refusal(source: str | Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(source, overrides)
    return str(caught.value)


@given(recipe=recipes)
def test_a_recipe_survives_the_way_through_toml(recipe, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    path.write_text(recipe.to_toml(), "utf-8")
    again = load_recipe(path)
    assert again == recipe
    assert again.hash == recipe.hash


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_loads_and_has_its_name(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.model_validate(tomllib.loads(recipe.to_toml())) == recipe


def test_of_several_bases_the_later_wins(tmp_path):
    write(tmp_path / "low.toml", 'name = "low"\n[model]\nhidden_size = 64\nheads = 4\nlayers = 5\n')
    write(tmp_path / "high.toml", "seed = 5\n[model]\nhidden_size = 32\n")
    path = write(tmp_path / "both.toml", 'base = ["low", "high"]\n[model]\nlayers = 3\n')
    recipe = load_recipe(path)
    assert (recipe.name, recipe.seed) == ("low", 5)
    assert (recipe.model.hidden_size, recipe.model.heads, recipe.model.layers) == (32, 4, 3)


def test_a_recipe_goes_by_the_path_of_its_file_too():
    names = ("recipes/aiac2021/job2.toml", "aiac2021/job2.toml", "recipes/aiac2021/job2")
    assert {load_recipe(name) for name in names} == {load_recipe("aiac2021/job2")}


def test_a_plan_is_no_recipe(tmp_path):
    path = write(tmp_path / "plan.toml", 'jobs = ["base"]\n')
    assert "vidvec run" in refusal(path)


def test_an_unknown_key_of_the_second_phase_is_named():
    assert "did you mean pretrain.then.epochs?" in refusal("base", "pretrain.then.epohcs=1")


def test_a_stages_hash_changes_with_what_the_stage_reads():
    recipe = load_recipe("base")
    for override, stages in {
        "finetune.epochs=3": {"finetune"},
        "pretrain.epochs=3": {"pretrain"},
        "pretrain.then.epochs=3": {"pretrain"},
        "model.pool=attention": {"pretrain", "finetune"},
        "seed=3": {"pretrain", "finetune"},
        "name=other": set(),
    }.items():
        other = load_recipe("base", [override])
        changed = {
            s for s in ("pretrain", "finetune") if other.stage_hash(s) != recipe.stage_hash(s)
        }
        assert changed == stages


def test_the_list_of_recipes_leaves_out_sizes():
    assert "base" in recipe_names()
    assert "aiac2021/tiny-job5" in recipe_names()
    assert not [name for name in recipe_names() if "/_" in name]
    assert "demo/attention" in recipe_names()
    assert not [name for name in recipe_names() if name.startswith("sizes/")]
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize(
    ("size", "hidden", "layers", "heads", "ffn"),
    [
        ("tiny", 128, 2, 2, 512),
        ("small", 384, 6, 6, 1536),
        ("base", 768, 12, 12, 3072),
        ("large", 1024, 24, 16, 4096),
    ],
)
def test_a_size_names_its_shape(size, hidden, layers, heads, ffn):
    model = load_recipe("base", [f"model.size={size}"]).model
    assert (model.hidden_size, model.layers, model.heads, model.ffn_size) == (
        hidden,
        layers,
        heads,
        ffn,
    )


def test_numbers_beside_a_size_win_over_it(tmp_path):
    path = write(tmp_path / "a.toml", '[model]\nsize = "tiny"\nlayers = 3\n')
    model = load_recipe(path).model
    assert (model.hidden_size, model.layers) == (128, 3)
    model = load_recipe("base", ["model.layers=3", "model.size=tiny"]).model
    assert (model.hidden_size, model.layers) == (128, 3)


def test_a_size_wins_over_the_numbers_of_a_resolved_recipe(tmp_path):
    resolved = write(tmp_path / "recipe.toml", load_recipe("base").to_toml())
    assert load_recipe(resolved, ["model.size=tiny"]).model.hidden_size == 128
    child = write(tmp_path / "child.toml", 'base = "recipe"\n[model]\nsize = "large"\n')
    assert load_recipe(child).model.layers == 24


def test_a_recipe_says_only_how_it_differs_from_its_base(tmp_path):
    write(tmp_path / "one.toml", 'base = "base"\nseed = 7\n[finetune]\nepochs = 3\n')
    folder = tmp_path / "more"
    folder.mkdir()
    write(folder / "two.toml", 'base = "../one.toml"\n[finetune]\nbatch_size = 5\n')
    three = write(folder / "three.toml", 'base = "two"\n[finetune]\nepochs = 9\n')
    recipe = load_recipe(three)
    assert (recipe.seed, recipe.finetune.epochs, recipe.finetune.batch_size) == (7, 9, 5)
    assert recipe.finetune.learning_rate == load_recipe("base").finetune.learning_rate
    assert recipe.pretrain == load_recipe("base").pretrain


def test_a_base_is_looked_for_beside_the_recipe_first(tmp_path, monkeypatch):
    write(tmp_path / "base.toml", "seed = 11\n")
    child = write(tmp_path / "child.toml", 'base = "base"\n')
    monkeypatch.chdir("/")
    assert load_recipe(child).seed == 11


def test_recipes_that_are_each_others_base_are_refused(tmp_path):
    first = write(tmp_path / "first.toml", 'base = "second"\n')
    write(tmp_path / "second.toml", 'base = "first"\n')
    said = refusal(first)
    assert "each other's base" in said
    assert said.count("first.toml") == 2
    assert "second.toml" in said


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=5", lambda r: r.seed == 5),
        ("name=five", lambda r: r.name == "five"),
        ('name="5"', lambda r: r.name == "5"),
        ("name=", lambda r: r.name == ""),
        ("name=a = b", lambda r: r.name == "a = b"),
        ("model.dropout=0", lambda r: r.model.dropout == 0.0),
        ("model.dropout=2.5e-1", lambda r: r.model.dropout == 0.25),
        ("model.count_padding=true", lambda r: r.model.count_padding is True),
        ("model.pool=attention", lambda r: r.model.pool == "attention"),
        ("model.init=hfl/chinese-roberta", lambda r: r.model.init == "hfl/chinese-roberta"),
        (" finetune.epochs = 2 ", lambda r: r.finetune.epochs == 2),
        ("finetune.high_rate_parts=[]", lambda r: r.finetune.high_rate_parts == ()),
        (
            'finetune.high_rate_parts=["frames", "pool"]',
            lambda r: r.finetune.high_rate_parts == ("frames", "pool"),
        ),
    ],
)
def test_overrides_of_each_type(override, read):
    assert not read(load_recipe("base"))
    assert read(load_recipe("base", [override]))


def test_the_last_of_two_overrides_wins():
    assert load_recipe("base", ["seed=1", "finetune.epochs=2", "seed=3"]).seed == 3


@pytest.mark.parametrize("override", ["seed", "=3", " =3", ""])
def test_an_override_that_is_none(override):
    said = refusal("base", override)
    assert repr(override) in said
    assert "section.key=value" in said


@pytest.mark.parametrize(
    ("override", "key", "nearest"),
    [
        ("sed=1", "sed", "seed"),
        ("modle.size=tiny", "modle", "model"),
        ("model.droput=0.1", "model.droput", "model.dropout"),
        ("pretrain.mlm_weigth=0", "pretrain.mlm_weigth", "pretrain.mlm_weight"),
        ("pretrain.epoch=3", "pretrain.epoch", "pretrain.epochs"),
        ("finetune.splits=clean", "finetune.splits", "finetune.split"),
    ],
)
def test_an_unknown_key_names_the_nearest(override, key, nearest):
    said = refusal("base", override)
    assert f"unknown key {key}; did you mean {nearest}?" in said


def test_a_key_like_no_other_lists_those_of_its_section():
    said = refusal("base", "finetune.zzzzzz=1")
    assert "unknown key finetune.zzzzzz; known: " in said
    assert ", epochs, batch_size, " in said
    assert "mlm_weight" not in said


def test_pretraining_keys_are_unknown_to_finetuning():
    assert "unknown key finetune.mlm_rate" in refusal("base", "finetune.mlm_rate=0.2")


def test_all_that_is_wrong_is_said_at_once():
    said = refusal("base", "sed=1", "model.dropout=2", "finetune.epochs=0")
    assert "sed" in said
    assert "model.dropout" in said
    assert "finetune.epochs" in said


@pytest.mark.parametrize(
    ("override", "key", "found"),
    [
        ("seed=-1", "seed", "-1"),
        ("seed=9223372036854775808", "seed", "9223372036854775808"),
        ("seed=1.5", "seed", "1.5"),
        ("name=3", "name", "3"),
        ("model.dropout=1.01", "model.dropout", "1.01"),
        ("model.dropout=-0.1", "model.dropout", "-0.1"),
        ("model.hidden_size=0", "model.hidden_size", "0"),
        ("model.max_tokens=3", "model.max_tokens", "3"),
        ("model.embedding_size=0", "model.embedding_size", "0"),
        ("model.layer_norm_eps=0.0", "model.layer_norm_eps", "0.0"),
        ("model.pool=max", "model.pool", "'max'"),
        ("model.order=last", "model.order", "'last'"),
        ("model.size=huge", "model.size", "'huge'"),
        ("model.size.x=1", "model.size", "{'x': 1}"),
        ("model=3", "model", "3"),
        ("finetune=[]", "finetune", "[]"),
        ("pretrain.epochs=soon", "pretrain.epochs", "'soon'"),
        ("pretrain.learning_rate=nan", "pretrain.learning_rate", "nan"),
        ("pretrain.tag_weight=inf", "pretrain.tag_weight", "inf"),
        ("pretrain.mfm_rate=1.5", "pretrain.mfm_rate", "1.5"),
        ("pretrain.adam_eps=0", "pretrain.adam_eps", "0"),
        ("pretrain.videos=some", "pretrain.videos", "'some'"),
        ('finetune.high_rate_parts=["pol"]', "finetune.high_rate_parts.0", "'pol'"),
        ("finetune.evaluate_every=-1", "finetune.evaluate_every", "-1"),
    ],
)
def test_a_value_out_of_range_names_the_key_and_what_was_found(override, key, found):
    said = refusal("base", override)
    assert key in said
    assert found in said


def test_numbers_that_do_not_fit_each_other():
    said = refusal("base", "model.heads=5")
    assert "hidden_size 384" in said
    assert "heads 5" in said
    said = refusal("base", "model.max_frames=513")
    assert "max_frames 513" in said
    assert "max_positions 512" in said
    assert "max_tokens 40" in refusal("base", "model.max_tokens=40", "model.max_positions=39")


def test_a_recipe_that_is_not_there_names_the_nearest():
    said = refusal("bse")
    assert "no recipe 'bse'; did you mean 'base'?" in said
    assert "demo/attention" in said


def test_a_missing_base_is_named(tmp_path):
    assert "'nowhere'" in refusal(write(tmp_path / "a.toml", 'base = "nowhere"\n'))


def test_a_file_that_is_not_toml_is_named(tmp_path):
    path = write(tmp_path / "a.toml", "seed = = 3\n")
    assert f"{path} is not TOML" in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030", "latin-1"])
def test_a_file_in_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "a.toml"
    path.write_bytes('name = "视频é"\n'.encode(encoding, "replace"))
    assert f"{path} is not TOML" in refusal(path)


def test_a_size_set_to_something_else_in_a_file(tmp_path):
    assert "'huge'" in refusal(write(tmp_path / "a.toml", '[model]\nsize = "huge"\n'))


def other(value: object) -> object:
    """Another value that fits wherever ``value`` does."""
    choices = {
        "bert": "modern",
        "small": "large",
        "cls_first": "frames_first",
        "mean": "attention",
        "cls": "embedding",
        "train": "all",
        "clean": "published",
        "data": "random",
        "auto": "float32",
        "mse": "spearman",
        "relu": "linear",
        "attention": "all",
        "none": "lora",
    }
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 2 or 1
    if isinstance(value, float):
        return value / 2 or 0.5
    if isinstance(value, tuple):
        return value[1:] or (("a part",),)
    return choices.get(str(value), f"{value}x")


def settings(section: BaseModel, prefix: str = "") -> list[str]:
    found = []
    for key, value in section:
        inner = isinstance(value, BaseModel)
        found += settings(value, f"{prefix}{key}.") if inner else [prefix + key]
    return found


# In which process a run's state lies says nothing of what the run is.
NOT_TOLD_APART = {f"{stage}.sharded" for stage in ("pretrain", "finetune", "distill")}


def test_the_hash_is_the_same_with_shards():
    for key in NOT_TOLD_APART:
        assert load_recipe("base", [f"{key}=true"]).hash == load_recipe("base").hash


@pytest.mark.parametrize("key", [key for key in settings(Recipe()) if key not in NOT_TOLD_APART])
def test_the_hash_changes_with_any_setting(key):
    values = Recipe().model_dump()
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = other(section[last])
    if key == "model.heads":
        section[last] = 3
    if key == "finetune.prefixes":
        section[last] = (8,)
    if key in ("pretrain.trusted", "finetune.teachers"):
        section[last] = ("a name",)
    if key == "finetune.adapter_parts":
        section[last] = ("pool",)
    if key == "pretrain.tag_weighting":  # by somebody's tags
        section.update(tag_weighting="gdw", trusted=("a name",))
    if key in ("finetune.fold", "finetune.folds"):
        section.update(fold=1, folds=2)
    if key == "finetune.mse_weight":  # some loss has to have a weight
        section["pearson_weight"] = 1.0
    changed = Recipe.model_validate(values)
    assert changed.hash != Recipe().hash
    assert len(changed.hash) == 12


def test_the_hash_does_not_depend_on_how_a_number_is_written():
    assert load_recipe("base", ["model.dropout=0"]).hash == (
        load_recipe("base", ["model.dropout=0.0"]).hash
    )
