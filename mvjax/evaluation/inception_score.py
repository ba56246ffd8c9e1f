"""Inception score: are single pictures clear and the set varied?

IS = exp E KL(p(y|x) || p(y)) (Salimans et al. 2016, arXiv:1606.03498), with the
class probabilities of the Inception network's logits. It knows no reference
and grows with n: compare at equal n only.
"""

import numpy as np
from jaxtyping import Float

SPLITS = 10


def log_probabilities(
  logits: Float[np.ndarray, "n c"],
) -> Float[np.ndarray, "n c"]:
  """Log-softmax in float64."""
  shifted = np.asarray(logits, np.float64)
  shifted = shifted - shifted.max(1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def inception_score(
  logs: Float[np.ndarray, "n c"],
  weights: Float[np.ndarray, " n"] | None = None,
) -> float:
  """The score of one set, without splits.

  Args:
    logs: log-probabilities.
    weights: how often each picture counts; once if not given.
  """
  shares = np.ones(len(logs)) if weights is None else np.asarray(weights)
  shares = shares / shares.sum()
  probabilities = np.exp(logs)
  mean = shares @ probabilities
  # A class without any probability adds nothing: 0 log 0 = 0.
  mean_log = np.log(np.where(mean > 0, mean, 1.0))
  divergence = (probabilities * (logs - mean_log)).sum(1)
  return float(np.exp(shares @ divergence))


def inception_score_splits(
  logs: Float[np.ndarray, "n c"], *, splits: int = SPLITS, seed: int = 0
) -> tuple[float, float]:
  """Mean and deviation over equal parts of the shuffled set, as published."""
  order = np.random.default_rng(seed).permutation(len(logs))
  parts = np.array_split(order, min(splits, len(logs)))
  scores = [inception_score(logs[part]) for part in parts]
  return float(np.mean(scores)), float(np.std(scores))
