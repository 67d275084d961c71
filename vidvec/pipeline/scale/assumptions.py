"""What a forecast of cost starts from: the videos, the machines, and rates that were measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from vidvec.config import load_recipe
from vidvec.config_base import Rate, Section, Share
from vidvec.errors import ConfigError
from vidvec.recipe_files import merge, parse_override, read_toml

Above = Annotated[float, Field(gt=0)]


class Videos(Section):
    """The videos.

    Attributes:
        seconds, megabytes: Of one, on average.
        frames_per_second: That its file has, as they have to be decoded.
        title_bytes: Of title, tags and the rest that is known.
        tokens: Of the title, as the model reads it.
        thumbnail_bytes: Of the pictures kept for the page.
    """

    seconds: Above = 60.0
    megabytes: Above = 10.0
    frames_per_second: Above = 25.0
    title_bytes: Rate = 300.0
    tokens: Above = 20.0
    thumbnail_bytes: Rate = 12_000.0


class Work(Section):
    """What is done with them.

    Attributes:
        recipe: Whose model is trained, for its ``pretrain.epochs`` or ``epochs``.
        epochs: ``None``: the recipe's.
        frame_size: Numbers of a frame, kept in 16 bits.
        picture_gflops: Of the frame encoder for one picture, in 10⁹ operations, a multiply-add
            being two; 3.7: EfficientNet-B3 at 300 pixels (Tan and Le 2019, table 2).
        keyframes: Read key frames alone.
        audio: Read sound, too.
        index: Bytes and speed of which kind of index.
        shard_videos: Videos in one index of a search cluster.
        copies: Of the search cluster, each of which can answer everything.
        queries_per_second: At the peak.
    """

    recipe: str = "base"
    epochs: Above | None = None
    frame_size: Above = 1536.0
    picture_gflops: Rate = 3.7
    keyframes: bool = False
    audio: bool = True
    index: Literal["ivf-sq8", "ivf-sq4"] = "ivf-sq8"
    shard_videos: Above = 1e7
    copies: Above = 2.0
    queries_per_second: Above = 1000.0


class Machines(Section):
    """The machines.

    Attributes:
        gpus, cores: How many there are in all; without GPUs cores do their work.
        cores_each, gpus_each: Of one machine.
        memory_gb: Of one.
        network_gbit: Of one, which storage is read through.
        storage_gbit: What the object store gives to all together.
        gpu_tflops: Of one in bfloat16; 989: what NVIDIA states for an H100 SXM without sparsity.
        gpu_share: What training and encoding reach of it.
        core_gflops: What one core reaches in float32 products; measured.
        core_share: What training and encoding reach of that; measured.
        hours_between_failures: Of one machine, on average.
        checkpoint_minutes: Between checkpoints of a training.
        restart_minutes: Until a training that has lost a machine goes on.
    """

    gpus: Rate = 8.0
    cores: Above = 256.0
    cores_each: Above = 64.0
    gpus_each: Above = 8.0
    memory_gb: Above = 256.0
    network_gbit: Above = 25.0
    storage_gbit: Above = 400.0
    gpu_tflops: Above = 989.0
    gpu_share: Share = 0.35
    core_gflops: Above = 172.0
    core_share: Share = 0.45
    hours_between_failures: Above = 2000.0
    checkpoint_minutes: Rate = 10.0
    restart_minutes: Rate = 5.0

    @property
    def count(self) -> float:
        """Machines, by their cores or their GPUs."""
        return max(1.0, self.cores / self.cores_each, self.gpus / self.gpus_each)

    @property
    def products(self) -> float:
        """Operations a second that training and encoding reach on all of them."""
        if self.gpus:
            return self.gpus * self.gpu_tflops * 1e12 * self.gpu_share
        return self.cores * self.core_gflops * 1e9 * self.core_share

    @property
    def bytes_per_second(self) -> float:
        """That all of them together read from storage."""
        return min(self.count * self.network_gbit, self.storage_gbit) * 1e9 / 8


class OfKind(Section):
    """A rate of an index of kind ``ivf-sq8``, and of ``ivf-sq4``."""

    sq8: Above
    sq4: Above

    def __getitem__(self, kind: str) -> float:
        return float(getattr(self, kind.removeprefix("ivf-")))


class Measured(Section):
    """Rates of one core with AVX-512; docs/scale.md says where each was measured.

    Attributes:
        decode_ms: For one frame of a file, when all that are wanted are decoded.
        keyframe_ms: The same with key frames alone.
        audio_ms: For one second of sound.
        file_ms: For one file besides.
        index_us: For one vector into an index of a million, by kind.
        query_ms: For one query in an index of a million, by kind.
        index_bytes: For one vector in memory, by kind.
        record_bytes, record_us: For one video in an index's records, and to write it.
        id_bytes: For one video in the memory of a process that has a corpus open.
        dedup_bytes: For one video, when near duplicates are found.
        shard_bytes: Of a corpus.
        entry_bytes: For one shard in a manifest.
    """

    decode_ms: Above = 0.39
    keyframe_ms: Above = 0.072
    audio_ms: Above = 0.21
    file_ms: Above = 14.0
    index_us: OfKind = OfKind(sq8=196.0, sq4=216.0)
    query_ms: OfKind = OfKind(sq8=0.57, sq4=0.77)
    index_bytes: OfKind = OfKind(sq8=268.0, sq4=140.0)
    record_bytes: Above = 330.0
    record_us: Above = 30.0
    id_bytes: Above = 600.0
    dedup_bytes: Above = 2200.0
    shard_bytes: Above = 256e6
    entry_bytes: Above = 80.0


class Prices(Section):
    """Money, in whatever currency; examples, of no seller.

    Attributes:
        gpu_hour, core_hour: Of one, with its share of the machine.
        gb_month: Of a gigabyte in the object store.
    """

    gpu_hour: Rate = 2.5
    core_hour: Rate = 0.04
    gb_month: Rate = 0.02


class Assumptions(Section):
    """All that a forecast starts from."""

    videos: Videos = Videos()
    work: Work = Work()
    machines: Machines = Machines()
    measured: Measured = Measured()
    prices: Prices = Prices()


def load_assumptions(file: Path | None = None, settings: Iterable[str] = ()) -> Assumptions:
    """Assumptions with a file's and single settings over the usual ones.

    Args:
        file: TOML with the sections ``videos``, ``work``, ``machines``, ``measured``, ``prices``.
        settings: Such as ``machines.cores=1024``.

    Raises:
        ConfigError: A key is not known, or a value cannot be used.
        FormatError: The file is no TOML.
    """
    values: dict[str, Any] = read_toml(file) if file is not None else {}
    for setting in settings:
        values = merge(values, parse_override(setting))
    try:
        found = Assumptions.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"{key}: {problem['msg']}; {_known(problem['loc'])}") from None
    load_recipe(found.work.recipe)
    return found


def _known(place: tuple[int | str, ...]) -> str:
    """The keys beside one that is wrong."""
    section = Assumptions.model_fields.get(str(place[0]))
    if section is None or len(place) < 2 or section.annotation is None:
        return f"sections are {', '.join(Assumptions.model_fields)}"
    return f"{place[0]} has {', '.join(section.annotation.model_fields)}"
