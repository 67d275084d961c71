"""Which videos of a corpus are embedded, and what of them is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vidvec.config import Modality
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.model.weights import VideoModel


def check_without(model: VideoModel, without: Collection[Modality]) -> None:
    """Refuses to leave out what a model does not read, or all that it reads.

    Raises:
        UsageError: It is one of the two.
    """
    read = model.recipe.model.modalities
    unread = sorted(set(without) - set(read))
    names = ", ".join(read)
    if unread:
        raise UsageError(f"without {', '.join(unread)}: the model reads no such; it reads {names}")
    if not set(read) - set(without):
        raise UsageError(f"without {', '.join(sorted(without))} nothing is left: it reads {names}")


def rows_of_parts(corpus: Corpus, parts: Sequence[str]) -> NDArray[np.int64]:
    """(n,) int64 rows of a corpus's videos that are in these parts, ascending; all without parts.

    Videos that are gone are left out.

    Raises:
        UsageError: The corpus has no such part.
    """
    if not parts:
        return corpus.live
    known = corpus.parts
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise UsageError(
            f"{corpus.path} has no part {', '.join(map(repr, unknown))}; its parts are "
            f"{', '.join(known) or 'none: its source had no folders'}"
        )
    return np.unique(np.concatenate([known[part] for part in parts]))
