"""Titles to token ids: any Hugging Face fast tokenizer, or one trained on the corpus's titles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from vidvec import storage
from vidvec.errors import FormatError, OfflineError, UsageError

# What tokenizer families call the five tokens that a model here needs, BERT's name first. Gemma's
# vocabulary, which mmBERT has, also holds ``<s>`` and ``</s>``: as tags of struck-out text.
SPECIAL_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<bos>", "<cls>", "<s>"),
    "sep": ("[SEP]", "<eos>", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
BERT_NAMES = [names[0] for names in SPECIAL_NAMES.values()]
TRAINED_VOCABULARY = 8000
MIN_FREQUENCY = 2


class TitleTokenizer:
    """A tokenizer and the ids of its special tokens; those it lacks are added at the end.

    Attributes:
        special_ids: Ids by role: ``pad``, ``unk``, ``cls``, ``sep``, ``mask``.
        vocab_size: Rows that a word embedding for it needs.
        fingerprint: Sixteen hex digits of the whole tokenizer; equal ones give equal ids.
    """

    def __init__(self, backend: Tokenizer) -> None:
        backend.no_padding()
        backend.no_truncation()
        self.special_ids: dict[str, int] = {}
        for role, names in SPECIAL_NAMES.items():
            ids = [backend.token_to_id(name) for name in names]
            known = [number for number in ids if number is not None]
            if not known:
                backend.add_special_tokens([names[0]])
                known = [backend.get_vocab(with_added_tokens=True)[names[0]]]
            self.special_ids[role] = known[0]
        self._backend = backend
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()[:16]

    def encode(self, titles: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids of many titles, whole and without special tokens.

        Returns:
            Ids (ΣT,) int32, title after title, and counts (titles,) int64.
        """
        encoded = self._backend.encode_batch_fast(list(titles), add_special_tokens=False)
        counts = np.fromiter((len(item) for item in encoded), np.int64, len(encoded))
        ids = np.empty(int(counts.sum()), np.int32)
        start = 0
        for item, count in zip(encoded, counts, strict=True):
            ids[start : start + count] = item.ids
            start += count
        return ids, counts

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self._backend.decode(list(ids)))

    def save(self, folder: Path) -> None:
        """Writes ``folder/tokenizer.json``, which any Hugging Face fast tokenizer reads."""
        with storage.atomic_path(folder / "tokenizer.json") as temporary:
            self._backend.save(str(temporary))


def _bert_pipeline(vocabulary: dict[str, int], lowercase: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a name
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([name for name in BERT_NAMES if name in vocabulary])
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int = TRAINED_VOCABULARY) -> TitleTokenizer:
    """A WordPiece vocabulary of these texts; Chinese is split by character first.

    The same texts give the same vocabulary, in any process.
    """
    texts = list(texts)
    # The trainer numbers the characters of words in the order of a hash table, which differs from
    # process to process, and breaks ties by number. A first pass without merges finds them; named
    # as special tokens of the second, they have their numbers beforehand.
    pieces = sorted(_trained_vocabulary(texts, BERT_NAMES, 0).keys() - set(BERT_NAMES))
    return TitleTokenizer(
        _bert_pipeline(_trained_vocabulary(texts, [*BERT_NAMES, *pieces], vocab_size))
    )


def _trained_vocabulary(texts: list[str], first: list[str], vocab_size: int) -> dict[str, int]:
    """Token ids of a WordPiece vocabulary that begins with the tokens of ``first``."""
    tokenizer = _bert_pipeline({})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=first,
        show_progress=False,
        continuing_subword_prefix="##",
    )
    tokenizer.train_from_iterator(texts, trainer)
    return dict(tokenizer.get_vocab(with_added_tokens=False))


def load_tokenizer(source: str | Path) -> TitleTokenizer:
    """Reads a tokenizer from a folder, a file, or by name from the hub.

    Args:
        source: A folder with ``tokenizer.json`` or a BERT ``vocab.txt``, one of these files, or the
            name of a model on the hub.

    Raises:
        FormatError: The file is no tokenizer.
        OfflineError: There is no such folder, and the hub does not give one of this name.
    """
    path = source if isinstance(source, Path) else Path(source)
    if isinstance(path, storage.S3Path):
        path = storage.local_folder(path)
    if path.is_dir():
        files = [path / "tokenizer.json", path / "vocab.txt"]
        path = next((file for file in files if file.is_file()), path)
        if path.is_dir():
            raise UsageError(f"{source} holds neither tokenizer.json nor vocab.txt")
    if not path.is_file():
        return TitleTokenizer(_from_hub(str(source)))
    try:
        if path.suffix == ".txt":
            vocabulary = models.WordPiece.read_file(str(path))
            if "[UNK]" not in vocabulary:
                raise ValueError("a BERT vocabulary has a line [UNK]")
            return TitleTokenizer(_bert_pipeline(vocabulary, _lowercase(path)))
        return TitleTokenizer(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises plain Exception
        raise FormatError(f"{path} is not a tokenizer: {error}") from None


def _lowercase(vocabulary: Path) -> bool:
    """Whether a BERT ``vocab.txt`` is for lower case, which only a file beside it may deny."""
    settings = vocabulary.with_name("tokenizer_config.json")
    return not settings.is_file() or bool(storage.read_json(settings).get("do_lower_case", True))


def _from_hub(name: str) -> Tokenizer:
    try:
        return Tokenizer.from_pretrained(name)
    except Exception as error:
        raise OfflineError(
            f"no tokenizer {name!r}: it is no folder on this disk, and the hub did not give it "
            f"({type(error).__name__}). Give a folder with tokenizer.json or vocab.txt, or set "
            "HF_ENDPOINT to a hub that can be reached"
        ) from None
