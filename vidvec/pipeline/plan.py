"""A plan: several recipes trained on one folder of data, fused, evaluated and submitted.

A plan becomes stages. Each is one command of vidvec with one output, whose folder's name ends in a
key: a hash of what goes in, that is the settings that the stage reads and the keys of the stages
before it. So a stage is done where its output with this key is, other settings never overwrite what
earlier ones made, and going back to them finds it again.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from vidvec import storage
from vidvec.config import FinetuneConfig, Recipe, Section, load_recipe
from vidvec.data.competition import (
    PARTS,
    TAG_LIST,
    TEST_PARTS,
    find_beside,
    find_id_lists,
    find_labels,
    record_files,
)
from vidvec.errors import ConfigError, UsageError
from vidvec.recipe_files import find_recipe, is_plan

# What is embedded: the validation pairs are among the pairwise videos; the rest only trains.
EMBEDDED_PARTS = ("pairwise", *TEST_PARTS)


class Published(Section):
    """What a plan's job scored where it was published."""

    spearman: float
    mse: float


class Plan(Section):
    """Several recipes and what is made of them.

    Attributes:
        name: Of the plan.
        jobs: Recipes, by name or path.
        folds: Each job is finetuned so many times, from one pretraining, each time on other pairs
            (``finetune.fold``); 0: once, on all.
        seeds: Each job is trained with each of these; empty: with its own.
        fuse_best: How many of the best models are fused, each number once.
        size: Numbers in a fused vector.
        published: Published figures of jobs, by the recipe's name, for the table.
    """

    name: str
    jobs: tuple[str, ...] = Field(min_length=1)
    folds: int = Field(0, ge=0)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = ()
    fuse_best: tuple[int, ...] = ()
    size: int = Field(256, gt=0)
    published: dict[str, Published] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One recipe of a plan.

    Attributes:
        name: Short, for folders and messages: the last part of the recipe's name.
        recipe: Resolved, with the command line's settings.
        pretrained: Name of the pretraining that it starts from, which folds share; empty: its own.
    """

    name: str
    recipe: Recipe
    pretrained: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One command of a plan.

    Attributes:
        name: Such as ``pretrain job1``.
        command: Arguments of ``vidvec``.
        output: The folder or file that it makes.
        key: Twelve hex digits that change with anything that goes in.
        needs: Names of the stages whose outputs it reads.
        job: The job's name, empty where the stage is of all.
    """

    name: str
    command: tuple[str, ...]
    output: Path
    key: str
    needs: tuple[str, ...] = ()
    job: str = ""

    @property
    def kind(self) -> str:
        """The command, such as ``pretrain``."""
        return self.command[0]

    @property
    def slug(self) -> str:
        """The stage and its key as a file's name."""
        return f"{self.name.replace(' ', '-').replace('/', '-')}-{self.key[:6]}"


def load_plan(source: str, overrides: Iterable[str] = ()) -> tuple[Plan, list[Job]]:
    """Reads a plan, or a single recipe as a plan of one, with its recipes resolved.

    Args:
        source: Name or path.
        overrides: Settings over every recipe, as ``load_recipe`` takes them.

    Raises:
        ConfigError: The file is missing or has an unknown key, or a recipe cannot be used.
    """
    path = find_recipe(source)
    values = tomllib.loads(path.read_text("utf-8"))
    settings = list(overrides)
    if not is_plan(values):
        recipe = load_recipe(path, settings)
        return Plan(name=recipe.name, jobs=(source,)), [Job(_short(recipe), recipe)]
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        raise ConfigError(f"plan {source}: {problems}") from None
    recipes = [load_recipe(find_recipe(job, path), settings) for job in plan.jobs]
    jobs = [job for recipe in recipes for job in _variants(recipe, plan)]
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"plan {source} has two jobs named {', '.join(twice)}")
    return plan, jobs


def _variants(recipe: Recipe, plan: Plan) -> list[Job]:
    """A recipe's jobs: one for each seed and fold of a plan."""
    jobs = []
    for seed in plan.seeds or (recipe.seed,):
        name = f"{recipe.name}-seed{seed}" if plan.seeds else recipe.name
        seeded = recipe.model_copy(update={"name": name, "seed": seed})
        if not plan.folds:
            jobs.append(Job(_short(seeded), seeded))
        for fold in range(1, plan.folds + 1):
            settings = {**recipe.finetune.model_dump(), "fold": fold, "folds": plan.folds}
            try:
                finetune = FinetuneConfig.model_validate(settings)
            except ValidationError as error:
                found = "; ".join(str(each["ctx"]["error"]) for each in error.errors())
                raise ConfigError(f"plan {plan.name}: {found}") from None
            update = {"name": f"{name}-fold{fold}", "finetune": finetune}
            one = seeded.model_copy(update=update)
            jobs.append(Job(_short(one), one, _short(seeded)))
    return jobs


def _short(recipe: Recipe) -> str:
    return recipe.name.rpartition("/")[2]


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def data_keys(data: Path) -> tuple[str, str]:
    """Keys of a data folder: of its records alone, and of records, labels and lists together.

    Files count by their path in the folder, size and time of change.
    """
    records = _files_digest(data, record_files(data))
    lists = [find_labels(data), find_beside(data, TAG_LIST)]
    lists += [file for part in TEST_PARTS for file in find_id_lists(data, part)]
    return records, _digest(records, _files_digest(data, [file for file in lists if file]))


