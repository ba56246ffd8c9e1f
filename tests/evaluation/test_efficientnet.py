"""The network against XLA's own convolutions and an unfolded batch norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mvjax.evaluation import efficientnet


def grouped(x, kernel, stride):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [3, 5])
def test_depthwise_equals_grouped_convolution(width, stride, size):
  keys = jax.random.split(jax.random.key(width), 3)
  x = jax.random.normal(keys[0], (2, *size, 6))
  kernel = jax.random.normal(keys[1], (width, width, 1, 6))
  bias = jax.random.normal(keys[2], (6,))
  out = efficientnet.depthwise_convolve(
    x, {"kernel": kernel, "bias": bias}, stride=stride
  )
  expected = grouped(x, kernel, stride) + bias[None, None, None]
  np.testing.assert_allclose(out, expected, atol=1e-5)


def torch_state(rng):
  """Random tensors under the torch package's names, in its layout."""
  state = {}
  for layer, (
    height,
    width,
    inputs,
    outputs,
  ) in efficientnet.layer_shapes().items():
    conv, norm = efficientnet._torch_names(layer)
    scale = (height * width * inputs) ** -0.5
    state[f"{conv}.weight"] = scale * rng.standard_normal(
      (outputs, inputs, height, width)
    )
    for part in ("weight", "running_var"):
      state[f"{norm}.{part}"] = rng.uniform(0.5, 2, outputs)
    for part in ("bias", "running_mean"):
      state[f"{norm}.{part}"] = rng.standard_normal(outputs)
  return {key: value.astype(np.float32) for key, value in state.items()}


@pytest.fixture(scope="module")
def state():
  return torch_state(np.random.default_rng(0))


def test_architecture_has_the_published_size(state):
  """The released file has 4,694,073 values, classifier and counters too."""
  counters = sum(key.endswith("running_mean") for key in state)
  values = sum(value.size for value in state.values())
  assert values + counters + 1280 * 1000 + 1000 == 4_694_073


def test_blocks_are_those_of_the_paper():
  """Tan & Le 2019, table 1; whole features are compared in tests/parity."""
  channels = [16, *[24] * 2, *[40] * 2, *[80] * 3, *[112] * 3, *[192] * 4, 320]
  kernels = [3, *[3] * 2, *[5] * 2, *[3] * 3, *[5] * 3, *[5] * 4, 3]
  halving = [1, 3, 5, 11]  # the first of the second, third, fourth, sixth stage
  shapes = efficientnet.layer_shapes()
  inputs = [32, *channels[:-1]]
  for i, (before, after) in enumerate(zip(inputs, channels, strict=True)):
    hidden, name = 6 * before if i else before, f"blocks_{i}"
    assert shapes.get(f"{name}/expand", (1, 1, before, before))[2:] == (
      before,
      hidden,
    )
    side = kernels[i]
    assert shapes[f"{name}/depthwise"] == (side, side, 1, hidden)
    assert shapes[f"{name}/project"] == (1, 1, hidden, after)
    assert efficientnet.BLOCKS[i].stride == (2 if i in halving else 1)
  assert "blocks_0/expand" not in shapes and len(shapes) == 2 + 3 * 16 - 1
  assert shapes["head"] == (1, 1, 320, 1280)


def test_folding_keeps_convolution_and_norm(state):
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.standard_normal((1, 9, 9, 3)), jnp.float32)
  layer = jax.tree.map(jnp.asarray, efficientnet.from_torch(state)["stem"])
  mean, var, gain, shift = (
    jnp.asarray(state[f"_bn0.{part}"])[None, None, None]
    for part in ("running_mean", "running_var", "weight", "bias")
  )
  raw = lax.conv_general_dilated(
    x,
    state["_conv_stem.weight"],
    (2, 2),
    "SAME",
    dimension_numbers=("NHWC", "OIHW", "NHWC"),
  )
  expected = (raw - mean) / jnp.sqrt(var + 1e-3) * gain + shift
  out = efficientnet.convolve(x, layer, stride=2)
  np.testing.assert_allclose(out, expected, atol=1e-4)


def test_features_are_per_image(state):
  params = efficientnet.from_torch(state)
  rng = np.random.default_rng(2)
  images = rng.standard_normal((3, 32, 32, 3)).astype(np.float32)
  out = np.asarray(efficientnet.pooled_features(params, images))
  assert out.shape == (3, efficientnet.NUM_FEATURES)
  assert np.isfinite(out).all() and (out >= 0).all() and (out <= 6).all()
  again = efficientnet.pooled_features(params, images[::-1])
  np.testing.assert_allclose(again, out[::-1], atol=1e-4)
  assert np.abs(out[0] - out[1]).max() > 1e-2


def test_missing_and_misshapen_tensors_are_named(state):
  rest = {k: v for k, v in state.items() if k != "_bn1.running_var"}
  with pytest.raises(ValueError, match="head.*_bn1.running_var"):
    efficientnet.from_torch(rest)
  with pytest.raises(ValueError, match="_conv_head.weight"):
    efficientnet.from_torch(
      state | {"_conv_head.weight": np.ones((1, 1, 1, 1))}
    )
