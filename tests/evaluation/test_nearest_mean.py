"""Retrieval where the answer is known."""

import numpy as np
import pytest

from mvjax.evaluation import nearest_mean


def labelled(vectors, labels, objects=None):
  labels = np.asarray(labels)
  objects = np.arange(len(labels)) if objects is None else np.asarray(objects)
  vectors = nearest_mean.unit(np.asarray(vectors, np.float32))
  return nearest_mean.Labelled(vectors, labels, objects)


def test_perfect_features_are_always_found():
  labels = np.repeat(np.arange(20), 3)
  views = labelled(np.eye(20)[labels], labels)
  ranks = nearest_mean.retrieval_ranks(views, views, num_classes=20)
  assert nearest_mean.recalls(ranks, labels) == {"R@1": 1, "R@5": 1}


def test_random_features_are_found_by_chance():
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(20), 200)
  queries = labelled(rng.standard_normal((4000, 64)), labels)
  references = labelled(rng.standard_normal((4000, 64)), labels)
  ranks = nearest_mean.retrieval_ranks(queries, references, num_classes=20)
  recalls = nearest_mean.recalls(ranks, labels)
  assert recalls["R@1"] == pytest.approx(1 / 20, abs=0.02)
  assert recalls["R@5"] == pytest.approx(5 / 20, abs=0.03)


def test_rank_counts_the_names_in_front():
  references = labelled([[1, 0], [1, 1], [0, 1]], [0, 1, 2])
  queries = labelled([[3, 1]] * 3, [0, 1, 2])
  ranks = nearest_mean.retrieval_ranks(queries, references, num_classes=3)
  np.testing.assert_array_equal(ranks, [0, 1, 2])


def test_every_class_weighs_the_same():
  ranks = np.array([0, 0, 0, 9])
  recalls = nearest_mean.recalls(ranks, np.array([4, 4, 4, 1]))
  assert recalls == {"R@1": 0.5, "R@5": 0.5}


def test_constant_and_nan_features_are_never_hits():
  references = labelled(np.ones((5, 3)), range(5))
  ties = nearest_mean.retrieval_ranks(references, references, num_classes=5)
  np.testing.assert_array_equal(ties, 4)
  broken = labelled(np.full((5, 3), np.nan), range(5))
  ranks = nearest_mean.retrieval_ranks(broken, references, num_classes=5)
  np.testing.assert_array_equal(ranks, 4)


def test_an_object_does_not_find_itself():
  """Objects 0 and 1 share a class and differ; object 2 is alone in its own."""
  views = labelled(
    [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0, 1], [0, 0, 1, 2]
  )
  own = nearest_mean.retrieval_ranks(views, views, num_classes=2)
  np.testing.assert_array_equal(own, 0)
  ranks, labels = nearest_mean.leave_one_object_out_ranks(views, num_classes=2)
  np.testing.assert_array_equal(ranks, 1)
  np.testing.assert_array_equal(labels, 0)


def test_leaving_an_object_out_is_retrieval_from_the_others():
  rng = np.random.default_rng(0)
  views = labelled(
    rng.uniform(size=(24, 5)), np.arange(24) // 6, np.arange(24) // 2
  )
  expected = []
  for number in range(12):
    own = views.objects == number
    query, others = (
      nearest_mean.Labelled(*(part[kept] for part in views))
      for kept in (own, ~own)
    )
    expected.append(nearest_mean.retrieval_ranks(query, others, num_classes=4))
  ranks, labels = nearest_mean.leave_one_object_out_ranks(views, num_classes=4)
  np.testing.assert_array_equal(ranks, np.concatenate(expected))
  np.testing.assert_array_equal(labels, views.labels)
