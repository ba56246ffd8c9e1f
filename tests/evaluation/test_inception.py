"""The FID network's tensors and layers; its numbers are in tests/parity."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch_inception

from mvjax.evaluation import inception
from mvjax.weights import tensors as tensors_lib


@pytest.fixture(scope="module")
def state():
  rng = np.random.default_rng(0)
  arrays = {}
  for name, shape in torch_inception.TENSORS.items():
    fan_in = math.prod(shape[1:]) or 1
    noise = rng.standard_normal(shape, np.float32)
    arrays[name] = noise * np.float32(math.sqrt(2 / fan_in))
    if name.endswith(("running_var", "bn.weight")):
      arrays[name] = 1 + 0.1 * np.abs(noise)
    elif name.endswith(("running_mean", "bias")):
      arrays[name] = 0.1 * noise
  return arrays


@pytest.fixture(scope="module")
def params(state):
  lazy = {k: tensors_lib.in_memory(v) for k, v in state.items()}
  return inception.from_torch(lazy)


def test_tensors_are_those_of_the_published_file():
  assert inception.torch_shapes() == torch_inception.TENSORS
  learned = sum(
    math.prod(shape)
    for name, shape in inception.torch_shapes().items()
    if "running" not in name
  )
  assert learned == torch_inception.NUM_PARAMETERS


def test_features_are_per_image(params):
  images = np.random.default_rng(1).uniform(-1, 1, (2, 139, 139, 3))
  images = images.astype(np.float32)
  out = np.asarray(inception.pooled_features(params, images))
  assert out.shape == (2, inception.NUM_FEATURES)
  assert np.isfinite(out).all() and (out >= 0).all()
  again = np.asarray(inception.pooled_features(params, images[::-1]))
  np.testing.assert_allclose(again[::-1], out, rtol=1e-3, atol=1e-4)
  assert np.abs(out[0] - out[1]).max() > 1e-2


def test_average_pooling_does_not_count_the_padding():
  x = np.random.default_rng(2).standard_normal((1, 4, 5, 2)).astype(np.float32)
  out = inception._average_pool(jnp.asarray(x))
  np.testing.assert_allclose(out[0, 0, 0], x[0, :2, :2].mean((0, 1)), rtol=1e-5)
  np.testing.assert_allclose(
    out[0, 3, 2], x[0, 2:, 1:4].mean((0, 1)), rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(
    out[0, 1, 1], x[0, :3, :3].mean((0, 1)), rtol=1e-4, atol=1e-6
  )


def test_batch_norm_is_folded(state, params):
  x = np.random.default_rng(3).uniform(-1, 1, (3, 3, 3)).astype(np.float32)
  name = "Conv2d_1a_3x3"
  raw = np.einsum("hwi,oihw->o", x, state[f"{name}.conv.weight"])
  gain, shift, mean, variance = (
    state[f"{name}.bn.{part}"]
    for part in ("weight", "bias", "running_mean", "running_var")
  )
  expected = (raw - mean) / np.sqrt(variance + 1e-3) * gain + shift
  layer = params[name]
  got = np.einsum("hwi,hwio->o", x, layer["kernel"]) + layer["bias"]
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_logits_of_the_score_have_no_bias(state, params):
  rows = np.random.default_rng(4).uniform(size=(2, 2048)).astype(np.float32)
  np.testing.assert_allclose(
    inception.logits(params, rows), rows @ state["fc.weight"].T, atol=1e-3
  )


def test_other_networks_are_refused(state, tmp_path):
  path = tmp_path / "weights.safetensors"
  rest = {k: v for k, v in state.items() if k.startswith("Conv2d_1a")}
  safetensors.numpy.save_file(rest, path)
  with pytest.raises(ValueError, match="has no tensor 'fc.weight'"):
    inception.load_weights(path)
  today = rest | {
    "fc.weight": np.ones((1000, 2048), np.float32),
    "fc.bias": np.ones(1000, np.float32),
  }
  safetensors.numpy.save_file(today, path)
  with pytest.raises(ValueError, match=r"fc.weight is \(1000, 2048\)"):
    inception.load_weights(path)
  with pytest.raises(FileNotFoundError):
    inception.load_weights(tmp_path / "absent.pth")
