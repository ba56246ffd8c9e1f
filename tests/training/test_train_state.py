"""The state's update against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mvjax.training import state


def quadratic(params, batch, key, frozen):
  del key
  error = params["w"] - batch["target"] - frozen
  return jnp.square(error).sum(), {"error": jnp.abs(error).max()}


def test_decay_ramps_up_to_its_limit():
  decays = [float(state.ema_decay(n, 0.9)) for n in (0, 8, 1000)]
  np.testing.assert_allclose(decays, [0.1, 0.5, 0.9], rtol=1e-6)


def test_step_follows_the_gradient_and_averages():
  optimizer = optax.sgd(0.25)
  before = state.create({"w": jnp.array([1.0, 2.0])}, optimizer)
  step = state.make_step(quadratic, optimizer, seed=0, ema_limit=0.99)
  after, metrics = jax.jit(step)(before, {"target": jnp.zeros(2)}, jnp.zeros(2))
  # Half of the way to the minimum, of which the average takes 0.9.
  np.testing.assert_allclose(after.params["w"], [0.5, 1.0])
  np.testing.assert_allclose(after.ema["w"], [0.55, 1.1])
  assert int(after.step) == 1
  assert float(metrics["loss"]) == 5.0
  np.testing.assert_allclose(metrics["gradient_norm"], 20**0.5, rtol=1e-6)


def test_frozen_arrays_are_arguments():
  optimizer = optax.sgd(0.5)
  made = state.create({"w": jnp.zeros(2)}, optimizer)
  step = jax.jit(state.make_step(quadratic, optimizer, seed=0, ema_limit=0.9))
  for value in (1.0, 2.0):
    after, _ = step(made, {"target": jnp.zeros(2)}, jnp.full(2, value))
    np.testing.assert_allclose(after.params["w"], value)
  assert step._cache_size() == 1


def test_keys_differ_by_step_and_by_name():
  keys = [
    state.streams(state.step_key(3, step), "noise", "time")
    for step in (0, 1, 1)
  ]
  draws = [float(jax.random.uniform(k[n])) for k in keys for n in k]
  assert len(set(draws[:4])) == 4
  assert draws[2:4] == draws[4:]
