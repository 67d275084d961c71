"""A process's share of a batch. That shares come to the whole: ``tests.e2e.test_distributed``."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.corpora import made_pairs, made_videos, with_more, write_corpus
from tests.tiny import taken_apart, tiny_recipe
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.train import distributed
from vidvec.train.distributed import ALONE, Processes, is_main, is_restarted, launched
from vidvec.train.finetune import FinetuneTask
from vidvec.train.pretrain import PretrainTask
from vidvec.train.replica import Replica
from vidvec.train.start import new_model

VIDEOS = made_videos(30)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("distributed")
    return write_corpus(folder, with_more(VIDEOS), made_pairs(VIDEOS, 80))


@pytest.fixture(autouse=True)
def nobody_to_wait_for(monkeypatch):
    monkeypatch.setattr(Processes, "wait", lambda self: None)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("items", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_come_to_the_whole_and_are_alike(items, parts, size):
    every = [Processes(rank, size).spans(items, parts) for rank in range(size)]
    assert len({len(spans) for spans in every}) == 1
    for each in zip(*every, strict=True):
        assert max(b - a for a, b in each) - min(b - a for a, b in each) <= 1
    # Part after part, and in a part process after process, every item comes once.
    in_order = [range(*span) for each in zip(*every, strict=True) for span in each]
    assert [at for some in in_order for at in some] == list(range(items))
    owned = np.concatenate([Processes(rank, size).own(items, parts) for rank in range(size)])
    assert sorted(owned.tolist()) == list(range(items))


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_validation_batches_are_dealt_in_equal_numbers(batches, size):
    some = [np.arange(10 * n, 10 * n + 3) for n in range(batches)]
    hands = [Processes(rank, size).shared_out(some) for rank in range(size)]
    assert len({len(hand) for hand in hands}) == 1
    gathered = np.concatenate([part for hand in hands for part in hand])
    assert gathered.tolist() == np.concatenate(ALONE.dealt(some)).tolist() or size > 1
    assert gathered.tolist() == np.concatenate(Processes(0, size).dealt(some)).tolist()


def videos_of(batch):
    """What is read of each video, by row: frames, tokens, audio."""
    audio = batch.audio.split(batch.audio_counts.tolist())
    return [
        (row, frames.tolist(), tokens.tolist(), sound.tolist())
        for row, (frames, tokens), sound in zip(
            batch.rows.tolist(), taken_apart(batch), audio, strict=True
        )
    ]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_shares_are_read_as_the_whole_batch_is(corpus, accumulate):
    """What modality dropout leaves out is drawn for the batch, whoever has which video of it."""
    recipe = tiny_recipe(
        model={"max_audio": 6, "max_speech_tokens": 8},
        pretrain={"modality_dropout": 0.4, "accumulate": accumulate, "videos": "all"},
    )
    whole = PretrainTask(new_model(recipe, corpus), corpus)
    shares = [
        PretrainTask(new_model(recipe, corpus), corpus, Processes(rank, 3)) for rank in range(3)
    ]
    for step in (0, 1, whole.order.steps - 1):
        found = [video for task in shares for video in videos_of(task.batch(step))]
        assert sorted(found) == sorted(videos_of(whole.batch(step)))


def test_a_process_reads_no_frames_but_those_of_its_share(corpus, monkeypatch):
    read: list[int] = []
    original = Corpus.frames
    monkeypatch.setattr(Corpus, "frames", lambda self, row: read.append(row) or original(self, row))
    model = new_model(tiny_recipe(), corpus)
    task = PretrainTask(model, corpus, Processes(1, 3))
    read.clear()
    batch = task.batch(0)
    assert len(batch) < len(task.order(0))
    assert set(read) <= set(batch.rows.tolist())
    assert batch.rows.tolist() == task.order(0)[task.processes.own(len(task.order(0)))].tolist()


def test_a_share_of_pairs_has_both_sides_and_their_targets(corpus):
    recipe = tiny_recipe(finetune={"modality_dropout": 0.3})
    whole = FinetuneTask(new_model(recipe, corpus), corpus)
    videos, targets = whole.batch(0)
    pairs = len(targets)
    sides = videos.rows.reshape(2, pairs)
    for rank in range(2):
        task = FinetuneTask(new_model(recipe, corpus), corpus, Processes(rank, 2))
        own = task.processes.own(pairs)
        some, wanted = task.batch(0)
        assert wanted.tolist() == targets[own].tolist()
        assert some.rows.reshape(2, -1).tolist() == sides[:, own].tolist()


def test_an_empty_share_has_losses_of_nothing_that_pull_nowhere(corpus):
    """The last batch of an epoch may have fewer videos than there are processes."""
    model = new_model(tiny_recipe(), corpus)
    task = PretrainTask(model, corpus)
    losses = task.losses(task._builder.build(np.zeros(0, np.int64)), 0)
    losses["loss"].backward()
    assert {float(loss.detach()) for loss in losses.values()} == {0.0}
    gradients = [value.grad for _, value in model.named_parameters() if value.grad is not None]
    assert gradients
    assert all(not gradient.any() for gradient in gradients)


def test_one_process_is_alone_and_waits_for_nobody(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "3")  # of something else that is no launcher of PyTorch's
    monkeypatch.setenv("WORLD_SIZE", "4")
    with launched() as processes:
        assert processes is ALONE
    assert is_main()
    assert not is_restarted()
    values = torch.ones(2, requires_grad=True)
    assert processes.gather(values).values is values
    assert processes.total(values) is values


def test_rank_0_of_a_launcher_is_the_one_that_prints(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "1")
    assert not is_main()
    monkeypatch.setenv("RANK", "0")
    assert is_main()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert is_restarted()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="--nproc-per-node 2"):
        distributed._device()


def test_gradients_are_sent_with_the_last_part_of_a_batch_alone(corpus):
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        recipe = tiny_recipe(pretrain={"accumulate": 3}, model={"dropout": 0.0})
        model = new_model(recipe, corpus)
        task = PretrainTask(model, corpus)
        replica, sent = Replica(model, Processes(), recipe.pretrain), list[int]()

        def hook(parts_done, bucket):
            sent.append(parts_done[0])
            future = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        parts_done = [0]
        replica._run.register_comm_hook(parts_done, hook)
        parts = task.parts(task.batch(0), 0)
        for number, part in enumerate(parts, 1):
            parts_done[0] = number
            replica.backward(part, nullcontext(), last=number == len(parts))
    finally:
        torch.distributed.destroy_process_group()
    assert set(sent) == {3}
    weights = dict(model.named_parameters())
    summed = {name: value.grad for name, value in weights.items()}
    for value in weights.values():
        value.grad = None
    for part in task.parts(task.batch(0), 0):
        part()["loss"].backward()
    alone = {name: value.grad for name, value in weights.items()}
    torch.testing.assert_close(summed, alone, rtol=1e-5, atol=1e-6)
    assert sum(value is not None for value in alone.values()) > 10


def test_what_is_dropped_depends_on_step_and_rank():
    state = torch.get_rng_state()
    drawn = []
    for rank, step in ((0, 1), (1, 1), (0, 2), (0, 1)):
        Processes(rank, 2).seed(7, step)
        drawn.append(torch.rand(4).tolist())
    torch.set_rng_state(state)
    assert drawn[0] == drawn[3]
    assert len({tuple(each) for each in drawn}) == 3
    ALONE.seed(7, 1)
    assert torch.get_rng_state().equal(state)
