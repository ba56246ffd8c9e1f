"""Parts of the diffusion loss with known values."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion
from mvjax.models import stable_diffusion
from mvjax.training.tasks import denoising


def test_times_cover_the_schedule_evenly_in_a_batch():
  times = np.asarray(denoising.draw_times(jax.random.key(1), 10, length=1000))
  np.testing.assert_array_equal(times, np.floor(times))
  np.testing.assert_array_equal(np.sort(times // 100), np.arange(10))


def test_a_time_is_uniform():
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = jax.vmap(lambda key: denoising.draw_times(key, 3, length=10)[1])
  counts = np.bincount(np.asarray(draw(keys), int), minlength=10)
  assert counts.min() > 320 and counts.max() < 480


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
  drawn = {"time": jnp.array([0.0, last]), "noise": latents[::-1]}

  def loss(gain):
    network = types.SimpleNamespace(
      apply=lambda variables, x, *others: variables["params"] * x
    )
    return denoising.denoising_loss(
      Model(schedule, network),
      {"unet": gain},
      latents=latents,
      text=jnp.zeros((2, 1, 1)),
      cameras=None,
      drawn=drawn,
      min_snr=min_snr,
    )

  value, gradient = jax.value_and_grad(loss)(0.5)
  assert np.isfinite([value, gradient]).all() and value > 0
