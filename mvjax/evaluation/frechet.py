"""Frechet distance between the features of two sets of pictures.

d^2 = |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2), the squared 2-Wasserstein
distance of Gaussians with the sets' means and (n - 1) covariances (Dowson &
Landau 1982). On the pooled features of the Inception network of 2015 it is the
FID (Heusel et al. 2017, arXiv:1706.08500); on any other network it is not, and
must not be called so.

With S = F' F, Tr (S1 S2)^1/2 is the nuclear norm of F1 F2'. That needs no
square root of a product of singular matrices, which is where the usual form
loses digits or becomes complex for fewer pictures than features.

For small n the distance is mostly bias: two samples of one distribution are
far apart, the farther the fewer. Compare at equal n only, and read the kernel
distance first.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Moments(NamedTuple):
  """Mean and covariance of a set.

  Attributes:
    mean: [d].
    factor: [r d], r <= d; the covariance is factor' factor.
  """

  mean: Float[np.ndarray, " d"]
  factor: Float[np.ndarray, "r d"]


def moments(
  features: Float[np.ndarray, "n d"],
  weights: Float[np.ndarray, " n"] | None = None,
) -> Moments:
  """Mean and covariance in float64.

  Args:
    features: one row for each picture.
    weights: how often each row counts; once if not given.

  Raises:
    ValueError: fewer than two rows count.
  """
  rows = np.asarray(features, np.float64)
  counts = np.ones(len(rows)) if weights is None else np.asarray(weights)
  rows, counts = rows[counts > 0], counts[counts > 0]
  total = counts.sum()
  if total < 2:
    raise ValueError(f"a covariance needs two pictures, there are {total:g}")
  mean = counts @ rows / total
  factor = np.sqrt(counts / (total - 1))[:, None] * (rows - mean)
  if len(factor) > factor.shape[1]:
    factor = np.linalg.qr(factor, mode="r")
  return Moments(mean, factor)


def frechet_distance(a: Moments, b: Moments) -> float:
  """The squared distance, as it is always given. Never below rounding error."""
  cross = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
  spread = (a.factor**2).sum() + (b.factor**2).sum() - 2 * cross
  return float(((a.mean - b.mean) ** 2).sum() + spread)
