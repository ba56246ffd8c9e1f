"""The kernel distance against sums over all pairs and over distributions."""

import numpy as np
import pytest

from mvjax.evaluation import kernel_distance


def k(x, y):
  return (x @ y / len(x) + 1) ** 3


def distance(a, b, groups=None, reference_groups=None):
  groups = np.arange(len(a)) if groups is None else groups
  if reference_groups is None:
    reference_groups = np.arange(len(b))
  sums = kernel_distance.kernel_sums(
    a, groups, reference=b, reference_groups=reference_groups
  )
  return sums.distance(np.ones(int(groups.max()) + 1))


def test_published_estimator():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 1
  own = [k(a[i], a[j]) for i in range(7) for j in range(7) if i != j]
  other = [k(b[i], b[j]) for i in range(5) for j in range(5) if i != j]
  across = [k(x, y) for x in a for y in b]
  expected = np.mean(own) + np.mean(other) - 2 * np.mean(across)
  assert distance(a, b) == pytest.approx(expected)


def population(points, p, q):
  """The squared distance of two distributions on the same points."""
  gram = np.array([[k(x, y) for y in points] for x in points])
  return (p - q) @ gram @ (p - q)


@pytest.mark.parametrize("equal, views", [(True, 3), (False, 1)])
def test_unbiased_for_few_pictures(equal, views):
  """The mean over many draws of four assets is the population's value.

  With several views an asset shows one point with a little noise per view;
  the noise is part of the distribution.
  """
  rng = np.random.default_rng(1)
  points = rng.standard_normal((4, 2))
  p = np.array([0.05, 0.05, 0.2, 0.7])
  q = p if equal else p[::-1]
  values = []
  for _ in range(600):
    a = np.repeat(points[rng.choice(4, 4, p=p)], views, axis=0)
    b = points[rng.choice(4, 6, p=q)]
    values.append(distance(a, b, np.repeat(np.arange(4), views)))
  error = np.std(values) / np.sqrt(len(values))
  assert abs(np.mean(values) - population(points, p, q)) < 4 * error
  assert equal or population(points, p, q) > 6 * error


def test_views_of_an_asset_taken_for_independent_are_biased():
  """Why pairs within an asset are left out."""
  rng = np.random.default_rng(2)
  values = []
  for _ in range(500):
    a = np.repeat(rng.standard_normal((4, 2)), 3, axis=0)
    values.append(distance(a, rng.standard_normal((12, 2))))
  assert np.mean(values) > 4 * np.std(values) / np.sqrt(len(values))


def test_weights_are_repetitions_of_assets():
  """A repeated asset pairs with others as often, never with itself."""
  rng = np.random.default_rng(3)
  a, b = rng.standard_normal((6, 4)), rng.standard_normal((5, 4))
  groups = np.array([0, 0, 1, 1, 2, 2])
  sums = kernel_distance.kernel_sums(
    a, groups, reference=b, reference_groups=np.arange(5)
  )
  weights = np.array([2.0, 0.0, 1.0])
  rows = [(i, weights[groups[i]]) for i in range(6)]
  own = [
    (u * v, k(a[i], a[j]))
    for i, u in rows
    for j, v in rows
    if groups[i] != groups[j]
  ]
  across = [(u, np.mean([k(a[i], y) for y in b])) for i, u in rows]
  other = [k(b[i], b[j]) for i in range(5) for j in range(5) if i != j]
  mean = [
    np.average([x for _, x in s], weights=[w for w, _ in s])
    for s in (own, across)
  ]
  expected = mean[0] + np.mean(other) - 2 * mean[1]
  assert sums.distance(weights) == pytest.approx(expected)


def test_blocks_change_nothing(monkeypatch):
  rng = np.random.default_rng(4)
  a, b = rng.standard_normal((9, 3)), rng.standard_normal((8, 3))
  whole = distance(a, b, np.arange(9) // 2)
  monkeypatch.setattr(kernel_distance, "_BLOCK", 4)
  assert distance(a, b, np.arange(9) // 2) == pytest.approx(whole)


def test_subsets_average_to_the_whole():
  rng = np.random.default_rng(5)
  a, b = rng.standard_normal((60, 4)), rng.standard_normal((80, 4)) + 0.5
  mean, deviation = kernel_distance.kid_subsets(a, b, subsets=300, size=20)
  assert deviation > 0
  assert mean == pytest.approx(distance(a, b), abs=5 * deviation / 300**0.5)


def test_one_asset_is_refused():
  rows = np.ones((3, 2))
  with pytest.raises(ValueError, match="reference"):
    distance(rows, rows, reference_groups=np.zeros(3, int))
