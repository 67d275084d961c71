"""The map against scikit-learn's, and against worked and degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from vidvec.demo.layout import _gradient, affinities, plane, principal_components


def test_principal_components_are_those_of_scikit_learn() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 9)) * np.arange(1, 10)
    found, expected = principal_components(vectors), PCA(2).fit_transform(vectors)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)


def test_affinities_have_the_wanted_perplexity() -> None:
    vectors = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    wanted = affinities(vectors, 12.0)
    np.testing.assert_allclose(wanted, wanted.T)
    assert wanted.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diag(wanted) == 0).all()
    # Points alike in all directions: here symmetrising changes nothing, so a row is a distribution.
    circle = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    rows = 80 * affinities(np.stack([np.cos(circle), np.sin(circle)], axis=1), 12.0)
    entropy = -(rows * np.log(np.maximum(rows, 1e-30))).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropy), 12.0, rtol=1e-2)


def test_gradient_is_that_of_the_divergence() -> None:
    random = np.random.default_rng(1)
    wanted = affinities(random.normal(size=(12, 4)), 3.0).astype(np.float64)
    places = random.normal(size=(12, 2))

    def divergence(at: np.ndarray) -> float:
        close = 1 / (1 + ((at[:, None] - at) ** 2).sum(axis=2))
        np.fill_diagonal(close, 0)
        shown = close / close.sum()
        there = wanted > 0
        return float((wanted[there] * np.log(wanted[there] / shown[there])).sum())

    expected = np.zeros_like(places)
    for place in np.ndindex(*places.shape):
        step = np.zeros_like(places)
        step[place] = 1e-5
        expected[place] = (divergence(places + step) - divergence(places - step)) / 2e-5
    np.testing.assert_allclose(_gradient(wanted, places), expected, atol=1e-5)


def test_neighbours_of_digits_stay_neighbours() -> None:
    digits = load_digits()
    vectors, labels = digits.data[:400].astype(np.float32), digits.target[:400]
    places = plane(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert trustworthiness(unit, places, n_neighbors=10) > 0.98
    assert trustworthiness(unit, principal_components(unit), n_neighbors=10) < 0.9
    nearest = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(places)[1][:, 1]
    assert (labels[nearest] == labels).mean() > 0.94
    np.testing.assert_array_equal(places, plane(vectors))
    assert places.std(axis=0).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 40])
def test_few_and_equal_vectors_have_a_place(count: int) -> None:
    random = np.random.default_rng(2)
    for vectors in (random.normal(size=(count, 7)), np.ones((count, 7)), np.zeros((count, 7))):
        places = plane(vectors.astype(np.float32))
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()


def test_length_does_not_matter() -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(30, 6)).astype(np.float32)
    longer = vectors * np.exp2(random.integers(-6, 7, (30, 1))).astype(np.float32)
    np.testing.assert_array_equal(plane(longer), plane(vectors))
