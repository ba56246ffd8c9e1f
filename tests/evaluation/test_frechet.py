"""Frechet distances of Gaussians whose distance is known."""

import numpy as np
import pytest
import scipy.linalg

from mvjax.evaluation import frechet


def with_moments(rng, mean, covariance, count):
  """Features with exactly these moments."""
  noise = rng.standard_normal((count, len(mean)))
  noise -= noise.mean(0)
  whitener = np.linalg.inv(np.linalg.cholesky(np.cov(noise.T)))
  root = np.linalg.cholesky(covariance)
  return mean + noise @ whitener.T @ root.T


def by_square_root(a, b):
  """The textbook form."""
  first, second = np.cov(a.T), np.cov(b.T)
  root = scipy.linalg.sqrtm(first @ second).real
  shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
  return shift + np.trace(first + second - 2 * root)


def distance(a, b):
  return frechet.frechet_distance(frechet.moments(a), frechet.moments(b))


def test_diagonal_gaussians():
  """|m|^2 + sum (s1 - s2)^2 where the covariances commute."""
  rng = np.random.default_rng(0)
  deviations = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.25])
  mean = np.array([1.0, -2.0, 0.0])
  a = with_moments(rng, np.zeros(3), np.diag(deviations[0] ** 2), 50)
  b = with_moments(rng, mean, np.diag(deviations[1] ** 2), 30)
  assert distance(a, b) == pytest.approx(5 + 4 + 0 + 0.0625, rel=1e-9)


@pytest.mark.parametrize("sizes", [(40, 60), (200, 300), (12, 300)])
def test_equals_the_matrix_square_root(sizes):
  rng = np.random.default_rng(1)
  mix = rng.standard_normal((2, 20, 20))
  a = rng.standard_normal((sizes[0], 20)) @ mix[0]
  b = rng.standard_normal((sizes[1], 20)) @ mix[1] + 1
  if min(sizes) > 20:
    assert distance(a, b) == pytest.approx(by_square_root(a, b), rel=1e-8)
  # sqrtm of a singular product has about half of the digits.
  assert distance(a, b) == pytest.approx(by_square_root(a, b), rel=1e-4)


@pytest.mark.parametrize("count", [5, 500])
def test_a_set_has_no_distance_to_itself(count):
  a = 100 + np.random.default_rng(2).standard_normal((count, 64))
  assert distance(a, a[::-1]) == pytest.approx(0, abs=1e-8)
  turned, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((64, 64)))
  b = a * 1.5 + 1
  assert distance(a @ turned, b @ turned) == pytest.approx(distance(a, b))


def test_weights_are_repetitions():
  rng = np.random.default_rng(4)
  rows, counts = rng.standard_normal((30, 6)), rng.integers(0, 3, 30)
  weighted = frechet.moments(rows, counts.astype(float))
  repeated = frechet.moments(np.repeat(rows, counts, axis=0))
  np.testing.assert_allclose(weighted.mean, repeated.mean)
  np.testing.assert_allclose(
    weighted.factor.T @ weighted.factor, repeated.factor.T @ repeated.factor
  )


def test_one_picture_has_no_covariance():
  with pytest.raises(ValueError, match="two pictures"):
    frechet.moments(np.ones((1, 4)))
