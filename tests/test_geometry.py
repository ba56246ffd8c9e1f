"""Geometry against hand-computed cases, round trips and finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import geometry

FIELD_OF_VIEW = np.deg2rad(40.0)
LIBRARIES = pytest.mark.parametrize("xnp", [np, jnp], ids=["numpy", "jax"])


def ring(views=5, xnp=jnp, elevation=0.4):
  return geometry.orbit(
    azimuth=np.linspace(0, 2 * np.pi, views, endpoint=False),
    elevation=elevation,
    distance=3.0,
    field_of_view=FIELD_OF_VIEW,
    xnp=xnp,
  )


@LIBRARIES
def test_azimuth_zero_is_on_x_and_grows_counter_clockwise(xnp):
  camera = ring(4, xnp, elevation=0.0)
  assert isinstance(
    camera.camera_to_world, np.ndarray if xnp is np else jax.Array
  )
  np.testing.assert_allclose(
    camera.camera_to_world[:, :3, 3],
    [[3, 0, 0], [0, 3, 0], [-3, 0, 0], [0, -3, 0]],
    atol=1e-6,
  )
  # Seen from +x the world's +y is to the right and +z is up.
  np.testing.assert_allclose(
    camera.camera_to_world[0, :3, :3].T,
    [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
    atol=1e-6,
  )


def test_orbit_agrees_with_look_at_and_is_regular_at_the_poles():
  camera = ring()
  np.testing.assert_allclose(
    geometry.look_at(camera.camera_to_world[:, :3, 3]),
    camera.camera_to_world,
    atol=1e-6,
  )
  for sign in (1, -1):
    pole = geometry.orbit(
      azimuth=0.0,
      elevation=sign * np.pi / 2,
      distance=2.0,
      field_of_view=FIELD_OF_VIEW,
    )
    geometry.check_camera(pole)
    above = geometry.look_at(jnp.array([0.0, 0.0, 2.0 * sign]))
    np.testing.assert_allclose(above, pole.camera_to_world, atol=1e-6)


def test_mvdream_camera_check_value():
  # MVDream's azimuth is ours + 90 and its cameras are OpenGL ones on the unit
  # sphere; this is its camera for elevation 15 and its azimuth 90.
  camera = geometry.orbit(
    azimuth=0.0,
    elevation=np.deg2rad(15.0),
    distance=1.0,
    field_of_view=FIELD_OF_VIEW,
  )
  np.testing.assert_allclose(
    geometry.to_opengl(camera.camera_to_world),
    [
      [0, -0.2588, 0.9659, 0.9659],
      [1, 0, 0, 0],
      [0, 0.9659, 0.2588, 0.2588],
      [0, 0, 0, 1],
    ],
    atol=1e-4,
  )
  np.testing.assert_array_equal(
    geometry.from_opengl(geometry.to_opengl(camera.camera_to_world)),
    camera.camera_to_world,
  )


def test_field_of_view_reaches_the_image_border():
  camera = ring(1, np, elevation=0.0)
  edge = 3.0 * np.tan(FIELD_OF_VIEW / 2)
  points = np.array([[[0, edge, 0], [0, 0, edge], [0, 0, 0], [9, 0, 0]]])
  uv, depth = geometry.project(camera, points, xnp=np)
  np.testing.assert_allclose(
    uv[0, :3], [[1, 0.5], [0.5, 0], [0.5, 0.5]], atol=1e-6
  )
  np.testing.assert_allclose(depth[0], [3, 3, 3, -6], atol=1e-5)
  assert np.isfinite(uv).all()


@LIBRARIES
def test_points_on_rays_project_to_their_pixel_centres(xnp):
  camera = ring(3, xnp)
  skewed = np.array(camera.intrinsics)
  skewed[:, 0, 1], skewed[:, 1, 1], skewed[:, 0, 2] = 0.05, 2.0, 0.45
  camera = geometry.Camera(
    camera_to_world=camera.camera_to_world, intrinsics=xnp.asarray(skewed)
  )
  origins, directions = geometry.rays(camera, 4, 6, xnp=xnp)
  assert origins.shape == directions.shape == (3, 4, 6, 3)
  np.testing.assert_allclose(
    np.linalg.norm(directions, axis=-1), 1.0, rtol=1e-6
  )
  points = (origins + 2.5 * directions).reshape(3, 24, 3)
  uv, _ = geometry.project(camera, points, xnp=xnp)
  v, u = np.meshgrid(
    (np.arange(4) + 0.5) / 4, (np.arange(6) + 0.5) / 6, indexing="ij"
  )
  expected = np.stack([u, v], -1).reshape(1, 24, 2)
  np.testing.assert_allclose(uv, np.repeat(expected, 3, 0), atol=1e-5)


def test_views_broadcast_over_points():
  camera = ring(3)
  every = jax.tree.map(lambda x: x[None], camera)
  points = jax.random.normal(jax.random.key(0), (2, 1, 7, 3))
  uv, depth = geometry.project(every, points)
  assert uv.shape == (2, 3, 7, 2) and depth.shape == (2, 3, 7)
  one = jax.tree.map(lambda x: x[2], camera)
  np.testing.assert_allclose(
    uv[1, 2], geometry.project(one, points[1, 0])[0], rtol=1e-5
  )


def test_plucker_is_a_property_of_the_line():
  origins, directions = geometry.rays(ring(2), 3, 3)
  line = geometry.plucker(origins, directions)
  moved = geometry.plucker(origins + 1.7 * directions, directions)
  np.testing.assert_allclose(line, moved, atol=1e-5)
  np.testing.assert_allclose(
    jnp.sum(line[..., :3] * line[..., 3:], -1), 0.0, atol=1e-6
  )


@pytest.mark.parametrize(
  ("origin", "direction", "near", "far"),
  [
    ((-3, 0, 0), (1, 0, 0), 2, 4),
    ((-3, 1, 0), (1, 0, 0), 3, 3),
    ((-3, 2, 0), (1, 0, 0), 3, 3),
    ((0, 0, 0), (0, 1, 0), 0, 1),
    ((3, 0, 0), (1, 0, 0), 0, 0),
  ],
  ids=["through", "tangent", "miss", "inside", "behind"],
)
def test_ray_sphere(origin, direction, near, far):
  origin, direction = jnp.array(origin, float), jnp.array(direction, float)
  np.testing.assert_allclose(
    geometry.ray_sphere(origin, direction, 1.0), (near, far), atol=1e-6
  )
  gradient = jax.grad(
    lambda o: sum(geometry.ray_sphere(o, direction, 1.0)).sum()
  )(origin)
  assert jnp.isfinite(gradient).all()


def test_gradients_are_finite_where_values_are_replaced():
  camera = ring(1)
  at_camera = camera.camera_to_world[:, :3, 3][:, None]
  gradient = jax.grad(lambda p: geometry.project(camera, p)[0].sum())(at_camera)
  assert jnp.isfinite(gradient).all()
  for position in ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0)):
    gradient = jax.grad(lambda p: geometry.look_at(p).sum())(
      jnp.array(position)
    )
    assert jnp.isfinite(gradient).all()


def test_camera_is_a_pytree_with_any_leaves():
  camera = ring(2)
  assert jax.tree.map(lambda x: None, camera).intrinsics is None
  shapes = jax.eval_shape(lambda c: c, camera)
  assert shapes.camera_to_world.shape == (2, 4, 4)
  origins, _ = jax.vmap(lambda c: geometry.rays(c, 2, 2))(camera)
  assert origins.shape == (2, 2, 2, 3)


def spoil(field, index, value):
  camera = ring(3, np)
  array = np.array(getattr(camera, field))
  array[index] = value
  return geometry.Camera(
    **{
      "camera_to_world": camera.camera_to_world,
      "intrinsics": camera.intrinsics,
      field: array,
    }
  )


@pytest.mark.parametrize(
  ("field", "index", "value", "message"),
  [
    ("camera_to_world", (1, 0, 0), np.nan, "not finite"),
    ("camera_to_world", (1, slice(3), 0), 0.0, "singular"),
    ("camera_to_world", (1, slice(3), slice(3)), 2 * np.eye(3), "rotation"),
    ("camera_to_world", (1, slice(3), slice(3)), -np.eye(3), "mirrors"),
    ("camera_to_world", (1, 3, 0), 5.0, "transposed"),
    ("intrinsics", (1, 0, 0), np.inf, "not finite"),
    ("intrinsics", (1, 0, 0), -1.0, "focal"),
    ("intrinsics", (1, 1, 0), 0.5, "triangular"),
    ("intrinsics", (1, 0, 2), 64.0, "pixels"),
  ],
)
def test_bad_cameras_are_named_in_one_line(field, index, value, message):
  geometry.check_camera(ring(3, np))
  with pytest.raises(ValueError, match=message) as error:
    geometry.check_camera(spoil(field, index, value))
  assert "view 1" in str(error.value) and field in str(error.value)
  assert "\n" not in str(error.value)


def test_cameras_of_wrong_shape_are_rejected():
  camera = ring(3, np)
  with pytest.raises(ValueError, match="intrinsics.*expected"):
    geometry.check_camera(
      geometry.Camera(
        camera_to_world=camera.camera_to_world, intrinsics=np.eye(4)
      )
    )
  with pytest.raises(ValueError, match="one of each per view"):
    geometry.check_camera(
      geometry.Camera(
        camera_to_world=camera.camera_to_world,
        intrinsics=camera.intrinsics[:2],
      )
    )
