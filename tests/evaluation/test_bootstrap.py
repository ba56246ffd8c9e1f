"""Do 95 % intervals cover the truth in about 95 % of worlds?"""

import numpy as np
import pytest

from mvjax.evaluation import bootstrap, frechet

WORLDS = 80


def coverage(draw, statistic_of, truth, replicates=50):
  """Share of simulated worlds whose interval holds the truth."""
  hits = 0
  for seed in range(WORLDS):
    rows, groups = draw(np.random.default_rng(seed))
    found = bootstrap.estimate(
      statistic_of(rows, groups), groups, replicates=replicates, seed=seed
    )
    hits += found.low <= truth <= found.high
  return hits / WORLDS


def test_mean_of_correlated_views_is_covered():
  """Four views with one common deviation each: assets must be drawn."""

  def draw(rng):
    common = rng.standard_normal((15, 1))
    rows = (common + 0.3 * rng.standard_normal((15, 4))).reshape(-1)
    return rows, np.repeat(np.arange(15), 4)

  def statistic_of(rows, groups):
    return lambda w: np.average(rows, weights=w[groups])

  assert 0.88 <= coverage(draw, statistic_of, 0.0) <= 1
  alone = coverage(lambda rng: (draw(rng)[0], np.arange(60)), statistic_of, 0.0)
  assert alone < 0.8


def test_frechet_distance_at_this_n_is_covered():
  rng = np.random.default_rng(0)
  reference = frechet.moments(rng.standard_normal((400, 4)))

  def draw(rng):
    return 0.5 + 1.3 * rng.standard_normal((40, 4)), np.arange(40)

  def statistic_of(rows, groups):
    return lambda w: frechet.frechet_distance(
      frechet.moments(rows, w[groups]), reference
    )

  worlds = [draw(np.random.default_rng(10_000 + i))[0] for i in range(300)]
  truth = np.mean(
    [frechet.frechet_distance(frechet.moments(w), reference) for w in worlds]
  )
  assert 0.86 <= coverage(draw, statistic_of, truth) <= 1


def test_copies_of_a_cluster_narrow_nothing():
  rng = np.random.default_rng(0)
  values = rng.standard_normal(9)
  names = [f"prompt {i}" for i in range(9)]
  twice, both = np.tile(values, 2), names * 2

  def reach(found):
    return found.high - found.value

  once = bootstrap.mean(list(values), clusters=names)
  again = bootstrap.mean(list(twice), clusters=both)
  assert once == bootstrap.mean(list(values))
  assert reach(again) == pytest.approx(reach(once))
  assert (once.num_assets, again.num_assets) == (9, 18)
  assert reach(bootstrap.mean(list(twice))) < 0.8 * reach(once)

  def drawn(rows, clusters):
    return bootstrap.estimate(
      lambda w: np.average(rows, weights=w),
      np.arange(len(rows)),
      clusters=clusters,
    )

  assert reach(drawn(twice, both)) == pytest.approx(reach(drawn(values, names)))
  # Unequal clusters: what is drawn again agrees with the closed form.
  rows, of = np.append(values, values[:3] + 0.1), [*names, *names[:3]]
  closed = reach(bootstrap.mean(list(rows), clusters=of))
  assert reach(drawn(rows, of)) == pytest.approx(closed, rel=0.2)
  assert bootstrap.mean([1.0, 2.0], clusters=["a", "a"]).high is None


def test_mean_has_the_t_interval():
  found = bootstrap.mean([1.0, 2.0, 3.0], num_images=12)
  # t = 4.303 for two degrees of freedom, standard error 1 / sqrt(3).
  assert found.high - 2 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
  assert found.low == pytest.approx(4 - found.high)
  assert (found.num_assets, found.num_images) == (3, 12)
  rows = np.array([1.0, 2.0, 3.0, 5.0, 4.0, 0.0])
  drawn = bootstrap.estimate(
    lambda w: np.average(rows, weights=w), np.arange(6), replicates=1000
  )
  assert drawn.high == pytest.approx(bootstrap.mean(list(rows)).high, rel=0.1)


def test_one_asset_has_no_interval():
  found = bootstrap.estimate(lambda w: 7.0 * w[0], np.zeros(4, int))
  assert found.to_json() == {
    "value": 7.0,
    "low": None,
    "high": None,
    "num_assets": 1,
    "num_images": 4,
  }
  assert bootstrap.mean([3.0]).low is None


def test_two_assets_have_no_interval_by_drawing():
  found = bootstrap.estimate(lambda w: float(w @ [1, 3]), np.array([0, 1]))
  assert found.value == 4 and found.low is None and found.high is None
