import jax
import jax.numpy as jnp
import numpy as np
import planted
import pytest

from mvjax import geometry
from mvjax.reconstruction import hull

_RADIUS = 0.6
_GRID = 32


def _sphere_masks(camera, size=64):
  origins, directions = geometry.rays(camera, size, size, xnp=np)
  near, far = geometry.ray_sphere(origins, directions, _RADIUS, xnp=np)
  return jnp.asarray(far > near)


def _sphere_hull(number, *, misses=0, wrong=()):
  camera = planted.orbits(number, elevations=(-0.6, 0.1, 0.8))
  masks = _sphere_masks(camera)
  for view in wrong:
    masks = masks.at[view].set(False)
  return hull.build(
    masks, jax.tree.map(jnp.asarray, camera), grid=_GRID, misses=misses
  )


def _inside(low, high, radius):
  points = hull.centres(low, high, _GRID)
  return jnp.linalg.norm(points, axis=-1) < radius


def _volume(occupancy, low, high):
  return float(occupancy.mean() * jnp.prod(high - low))


def test_the_hull_contains_the_sphere_and_shrinks_towards_it():
  sphere = 4 / 3 * np.pi * _RADIUS**3
  volumes = []
  for number in (4, 9, 24):
    occupancy, low, high = _sphere_hull(number)
    assert not (_inside(low, high, _RADIUS) & ~occupancy).any()
    volumes.append(_volume(occupancy, low, high))
  assert volumes[0] > volumes[1] > volumes[2] > sphere
  # A pixel is 0.03 wide and masks are widened by one.
  assert volumes[2] < 4 / 3 * np.pi * (_RADIUS + 0.08) ** 3


def test_the_box_follows_the_hull():
  _, low, high = _sphere_hull(24)
  assert (low < -_RADIUS).all()
  assert (high > _RADIUS).all()
  # The box of all that is seen ends at 1.09.
  assert float(jnp.abs(jnp.stack([low, high])).max()) < _RADIUS + 0.2


def test_voting_tolerates_one_wrong_mask():
  strict, *_ = _sphere_hull(8, wrong=[3])
  assert not strict.any()
  occupancy, low, high = _sphere_hull(8, wrong=[3], misses=1)
  assert not (_inside(low, high, _RADIUS) & ~occupancy).any()
  assert hull.allowed_misses(8) == 1
  assert hull.allowed_misses(4) == 0


def test_a_mask_that_is_cut_off_goes_on_beyond_the_image():
  camera = jax.tree.map(jnp.asarray, planted.orbits(4, elevations=(0.0,)))
  masks = jnp.zeros((4, 32, 32), bool).at[:, 12:20].set(True)
  corner = jnp.array([1.5, 1.5, 1.0])
  occupancy = hull.carve(
    masks, camera, low=-corner, high=corner, grid=16, misses=0
  )
  # The masks are bands: the corners of the slab lie outside every image.
  assert occupancy[0, 0, 8]
  assert not occupancy[:, :, 0].any()


def test_spans_enclose_the_sphere():
  occupancy, low, high = _sphere_hull(24)
  camera = planted.orbits(3, start=1.0)
  origins, directions = (
    jnp.asarray(x.reshape(-1, 3)) for x in geometry.rays(camera, 20, 20, xnp=np)
  )
  near, far = hull.spans(occupancy, origins, directions, low=low, high=high)
  true_near, true_far = geometry.ray_sphere(origins, directions, _RADIUS)
  hits = true_far > true_near + 0.1
  assert hits.sum() > 100
  assert (near[hits] <= true_near[hits]).all()
  assert (far[hits] >= true_far[hits]).all()
  # Neither much longer, nor there for rays that pass at a distance.
  assert float((true_near - near)[hits].mean()) < 0.2
  _, wide = geometry.ray_sphere(origins, directions, _RADIUS + 0.25)
  passes = wide <= geometry.ray_sphere(origins, directions, _RADIUS + 0.25)[0]
  assert passes.sum() > 100
  np.testing.assert_array_equal(near[passes], far[passes])


@pytest.mark.parametrize("centre", [(0, 0, 0), (0.5, -1.0, 2.0)])
def test_the_cameras_tell_where_the_object_is(centre):
  camera = planted.orbits(5)
  pose = camera.camera_to_world.copy()
  pose[:, :3, 3] += centre
  moved = geometry.Camera(
    camera_to_world=jnp.asarray(pose), intrinsics=jnp.asarray(camera.intrinsics)
  )
  low, high = hull.view_box(moved)
  np.testing.assert_allclose((low + high) / 2, centre, atol=1e-3)
  half = 3 * np.tan(np.radians(20))
  np.testing.assert_allclose((high - low) / 2, np.full(3, half), rtol=1e-2)
