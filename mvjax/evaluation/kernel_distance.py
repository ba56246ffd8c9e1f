"""Unbiased kernel distance between the features of two sets of pictures.

The squared maximum mean discrepancy with the kernel (x.y / d + 1)^3. On the
pooled features of FID's Inception network it is the KID (Binkowski et al. 2018,
arXiv:1801.01401). Its mean over draws is right for any n (so it can be
negative for equal distributions), which makes it the first figure to read.

`KernelSums` leaves out pairs of pictures of one asset, which are not
independent; where every picture is an asset of its own that is the published
estimator. `kid_subsets` is the published protocol: the mean and spread over
random subsets.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

_BLOCK = 1024
SUBSETS = 100
SUBSET_SIZE = 1000


def kernel(
  a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
  """(a.b / d + 1)^3 of all pairs."""
  return (a @ b.T / a.shape[1] + 1) ** 3


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class KernelSums:
  """Sums of the kernel over the pictures of pairs of assets.

  Attributes:
    within: [g g], of the measured set; its diagonal is not used.
    across: [g], of each measured asset with the whole reference, averaged
      over the latter.
    reference: mean over pairs of different reference assets.
    sizes: [g] pictures of each measured asset.
  """

  within: Float[np.ndarray, "g g"]
  across: Float[np.ndarray, " g"]
  reference: float
  sizes: Float[np.ndarray, " g"]

  def distance(self, weights: Float[np.ndarray, " g"]) -> float:
    """The squared distance if asset i counted weights[i] times."""
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0)
    count = self.sizes @ pairs @ self.sizes
    own = (pairs * self.within).sum() / count
    across = weights @ self.across / (weights @ self.sizes)
    return float(own + self.reference - 2 * across)


def kernel_sums(
  features: Float[np.ndarray, "n d"],
  groups: Int[np.ndarray, " n"],
  *,
  reference: Float[np.ndarray, "m d"],
  reference_groups: Int[np.ndarray, " m"],
) -> KernelSums:
  """What the distance needs, in float64 and blocks of rows.

  Args:
    features: of the measured pictures.
    groups: number of each one's asset, from 0 without gaps.
    reference: features of the reference pictures.
    reference_groups: number of each one's asset, from 0 without gaps.

  Raises:
    ValueError: a set has one asset only.
  """
  for name, numbers in (("samples", groups), ("reference", reference_groups)):
    if len(set(numbers.tolist())) < 2:
      raise ValueError(f"{name}: a kernel distance needs two assets or more")
  features = np.asarray(features, np.float64)
  reference = np.asarray(reference, np.float64)
  sizes = np.bincount(reference_groups).astype(float)
  pairs = sizes.sum() ** 2 - (sizes**2).sum()
  within = _group_sums(reference, reference_groups)
  across = np.zeros(int(groups.max()) + 1)
  for start in range(0, len(features), _BLOCK):
    part = slice(start, start + _BLOCK)
    row_means = kernel(features[part], reference).mean(1)
    across += np.bincount(groups[part], row_means, len(across))
  return KernelSums(
    within=_group_sums(features, groups),
    across=across,
    reference=float((within.sum() - np.trace(within)) / pairs),
    sizes=np.bincount(groups).astype(float),
  )


def kid_subsets(
  features: Float[np.ndarray, "n d"],
  reference: Float[np.ndarray, "m d"],
  *,
  subsets: int = SUBSETS,
  size: int = SUBSET_SIZE,
  seed: int = 0,
) -> tuple[float, float]:
  """Mean and standard deviation over random subsets, as published.

  Both sets give subsets of `size` pictures (fewer if one has fewer: then the
  subsets share pictures and the deviation says less than an interval does).
  """
  rng = np.random.default_rng(seed)
  size = min(size, len(features), len(reference))
  numbers = np.arange(size)
  values = []
  for _ in range(subsets):
    a = features[rng.choice(len(features), size, replace=False)]
    b = reference[rng.choice(len(reference), size, replace=False)]
    sums = kernel_sums(a, numbers, reference=b, reference_groups=numbers)
    values.append(sums.distance(np.ones(size)))
  return float(np.mean(values)), float(np.std(values))


def _group_sums(
  features: Float[np.ndarray, "n d"], groups: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "g g"]:
  """The kernel summed over the pictures of each pair of assets."""
  order = np.argsort(groups, kind="stable")
  features, groups = features[order], groups[order]
  numbers, starts = np.unique(groups, return_index=True)
  rows = np.zeros((len(numbers), len(features)))
  for start in range(0, len(features), _BLOCK):
    part = slice(start, start + _BLOCK)
    columns = kernel(features[part], features)
    np.add.at(rows, np.searchsorted(numbers, groups[part]), columns)
  return np.add.reduceat(rows, starts, axis=1)
