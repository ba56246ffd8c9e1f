"""Nearest-mean retrieval on labelled feature vectors.

A class is represented by the mean of its references; a query retrieves the
classes in order of cosine similarity. R@k is the share of queries whose right
class is among the first k, averaged over classes, so that a class with many
queries weighs no more than another.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

CUTOFFS = (1, 5)


class Labelled(NamedTuple):
  """Features of views with what they show.

  Attributes:
    features: [n d] of unit length.
    labels: [n] number of the class.
    objects: [n] number of the object or sampled asset.
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

  Returns:
    Ranks and labels. An object that is alone in its class has nothing to be
    compared with and is not among them.
  """
  sums = _sums(references, num_classes)
  ranks, labels = [np.zeros(0, int)], [np.zeros(0, int)]
  for number in np.unique(references.objects):
    own = references.objects == number
    query = Labelled(*(part[own] for part in references))
    label = query.labels[0]
    if np.count_nonzero(references.labels == label) == len(query.labels):
      continue
    others = sums.copy()
    others[label] -= query.features.sum(0)
    ranks.append(_ranks(query, others))
    labels.append(query.labels)
  return np.concatenate(ranks), np.concatenate(labels)


def recalls(
  ranks: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
  """R@k of every cutoff, averaged over the classes that occur."""
  return {
    f"R@{k}": float(
      np.mean([np.mean(ranks[labels == c] < k) for c in set(labels.tolist())])
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
