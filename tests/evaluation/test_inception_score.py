import numpy as np
import pytest

from mvjax.evaluation import inception_score as lib


def test_clear_and_varied_pictures_score_the_number_of_classes():
  logits = 200.0 * np.eye(7)[np.arange(70) % 7]
  logs = lib.log_probabilities(logits)
  assert lib.inception_score(logs) == pytest.approx(7)
  mean, deviation = lib.inception_score_splits(logs, splits=1)
  assert mean == pytest.approx(7) and deviation == 0


def test_equal_pictures_score_one():
  logs = lib.log_probabilities(np.tile(np.arange(5.0), (20, 1)))
  assert lib.inception_score(logs) == pytest.approx(1)


def test_two_pictures_in_closed_form():
  """p = (3/4, 1/4) and (1/4, 3/4): KL to (1/2, 1/2) is log 2 - H(p)."""
  p = np.array([[0.75, 0.25], [0.25, 0.75]])
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  score = lib.inception_score(lib.log_probabilities(np.log(p) + 3))
  assert score == pytest.approx(2 * np.exp(-entropy))


def test_splits_and_weights_are_parts():
  rng = np.random.default_rng(0)
  logs = lib.log_probabilities(rng.standard_normal((40, 6)) * 3)
  counts = rng.integers(0, 3, 40)
  assert lib.inception_score(logs, counts.astype(float)) == pytest.approx(
    lib.inception_score(np.repeat(logs, counts, axis=0))
  )
  # Fewer pictures in a part: a lower score.
  mean, deviation = lib.inception_score_splits(logs, splits=10)
  assert mean < lib.inception_score(logs) and deviation > 0
