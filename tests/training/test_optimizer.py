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


PARAMS = {
  "unet": {
    "conv_in": {"kernel": jnp.ones((2, 2))},
    "mid_block": {"epipolar": {"proj_in": {"kernel": jnp.ones((2, 2))}}},
    "camera_embedding": {"linear_1": {"bias": jnp.ones(2)}},
  },
  "text_encoder": {"text_model": {"scale": jnp.ones(2)}},
}


def rates(**given):
  return dict.fromkeys(optimizer.GROUPS, 0.0) | given


def test_groups_are_split_and_joined():
  trained, held = optimizer.split_params(PARAMS, rates(epipolar=1.0))
  assert set(trained) == {"unet"} and set(held) == {"unet", "text_encoder"}
  assert set(trained["unet"]) == {"mid_block", "camera_embedding"}
  joined = optimizer.join_params(trained, held)
  assert jax.tree.structure(joined) == jax.tree.structure(PARAMS)


def test_nothing_to_train_and_unknown_parameters_are_named():
  with pytest.raises(ValueError, match="epipolar, text_encoder, unet are 0"):
    optimizer.split_params(PARAMS, rates(vae=1.0))
  with pytest.raises(ValueError, match="head/kernel: belongs to no group"):
    optimizer.split_params({"head": {"kernel": 1}}, rates())


def test_rates_scale_whole_updates():
  """With weight decay, whatever the gradient's size."""
  config = settings(schedule="constant", weight_decay=0.1)
  with config.unlocked():
    config.warmup_steps = 0
    config.groups = rates(epipolar=1.0, unet=0.25, text_encoder=0.5)
  made = optimizer.make_optimizer(config, 10)
  gradients = jax.tree.map(lambda x: 0.1 * x, PARAMS)
  updates, _ = made.update(gradients, made.init(PARAMS), PARAMS)
  unet, text = updates["unet"], updates["text_encoder"]["text_model"]
  whole = unet["mid_block"]["epipolar"]["proj_in"]["kernel"]
  np.testing.assert_allclose(unet["conv_in"]["kernel"], 0.25 * whole)
  bias = unet["camera_embedding"]["linear_1"]["bias"]
  np.testing.assert_allclose(text["scale"], 0.5 * bias)
  assert np.abs(whole).min() > np.abs(bias).max() > 0


def test_equal_rates_leave_the_state_as_it_was():
  """So that runs from before there were groups can be resumed."""
  config = settings(schedule="constant")
  made = [optimizer.make_optimizer(config, 10)]
  with config.unlocked():
    config.groups = rates(unet=1.0)
  made.append(optimizer.make_optimizer(config, 10))
  one, other = (jax.tree.structure(o.init(PARAMS)) for o in made)
  assert one == other
