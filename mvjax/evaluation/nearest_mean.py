"""Nearest-mean retrieval on labelled feature vectors.

A class is represented by the mean of its references; a query retrieves the
classes in order of cosine similarity. R@k is the share of queries whose right
class is among the first k, averaged over classes, so that a class with many
queries weighs no more than another. Its interval is over objects, see
`bootstrap`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mvjax.evaluation import bootstrap

CUTOFFS = (1, 5)


class Labelled(NamedTuple):
  """Features of views with what they show.

  Attributes:
    features: [n d] of unit length.
    labels: [n] number of the class.
    objects: [n] number of the object or sampled asset, 0 and up.
  """

  features: Float[np.ndarray, "n d"]
  labels: Int[np.ndarray, " n"]
  objects: Int[np.ndarray, " n"]


def unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  """The vectors at unit length; a zero vector stays."""
  norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(norms, 1e-12)


def retrieval_ranks(
  queries: Labelled, references: Labelled, *, num_classes: int
) -> Int[np.ndarray, " n"]:
  """The place of each query's right class in its retrieved order, from 0.

  A class without references comes last, and so does a query that is NaN.
  """
  return _ranks(queries, _sums(references, num_classes))


def leave_one_object_out_ranks(
  references: Labelled, *, num_classes: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
  """Ranks of the references themselves, without help from their own object.

  An object may be in several classes; it is left out of all of them.

  Returns:
    Ranks, and the places of the ranked views among the references. A view
    whose class has no other object has nothing to be compared with and is
    not among them.
  """
  sums = _sums(references, num_classes)
  counts = np.bincount(references.labels, minlength=num_classes)
  ranks, places = [np.zeros(0, int)], [np.zeros(0, int)]
  for number in np.unique(references.objects):
    (own,) = np.nonzero(references.objects == number)
    query = Labelled(*(part[own] for part in references))
    left = counts - np.bincount(query.labels, minlength=num_classes)
    # Rounding must not leave a direction to a class that is empty now.
    others = (sums - _sums(query, num_classes)) * (left > 0)[:, None]
    kept = left[query.labels] > 0
    ranks.append(_ranks(query, others)[kept])
    places.append(own[kept])
  return np.concatenate(ranks), np.concatenate(places)


def recalls(
  ranks: Int[np.ndarray, " n"],
  labels: Int[np.ndarray, " n"],
  objects: Int[np.ndarray, " n"],
  *,
  clusters: Sequence[str] | None = None,
) -> dict[str, bootstrap.Estimate]:
  """R@k of every cutoff, averaged over the classes that occur.

  Args:
    ranks: from `retrieval_ranks`.
    labels: class of each query.
    objects: its object or asset; these are drawn again for the interval, and
      a class that was not drawn is not in a draw's average.
    clusters: of each object, see `bootstrap.estimate`.
  """
  _, groups = np.unique(objects, return_inverse=True)
  members = labels == np.unique(labels)[:, None]

  def recall(weights: np.ndarray, k: int) -> float:
    each = members * weights[groups]
    total = each.sum(1)
    drawn = total > 0
    return float((each @ (ranks < k))[drawn] @ (1 / total[drawn]) / drawn.sum())

  return {
    f"R@{k}": bootstrap.estimate(
      lambda w, k=k: recall(w, k), groups, clusters=clusters
    )
    for k in CUTOFFS
  }


def _sums(references: Labelled, num_classes: int) -> np.ndarray:
  """The sum [classes d] of each class's features, zero where it has none."""
  members = np.eye(num_classes)[references.labels]
  return members.T @ references.features


def _ranks(queries: Labelled, sums: np.ndarray) -> np.ndarray:
  scores = queries.features @ unit(sums).T
  scores[:, ~sums.any(1)] = -np.inf
  right = np.take_along_axis(scores, queries.labels[:, None], axis=1)
  # "Not less" puts ties and NaN behind the others, never in front.
  return (~(scores < right)).sum(1) - 1
