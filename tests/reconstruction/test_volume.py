import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.reconstruction import hull, volume

_GRID = 8
_LOW, _HIGH = jnp.array([-1.0, -0.5, 0.0]), jnp.array([1.0, 1.5, 2.0])


def _field(values):
  return volume.Field(
    values=jnp.asarray(values, jnp.float32),
    occupancy=jnp.ones((_GRID,) * 3, bool),
    low=_LOW,
    high=_HIGH,
  )


def _along_x(field, *, samples=64):
  """Rays through the box from both sides, in its middle."""
  return volume.march(
    field,
    jnp.array([[-3.0, 0.5, 1.0], [3.0, 0.5, 1.0]]),
    jnp.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
    near=jnp.full(2, 2.0),
    far=jnp.full(2, 4.0),
    samples=samples,
  )


@pytest.mark.parametrize("raw", [-2.0, 0.5])
def test_a_slab_absorbs_as_in_the_closed_form(raw):
  raw_colour = jnp.array([-1.0, 0.0, 2.0])
  values = jnp.concatenate([jnp.array([raw]), raw_colour])
  seen = _along_x(_field(jnp.tile(values, (_GRID, _GRID, _GRID, 1))))
  depth = float(volume.thickness(jnp.array(raw))) * _GRID
  alpha = 1 - np.exp(-depth)
  np.testing.assert_allclose(seen.alpha, [alpha] * 2, rtol=1e-5)
  np.testing.assert_allclose(
    seen.colour, np.tile(alpha / (1 + np.exp(-raw_colour)), (2, 1)), rtol=1e-5
  )
  # Mean depth of exponential absorption over a length of 2 from 2 on.
  rate = depth / 2
  mean = 2 + 1 / rate - 2 * np.exp(-depth) / alpha
  np.testing.assert_allclose(seen.distance / seen.alpha, [mean] * 2, rtol=1e-3)


def test_what_is_in_front_hides_what_is_behind():
  values = np.full((_GRID, _GRID, _GRID, 4), -20.0)
  values[..., 0] = 60
  values[: _GRID // 2, ..., 1] = 20  # Red where x < 0.
  values[_GRID // 2 :, ..., 3] = 20  # Blue where x > 0.
  seen = _along_x(_field(values))
  np.testing.assert_allclose(seen.colour, [[1, 0, 0], [0, 0, 1]], atol=1e-3)
  np.testing.assert_allclose(seen.distance, [2, 2], atol=0.1)


def _linear(points):
  slope = jnp.array([1.0, -2.0, 0.5, 3.0])
  slope = slope.reshape((1,) * (points.ndim - 1) + (4,))
  return points.sum(-1, keepdims=True) * slope + slope


@pytest.mark.parametrize("refined", [False, True])
def test_linear_functions_are_interpolated_exactly(refined):
  points = hull.centres(_LOW, _HIGH, _GRID)
  field = _field(_linear(points))
  if refined:
    field = volume.refine(field)
    assert field.values.shape == (2 * _GRID,) * 3 + (4,)
  # Half a voxel inside the outermost centres.
  inner = jax.random.uniform(
    jax.random.key(0),
    (50, 3),
    minval=(_LOW + 0.26)[None],
    maxval=(_HIGH - 0.26)[None],
  )
  np.testing.assert_allclose(
    volume.interpolate(field, inner), _linear(inner), atol=1e-4
  )


def test_refining_keeps_the_optical_unit():
  field = _field(np.full((_GRID, _GRID, _GRID, 4), 0.3))
  np.testing.assert_allclose(
    volume.solidity(volume.refine(field))[0, 0, 0],
    volume.solidity(field)[0, 0, 0],
    rtol=1e-6,
  )


def test_roughness_of_a_step():
  values = np.zeros((_GRID, _GRID, _GRID, 4))
  values[4:, ..., 1] = 3.0
  colour, density = volume.neighbours_differ(_field(values))
  # One of seven pairs along one axis differs, in one of three channels.
  np.testing.assert_allclose(colour, 9 / (7 * 3), rtol=1e-5)
  np.testing.assert_allclose(density, 0, atol=1e-7)
