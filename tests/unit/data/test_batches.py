"""Flat batches by hand, the order of an epoch, and reading ahead."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.corpora import WIDTH, made_videos, write_corpus
from vidvec import storage
from vidvec.config import ModelConfig
from vidvec.data import texts as module
from vidvec.data.batches import BatchBuilder, assemble, epoch_batches, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.sampling import sample_positions
from vidvec.data.texts import title_tokens
from vidvec.data.tokenizer import TitleTokenizer, load_tokenizer, train_tokenizer
from vidvec.records import Batch, Video

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]  # a is 5, b is 6, …
CLS, SEP = 2, 3


def words_tokenizer() -> TitleTokenizer:
    backend = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")  # noqa: S106
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TitleTokenizer(backend)


def config(**changes: object) -> ModelConfig:
    return ModelConfig(vocab_size=len(WORDS), frame_size=WIDTH, **changes)  # type: ignore[arg-type]


def numbered(*numbers: int) -> np.ndarray:
    """Frames that hold nothing but their number."""
    return np.repeat(np.array(numbers, np.float16)[:, None], WIDTH, 1)


VIDEOS = [
    Video(id="1", title="a b c", tags=("x", "y"), frames=numbered(1, 2)),
    Video(id="2", title="", tags=None, frames=numbered(3)),
    Video(id="3", title="d ? e", tags=()),
    Video(id="4", title="f", tags=("y", "unknown", "y"), frames=numbered(4, 5, 6)),
]


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    write_corpus(tmp_path / "corpus", VIDEOS)
    manifest = storage.read_manifest(tmp_path / "corpus", "corpus")
    manifest.pop("kind")
    manifest.pop("format_version")
    storage.write_manifest(
        tmp_path / "corpus", "corpus", **manifest | {"tag_vocabulary": ["x", "y"]}
    )
    return Corpus(tmp_path / "corpus")


def frame_numbers(batch: Batch) -> list[float]:
    assert batch.frames.shape == (int(batch.frame_counts.sum()), WIDTH)
    assert bool((batch.frames == batch.frames[:, :1]).all())
    return batch.frames[:, 0].tolist()


def check_dtypes(batch: Batch) -> None:
    import torch

    assert batch.frames.dtype == torch.float16
    for name in (
        "frame_counts",
        "token_ids",
        "token_counts",
        "rows",
        "tag_positions",
        "tag_counts",
    ):
        assert getattr(batch, name).dtype == torch.int64, name
    assert batch.frame_mask is None
    assert batch.token_mask is None


def test_a_batch_by_hand_with_cls_first(corpus):
    batch = BatchBuilder(corpus, words_tokenizer(), config()).build(np.array([3, 0, 2, 1]))
    check_dtypes(batch)
    assert len(batch) == 4
    assert batch.rows.tolist() == [3, 0, 2, 1]
    assert batch.frame_counts.tolist() == [3, 2, 0, 1]
    assert frame_numbers(batch) == [4, 5, 6, 1, 2, 3]
    assert batch.token_counts.tolist() == [4, 6, 6, 3]
    assert batch.token_ids.tolist() == [
        *[CLS, SEP, 10, SEP],
        *[CLS, SEP, 5, 6, 7, SEP],
        *[CLS, SEP, 8, 1, 9, SEP],
        *[CLS, SEP, SEP],
    ]
    assert batch.tag_counts.tolist() == [2, 2, 0, -1]
    assert batch.tag_positions.tolist() == [1, 1, 0, 1]


def test_a_batch_by_hand_with_frames_first(corpus):
    batch = BatchBuilder(corpus, words_tokenizer(), config(order="frames_first")).build(
        np.array([1, 0])
    )
    check_dtypes(batch)
    assert batch.token_counts.tolist() == [2, 5]
    assert batch.token_ids.tolist() == [CLS, SEP, CLS, 5, 6, 7, SEP]
    assert frame_numbers(batch) == [3, 1, 2]
    assert batch.tag_counts.tolist() == [-1, 2]
    assert batch.tag_positions.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("order", "max_tokens", "tokens"),
    [
        ("cls_first", 5, [CLS, SEP, 5, 6, SEP]),
        ("cls_first", 4, [CLS, SEP, 5, SEP]),
        ("frames_first", 4, [CLS, 5, 6, SEP]),
        ("frames_first", 5, [CLS, 5, 6, 7, SEP]),
        ("frames_first", 6, [CLS, 5, 6, 7, SEP]),
    ],
)
def test_a_title_is_cut_so_that_special_tokens_still_fit(corpus, order, max_tokens, tokens):
    builder = BatchBuilder(corpus, words_tokenizer(), config(order=order, max_tokens=max_tokens))
    batch = builder.build(np.array([0]))
    assert batch.token_ids.tolist() == tokens
    assert builder.token_counts[0] == len(tokens)
    assert builder.lengths[0] == len(tokens) + 2


@pytest.mark.parametrize("limit", [2, 3, 7])
def test_frames_are_thinned_over_the_whole_video(tmp_path, limit):
    videos = [Video(id=str(n), title="a", frames=numbered(*range(n))) for n in range(1, 30)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    builder = BatchBuilder(corpus, words_tokenizer(), config(max_frames=limit))
    batch = builder.build(np.arange(len(corpus)))
    expected = [number for n in range(1, 30) for number in sample_positions(n, limit)]
    assert frame_numbers(batch) == expected
    assert batch.frame_counts.tolist() == [min(n, limit) for n in range(1, 30)]
    assert builder.frame_counts.tolist() == batch.frame_counts.tolist()


def test_a_batch_shares_no_memory_with_the_corpus(corpus):
    builder = BatchBuilder(corpus, words_tokenizer(), config())
    batch = builder.build(np.array([0, 3]))
    for name in (
        "frames",
        "frame_counts",
        "token_ids",
        "token_counts",
        "tag_positions",
        "tag_counts",
    ):
        getattr(batch, name).fill_(9)
    assert builder.build(np.array([0])).token_ids.tolist() == [CLS, SEP, 5, 6, 7, SEP]
    assert builder.build(np.array([3])).frame_counts.tolist() == [3]
    assert corpus.frames(0)[:, 0].tolist() == [1, 2]


def same(one: Batch, other: Batch) -> None:
    for name in ("frames", "frame_counts", "token_ids", "token_counts"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert a.tolist() == b.tolist(), name


@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
@pytest.mark.parametrize(("max_frames", "max_tokens"), [(32, 36), (3, 5)])
def test_assembled_videos_are_those_of_the_corpus(tmp_path, order, max_frames, max_tokens):
    videos = made_videos(60)
    corpus = write_corpus(tmp_path / "corpus", videos)
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    settings = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        frame_size=WIDTH,
        order=order,
        max_frames=max_frames,
        max_tokens=max_tokens,
    )
    rows = np.random.default_rng(0).permutation(60)[:25]
    ids, counts = tokenizer.encode([videos[row].title for row in rows])
    titles = np.split(ids, np.cumsum(counts)[:-1])
    frames = [videos[row].frames for row in rows]
    built = BatchBuilder(corpus, tokenizer, settings).build(rows)
    same(assemble(frames, titles, tokenizer, settings), built)
    one_by_one = [
        BatchBuilder(corpus, tokenizer, settings).build(rows[i : i + 1]) for i in range(25)
    ]
    assert built.token_ids.tolist() == [t for b in one_by_one for t in b.token_ids.tolist()]
    assert built.tag_positions.tolist() == [t for b in one_by_one for t in b.tag_positions.tolist()]


def test_rows_may_come_twice(corpus):
    batch = BatchBuilder(corpus, words_tokenizer(), config()).build(np.array([1, 1, 0]))
    assert frame_numbers(batch) == [3, 3, 1, 2]
    assert batch.token_counts.tolist() == [3, 3, 6]


def test_a_corpus_without_videos_has_an_empty_builder(tmp_path):
    manifest = {
        "frame_encoder": {"name": "none", "frame_size": 0},
        "tag_vocabulary": [],
        "shards": [],
        "rejects_bytes": 0,
        "pairs": 0,
        "ingests": [],
    }
    storage.write_manifest(tmp_path, "corpus", **manifest)
    for _ in range(2):  # with and without the cache of tokens
        builder = BatchBuilder(Corpus(tmp_path), words_tokenizer(), config())
        assert builder.lengths.tolist() == []


# --- title tokens -------------------------------------------------------------------------------


def parts(tokens: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    ids, offsets = tokens
    assert ids.dtype == np.int32
    assert offsets.dtype == np.int64
    return [ids[a:b].tolist() for a, b in pairwise(offsets)]


def refuse(*_: object) -> None:
    raise AssertionError("tokenized again")


@pytest.mark.parametrize("at_once", [1, 3, 50_000])
def test_tokens_of_titles_are_kept_and_used(corpus, monkeypatch, at_once):
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", at_once)
    expected = [[5, 6, 7], [], [8, 1, 9], [10]]
    assert parts(title_tokens(corpus, words_tokenizer())) == expected
    monkeypatch.setattr(TitleTokenizer, "encode", refuse)
    assert parts(title_tokens(corpus, words_tokenizer())) == expected
    assert parts(title_tokens(Corpus(corpus.path), words_tokenizer())) == expected


def test_another_tokenizer_has_tokens_of_its_own(corpus):
    other = train_tokenizer(["? b c d e f"] * 4)
    first = parts(title_tokens(corpus, words_tokenizer()))
    second = parts(title_tokens(corpus, other))
    assert first != second
    assert second == [other.encode([video.title])[0].tolist() for video in VIDEOS]
    assert parts(title_tokens(corpus, words_tokenizer())) == first
    assert len(list((corpus.path / "tokens").iterdir())) == 2


def test_tokens_are_made_anew_when_videos_were_added(tmp_path):
    few = write_corpus(tmp_path / "corpus", VIDEOS[:2])
    assert len(parts(title_tokens(few, words_tokenizer()))) == 2
    many = write_corpus(tmp_path / "corpus", VIDEOS)
    assert parts(title_tokens(many, words_tokenizer())) == [[5, 6, 7], [], [8, 1, 9], [10]]


@pytest.mark.parametrize("where", ["mkdir", "open"])
def test_tokens_of_a_corpus_on_a_read_only_disk(corpus, monkeypatch, where):
    def refuse_to_write(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    if where == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refuse_to_write)
    else:
        monkeypatch.setattr(module.pa, "OSFile", refuse_to_write)
    assert parts(title_tokens(corpus, words_tokenizer())) == [[5, 6, 7], [], [8, 1, 9], [10]]
    monkeypatch.undo()
    assert list(corpus.path.glob("tokens/*")) == []


# --- the order of an epoch ----------------------------------------------------------------------

order_cases = given(
    st.integers(0, 700), st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 100)
)


@order_cases
def test_every_row_comes_once_an_epoch(count, size, seed, epoch):
    rows = np.arange(count) * 3 + 1
    lengths = np.random.default_rng(count).integers(1, 69, count)
    batches = epoch_batches(rows, lengths, size, seed, epoch)
    assert sorted(np.concatenate([[], *batches])) == rows.tolist()
    assert len(batches) == -(-count // size)
    assert sorted(len(batch) for batch in batches)[1:] == [size] * (len(batches) - 1)
    again = epoch_batches(rows, lengths, size, seed, epoch)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


def flat(batches: list[np.ndarray]) -> list[int]:
    return np.concatenate(batches).tolist()


def test_seed_and_epoch_change_the_order():
    rows, lengths = np.arange(200), np.random.default_rng(0).integers(1, 69, 200)
    orders = [flat(epoch_batches(rows, lengths, 8, s, e)) for s in range(3) for e in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_other_videos_come_together_in_another_epoch():
    rows, lengths = np.arange(200), np.ones(200, np.int64)
    first, second = (
        {frozenset(batch.tolist()) for batch in epoch_batches(rows, lengths, 8, 0, epoch)}
        for epoch in range(2)
    )
    assert not first & second


def padding_share(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    filled = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths.sum() / filled


def test_lengths_in_a_batch_are_alike():
    random = np.random.default_rng(0)
    lengths = random.integers(4, 69, 4000)
    rows = np.arange(4000)
    shuffled = np.array_split(random.permutation(rows), 125)
    ours = padding_share(epoch_batches(rows, lengths, 32, 0, 0), lengths)
    assert padding_share(shuffled, lengths) > 0.4
    assert ours < 0.05


def test_an_epoch_is_a_shuffle_and_not_sorted_by_length():
    rows = np.arange(6400)
    lengths = 1 + rows // 100
    batches = epoch_batches(rows, lengths, 32, 0, 0)
    means = np.array([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2
    tenth = np.concatenate(batches[: len(batches) // 10])
    assert abs(lengths[tenth].mean() - lengths.mean()) < 12


# --- reading ahead ------------------------------------------------------------------------------


def test_reading_ahead_keeps_the_order():
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(prefetch(range(50), slow_first)) == [n * n for n in range(50)]
    assert list(prefetch([], slow_first)) == []


def test_nothing_is_a_result_like_any_other():
    assert list(prefetch([1, 2, 3], lambda n: None if n == 2 else n)) == [1, None, 3]


def test_an_error_comes_out_where_it_belongs():
    class OddError(Exception):
        pass

    def build(number: int) -> int:
        if number == 3:
            raise OddError("three")
        return number

    ahead = prefetch(range(10), build)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OddError, match="three"):
        next(ahead)
    assert threads() == 0


def test_an_error_of_the_items_comes_out_too():
    def items():
        yield 1
        raise KeyError("no more")

    ahead = prefetch(items(), lambda number: number)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="no more"):
        next(ahead)


def threads() -> int:
    return sum(thread.name.endswith("(work)") for thread in threading.enumerate())


def test_closing_early_ends_the_thread():
    built = []
    ahead = prefetch(range(10**9), lambda n: built.append(n) or n, depth=3)
    assert next(ahead) == 0
    assert threads() == 1
    ahead.close()
    assert threads() == 0
    done = len(built)
    assert done <= 6
    time.sleep(0.15)
    assert len(built) == done


def test_no_more_than_its_depth_is_made_ahead():
    built = []
    ahead = prefetch(range(100), lambda n: built.append(n) or n, depth=2)
    next(ahead)
    time.sleep(0.1)
    assert len(built) <= 1 + 2 + 1  # taken, waiting, in the thread's hand
    ahead.close()


def test_modality_dropout_leaves_out_frames_or_title_never_both(tmp_path):
    corpus = write_corpus(tmp_path, made_videos(200))
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    builder = BatchBuilder(corpus, tokenizer, ModelConfig(frame_size=WIDTH))
    rows = np.arange(len(corpus))
    plain, thinned = builder.build(rows), builder.build_with_dropout(rows, 0.3, seed=1, step=5)
    both = (plain.frame_counts > 0) & (plain.token_counts > 3)
    no_frames = both & (thinned.frame_counts == 0)
    no_title = both & (thinned.token_counts == 3)
    assert not (no_frames & no_title).any()
    for dropped in (no_frames, no_title):
        assert 0.2 < dropped.sum() / both.sum() < 0.4
    kept = ~(no_frames | no_title)
    assert (thinned.frame_counts == plain.frame_counts)[kept].all()
    assert (thinned.token_counts == plain.token_counts)[kept].all()
    again = builder.build_with_dropout(rows, 0.3, seed=1, step=5)
    assert torch.equal(again.frames, thinned.frames)
    other = builder.build_with_dropout(rows, 0.3, seed=1, step=6)
    assert not torch.equal(other.frame_counts, thinned.frame_counts)
    # What is left is what the videos hold, in their order.
    first = int(no_title.nonzero()[0])
    start = int(thinned.frame_counts[:first].sum())
    assert np.array_equal(
        thinned.frames[start : start + int(thinned.frame_counts[first])], corpus.frames(first)
    )
