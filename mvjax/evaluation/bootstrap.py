"""Intervals of figures over assets, and figures that carry them.

The views of an asset are alike, so assets and not views are drawn again
(cluster bootstrap; Efron & Tibshirani 1993, chapters 6 and 12). So are the
assets of one prompt with several seeds: these are drawn together. The interval
is value +- t * standard error, with Student's t for the number of clusters: a
percentile interval would be wrong here, because a Frechet distance of a set
with repeated members is larger than that of a set without.

The interval says how much the figure would change with other prompts and
seeds at the same n. It does not remove a bias that depends on n.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

REPLICATES = 200
LEVEL = 0.95

Weights = Float[np.ndarray, " g"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A figure that cannot be read without its n.

  Attributes:
    value: the figure.
    low, high: its 95 % interval; None for a single cluster, and for two where
      they are drawn again.
    num_assets: assets measured.
    num_images: pictures measured.
  """

  value: float
  low: float | None
  high: float | None
  num_assets: int
  num_images: int

  def to_json(self) -> dict[str, float | int | None]:
    """Plain values."""
    return dataclasses.asdict(self)


def estimate(
  statistic: Callable[[Weights], float],
  groups: Int[np.ndarray, " n"],
  *,
  clusters: Sequence[str] | None = None,
  replicates: int = REPLICATES,
  seed: int = 0,
) -> Estimate:
  """A statistic with its interval.

  Args:
    statistic: from how often each asset [g] counts to the figure.
    groups: number of the asset, 0 and up, of every picture.
    clusters: of each asset [g]; those of one are drawn together. None: each is
      one.
    replicates: sets drawn.
    seed: of the draws.
  """
  num_assets = int(groups.max()) + 1
  value = float(statistic(np.ones(num_assets)))
  count, member = _numbers(clusters, num_assets)
  low = high = None
  # Of two clusters, the only draw with a spread is the pair itself.
  if count > 2:
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), replicates)
    # One cluster drawn count times has no spread of its own: draw it not.
    draws = draws[(draws > 0).sum(1) > 1]
    values = [statistic(draw[member].astype(float)) for draw in draws]
    # Drawing from the sample, not the population, shrinks by (g - 1) / g.
    error = np.std(values, ddof=1) * math.sqrt(count / (count - 1))
    reach = float(error * stats.t.ppf((1 + LEVEL) / 2, count - 1))
    low, high = value - reach, value + reach
  return Estimate(
    value=value,
    low=low,
    high=high,
    num_assets=num_assets,
    num_images=len(groups),
  )


def mean(
  values: Sequence[float],
  *,
  num_images: int | None = None,
  clusters: Sequence[str] | None = None,
) -> Estimate:
  """The mean of one figure per asset, with the t interval.

  Args:
    values: of each asset.
    num_images: that were measured; None: one of each asset.
    clusters: as in `estimate`.
  """
  array = np.asarray(values, np.float64)
  value = float(array.mean())
  count, member = _numbers(clusters, len(array))
  low = high = None
  if count > 1:
    # Sums of clusters are independent; alone, they are the deviations.
    sums = np.bincount(member, array - value)
    error = math.sqrt(count / (count - 1) * (sums @ sums)) / len(array)
    reach = float(error * stats.t.ppf((1 + LEVEL) / 2, count - 1))
    low, high = value - reach, value + reach
  return Estimate(
    value=value,
    low=low,
    high=high,
    num_assets=len(array),
    num_images=len(array) if num_images is None else num_images,
  )


def _numbers(
  clusters: Sequence[str] | None, count: int
) -> tuple[int, Int[np.ndarray, " g"]]:
  """How many clusters there are, and which one each asset is of."""
  if clusters is None:
    return count, np.arange(count)
  names, member = np.unique(np.asarray(clusters), return_inverse=True)
  return len(names), member
