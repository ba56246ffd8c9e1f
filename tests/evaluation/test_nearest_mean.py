"""Retrieval where the answer is known."""

import numpy as np
import pytest

from mvjax.evaluation import nearest_mean


def labelled(vectors, labels, objects=None):
  labels = np.asarray(labels)
  objects = np.arange(len(labels)) if objects is None else np.asarray(objects)
  vectors = nearest_mean.unit(np.asarray(vectors, np.float32))
  return nearest_mean.Labelled(vectors, labels, objects)


def values(recalls):
  return {name: estimate.value for name, estimate in recalls.items()}


def test_perfect_features_are_always_found():
  labels = np.repeat(np.arange(20), 3)
  views = labelled(np.eye(20)[labels], labels)
  ranks = nearest_mean.retrieval_ranks(views, views, num_classes=20)
  recalls = nearest_mean.recalls(ranks, labels, views.objects)
  assert values(recalls) == {"R@1": 1, "R@5": 1}
  assert recalls["R@1"].low == recalls["R@1"].high == 1


def test_random_features_are_found_by_chance():
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(20), 200)
  queries = labelled(rng.standard_normal((4000, 64)), labels)
  references = labelled(rng.standard_normal((4000, 64)), labels)
  ranks = nearest_mean.retrieval_ranks(queries, references, num_classes=20)
  recalls = values(nearest_mean.recalls(ranks, labels, queries.objects))
  assert recalls["R@1"] == pytest.approx(1 / 20, abs=0.02)
  assert recalls["R@5"] == pytest.approx(5 / 20, abs=0.03)


def test_rank_counts_the_names_in_front():
  references = labelled([[1, 0], [1, 1], [0, 1]], [0, 1, 2])
  queries = labelled([[3, 1]] * 3, [0, 1, 2])
  ranks = nearest_mean.retrieval_ranks(queries, references, num_classes=3)
  np.testing.assert_array_equal(ranks, [0, 1, 2])


def test_every_class_weighs_the_same():
  ranks = np.array([0, 0, 0, 9])
  recalls = nearest_mean.recalls(
    ranks, np.array([4, 4, 4, 1]), np.array([7, 7, 8, 9])
  )
  assert values(recalls) == {"R@1": 0.5, "R@5": 0.5}
  assert recalls["R@1"].num_assets == 3 and recalls["R@1"].num_images == 4


def test_the_interval_is_over_objects():
  """Views of an object that agree count once: n objects are n draws."""
  rng = np.random.default_rng(0)
  hits = rng.uniform(size=100) < 0.4
  for views_each in (1, 8):
    ranks = np.where(hits, 0, 9).repeat(views_each)
    recalls = nearest_mean.recalls(
      ranks, np.zeros(len(ranks), int), np.arange(100).repeat(views_each)
    )
    reach = recalls["R@1"].high - recalls["R@1"].value
    assert reach == pytest.approx(1.98 * hits.std() / 10, rel=0.15)


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
  ranks, places = nearest_mean.leave_one_object_out_ranks(views, num_classes=2)
  np.testing.assert_array_equal(ranks, 1)
  np.testing.assert_array_equal(places, [0, 1, 2])


@pytest.mark.parametrize("mixed", [False, True])
def test_leaving_an_object_out_is_retrieval_from_the_others(mixed):
  """With mixed, the two views of an object are of different classes."""
  rng = np.random.default_rng(0)
  numbers = np.arange(24)
  labels = (numbers // 2 + numbers % 2) % 4 if mixed else numbers // 6
  views = labelled(rng.uniform(size=(24, 5)), labels, numbers // 2)
  expected = []
  for number in range(12):
    own = views.objects == number
    query, others = (
      nearest_mean.Labelled(*(part[kept] for part in views))
      for kept in (own, ~own)
    )
    expected.append(nearest_mean.retrieval_ranks(query, others, num_classes=4))
  ranks, places = nearest_mean.leave_one_object_out_ranks(views, num_classes=4)
  np.testing.assert_array_equal(ranks, np.concatenate(expected))
  np.testing.assert_array_equal(places, numbers)
