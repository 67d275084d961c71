"""A fixed rotation, by which what few numbers of a vector hold is spread over all of them.

Signs and other codes of a bit a number need it where numbers are not alike: of vectors that were
fused, whose first numbers vary most (SVD), signs alone hardly tell videos apart.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Numbers of the matrix are multiples of this, so that sums of them with signs are exact in float32:
# the same whatever the order, and so however many vectors are turned at a time.
STEP = 2.0**-15


@lru_cache(maxsize=8)
def rotation(dimension: int) -> NDArray[np.float32]:
    """(E, E) orthogonal to within rounding, drawn uniformly, and always the same.

    Of a matrix of normal numbers, the orthogonal part of its QR decomposition, with the signs that
    make it unique (Mezzadri, "How to generate random matrices from the classical compact groups",
    2007).
    """
    # NumPy promises the numbers of this generator for all versions to come, and of no other.
    random = np.random.RandomState(dimension)
    orthogonal, triangle = np.linalg.qr(random.standard_normal((dimension, dimension)))
    matrix = np.rint(orthogonal * np.sign(np.diag(triangle)) / STEP) * STEP
    made = matrix.astype(np.float32)
    made.flags.writeable = False  # it is shared
    return made


def rotate(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, E) vectors turned: lengths and cosines stay, to within 1e-4."""
    return np.ascontiguousarray(vectors, np.float32) @ rotation(vectors.shape[1]).T


def rotate_back(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, E) vectors as they were before ``rotate``."""
    return np.ascontiguousarray(vectors, np.float32) @ rotation(vectors.shape[1])
