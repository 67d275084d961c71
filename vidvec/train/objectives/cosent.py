"""CoSENT: the order of the pairs, and nothing but it."""

from __future__ import annotations

from torch import Tensor

from vidvec.train.objectives.pairs import ScoredPairs


def cosent(pairs: ScoredPairs, scale: float) -> Tensor:
    """``log(1 + Σ exp(scale · (cos j − cos i)))`` over all i and j where i has the higher target.

    Source: Su, "CoSENT: a more effective sentence embedding scheme than Sentence-BERT" (2022);
    the sum's form is that of the circle loss (Sun et al. 2020).

    Args:
        pairs: Of the batch; the more, the more order there is to learn from.
        scale: The inverse of a temperature; 20 in the source.
    """
    return pairs.order_loss(pairs.cosines, scale)
