"""The balanced split: videos held out so that few pairs are lost, whatever the graph of pairs.

Which videos those are depends on all pairs, so that it is written down in the corpus when it is
first asked for (``splits/balanced.json``). From then on a video stays on the side that it is on;
videos that come with later pairs are put where fewest pairs are lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vidvec import storage
from vidvec.data.bisection import bisect
from vidvec.data.pair_graph import LEFT, RIGHT, pair_graph
from vidvec.errors import FormatError
from vidvec.records import Pair

SHARE = 0.1  # of the pairs that are kept, for validation
KIND, FORMAT_VERSION = "split", 1
FILE = Path("splits", "balanced.json")


def balanced_videos(
    pairs: Sequence[Pair],
    *,
    share: float = SHARE,
    validation: Iterable[str] = (),
    training: Iterable[str] = (),
    seed: int = 0,
) -> frozenset[str]:
    """The videos to validate on, such that few pairs have one such video and one other.

    Of the pairs kept, ``share`` within 1 % of it are to be validated on, with scores about as all
    pairs have them. Where the graph does not allow that (all pairs share one video, say), it is as
    near as it can be. The order of the pairs makes no difference.

    Args:
        pairs: Scored pairs.
        share: Above 0 and below 1.
        validation, training: Videos that have to be on that side.
        seed: Decides between equals.
    """
    sides = dict.fromkeys(training, RIGHT) | dict.fromkeys(validation, LEFT)
    graph, nodes = pair_graph(pairs, sides)
    if not len(graph):
        return frozenset()
    left = bisect(graph, share, seed)[nodes]
    held = set()
    for pair, (first, second) in zip(pairs, left.tolist(), strict=True):
        held.update([pair.id_1] * first + [pair.id_2] * second)
    return frozenset(held)


def kept_videos(corpus: Path, pairs: Sequence[Pair], *, write: bool = True) -> frozenset[str]:
    """The videos of a corpus to validate on: those written down there, and what came since.

    Where they cannot be written, as on a read-only disk, they are the same as long as the pairs
    are.

    Args:
        corpus: Its folder.
        pairs: Its scored pairs.
        write: Write down what is not yet.

    Raises:
        FormatError: What is written down is damaged, or of another version.
    """
    path = corpus / FILE
    validation, training = _read(path) if path.is_file() else (frozenset(), frozenset())
    scored = {video for pair in pairs for video in (pair.id_1, pair.id_2)}
    if scored <= validation | training:
        return validation
    found = balanced_videos(pairs, validation=validation, training=training) | validation
    if not write:
        return found
    facts = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "share": SHARE,
        "validation": sorted(found),
        "training": sorted((scored | training) - found),
    }
    try:
        storage.write_json(path, facts)
    except OSError:
        return found
    return found


def _read(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Videos on either side, as written."""
    facts = storage.read_json(path)
    advice = "delete it to split anew: models trained before have then seen some of the videos"
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise FormatError(f"{path} is no split of a corpus: {advice}")
    if facts.get("format_version") != FORMAT_VERSION:
        version = facts.get("format_version")
        raise FormatError(
            f"{path} has format version {version}; this vidvec reads version {FORMAT_VERSION}"
        )
    sides = []
    for name in ("validation", "training"):
        ids = facts.get(name)
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise FormatError(f"{path} is damaged: {name} is no list of ids; {advice}")
        sides.append(frozenset(ids))
    if sides[0] & sides[1]:
        some = min(sides[0] & sides[1])
        raise FormatError(f"{path} is damaged: {some!r} is on both sides; {advice}")
    return sides[0], sides[1]
