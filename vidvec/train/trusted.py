"""Which videos' tags are trusted (``pretrain.trusted``)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.config import PretrainConfig
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError

LIST_SUFFIX = ".txt"


def trusted_rows(
    corpus: Corpus, rows: NDArray[np.int64], stage: PretrainConfig
) -> NDArray[np.int64]:
    """Those of the rows to learn from that are tagged, and trusted; none where nobody asks.

    Ids in a list that the corpus does not have are passed over.

    Raises:
        UsageError: Weights are asked for, and no video is left; or a list cannot be read.
    """
    if stage.tag_weighting == "none":
        return rows[:0]
    parts, members = corpus.parts, [rows[:0]]
    for name in stage.trusted:
        if name in parts:
            members.append(parts[name])
        elif name.endswith(LIST_SUFFIX):
            ids = set(_lines(Path(name)))
            members.append(rows[[corpus.ids[row] in ids for row in rows]])
    tagged = corpus.tag_positions()[1] >= 0
    found = rows[np.isin(rows, np.concatenate(members)) & tagged[rows]]
    if not len(found):
        raise UsageError(
            f"no tagged video of {corpus.path} to learn from is in what pretrain.trusted names "
            f"({', '.join(stage.trusted)}): expected parts of the corpus (it has "
            f"{', '.join(parts) or 'none'}) or files of ids, one a line, whose names end in "
            f"{LIST_SUFFIX}; or set pretrain.tag_weighting=none"
        )
    return found


def trusted_facts(stage: PretrainConfig) -> dict[str, str]:
    """What a run that is carried on must have in common of the lists: their content."""
    lists = [name for name in stage.trusted if name.endswith(LIST_SUFFIX) and Path(name).is_file()]
    if stage.tag_weighting == "none" or not lists:
        return {}
    digest = hashlib.sha256()
    for name in lists:
        digest.update(hashlib.sha256(Path(name).read_bytes()).digest())
    return {"trusted": digest.hexdigest()[:12]}


def _lines(path: Path) -> list[str]:
    """The ids of a list."""
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise UsageError(f"pretrain.trusted names {path}, and there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"pretrain.trusted names {path}, which cannot be read: {error}") from None
