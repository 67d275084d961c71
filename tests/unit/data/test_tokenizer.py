"""Tokenizers: the same ids as other implementations give, and trained ones that stay the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.corpora import write_corpus
from vidvec.config import ModelConfig
from vidvec.data.batches import BatchBuilder
from vidvec.data.tokenizer import (
    SPECIAL_NAMES,
    TitleTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from vidvec.errors import FormatError, UsageError
from vidvec.records import SourceRow, Video

PROJECT = Path(__file__).resolve().parents[3]
TITLES = [
    "小猫在沙发上睡觉 cat sleeping",
    "城市夜景 city lights at night",
    "猫猫猫 cats, cats and cats",
    "Sleeping cities 城市",
    "夜里的猫",
] * 3


def ids_of(tokenizer: TitleTokenizer, title: str) -> list[int]:
    return tokenizer.encode([title])[0].tolist()


def tokens_of(tokenizer: TitleTokenizer, title: str, folder: Path) -> list[str]:
    tokenizer.save(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [str(plain.id_to_token(number)) for number in ids_of(tokenizer, title)]


def real_titles(shared: Path, count: int) -> list[str]:
    text = shared / "data" / "text"
    lines = (text / "tnews" / "tnews_unlabeled.json").read_text("utf-8").splitlines()[:count]
    titles = [json.loads(line)["sentence"] for line in lines]
    for file in sorted((text / "youtube_trending").glob("*.jsonl")):
        titles += [json.loads(line)["title"] for line in file.read_text("utf-8").splitlines()]
    return titles


@pytest.mark.shared
def test_a_bert_vocabulary_gives_the_ids_of_the_original_tokenizer(shared):
    pytest.importorskip("transformers")
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    file = shared / "data" / "models" / "bert_base_chinese_vocab.txt"
    ours, theirs = load_tokenizer(file), BertTokenizerLegacy(str(file))
    titles = real_titles(shared, 1500)
    titles += [
        "",
        "   ",
        "Ünïcödé ﬁne",
        "🐈🐈 猫 emoji",
        "a\u0000b\ufffd\u200bc",
        "ＡＢＣ１２３",
        "[SEP] x",
    ]
    ids, counts = ours.encode(titles)
    expected = [theirs.encode(title, add_special_tokens=False) for title in titles]
    assert counts.tolist() == [len(one) for one in expected]
    assert ids.tolist() == [number for one in expected for number in one]
    assert ours.vocab_size == len(theirs) == 21128
    for role in SPECIAL_NAMES:
        assert ours.special_ids[role] == getattr(theirs, f"{role}_token_id")


@pytest.mark.shared
def test_a_bert_vocabulary_for_upper_and_lower_case(shared, tmp_path):
    vocabulary = (shared / "data" / "models" / "bert_base_chinese_vocab.txt").read_bytes()
    (tmp_path / "vocab.txt").write_bytes(vocabulary)
    lower = ids_of(load_tokenizer(tmp_path), "NBA")
    assert lower == ids_of(load_tokenizer(tmp_path), "nba")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert ids_of(load_tokenizer(tmp_path), "nba") == lower
    assert ids_of(load_tokenizer(tmp_path), "NBA") != lower


@pytest.mark.shared
def test_a_folder_gives_the_ids_of_the_published_pipeline(shared, tmp_path):
    from vidvec.data.tfrecord import read_tfrecords

    tokenizer = load_tokenizer(shared / "reference" / "bert_tiny")
    pipeline = shared / "reference" / "pipeline"
    expected = json.loads((pipeline / "expected_records.json").read_text())
    rows = list(read_tfrecords(pipeline / "videos.tfrecords"))
    videos = [Video(id=r.video.id, title=r.video.title) for r in rows if isinstance(r, SourceRow)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, frame_size=1, max_tokens=36)
    batch = BatchBuilder(corpus, tokenizer, config).build(np.arange(len(corpus)))
    parts = batch.token_ids.split(batch.token_counts.tolist())
    assert len(parts) == len(expected) == 16
    for part, record in zip(parts, expected, strict=True):
        real = [i for i, m in zip(record["input_ids"], record["attention_mask"], strict=True) if m]
        assert part.tolist() == real
    assert max(batch.token_counts) == 36  # some titles are cut


def test_chinese_is_split_by_character(tmp_path):
    tokenizer = train_tokenizer(TITLES)
    assert tokens_of(tokenizer, "城市的夜猫", tmp_path) == ["城", "市", "的", "夜", "猫"]
    assert tokens_of(tokenizer, "猫cats猫", tmp_path) == ["猫", "cats", "猫"]
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert not [word for word in vocabulary if len(word) > 1 and any(c > "\u3000" for c in word)]


def test_frequent_words_become_tokens_and_rare_ones_pieces(tmp_path):
    tokenizer = train_tokenizer([*TITLES, "zyx"])
    assert tokens_of(tokenizer, "Sleeping CITY", tmp_path) == ["sleeping", "city"]
    assert tokens_of(tokenizer, "zyx", tmp_path) == ["z", "##y", "##x"]
    assert tokenizer.decode(ids_of(tokenizer, "sleeping zyx")) == "sleeping zyx"


def test_special_tokens_come_first(tmp_path):
    tokenizer = train_tokenizer(TITLES)
    assert tokenizer.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def test_the_vocabulary_stays_within_its_size():
    small = train_tokenizer(TITLES, vocab_size=60)
    assert small.vocab_size <= 60
    assert train_tokenizer(TITLES).vocab_size > 60


TRAIN = """
import json, pathlib, sys
from vidvec.data.tokenizer import train_tokenizer
titles = json.loads(pathlib.Path(sys.argv[1]).read_text())
print(train_tokenizer(titles, 300).fingerprint)
"""


def test_the_same_titles_give_the_same_tokenizer_in_every_process(tmp_path):
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzéß"))
    titles = [
        " ".join("".join(random.choice(letters, random.integers(2, 7))) for _ in range(6))
        for _ in range(200)
    ]
    file = tmp_path / "titles.json"
    file.write_text(json.dumps(titles))
    command = [sys.executable, "-c", TRAIN, str(file)]
    found = {
        subprocess.run(command, check=True, capture_output=True, cwd=PROJECT, text=True).stdout
        for _ in range(3)
    }
    assert found == {train_tokenizer(iter(titles), 300).fingerprint + "\n"}
    assert train_tokenizer(titles[:100], 300).fingerprint + "\n" not in found


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path):
    tokenizer = train_tokenizer(TITLES)
    tokenizer.save(tmp_path / "tokenizer")
    for source in (tmp_path / "tokenizer", tmp_path / "tokenizer" / "tokenizer.json"):
        again = load_tokenizer(source)
        assert again.fingerprint == tokenizer.fingerprint
        assert again.vocab_size == tokenizer.vocab_size
        assert again.special_ids == tokenizer.special_ids
        for title in TITLES:
            assert ids_of(again, title) == ids_of(tokenizer, title)


def test_transformers_reads_a_saved_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = train_tokenizer(TITLES)
    tokenizer.save(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for title in TITLES:
        assert theirs.encode(title, add_special_tokens=False) == ids_of(tokenizer, title)


def test_empty_and_unknown_titles():
    tokenizer = train_tokenizer(TITLES)
    unknown = tokenizer.special_ids["unk"]
    ids, counts = tokenizer.encode(["", "  \t\n", "λόγος ΩΩ", "", "猫"])
    assert counts.tolist() == [0, 0, 2, 0, 1]
    assert ids.tolist()[:2] == [unknown, unknown]
    assert ids.dtype == np.int32
    assert counts.dtype == np.int64
    ids, counts = tokenizer.encode([])
    assert (ids.tolist(), counts.tolist()) == ([], [])


@pytest.mark.parametrize("titles", [[], [""], ["  ", "\n"]])
def test_a_tokenizer_of_no_words(titles):
    tokenizer = train_tokenizer(titles)
    assert tokenizer.vocab_size == 5
    assert ids_of(tokenizer, "anything") == [tokenizer.special_ids["unk"]]


def test_titles_are_neither_cut_nor_filled(tmp_path):
    backend = Tokenizer.from_str(_saved(train_tokenizer(TITLES), tmp_path))
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    tokenizer = TitleTokenizer(backend)
    _, counts = tokenizer.encode(["猫 " * 40, "猫"])
    assert counts.tolist() == [40, 1]


def _saved(tokenizer: TitleTokenizer, folder: Path) -> str:
    tokenizer.save(folder)
    return (folder / "tokenizer.json").read_text("utf-8")


def test_a_byte_level_tokenizer_without_special_tokens_gets_them(tmp_path):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TITLES, trainer)
    words = backend.get_vocab_size()
    backend.save(str(tmp_path / "tokenizer.json"))

    tokenizer = load_tokenizer(tmp_path)
    assert sorted(tokenizer.special_ids.values()) == list(range(words, words + 5))
    assert tokenizer.vocab_size == words + 5
    title = "夜 cats Ω 🐈"
    assert ids_of(tokenizer, title) == backend.encode(title).ids
    assert tokenizer.decode(ids_of(tokenizer, title)) == title
    tokenizer.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint


def test_other_families_names_of_special_tokens_are_known():
    words = ["<s>", "<pad>", "</s>", "<unk>", "猫", "<mask>"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    tokenizer = TitleTokenizer(backend)
    assert tokenizer.special_ids == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 5}
    assert tokenizer.vocab_size == 6


def test_struck_out_text_in_gemmas_vocabulary_is_no_special_token():
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<s>", "</s>"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    assert TitleTokenizer(backend).special_ids == {
        "pad": 0,
        "unk": 3,
        "cls": 2,
        "sep": 1,
        "mask": 4,
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "not json"),
        ("vocab.txt", ""),
        ("vocab.txt", "a shopping list\nmilk\n"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(FormatError) as caught:
            load_tokenizer(source)
        assert str(caught.value).startswith(f"{tmp_path / name} is not a tokenizer: ")


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(UsageError, match=r"holds neither tokenizer\.json nor vocab\.txt"):
        load_tokenizer(tmp_path)


OFFLINE = """
from vidvec.data.tokenizer import load_tokenizer
from vidvec.errors import OfflineError
for name in ("vidvec-tests/no-such-model", "./no/such/folder"):
    try:
        load_tokenizer(name)
    except OfflineError as error:
        print(error)
"""


def test_a_name_that_is_not_on_this_disk_says_what_to_do(tmp_path):
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env=os.environ | quiet,
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    first, second = done.stdout.splitlines()
    assert "no tokenizer 'vidvec-tests/no-such-model'" in first
    assert "tokenizer.json or vocab.txt" in first
    assert "no tokenizer './no/such/folder'" in second
