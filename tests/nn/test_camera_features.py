import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import geometry
from mvjax.nn import camera_features


def _ring(views, *, batch=1, elevation=0.3):
  azimuth = jnp.arange(views) * (2 * math.pi / views)
  azimuth = azimuth[None, :] + 0.7 * jnp.arange(batch)[:, None]
  return geometry.orbit(
    azimuth=azimuth,
    elevation=elevation,
    distance=3.0,
    field_of_view=math.radians(40),
  )


def _level(camera, size=(4, 4), points=3, **kwargs):
  """Compiled: hundreds of small operations are slow one by one."""

  @jax.jit
  def make(camera):
    return camera_features.camera_features(
      camera, [size], points=[points], **kwargs
    )

  return make(camera).levels[size]


def test_own_view_sees_all_points_of_a_pixel_at_the_pixel():
  level = _level(_ring(3), size=(2, 5))
  rows, columns = np.divmod(np.arange(10), 5)
  for view in range(3):
    own = np.asarray(level.positions[0, view, :, :, view])
    np.testing.assert_array_equal(own[..., 0], np.tile(columns[:, None], 3))
    np.testing.assert_array_equal(own[..., 1], np.tile(rows[:, None], 3))
    assert level.visible[0, view, :, :, view].all()


def test_points_lie_inside_the_ball_in_equal_pieces():
  """The central ray of a camera at distance 3 is in the ball from 2 to 4."""
  level = _level(_ring(1, elevation=0.0), size=(1, 1), points=4)
  np.testing.assert_allclose(
    level.depths[0, 0, 0], [2.25, 2.75, 3.25, 3.75], atol=1e-5
  )
  offsets = jnp.zeros((1, 1, 1, 1, 4)).at[..., 1].set(1.0)
  level = _level(
    _ring(1, elevation=0.0), size=(1, 1), points=4, offsets=[offsets]
  )
  np.testing.assert_allclose(
    level.depths[0, 0, 0], [2.0, 3.0, 3.0, 3.5], atol=1e-5
  )


def test_opposite_views_see_a_point_at_complementary_depths():
  """The centre pixel of a camera is seen at the centre by the opposite one."""
  level = _level(_ring(2, elevation=0.0), size=(3, 3), points=2)
  centre = 4
  np.testing.assert_allclose(
    level.positions[0, 0, centre, :, 1], [[1, 1], [1, 1]], atol=1e-5
  )
  own, other = (level.view_rays[0, 0, centre, :, u, 6] for u in (0, 1))
  np.testing.assert_allclose(own + other, [6.0, 6.0], atol=1e-5)
  # The cameras are on +x and -x; both lines pass through the origin.
  expected = [[-1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
  np.testing.assert_allclose(
    level.view_rays[0, 0, centre, 0, :, :6], expected, atol=1e-5
  )


def test_rays_that_miss_the_ball_have_one_point():
  camera = geometry.orbit(
    azimuth=jnp.zeros((1, 1)),
    elevation=0.0,
    distance=3.0,
    field_of_view=math.radians(80),
  )
  depths = np.asarray(_level(camera, size=(4, 4)).depths[0, 0])
  assert np.ptp(depths[0]) < 1e-6
  assert np.ptp(depths[5]) > 0.1


def test_what_is_behind_a_camera_or_outside_its_image_is_not_visible():
  """A second camera looks away from the ball, a third looks past it."""
  pose = _ring(1).camera_to_world
  turned = pose[..., :, :3].at[..., :, (0, 2)].multiply(-1)
  turned = jnp.concatenate([turned, pose[..., :, 3:]], -1)
  beside = pose.at[..., 2, 3].add(8.0)
  camera = geometry.Camera(
    camera_to_world=jnp.concatenate([pose, turned, beside], 1),
    intrinsics=jnp.repeat(_ring(1).intrinsics, 3, axis=1),
  )
  level = _level(camera)
  assert level.visible[0, 0, :, :, 0].all()
  assert not level.visible[0, 0, :, :, 1:].any()
  for leaf in jax.tree.leaves(level):
    assert np.isfinite(leaf).all()
  assert (level.positions >= 0).all() and (level.positions <= 3).all()


def test_camera_numbers_hold_pose_and_intrinsics():
  camera = _ring(2, batch=3)
  numbers = camera_features.camera_features(
    camera, [], points=[]
  ).camera_numbers
  assert numbers.shape == (3, 2, 16)
  pose = camera.camera_to_world
  np.testing.assert_array_equal(
    numbers[..., :9].reshape(3, 2, 3, 3), pose[..., :3, :3]
  )
  np.testing.assert_array_equal(numbers[..., 9:12], pose[..., :3, 3])
  focal = 0.5 / math.tan(math.radians(20))
  np.testing.assert_allclose(
    numbers[1, 1, 12:], [focal, focal, 0.5, 0.5], rtol=1e-6
  )


def test_cut_views_hides_other_views_of_the_chosen_assets_only():
  features = camera_features.CameraFeatures(
    camera_numbers=jnp.zeros((2, 3, 16)),
    levels={(2, 2): _level(_ring(3, batch=2), size=(2, 2), points=2)},
  )
  cut = camera_features.cut_views(features, jnp.asarray([True, False]))
  visible = cut.levels[2, 2].visible
  np.testing.assert_array_equal(
    visible[0],
    np.broadcast_to(np.eye(3, dtype=bool)[:, None, None], (3, 4, 2, 3)),
  )
  np.testing.assert_array_equal(visible[1], features.levels[2, 2].visible[1])


def test_single_view_is_every_camera_by_itself():
  camera = _ring(3, batch=2)

  def make(camera):
    features = camera_features.camera_features
    return jax.jit(lambda camera: features(camera, [(2, 3)], points=[2]))(
      camera
    )

  alone = make(jax.tree.map(lambda x: x.reshape(6, 1, *x.shape[2:]), camera))
  split = make(camera).single_view()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), split, alone
  )


def test_harmonics_are_sines_and_cosines():
  x = jnp.linspace(-4.0, 4.0, 31)[:, None]
  encoded = camera_features.harmonics(x, 6)
  assert encoded.shape == (31, 13)
  for i in range(6):
    angle = np.asarray(x[:, 0], np.float64) * 2**i
    np.testing.assert_allclose(encoded[:, 1 + 2 * i], np.sin(angle), atol=2e-5)
    np.testing.assert_allclose(encoded[:, 2 + 2 * i], np.cos(angle), atol=2e-5)


def test_features_are_a_pytree_under_any_transformation():
  def make(camera):
    return camera_features.camera_features(
      camera, [(4, 4), (2, 2)], points=[2, 1]
    )

  shapes = jax.eval_shape(make, _ring(2, batch=2))
  jax.tree.map(lambda x: None, shapes)
  assert shapes.levels[2, 2].depths.shape == (2, 2, 4, 1)


@pytest.mark.parametrize(
  "sizes, points", [([(4, 4)], []), ([(4, 4)] * 2, [1, 2])]
)
def test_sizes_and_points_must_fit(sizes, points):
  with pytest.raises(ValueError, match="one number of points"):
    camera_features.camera_features(_ring(1), sizes, points=points)
