"""The autoencoder's losses and its latent scale against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.training.tasks import vae


def test_edge_loss_ignores_brightness_and_sees_a_step():
  image = jnp.zeros((1, 16, 16, 3))
  assert float(vae.edge_loss(image + 0.5, image)) == pytest.approx(0.0)
  # A vertical edge of height 1: one of the w - 1 differences in each row, at
  # each of the three sizes, in one of the two directions.
  edge = image.at[:, :, 8:].set(1.0)
  expected = (1 / 15 + 1 / 7 + 1 / 3) / 6
  assert float(vae.edge_loss(edge, image)) == pytest.approx(expected)


def test_divergence_of_known_gaussians():
  zeros = jnp.zeros((2, 3))
  assert float(vae.kl_divergence(zeros, zeros)) == 0.0
  assert float(vae.kl_divergence(zeros + 2.0, zeros)) == pytest.approx(2.0)
  expected = 0.5 * (4 - 1 - np.log(4))
  value = float(vae.kl_divergence(zeros, zeros + np.log(4)))
  assert value == pytest.approx(expected)


def test_scaled_samples_have_variance_one():
  rng = np.random.default_rng(0)
  mean = rng.normal(0.7, 3.0, (50_000,)).astype(np.float32)
  log_variance = np.full_like(mean, np.log(4.0))
  scale = vae.scaling_factor([(mean, log_variance)] * 2)
  samples = mean + 2.0 * rng.normal(size=mean.shape)
  assert np.std(samples * scale) == pytest.approx(1.0, abs=0.01)
