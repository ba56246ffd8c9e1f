"""Counts of traced programs against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.nn import layers
from mvjax.parallel import flops

A, B = jax.ShapeDtypeStruct((3, 5), jnp.float32), jnp.zeros((5, 7))
PRODUCT = 2 * 3 * 5 * 7


def test_a_product_is_two_flops_a_multiplication():
  assert flops.count(lambda a, b: a @ b, A, B) == (PRODUCT, PRODUCT)


def test_a_loop_counts_its_steps():
  def run(a, b):
    return jax.lax.scan(lambda x, _: (x, a @ b), 0.0, None, length=4)[1]

  assert flops.count(run, A, B) == (4 * PRODUCT, PRODUCT)


def test_loops_inside_loops_multiply():
  def run(a, b):
    def outer(_):
      return jax.lax.map(lambda _: a @ b, jnp.zeros(3))

    return jax.lax.map(outer, jnp.zeros(2))

  assert flops.count(run, A, B) == (6 * PRODUCT, PRODUCT)


def test_branches_are_alternatives():
  def run(a, b):
    return jax.lax.cond(
      a[0, 0] > 0, lambda: a @ b, lambda: a @ b + (a @ b) @ jnp.ones((7, 7))
    )

  assert flops.count(run, A, B)[0] == 2 * PRODUCT + 2 * 3 * 7 * 7


def test_a_gradient_costs_two_products_more():
  """Of a product's gradient: one for each factor."""

  def loss(a, b):
    return jnp.square(a @ b).sum()

  count = flops.count(jax.grad(loss, argnums=(0, 1)), A, B)[0]
  assert count == 3 * PRODUCT


@pytest.mark.parametrize("wrap", [lambda fun: fun, jax.checkpoint])
def test_what_is_computed_again_can_be_left_out(wrap):
  """Two products forward; backward one less than twice as many, as the first
  layer's input is no parameter. A checkpoint adds two.
  """
  x, b = jnp.ones((3, 5)), jnp.ones((5, 5))
  layer = wrap(lambda b, x: jnp.tanh(x @ b))

  def loss(b):
    return layer(b, layer(b, x)).sum()

  product = 2 * 3 * 5 * 5
  assert flops.of_gradient(loss, b) == 5 * product
  again = 0 if wrap is not jax.checkpoint else 2
  count = flops.count(jax.value_and_grad(loss), b)[0]
  assert count == (5 + again) * product


@pytest.mark.parametrize("stride, outputs", [(1, 64), (2, 16)])
def test_a_convolution_is_a_product_per_output(stride, outputs):
  x = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.float32)
  module = layers.Conv(32, stride=stride, padding=1)
  params = jax.eval_shape(module.init, jax.random.key(0), x)
  count = flops.count(module.apply, params, x)[0]
  assert count == 2 * (2 * outputs * 32) * (9 * 16)


def test_backward_of_a_strided_convolution_costs_as_much_as_forward_twice():
  x = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.float32)
  module = layers.Conv(32, stride=2, padding=1)
  params = jax.eval_shape(module.init, jax.random.key(0), x)
  forward = flops.count(module.apply, params, x)[0]
  both = jax.grad(lambda p, x: module.apply(p, x).sum(), argnums=(0, 1))
  assert flops.count(both, params, x)[0] / forward == pytest.approx(3, rel=0.3)


def test_the_count_agrees_with_the_compiler_on_products():
  a, b = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
  program = jax.jit(lambda a, b: a @ b)
  counted = program.lower(a, b).compile().cost_analysis()["flops"]
  assert flops.count(program, a, b)[0] == pytest.approx(counted, rel=0.05)
