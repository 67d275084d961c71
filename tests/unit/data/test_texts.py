"""Batches with audio, what is said and what is written: by hand, cut, left out, kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.corpora import AUDIO_WIDTH, WIDTH, made_videos, with_more, write_corpus
from vidvec.config import ModelConfig
from vidvec.data import texts as module
from vidvec.data.batches import BESIDES_SHARE, BatchBuilder, assemble
from vidvec.data.corpus import Corpus
from vidvec.data.sampling import sample_positions
from vidvec.data.texts import text_tokens, title_tokens
from vidvec.data.tokenizer import TitleTokenizer, load_tokenizer
from vidvec.records import Batch, Video

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]  # a is 5, b is 6, …
CLS, SEP = 2, 3
MORE = {"max_audio": 32, "max_speech_tokens": 6, "max_screen_tokens": 4}


def words_tokenizer() -> TitleTokenizer:
    backend = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")  # noqa: S106
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TitleTokenizer(backend)


def config(**changes: object) -> ModelConfig:
    sizes = {"vocab_size": len(WORDS), "frame_size": WIDTH, "audio_size": AUDIO_WIDTH}
    return ModelConfig(**{**sizes, **MORE, **changes})  # type: ignore[arg-type]


def numbered(*numbers: int, width: int = WIDTH) -> np.ndarray:
    return np.repeat(np.array(numbers, np.float16)[:, None], width, 1)


def heard(*numbers: int) -> np.ndarray:
    return numbered(*numbers, width=AUDIO_WIDTH)


VIDEOS = [
    Video("1", "a b", "c", "d", frames=numbered(1), audio=heard(11, 12)),
    Video("2", "", "e f g h i j", frames=numbered(2, 3)),
    Video("3", "a", screen_text="b c d e", audio=heard(13)),
    Video("4", "b", frames=numbered(4)),
]


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return write_corpus(tmp_path / "corpus", VIDEOS)


def fields(batch: Batch) -> dict[str, object]:
    found = {name: values.tolist() for name, values in batch.tensors().items()}
    for name in ("frames", "audio"):
        values = getattr(batch, name)
        assert bool((values == values[:, :1]).all())
        found[name] = values[:, 0].tolist()
    return found


def test_a_batch_by_hand(corpus):
    found = fields(BatchBuilder(corpus, words_tokenizer(), config()).build(np.array([2, 0, 1, 3])))
    assert found["frames"] == [1, 2, 3, 4]
    assert found["audio"] == [13, 11, 12]
    assert found["audio_counts"] == [1, 2, 0, 0]
    assert found["speech_counts"] == [0, 2, 6, 0]
    assert found["screen_counts"] == [4, 2, 0, 0]
    assert found["token_counts"] == [8, 9, 9, 4]
    assert found["token_ids"] == [
        *[CLS, SEP, 5, SEP, 6, 7, 8, SEP],  # the screen text cut to three words
        *[CLS, SEP, 5, 6, SEP, 7, SEP, 8, SEP],
        *[CLS, SEP, SEP, 9, 10, 11, 12, 13, SEP],
        *[CLS, SEP, 6, SEP],
    ]


def test_a_batch_by_hand_with_frames_first(corpus):
    builder = BatchBuilder(corpus, words_tokenizer(), config(order="frames_first"))
    assert fields(builder.build(np.array([0])))["token_ids"] == [CLS, 5, 6, SEP, 7, SEP, 8, SEP]
    assert builder.token_counts.tolist() == [8, 8, 7, 3]
    assert builder.lengths.tolist() == [8 + 3, 8 + 2, 7 + 1, 3 + 1]


def test_what_a_model_does_not_read_is_not_there(corpus):
    plain = config(max_audio=0, max_speech_tokens=0, max_screen_tokens=0)
    batch = BatchBuilder(corpus, words_tokenizer(), plain).build(np.arange(4))
    for name in ("audio", "audio_counts", "speech_counts", "screen_counts"):
        assert getattr(batch, name) is None
    assert batch.token_counts.tolist() == [5, 3, 4, 4]
    speech = BatchBuilder(
        corpus, words_tokenizer(), config(max_audio=0, max_screen_tokens=0)
    ).build(np.arange(4))
    assert speech.screen_counts.tolist() == [0, 0, 0, 0]
    assert speech.speech_counts.tolist() == [2, 6, 0, 0]
    assert speech.audio is None


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_audio_is_thinned_over_the_whole_video(tmp_path, limit):
    videos = [Video(str(n), audio=heard(*range(n))) for n in range(1, 12)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    builder = BatchBuilder(corpus, words_tokenizer(), config(max_audio=limit))
    batch = builder.build(np.arange(len(corpus)))
    expected = [number for n in range(1, 12) for number in sample_positions(n, limit)]
    assert batch.audio[:, 0].tolist() == expected
    assert batch.audio.shape == (len(expected), AUDIO_WIDTH)
    assert batch.audio_counts.tolist() == [min(n, limit) for n in range(1, 12)]


@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
@pytest.mark.parametrize("read", [["audio"], ["speech"], ["screen"], ["audio", "screen", "speech"]])
def test_assembled_videos_are_those_of_the_corpus(tmp_path, order, read):
    videos = with_more(made_videos(40))
    corpus = write_corpus(tmp_path / "corpus", videos)
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    keys = {"audio": "max_audio", "speech": "max_speech_tokens", "screen": "max_screen_tokens"}
    limits = {keys[name]: MORE[keys[name]] if name in read else 0 for name in keys}
    settings = config(vocab_size=tokenizer.vocab_size, order=order, **limits)
    rows = np.random.default_rng(0).permutation(40)[:15]
    texts = {}
    for name, column in module.COLUMNS.items():
        ids, counts = tokenizer.encode([getattr(videos[row], column) for row in rows])
        texts[name] = np.split(ids, np.cumsum(counts)[:-1])
    frames, audio = ([getattr(videos[row], name) for row in rows] for name in ("frames", "audio"))
    made = assemble(frames, texts.pop("title"), tokenizer, settings, audio=audio, texts=texts)
    built = BatchBuilder(corpus, tokenizer, settings).build(rows)
    for name, values in made.tensors().items():
        assert torch.equal(values, getattr(built, name)), name
    assert made.tensors().keys() == built.tensors().keys() - {"rows", "tag_positions", "tag_counts"}
    alone = [BatchBuilder(corpus, tokenizer, settings).build(rows[i : i + 1]) for i in range(15)]
    for name, values in built.tensors().items():
        assert torch.equal(torch.cat([getattr(each, name) for each in alone]), values), name


def test_taking_some_of_a_batch_is_building_them(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", with_more(made_videos(30)))
    builder = BatchBuilder(corpus, load_tokenizer(corpus.path / "tokenizer"), config())
    rows = np.arange(30)[::-1].copy()
    taken = builder.build(rows).take((20, 24), (3, 9))
    expected = builder.build(np.concatenate([rows[20:24], rows[3:9]]))
    for name, values in expected.tensors().items():
        assert torch.equal(getattr(taken, name), values), name
    assert taken.sizes.tolist() == expected.known_sizes().tolist()
    assert taken.sizes[3].tolist() == expected.audio_counts.tolist()
    moved = expected.to("cpu")
    assert moved.sizes.tolist() == taken.sizes.tolist()
    assert torch.equal(moved.audio, expected.audio)


# --- left out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", ["frames", "audio", "title", "speech", "screen"])
def test_a_builder_without_reads_as_if_no_video_had_it(tmp_path, left_out):
    empty = {
        "frames": {"frames": np.zeros((0, WIDTH), np.float16)},
        "audio": {"audio": np.zeros((0, AUDIO_WIDTH), np.float16)},
        "title": {"title": ""},
        "speech": {"speech_text": ""},
        "screen": {"screen_text": ""},
    }
    bare = [replace(video, **empty[left_out]) for video in VIDEOS]
    if left_out == "audio":  # the width of audio is the corpus's
        bare.append(Video("9", audio=heard(1)))
    corpus = write_corpus(tmp_path / "whole", VIDEOS)
    other = write_corpus(tmp_path / "bare", bare)
    builder = BatchBuilder(corpus, words_tokenizer(), config(), [left_out])
    expected = BatchBuilder(other, words_tokenizer(), config())
    rows = np.arange(4)
    assert builder.lengths.tolist() == expected.lengths[:4].tolist()
    found, wanted = builder.build(rows).tensors(), expected.build(rows).tensors()
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        if not name.startswith("tag"):
            assert torch.equal(found[name], values), name


def drawn(builder: BatchBuilder, rows: np.ndarray, rate: float, step: int) -> dict[str, np.ndarray]:
    """(rows,) of each modality, whether it is read."""
    batch = builder.build_with_dropout(rows, rate, seed=1, step=step)
    special = 3
    words = batch.token_counts - batch.speech_counts - batch.screen_counts - special
    read = {
        "frames": batch.frame_counts,
        "title": words,
        "audio": batch.audio_counts,
        "speech": batch.speech_counts,
        "screen": batch.screen_counts,
    }
    return {name: (counts > 0).numpy() for name, counts in read.items()}


def test_modality_dropout_leaves_something_and_all_combinations_come_up(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", with_more(made_videos(600)))
    builder = BatchBuilder(corpus, load_tokenizer(corpus.path / "tokenizer"), config())
    rows = np.arange(600)
    has = {name: counts > 0 for name, counts in builder.counts.items()}
    assert has.keys() == {"frames", "title", "audio", "speech", "screen"}
    any_of = np.any(list(has.values()), axis=0)
    read = [drawn(builder, rows, 0.15, step) for step in range(30)]
    together = {name: np.stack([one[name] for one in read]) for name in has}
    assert (np.any(list(together.values()), axis=0) == any_of).all()
    for name, there in has.items():
        assert not (together[name] & ~there).any()
    whole = np.all(list(has.values()), axis=0)
    left = {name: 1 - together[name][:, whole].mean() for name in has}
    assert left["frames"] == pytest.approx(0.15, abs=0.02)
    assert left["title"] == pytest.approx(0.15, abs=0.02)
    lone = ~together["frames"] | ~together["title"]
    for name in ("audio", "speech", "screen"):
        assert left[name] == pytest.approx(0.7 * 0.15 + 0.3 * BESIDES_SHARE, abs=0.02)
        absent = ~together[name]
        assert absent[lone & whole].mean() == pytest.approx(BESIDES_SHARE, abs=0.03)
    others = together["audio"] | together["speech"] | together["screen"] | together["frames"]
    title_alone = together["title"] & ~others
    assert title_alone[:, whole].mean() == pytest.approx(0.15 / 8, abs=0.008)


def test_reading_more_changes_nothing_in_what_is_drawn_for_frames_and_title(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", with_more(made_videos(200)))
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    plain = config(max_audio=0, max_speech_tokens=0, max_screen_tokens=0)
    both = (corpus.frame_counts > 0) & (np.diff(title_tokens(corpus, tokenizer)[1]) > 0)
    rows = np.flatnonzero(both)
    few = BatchBuilder(corpus, tokenizer, plain).build_with_dropout(rows, 0.3, 1, 5)
    # The rule for frames and title, worked here: one number for both.
    numbers = np.random.default_rng([1, 5]).random(len(rows))
    assert ((few.frame_counts == 0).numpy() == (numbers < 0.3)).all()
    assert ((few.token_counts == 3).numpy() == (numbers >= 0.7)).all()
    read = drawn(BatchBuilder(corpus, tokenizer, config()), rows, 0.3, 5)
    left = [read[name] for name in ("audio", "speech", "screen")]
    others = np.any(left, axis=0)
    assert (read["frames"] == (numbers >= 0.3)).all()
    assert (read["title"] == (numbers < 0.7)).all()
    assert others.any()


def test_dropout_without_a_rate_is_none(corpus):
    builder = BatchBuilder(corpus, words_tokenizer(), config())
    plain, drawn_ = builder.build(np.arange(4)), builder.build_with_dropout(np.arange(4), 0, 1, 2)
    for name, values in plain.tensors().items():
        assert torch.equal(getattr(drawn_, name), values)


# --- tokens kept beside the corpus --------------------------------------------------------------


def parts(tokens: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    ids, offsets = tokens
    assert ids.dtype == np.int32
    return [ids[a:b].tolist() for a, b in pairwise(offsets)]


def refuse(*_: object) -> None:
    raise AssertionError("tokenized again")


@pytest.mark.parametrize("at_once", [1, 3, 50_000])
def test_tokens_are_kept_by_column_and_limit(corpus, monkeypatch, at_once):
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", at_once)
    tokenizer = words_tokenizer()
    expected = {
        ("speech_text", 4): [[7], [9, 10, 11, 12], [], []],
        ("speech_text", 2): [[7], [9, 10], [], []],
        ("screen_text", 4): [[8], [], [6, 7, 8, 9], []],
        ("title", None): [[5, 6], [], [5], [6]],
    }
    for (column, limit), wanted in expected.items():
        assert parts(text_tokens(corpus, tokenizer, column, limit)) == wanted
    monkeypatch.setattr(TitleTokenizer, "encode", refuse)
    for (column, limit), wanted in expected.items():
        assert parts(text_tokens(corpus, tokenizer, column, limit)) == wanted
    assert len(list((corpus.path / "tokens").iterdir())) == len(expected)


def test_titles_are_found_where_they_were_kept(corpus):
    title_tokens(corpus, words_tokenizer())
    names = [path.name for path in (corpus.path / "tokens").iterdir()]
    assert names == [f"{words_tokenizer().fingerprint}-{len(corpus)}.arrow"]
