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


def test_the_unit_ball_touches_the_border():
  camera = cameras.with_field_of_view(planted.orbits(4), 30.0)
  position = camera.camera_to_world[:, :3, 3]
  distance = np.linalg.norm(position, axis=-1)
  np.testing.assert_allclose(np.sin(np.radians(15)) * distance, 1, rtol=1e-3)
  given = planted.orbits(4).camera_to_world
  np.testing.assert_array_equal(
    camera.camera_to_world[:, :3, :3], given[:, :3, :3]
  )
