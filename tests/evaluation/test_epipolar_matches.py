"""Epipolar geometry in closed form, and TSED of a textured ball."""

import fake_assets
import numpy as np
import pytest

from mvjax import geometry
from mvjax.evaluation import epipolar_matches
from mvjax.views import asset_views


def test_projections_of_a_point_lie_on_each_others_lines():
  camera = fake_assets.ring(5, elevation=20.0)
  points = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 3))
  uv, _ = geometry.project(camera, np.broadcast_to(points, (5, 30, 3)), xnp=np)
  lines = epipolar_matches.fundamental(camera, 0, 2)
  found = epipolar_matches.symmetric_distances(uv[0], uv[2], lines)
  np.testing.assert_allclose(found, 0, atol=1e-6)


def test_distance_is_in_units_of_the_picture():
  """Cameras side by side have horizontal lines: a shift down is the distance.

  One looks along x from the origin, the other from one to its left.
  """
  pose = np.asarray(geometry.look_at(np.array([-3.0, 0, 0]), xnp=np))
  beside = pose.copy()
  beside[:3, 3] += pose[:3, 0]
  camera = geometry.Camera(
    camera_to_world=np.stack([pose, beside]),
    intrinsics=np.stack([geometry.pinhole(0.7, xnp=np)] * 2),
  )
  lines = epipolar_matches.fundamental(camera, 0, 1)
  a = np.array([[0.3, 0.4], [0.6, 0.7]])
  b = a + np.array([[-0.1, 0.0], [-0.2, 0.05]])
  found = epipolar_matches.symmetric_distances(a, b, lines)
  np.testing.assert_allclose(found, [0, 0.05], atol=1e-6)


@pytest.fixture(scope="module")
def ball():
  return fake_assets.ball(16, size=256, frequency=25.0)


def test_true_views_are_consistent_and_wrong_cameras_are_not(ball):
  found = epipolar_matches.tsed(ball)
  assert found["tsed"] == 1 and found["tsed_matches"] > 20
  tilted = fake_assets.ring(16, elevation=25.0)
  wrong = asset_views.Views(image=ball.image, camera=tilted)
  assert epipolar_matches.tsed(wrong)["tsed"] < 0.2


def test_oblong_views_are_refused(ball):
  oblong = asset_views.Views(image=ball.image[:, 64:192], camera=ball.camera)
  with pytest.raises(ValueError, match="256x128 pixels: must be square"):
    epipolar_matches.tsed(oblong)


def test_views_of_other_objects_are_not_consistent(ball):
  others = fake_assets.ball(16, size=256, frequency=33.0)
  image = np.where(
    (np.arange(16) % 2 == 0)[:, None, None, None], ball.image, others.image
  )
  mixed = asset_views.Views(image=image, camera=ball.camera)
  assert epipolar_matches.tsed(mixed)["tsed"] < 0.3


def test_nothing_to_match_is_inconsistent(ball):
  blank = asset_views.Views(
    image=np.ones((4, 32, 32, 3)), camera=fake_assets.ring(4)
  )
  assert epipolar_matches.tsed(blank) == {"tsed": 0.0, "tsed_matches": 0.0}
