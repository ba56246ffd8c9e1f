import jax
import jax.numpy as jnp
import numpy as np
import planted
import pytest

from mvjax import geometry, pixel_metrics
from mvjax.reconstruction import field


@pytest.fixture(scope="module")
def unseen(boxes):
  """True and rendered views between the fitted ones."""
  asset, _, fitted = boxes
  true = planted.views(asset, planted.orbits(4, start=0.6, elevations=(0.35,)))
  shown = field.render(fitted, true.camera, 48)
  return true, jax.tree.map(np.asarray, shown)


def test_unseen_views_are_predicted(unseen):
  true, shown = unseen
  both = (true.alpha > 0.5) | (shown.alpha > 0.5)
  assert pixel_metrics.psnr(shown.rgb, true.image) > 20
  # A wrong colour everywhere would be at most 10.
  assert pixel_metrics.psnr(shown.rgb, true.image, both) > 14
  assert ((shown.alpha > 0.5) == (true.alpha > 0.5)).mean() > 0.97


def test_surfaces_are_where_they_are(unseen):
  true, shown = unseen
  both = (true.depth > 0) & (shown.depth > 0)
  error = np.abs(shown.depth - true.depth)[both]
  assert both.sum() > 500
  # Two voxels: plain colours leave the place within them open.
  assert np.median(error) < 0.06
  np.testing.assert_array_equal(shown.depth > 0, shown.alpha > 0.5)


def test_depth_is_along_the_axis_of_the_camera():
  """The face of an opaque box is equally deep everywhere."""
  opaque = field.Field(
    values=jnp.full((8, 8, 8, 4), 200.0),
    occupancy=jnp.ones((8, 8, 8), bool),
    low=jnp.full(3, -0.9),
    high=jnp.full(3, 0.9),
  )
  camera = planted.orbits(1, start=0.0, elevations=(0.0,))
  shown = field.render(opaque, camera, 33)
  depth = np.asarray(shown.depth[0])
  front = depth > 0
  assert front.sum() > 400
  # Rays to the corners are 0.2 longer than those to the middle.
  np.testing.assert_allclose(depth[front], 2.1, atol=0.04)


def test_the_background_shows_where_nothing_is(boxes):
  _, given, fitted = boxes
  gray = np.full((8, 3), -0.2, np.float32)
  on_gray = field.render(fitted, given.camera, 48, background=gray)
  on_white = field.render(fitted, given.camera, 48)
  np.testing.assert_allclose(on_gray.rgb[:, 0], -0.2, atol=1e-6)
  np.testing.assert_allclose(
    on_white.rgb - on_gray.rgb,
    np.repeat(1.2 * (1 - on_gray.alpha)[..., None], 3, -1),
    atol=1e-5,
  )


def test_masks_are_found_and_the_program_compiles_once(boxes):
  """Other objects, cameras and backgrounds use the program that is there."""
  asset, given, fitted = boxes
  programs = field._fit._cache_size()
  camera = planted.orbits(8, start=0.9, elevations=(0.4,))
  other = planted.views(asset, camera)
  alpha = other.alpha[..., None]
  image = other.image * alpha - 0.5 * (1 - alpha)
  again = field.fit(image, None, camera, planted.SMALL)
  assert field._fit._cache_size() == programs
  shown = field.render(again, camera, 48)
  assert pixel_metrics.psnr(np.asarray(shown.rgb), other.image) > 20


def test_renders_compile_once_per_number_of_views_and_size(boxes):
  _, given, fitted = boxes
  field.render(fitted, given.camera, 48)
  programs = field._render._cache_size()
  field.render(fitted, planted.orbits(8, start=2.0, distance=4.0), 48)
  assert field._render._cache_size() == programs


def test_a_fit_is_reproducible(boxes):
  _, given, fitted = boxes
  again = field.fit(given.image, given.alpha, given.camera, planted.SMALL)
  np.testing.assert_array_equal(fitted.values, again.values)


def test_masks_without_a_common_point_are_refused(boxes):
  _, given, _ = boxes
  alpha = np.zeros_like(given.alpha)
  alpha[::2, :10] = 1
  alpha[1::2, -10:] = 1
  with pytest.raises(ValueError, match="no point in common"):
    field.fit(given.image, alpha, given.camera, planted.SMALL)


def test_wrong_cameras_are_refused(boxes):
  _, given, _ = boxes
  wrong = geometry.Camera(
    camera_to_world=given.camera.camera_to_world * 2.0,
    intrinsics=given.camera.intrinsics,
  )
  with pytest.raises(ValueError, match="camera of view 0"):
    field.fit(given.image, given.alpha, wrong, planted.SMALL)


@pytest.mark.parametrize("wrong", [{"grid": 33}, {"grid": 4}, {"rays": 0}])
def test_wrong_settings_are_refused(wrong):
  with pytest.raises(ValueError, match="must be"):
    field.Settings(**wrong)
