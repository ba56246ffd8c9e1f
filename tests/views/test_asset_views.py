"""Masks and neighbours of views."""

import tracemalloc

import fake_assets
import numpy as np

from mvjax.views import asset_views


def test_masks_are_found_where_pictures_are_opaque(ball):
  found = asset_views.with_masks(
    asset_views.Views(image=ball.image, camera=ball.camera)
  )
  agree = (found.alpha > 0.5) == (ball.alpha > 0.5)
  assert agree.mean() > 0.98
  np.testing.assert_allclose(found.background, 1)
  assert asset_views.with_masks(ball) is ball


def test_neighbours_form_a_ring():
  camera = fake_assets.ring(5)
  shuffled = asset_views.take(
    asset_views.Views(image=np.zeros((5, 2, 2, 3)), camera=camera),
    [3, 0, 4, 1, 2],
  ).camera
  order = asset_views.ring_order(shuffled)
  original = [[3, 0, 4, 1, 2][i] for i in order]
  start = original.index(0)
  assert original[start:] + original[:start] == [0, 1, 2, 3, 4]
  pairs = asset_views.ring_pairs(shuffled)
  assert len(pairs) == 5 and {i for i, _ in pairs} == set(range(5))
  assert len(asset_views.ring_pairs(fake_assets.ring(2))) == 1


def test_a_file_in_a_digest_is_its_content_and_is_not_held(tmp_path):
  file = tmp_path / "view.png"
  with file.open("wb") as sparse:
    sparse.truncate(2**27)
  tracemalloc.start()
  found = asset_views.digest([b"a", file])
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**24
  assert found == asset_views.digest([b"a", bytes(2**27)])
