"""Parts of the diffusion loss with known values."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion
from mvjax.models import stable_diffusion
from mvjax.training.tasks import denoising


def test_dropped_captions_become_the_empty_text():
  ids, empty = jnp.ones((4000, 3), jnp.int32), jnp.zeros(3, jnp.int32)
  dropped = jax.random.bernoulli(jax.random.key(0), 0.1, (4000,))
  kept = denoising.drop_captions(ids, empty, dropped=dropped).mean(-1)
  np.testing.assert_array_equal(kept, 1.0 - dropped)
  assert set(np.unique(kept)) == {0.0, 1.0}
  assert 0.08 < 1 - float(kept.mean()) < 0.12


class Model(stable_diffusion.FlaxStableDiffusion):
  """A model with nothing but a schedule and a network."""

  def __init__(self, schedule, network):
    vars(self).update(schedule=schedule, unet=network)


@pytest.mark.parametrize("min_snr", [0.0, 5.0])
def test_loss_and_gradient_are_finite_from_pure_noise_to_none(min_snr):
  """Of a v-prediction, on a table that ends in pure noise."""
  schedule = diffusion.NoiseSchedule(
    prediction_type="v_prediction", rescale_betas_zero_snr=True
  )
  last = schedule.num_train_timesteps - 1
  assert float(schedule.level(float(last)).alpha) == 0.0
  latents = jax.random.normal(jax.random.key(0), (2, 1, 2, 2, 3))
  drawn = {"time": jnp.array([[0.0], [last]]), "noise": latents[::-1]}

  def loss(gain):
    network = types.SimpleNamespace(
      apply=lambda variables, x, *others: variables["params"] * x
    )
    errors = denoising.denoising_errors(
      Model(schedule, network),
      {"unet": gain},
      latents=latents,
      text=jnp.zeros((2, 1, 1)),
      cameras=None,
      drawn=drawn,
      min_snr=min_snr,
    )
    return errors.mean()

  value, gradient = jax.value_and_grad(loss)(0.5)
  assert np.isfinite([value, gradient]).all() and value > 0


def test_every_view_is_noisy_by_its_own_time():
  """A network that returns its input, without noise and in pure noise."""
  schedule = diffusion.NoiseSchedule(
    prediction_type="v_prediction", rescale_betas_zero_snr=True
  )
  last = schedule.num_train_timesteps - 1.0
  seen = {}

  def apply(variables, x, t, *others):
    del variables, others
    seen.update(x=x, t=t)
    return x

  clean = jax.random.normal(jax.random.key(0), (2, 2, 2, 2, 3))
  noise = jax.random.normal(jax.random.key(1), clean.shape)
  time = jnp.array([[0.0, last], [last, last]])
  denoising.denoising_errors(
    Model(schedule, types.SimpleNamespace(apply=apply)),
    {"unet": {}},
    latents=clean,
    text=jnp.zeros((2, 1, 1)),
    cameras=None,
    drawn={"time": time, "noise": noise},
  )
  np.testing.assert_array_equal(seen["t"], [0.0, last, last, last])
  np.testing.assert_array_equal(
    seen["x"][1:], noise.reshape(4, *noise.shape[2:])[1:]
  )
  np.testing.assert_allclose(seen["x"][0], clean[0, 0], atol=0.15)
