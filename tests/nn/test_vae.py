"""The VAE against PyTorch diffusers' AutoencoderKL."""

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.models import configs
from mvjax.nn import vae


@pytest.fixture(scope="module")
def golden():
  return golden_weights.Golden("vae")


@pytest.fixture(scope="module")
def model(golden):
  module = configs.vae_from_config(golden.config["vae"])
  variables = golden_weights.fitted(
    golden.tensors(), module, jnp.zeros((1, 64, 64, 3))
  )
  return module, variables


def test_encoder_matches_diffusers(golden, model):
  module, variables = model
  scale = golden.config["tiny"]["x_scale"]
  images = golden["in.img"]
  # One batch, one compilation; the second half shows the norms' epsilon.
  batch = np.concatenate([images, images * np.float32(scale)])
  encode = jax.jit(lambda v, x: module.apply(v, x, method="encode"))
  mean, log_variance = encode(variables, batch)
  np.testing.assert_allclose(mean[:2], golden["out.mean"], atol=1e-4)
  np.testing.assert_allclose(log_variance[:2], golden["out.logvar"], atol=1e-4)
  np.testing.assert_allclose(mean[2:], golden["out.mean_tiny"], atol=3e-3)


def test_decoder_matches_diffusers(golden, model):
  module, variables = model
  scale = golden.config["tiny"]["x_scale"]
  latents = golden["in.z"]
  batch = np.concatenate([latents, latents * np.float32(scale)])
  decode = jax.jit(lambda v, z: module.apply(v, z, method="decode"))
  images = decode(variables, batch)
  np.testing.assert_allclose(images[:2], golden["out.dec_of_z"], atol=2e-4)
  np.testing.assert_allclose(images[2:], golden["out.dec_tiny"], atol=3e-3)


def test_log_variance_is_bounded_and_outputs_are_float32():
  module = vae.VAE((8, 8), 1, 2, norm_num_groups=4, dtype=jnp.bfloat16)
  images = jnp.ones((1, 8, 8, 3))
  variables = golden_weights.random_variables(module, images)
  variables["params"]["quant_conv"]["bias"][2:] = (1e4, -1e4)
  mean, log_variance = module.apply(variables, images, method="encode")
  assert mean.shape == (1, 4, 4, 2)
  assert mean.dtype == log_variance.dtype == jnp.float32
  np.testing.assert_array_equal(log_variance[..., 0], 20.0)
  np.testing.assert_array_equal(log_variance[..., 1], -30.0)
  decoded = module.apply(variables, mean, method="decode")
  assert decoded.shape == images.shape and decoded.dtype == jnp.float32


def test_groups_must_divide_the_channels():
  module = vae.VAE((12, 12), 1, 2, norm_num_groups=8)
  with pytest.raises(ValueError, match="norm_num_groups=8 .* 12 channels"):
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
