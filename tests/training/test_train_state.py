"""The state's update against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mvjax.training import state


def squares(params, batch, drawn, frozen):
  error = params["w"][None] - batch["target"] - frozen + drawn["noise"]
  value = jnp.square(error).sum(-1).mean()
  return value, {"error": jnp.abs(error).mean()}


def loss(scale):
  """Of targets [b d], with noise of the given size."""

  def draw(key, batch):
    shape = batch["target"].shape
    return {"noise": scale * jax.random.normal(key, shape)}

  return state.Loss(draw=draw, value=squares)


quadratic = loss(0.0)


def test_decay_ramps_up_to_its_limit():
  decays = [float(state.ema_decay(n, 0.9)) for n in (0, 8, 1000)]
  np.testing.assert_allclose(decays, [0.1, 0.5, 0.9], rtol=1e-6)


def test_step_follows_the_gradient_and_averages():
  optimizer = optax.sgd(0.25)
  before = state.create({"w": jnp.array([1.0, 2.0])}, optimizer)
  step = state.make_step(
    quadratic,
    optimizer,
    seed=0,
    ema_limit=0.99,
    learning_rate=lambda step: 0.25 + step,
  )
  after, metrics = jax.jit(step)(
    before, {"target": jnp.zeros((1, 2))}, jnp.zeros((1, 2))
  )
  # Half of the way to the minimum, of which the average takes 0.9.
  np.testing.assert_allclose(after.params["w"], [0.5, 1.0])
  np.testing.assert_allclose(after.ema["w"], [0.55, 1.1])
  assert int(after.step) == 1
  assert float(metrics["loss"]) == 5.0
  assert float(metrics["learning_rate"]) == 0.25
  np.testing.assert_allclose(metrics["gradient_norm"], 20**0.5, rtol=1e-6)


def test_frozen_arrays_are_arguments():
  optimizer = optax.sgd(0.5)
  made = state.create({"w": jnp.zeros(2)}, optimizer)
  step = jax.jit(state.make_step(quadratic, optimizer, seed=0, ema_limit=0.9))
  for value in (1.0, 2.0):
    after, _ = step(
      made, {"target": jnp.zeros((1, 2))}, jnp.full((1, 2), value)
    )
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


def test_parts_of_a_batch_add_up_to_it():
  """Same noise in every row, however many parts there are."""
  rng = np.random.default_rng(0)
  batch = {"target": jnp.asarray(rng.normal(size=(12, 2)), jnp.float32)}
  optimizer = optax.sgd(0.1)
  made = state.create({"w": jnp.zeros(2)}, optimizer)
  results = [
    jax.jit(
      state.make_step(loss(1.0), optimizer, seed=3, ema_limit=0.9, parts=parts)
    )(made, batch, jnp.zeros((1, 2)))
    for parts in (1, 2, 6, 12)
  ]
  for found in results[1:]:
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
      found,
      results[0],
    )


def test_parts_take_rows_of_every_device():
  """Rows that lie together on a device are dealt out to the parts."""
  dealt = state.in_parts(jnp.arange(8), 2)
  np.testing.assert_array_equal(dealt, [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_validation_noise_is_that_of_its_batch_and_not_of_training():
  validate = state.make_validation(
    state.Loss(draw=loss(1.0).draw, value=squares), seed=0
  )
  batch, target = {"target": jnp.zeros((3, 2))}, jnp.zeros((1, 2))
  params = {"w": jnp.zeros(2)}
  first, again, other = (
    float(validate(params, batch, target, index)["loss"]) for index in (0, 0, 1)
  )
  train, _ = loss(1.0)(params, batch, state.step_key(0, 0), target)
  assert first == again
  assert len({first, other, float(train)}) == 3
