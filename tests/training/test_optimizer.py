"""Learning rates and what decays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mvjax.training import optimizer


def settings(**fields):
  config = base.get_config().optimizer
  with config.unlocked():
    config.update(learning_rate=1.0, warmup_steps=10, **fields)
  return config


def test_cosine_is_half_in_the_middle_and_zero_at_the_end():
  rate = optimizer.learning_rate(settings(schedule="cosine"), 110)
  rates = [float(rate(n)) for n in (0, 5, 10, 60, 110)]
  np.testing.assert_allclose(rates, [0.0, 0.5, 1.0, 0.5, 0.0], atol=1e-6)


def test_constant_stays():
  rate = optimizer.learning_rate(settings(schedule="constant"), 110)
  assert [float(rate(n)) for n in (5, 10, 1000)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("warmup", [0, 1])
def test_training_may_start_at_once(warmup):
  config = settings(schedule="constant")
  with config.unlocked():
    config.warmup_steps = warmup
  assert float(optimizer.learning_rate(config, 10)(1)) == 1.0


def test_only_kernels_decay():
  config = settings(schedule="constant", weight_decay=0.5)
  with config.unlocked():
    config.warmup_steps = 0
  params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
  made = optimizer.make_optimizer(config, 10)
  gradients = jax.tree.map(jnp.zeros_like, params)
  updates, _ = made.update(gradients, made.init(params), params)
  np.testing.assert_allclose(updates["kernel"], -0.5)
  np.testing.assert_allclose(updates["bias"], 0.0)