def _files_digest(data: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        facts = (file.relative_to(data), status.st_size, status.st_mtime_ns)
        digest.update("\0".join(map(str, facts)).encode() + b"\n")
    return digest.hexdigest()[:12]


def parts_of(data: Path) -> list[str]:
    """The competition's parts that a folder has records of.

    Raises:
        UsageError: It has none.
    """
    found = [part for part in PARTS if record_files(data / part)]
    if not found:
        raise UsageError(
            f"{data} has none of the folders {', '.join(PARTS)} with TFRecords: --data takes the "
            "competition's folder (vidvec make-competition DIR makes one to try with)"
        )
    return found


def training_stages(jobs: Sequence[Job], data: Path, out: Path, strict: bool) -> list[Stage]:
    """The stages from the data to each job's vectors, in an order that they can be run in.

    The commands read each job's resolved recipe where ``write_recipes`` puts it.

    Raises:
        UsageError: The data folder has no part to train on.
    """
    records, everything = data_keys(data)
    present = parts_of(data)
    if "pairwise" not in present:
        raise UsageError(
            f"{data}/pairwise has no TFRecords: the scored pairs are of its videos, so there is "
            "nothing to tune on"
        )
    corpus = out / f"corpus-{records[:6]}"
    ingest = Stage(
        "ingest",
        ("ingest", str(data), str(corpus), *(["--strict"] if strict else [])),
        corpus,
        everything,
    )
    stages = [*_downloads(jobs, out), ingest]
    embedded = [part for part in EMBEDDED_PARTS if part in present]
    for job in jobs:
        there = {stage.name for stage in stages}
        some = _job_stages(job, out, ingest, embedded)
        stages += [stage for stage in some if stage.name not in there]
    return stages


def write_recipes(jobs: Sequence[Job], out: Path) -> None:
    """Writes each job's resolved recipe to ``out/recipes``, for the commands to read."""
    for job in jobs:
        with storage.atomic_path(_recipe_file(job, out)) as temporary:
            temporary.write_text(job.recipe.to_toml(), "utf-8")


def _recipe_file(job: Job, out: Path) -> Path:
    return out / "recipes" / f"{job.name}.toml"


def _downloads(jobs: Sequence[Job], out: Path) -> list[Stage]:
    """A stage for each set of start weights that is named and is no folder."""
    names = {job.recipe.model.init for job in jobs}
    return [
        Stage(f"download {name}", ("download", name), out, _digest("download", name))
        for name in sorted(names)
        if name and not Path(name).is_dir()
    ]


def _job_stages(job: Job, out: Path, ingest: Stage, parts: Sequence[str]) -> list[Stage]:
    recipe, folder = job.recipe, out / job.name
    corpus, settings = str(ingest.output), ("--recipe", str(_recipe_file(job, out)))
    pretrain_key = _digest("pretrain", ingest.key, recipe.stage_hash("pretrain"))
    finetune_key = _digest("finetune", pretrain_key, recipe.stage_hash("finetune"))
    embed_key = _digest("embed", finetune_key, *parts)
    first = job.pretrained or job.name
    pretrained = out / first / f"pretrained-{pretrain_key[:6]}"
    tuned = folder / f"tuned-{finetune_key[:6]}"
    vectors = folder / f"vectors-{embed_key[:6]}"
    init = recipe.model.init
    before = ["ingest", *([f"download {init}"] if init and not Path(init).is_dir() else [])]
    return [
        Stage(
            f"pretrain {first}",
            ("pretrain", corpus, str(pretrained), *settings),
            pretrained,
            pretrain_key,
            tuple(before),
            job.name,
        ),
        Stage(
            f"finetune {job.name}",
            ("finetune", corpus, str(tuned), "--from", str(pretrained), *settings),
            tuned,
            finetune_key,
            ("ingest", f"pretrain {first}"),
            job.name,
        ),
        Stage(
            f"embed {job.name}",
            ("embed", str(tuned), corpus, str(vectors), "--parts", *parts),
            vectors,
            embed_key,
            ("ingest", f"finetune {job.name}"),
            job.name,
        ),
    ]


def fusion_stages(plan: Plan, ranked: Sequence[Stage], data: Path, out: Path) -> list[Stage]:
    """The stages behind the jobs: fusions of the best, and the submission of the largest fusion.

    Args:
        plan: How many are fused.
        ranked: The jobs' embedding stages, best first; where jobs failed, those that are there.
        data: The competition's folder.
        out: The plan's folder.
    """
    counts = sorted({min(count, len(ranked)) for count in plan.fuse_best} - {0, 1})
    stages = []
    for count in counts:
        members = ranked[:count]
        key = _digest("fuse", plan.size, *(member.key for member in members))
        folder = out / "fused" / f"best-{count}-{key[:6]}"
        command = ["fuse", *(str(member.output) for member in members), "--out", str(folder)]
        needs = tuple(member.name for member in members)
        stages.append(
            Stage(f"fuse {count}", (*command, "--size", str(plan.size)), folder, key, needs)
        )
    if set(TEST_PARTS) & set(parts_of(data)):
        last = stages[-1] if stages else ranked[0]
        key = _digest("submit", last.key)
        file = out / f"submission-{key[:6]}.zip"
        command = ["submit", str(file), "--vectors", str(last.output), "--data", str(data)]
        stages.append(Stage("submit", tuple(command), file, key, (last.name,)))
    return stages
