import numpy as np
import planted
import pytest

from mvjax import geometry
from mvjax.reconstruction import cameras


@pytest.mark.parametrize("angle", [22.0, 48.0])
def test_a_planted_field_of_view_is_found(angle):
  # So far away that the boxes, 0.7 in radius, fill the image.
  distance = 0.75 / np.sin(np.radians(angle) / 2)
  lens = {"field_of_view": angle, "distance": distance}
  camera = planted.orbits(8, **lens)
  given = planted.views(planted.two_boxes(), camera, size=64)
  # The search is told another lens and another distance.
  found = cameras.search(given.alpha > 0.5, planted.orbits(8))
  assert found.field_of_view == pytest.approx(angle, abs=4)
  assert len(found.agreement) == len(cameras.CANDIDATES)
  assert max(found.agreement.values()) > 0.9
  geometry.check_camera(found.camera)


def test_empty_masks_have_no_say():
  """One blank view of eight emptied the hull at every field of view."""
  lens = {"field_of_view": 30.0, "distance": 0.75 / np.sin(np.radians(15))}
  camera = planted.orbits(8, **lens)
  masks = planted.views(planted.two_boxes(), camera, size=64).alpha > 0.5
  masks[3] = False
  found = cameras.search(masks, planted.orbits(8))
  assert found.field_of_view == pytest.approx(30, abs=4)
  assert len(found.camera.intrinsics) == 8
  masks[1:] = False
  with pytest.raises(ValueError, match="not found: 1 of 8 masks"):
    cameras.search(masks, camera)


def test_masks_without_a_common_point_tell_no_lens():
  """Each shows one corner that the opposite view contradicts."""
  masks = np.zeros((4, 64, 64), bool)
  masks[0, :6], masks[1, -6:], masks[2, :6], masks[3, -6:] = (True,) * 4
  with pytest.raises(ValueError, match="no point in common"):
    cameras.search(masks, planted.orbits(4, elevations=(0.0,)))


@pytest.mark.parametrize("angle", [22.0, 30.0, 48.0])
def test_four_views_leave_a_range_that_holds_the_truth(angle):
  """One ring at 15 degrees, as MVDream's: the top is flat and off the truth."""
  height = (np.radians(15),)
  distance = 0.75 / np.sin(np.radians(angle) / 2)
  camera = planted.orbits(
    4, elevations=height, field_of_view=angle, distance=distance
  )
  given = planted.views(planted.two_boxes(), camera, size=64)
  found = cameras.search(
    given.alpha > 0.5, planted.orbits(4, elevations=height)
  )
  low, high = found.near_best
  assert low < angle < high and low < found.field_of_view < high
  # Neither everything nor nothing.
  assert 5 < high - low < 40


def test_the_range_ends_where_the_agreement_falls():
  angles = np.array([10.0, 20.0, 30.0, 40.0])
  # Falls by 0.01 in 10 degrees: the bar is half way.
  values = np.array([0.97, 0.98, 0.99, 0.98])
  np.testing.assert_allclose(
    cameras._near_best(angles, values, tolerance=0.005), (25, 35)
  )
  np.testing.assert_allclose(
    cameras._near_best(angles, np.full(4, 0.9), tolerance=0.1), (10, 40)
  )


def test_the_unit_ball_touches_the_border():
  camera = cameras.with_field_of_view(planted.orbits(4), 30.0)
  position = camera.camera_to_world[:, :3, 3]
  distance = np.linalg.norm(position, axis=-1)
  np.testing.assert_allclose(np.sin(np.radians(15)) * distance, 1, rtol=1e-3)
  given = planted.orbits(4).camera_to_world
  np.testing.assert_array_equal(
    camera.camera_to_world[:, :3, :3], given[:, :3, :3]
  )
