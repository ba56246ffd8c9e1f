"""Views of a ball with known surface, carried into each other."""

import fake_assets
import numpy as np
import pytest

from mvjax.evaluation import reprojection
from mvjax.views import asset_views


def test_true_views_of_a_true_surface_agree():
  """What is left is interpolation: it falls with the size of a pixel."""
  errors = []
  for size in (32, 128):
    ball = fake_assets.ball(8, size=size)
    found = reprojection.warp_error(ball, ball.depth)
    assert 0.3 < found["warp_coverage"] < 0.9
    errors.append(found["warp_error"])
  assert errors[1] < 0.01 and errors[1] < 0.4 * errors[0]


def test_colours_that_differ_between_views_are_measured():
  """Neighbours differ by 0.4 or 0.2 in [-1, 1]: 0.2 or 0.1 in [0, 1]."""
  tints = np.array([0.0, 0.4, 0.2, 0.6]) - 0.2
  ball = fake_assets.ball(4, size=48, colours=tints)
  expected = np.mean([0.2, 0.1, 0.2, 0.3])
  found = reprojection.warp_error(ball, ball.depth)
  assert found["warp_error"] == pytest.approx(expected, rel=0.05)


def test_a_pixel_lands_where_its_point_is_seen():
  """Colours that are world positions come back as the same positions."""
  ball = fake_assets.ball(8, size=96)
  points = fake_assets.surface_points(ball.camera, ball.depth)
  given = asset_views.Views(
    image=points, alpha=ball.alpha, depth=ball.depth, camera=ball.camera
  )
  carried, counts = reprojection.warp(given, ball.depth, source=1, target=0)
  inner = counts & (
    np.linalg.norm(points[0] - points[0][48, 48], axis=-1) < 0.4
  )
  assert inner.sum() > 300
  assert np.abs(carried - points[0])[inner].max() < 0.02


def test_what_the_other_view_cannot_see_does_not_count():
  ball = fake_assets.ball(4, size=64)
  points = fake_assets.surface_points(ball.camera, ball.depth)[0]
  for source in (1, 2, 3):
    _, counts = reprojection.warp(ball, ball.depth, source=source, target=0)
    away = np.asarray(ball.camera.camera_to_world)[source, :3, 3]
    facing = (points @ away) / fake_assets.RADIUS > fake_assets.RADIUS
    # The ball hides what does not face the camera.
    assert counts[~facing].mean() < 0.02
    seen = facing & (ball.depth[0] > 0)
    if source != 2:
      assert counts[seen].mean() > 0.4


def test_without_overlap_there_is_no_figure():
  ball = fake_assets.ball(4, size=16)
  empty = np.zeros_like(ball.depth)
  assert np.isnan(reprojection.warp_error(ball, empty)["warp_error"])
  nothing = reprojection.reprojection_lpips(
    ball, empty, lambda a, b: np.zeros(len(a))
  )
  assert np.isnan(nothing["reprojection_lpips"])


def test_lpips_sees_only_what_was_replaced():
  """With mean squared difference as the distance the figure is known."""
  tints = np.array([0.0, 0.4, 0.0, 0.4])
  ball = fake_assets.ball(4, size=32, colours=tints)

  def distance(a, b):
    return ((a - b) ** 2).mean((1, 2, 3))

  found = reprojection.reprojection_lpips(ball, ball.depth, distance)
  # All replaced pixels differ by 0.4, but for those at the silhouette.
  assert found["reprojection_lpips"] == pytest.approx(0.16, rel=0.1)
