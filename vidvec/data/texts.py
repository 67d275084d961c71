"""Texts of videos as tokens: a title, what is said, what is written in the picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from vidvec import storage
from vidvec.config import Modality, ModelConfig
from vidvec.data.corpus import Corpus
from vidvec.data.tokenizer import TitleTokenizer

# Columns of the corpus.
COLUMNS: dict[Modality, str] = {
    "title": "title",
    "speech": "speech_text",
    "screen": "screen_text",
}
TEXTS_AT_ONCE = 50_000
# Ids (ΣT,) without special tokens, and what they are cut by: offsets or counts.
TextTokens = tuple[NDArray[np.int32], NDArray[np.int64]]


def title_tokens(corpus: Corpus, tokenizer: TitleTokenizer) -> TextTokens:
    """Token ids of all titles; see ``text_tokens``."""
    return text_tokens(corpus, tokenizer, "title")


def text_tokens(
    corpus: Corpus, tokenizer: TitleTokenizer, column: str, limit: int | None = None
) -> TextTokens:
    """Token ids of a column of texts without special tokens, kept beside the corpus once computed.

    Args:
        corpus: The corpus.
        tokenizer: Makes the tokens.
        column: Such as ``title``.
        limit: Tokens that are kept of each text, for texts that may be long; ``None``: all.

    Returns:
        Ids (ΣT,) int32 in row order, and offsets (videos + 1,) int64.
    """
    which = "" if column == "title" else f"-{column}"
    which += "" if limit is None else f"-{limit}"
    kept = storage.beside(corpus.path, corpus.content)
    path = kept / "tokens" / f"{tokenizer.fingerprint}{which}-{len(corpus)}.arrow"
    if path.is_file():
        columns = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("token_ids")
        ids = [chunk.values.to_numpy() for chunk in columns.chunks]
        counts = [np.diff(chunk.offsets.to_numpy()) for chunk in columns.chunks]
    else:
        ids, counts = _tokenize(corpus, tokenizer, column, limit)
        _keep(path, ids, counts)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([[], *counts]))]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.int32), *ids]), offsets


def _tokenize(
    corpus: Corpus, tokenizer: TitleTokenizer, column: str, limit: int | None
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int64]]]:
    texts = corpus.column(column)
    ids: list[NDArray[np.int32]] = []
    counts: list[NDArray[np.int64]] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        found, lengths = tokenizer.encode(texts.slice(start, TEXTS_AT_ONCE).to_pylist())
        if limit is not None:
            kept = np.minimum(lengths, limit)
            found, lengths = found[ranges(np.cumsum(lengths) - lengths, kept)], kept
        ids.append(found)
        counts.append(lengths)
    return ids, counts


def _keep(path: Path, ids: list[NDArray[np.int32]], counts: list[NDArray[np.int64]]) -> None:
    try:
        with (
            storage.atomic_path(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, pa.schema([("token_ids", pa.list_(pa.int32()))])) as writer,
        ):
            for some_ids, some_counts in zip(ids, counts, strict=True):
                offsets = np.concatenate([[0], np.cumsum(some_counts)]).astype(np.int32)
                writer.write_batch(
                    pa.record_batch([pa.ListArray.from_arrays(offsets, some_ids)], ["token_ids"])
                )
    except OSError:
        pass  # a corpus on a read-only disk: the ids are in memory, only the cache is not kept


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices start, start + 1, …, start + count − 1 of every range, one after the other."""
    ends = np.cumsum(counts)
    within = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    return within + np.repeat(starts - (ends - counts), counts)


class TextLayout:
    """How one model surrounds texts with special tokens, and how many tokens it leaves room for.

    A title always has its special tokens. The published tokenizer call on ('', title) leaves a
    ``[SEP]`` between ``[CLS]`` and the title; with the frames in front the title is tokenized alone
    (system.md, section 2). What is said and what is written in the picture end with a ``[SEP]``
    where there is such text, and take no token where there is none.

    Attributes:
        rooms: Words of each text that the model reads, in the order of the sequence.
    """

    def __init__(self, tokenizer: TitleTokenizer, config: ModelConfig) -> None:
        special = tokenizer.special_ids
        first = config.order == "cls_first"
        self.lead = np.array([special["cls"], special["sep"]] if first else [special["cls"]])
        self.end = special["sep"]
        self.rooms: dict[Modality, int] = {"title": config.max_tokens - len(self.lead) - 1}
        for text, limit in config.text_limits.items():
            self.rooms[text] = limit - 1

    @property
    def extra(self) -> int:
        """Special tokens a title."""
        return len(self.lead) + 1

    def lengths(self, counts: Mapping[Modality, NDArray[np.int64]]) -> NDArray[np.int64]:
        """(videos,) tokens with special tokens, from the words (videos,) of each text."""
        more = [some + (some > 0) for text, some in counts.items() if text != "title"]
        return np.sum([counts["title"] + self.extra, *more], axis=0)

    def tensors(self, texts: Mapping[Modality, TextTokens]) -> dict[str, Any]:
        """Token fields of a batch.

        Args:
            texts: Of each text that is read, in the order of the sequence: ids (Σcounts,), video
                after video, and counts (B,).
        """
        words = {text: counts for text, (_, counts) in texts.items()}
        lengths = self.lengths(words)
        tokens = np.empty(int(lengths.sum()), np.int64)
        at = np.cumsum(lengths) - lengths
        tokens[(at[:, None] + np.arange(len(self.lead))).ravel()] = np.tile(self.lead, len(at))
        at = at + len(self.lead)
        for text, (ids, counts) in texts.items():
            ended = np.ones_like(counts) if text == "title" else (counts > 0).astype(np.int64)
            tokens[ranges(at, counts)] = ids
            tokens[ranges(at + counts, ended)] = self.end
            at = at + counts + ended
        fields = {"token_ids": tokens, "token_counts": lengths}
        if len(self.rooms) > 1:
            none = np.zeros_like(lengths)
            fields |= {
                f"{text}_counts": words[text] + (words[text] > 0) if text in words else none
                for text in ("speech", "screen")
            }
        return {name: torch.from_numpy(values) for name, values in fields.items()}
