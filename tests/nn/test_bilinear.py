import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mvjax.nn import bilinear

SAMPLERS = [
  pytest.param(jax.jit(sampler), id=name)
  for name, sampler in bilinear.SAMPLERS.items()
]


def _maps(shape, seed=0):
  values = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(values, jnp.float32)


def _positions(*batch, height, width, seed=1):
  """Positions anywhere, a third of them outside the image."""
  uv = np.random.default_rng(seed).uniform(-0.25, 1.25, (*batch, 2))
  uv = jnp.asarray(uv, jnp.float32)
  return bilinear.map_position(uv, height, width)


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (4, 1), (1, 1)])
def test_matches_an_independent_interpolation(sample, size):
  maps = _maps((*size, 3))
  positions = _positions(50, height=size[0], width=size[1])
  expected = [
    ndimage.map_coordinates(
      np.asarray(maps[..., channel]),
      np.asarray(positions)[:, ::-1].T,
      order=1,
      mode="nearest",
    )
    for channel in range(3)
  ]
  np.testing.assert_allclose(
    sample(maps, positions), np.stack(expected, -1), atol=1e-5
  )


@pytest.mark.parametrize("sample", SAMPLERS)
def test_pixel_centres_give_the_pixels(sample):
  height, width = 3, 4
  maps = _maps((height, width, 2))
  uv = [
    [(column + 0.5) / width, (row + 0.5) / height]
    for row, column in itertools.product(range(height), range(width))
  ]
  samples = sample(maps, bilinear.map_position(jnp.asarray(uv), height, width))
  np.testing.assert_allclose(samples, maps.reshape(-1, 2), atol=1e-6)


def test_both_forms_have_the_same_values_and_gradients():
  maps = _maps((2, 3, 6, 5, 4))
  positions = _positions(2, 3, 40, height=6, width=5)
  target = _maps((2, 3, 40, 4), seed=2)

  def values_and_gradient(sample):
    def loss(maps):
      samples = sample(maps, positions)
      return (samples * target).sum(), samples

    return jax.jit(jax.grad(loss, has_aux=True))(maps)

  for gathered, by_hats in zip(
    *(values_and_gradient(sample) for sample in bilinear.SAMPLERS.values()),
    strict=True,
  ):
    np.testing.assert_allclose(gathered, by_hats, atol=1e-5)


def test_half_pixel_border_is_the_border_pixel():
  uv = jnp.asarray([[0.0, 0.0], [1.0, 1.0], [-3.0, 9.0]])
  np.testing.assert_array_equal(
    bilinear.map_position(uv, 4, 8), [[0, 0], [7, 3], [0, 3]]
  )
