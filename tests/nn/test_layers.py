"""Layers and attention against closed forms."""

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.nn import attention, blocks, layers

RANDOM = np.random.default_rng(0)


def _normal(*shape):
  return jnp.asarray(RANDOM.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("stride, padding", [(1, 1), (2, ((0, 1), (0, 1)))])
def test_convolution_is_the_sum_over_shifts(stride, padding):
  x, kernel = np.asarray(_normal(2, 6, 6, 3)), np.asarray(_normal(3, 3, 3, 5))
  sides = ((padding, padding),) * 2 if padding == 1 else padding
  padded = np.pad(x, ((0, 0), *sides, (0, 0)))
  size = (padded.shape[1] - 3) // stride + 1
  expected = np.zeros((2, size, size, 5))
  for i in range(size):
    for j in range(size):
      patch = padded[:, i * stride : i * stride + 3, j * stride :][:, :, :3]
      expected[:, i, j] = np.tensordot(patch, kernel, 3)
  module = layers.Conv(5, stride=stride, padding=padding)
  variables = {"params": {"kernel": kernel, "bias": np.arange(5.0)}}
  np.testing.assert_allclose(
    module.apply(variables, jnp.asarray(x)),
    expected + np.arange(5.0),
    atol=1e-5,
  )


def test_group_norm_takes_each_group_to_zero_mean_and_unit_variance():
  # A large mean: E[x^2] - E[x]^2 would lose the variance.
  x = 3000 + 0.5 * _normal(2, 8, 8, 6)
  module = layers.GroupNorm(3, epsilon=1e-6)
  variables = {"params": {"scale": np.ones(6), "bias": np.zeros(6)}}
  y = np.asarray(module.apply(variables, x)).reshape(2, 64, 3, 2)
  np.testing.assert_allclose(y.mean((1, 3)), 0.0, atol=1e-3)
  np.testing.assert_allclose(y.std((1, 3)), 1.0, atol=1e-3)


def test_layer_norm_epsilon_bounds_small_tokens():
  x = jnp.array([[1e-3, -1e-3]])
  variables = {"params": {"scale": np.full(2, 2.0), "bias": np.ones(2)}}
  y = layers.LayerNorm().apply(variables, x)
  size = 2 * 1e-3 / np.sqrt(1e-6 + 1e-5)
  np.testing.assert_allclose(y[0], [1 + size, 1 - size], rtol=1e-5)


def test_timestep_features_are_cosines_then_sines():
  golden = golden_weights.Golden("sd15_unet")
  t = jnp.asarray(golden["in.t"], jnp.float32)
  np.testing.assert_allclose(
    layers.timestep_features(t, 32), golden["out.t_sin"], atol=1e-4
  )
  # Between whole times the features are between theirs.
  features = layers.timestep_features(jnp.array([3.0, 3.5, 4.0]), 8)
  np.testing.assert_allclose(features[1, 0], np.cos(3.5), atol=1e-5)
  np.testing.assert_allclose(features[1, 4], np.sin(3.5), atol=1e-5)


def test_upsampling_repeats_pixels():
  x = _normal(1, 2, 3, 1)
  centre = np.zeros((3, 3, 1, 1), np.float32)
  centre[1, 1] = 1.0
  params = {"conv": {"kernel": centre, "bias": np.zeros(1, np.float32)}}
  y = blocks.Upsample().apply({"params": params}, x)
  expected = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
  np.testing.assert_allclose(y, expected, atol=1e-6)


def test_a_matching_key_wins_and_a_masked_one_is_not_seen():
  key = 100 * jnp.eye(3)[None, :, None, :]
  value = _normal(1, 3, 1, 4)
  seen = attention.attention(key, key, value=value)
  np.testing.assert_allclose(seen, value, atol=1e-5)

  mask = jnp.array([[False, True, True]] * 2 + [[False] * 3])[None, None]
  seen = attention.attention(key, key, value=value, mask=mask)
  np.testing.assert_allclose(seen[0, 0], value[0, 1:].mean(0), atol=1e-5)
  np.testing.assert_allclose(seen[0, 1], value[0, 1], atol=1e-5)
  # Nothing to see: the mean of all, and finite.
  np.testing.assert_allclose(seen[0, 2], value[0].mean(0), atol=1e-5)


def test_softmax_is_float32_whatever_the_compute_dtype():
  query = jnp.full((1, 1, 1, 64), 3.0, jnp.bfloat16)
  key = jnp.stack([query[:, 0], query[:, 0] * 1.01], axis=1)
  value = jnp.array([0.0, 1.0], jnp.bfloat16).reshape(1, 2, 1, 1)
  jaxpr = str(
    jax.make_jaxpr(lambda q, k, v: attention.attention(q, k, value=v))(
      query, key, value
    )
  )
  assert "exp" in jaxpr
  exponentials = [line for line in jaxpr.splitlines() if "= exp" in line]
  assert exponentials and all("f32" in line for line in exponentials)


@pytest.mark.parametrize("size, padding", [(1, 0), (3, 1)])
def test_wide_coarse_maps_convolve_like_their_narrow_parts(size, padding):
  """Other ways to compute it on a CPU: the sum over parts of the channels."""
  x, kernel = _normal(2, 8, 8, 512), _normal(size, size, 512, 4)
  sides = ((padding, padding),) * 2
  whole = layers.conv2d(x, kernel, padding=sides)
  parts = sum(
    layers.conv2d(
      x[..., part : part + 64], kernel[:, :, part : part + 64], padding=sides
    )
    for part in range(0, 512, 64)
  )
  assert whole.shape == (2, 8, 8, 4)
  np.testing.assert_allclose(whole, parts, atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_long_attention_is_that_of_its_queries_in_pieces(masked):
  query, key, value = (_normal(2, 1024, 3, 4) for _ in range(3))
  mask = None
  if masked:
    mask = jnp.asarray(RANDOM.random((2, 1, 1024, 1024)) < 0.5)
  whole = attention.attention(query, key, value=value, mask=mask)
  for start in range(0, 1024, 256):
    piece = slice(start, start + 256)
    seen = None if mask is None else mask[:, :, piece]
    part = attention.attention(query[:, piece], key, value=value, mask=seen)
    np.testing.assert_allclose(whole[:, piece], part, atol=1e-5)
