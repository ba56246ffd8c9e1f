"""Which mesh axis divides which axis of an array."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from mvjax.parallel import logical

SIZES = {"data": 4, "fsdp": 2, "view": 2}


@pytest.mark.parametrize(
  "shape, expected",
  [
    # Enough examples for all devices: views stay together.
    ((16, 4, 3), P(("data", "fsdp", "view"), None)),
    # Fewer: the views of an example are divided.
    ((8, 4, 3), P(("data", "fsdp"), "view")),
    # An odd number of views is repeated instead.
    ((8, 3, 3), P(("data", "fsdp"), None)),
    # What does not divide is left to the axes after it.
    ((6, 4, 3), P(("fsdp",), "view")),
    ((1, 1, 3), P(None, None)),
  ],
  ids=str,
)
def test_examples_first_then_views(shape, expected):
  found = logical.spec(("batch", "view"), shape, SIZES)
  assert [logical_axes(part) for part in found] == [
    logical_axes(part) for part in expected
  ]


def logical_axes(part):
  return () if part is None else (part,) if isinstance(part, str) else part


def test_axes_of_size_one_are_left_out():
  sizes = {"data": 1, "fsdp": 4, "view": 1}
  assert logical.spec(("batch",), (8,), sizes) == P("fsdp")


def test_unknown_names_and_too_many_are_refused():
  for names in (("views",), ("batch", "view", None)):
    with pytest.raises(ValueError, match="batch, view, parameter"):
      logical.spec(names, (4, 4), SIZES)


def constraints(fun, x, sizes):
  mesh = AbstractMesh(
    tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * 3
  )
  with jax.sharding.use_abstract_mesh(mesh):
    return str(jax.make_jaxpr(fun)(x)).count("sharding_constraint")


def test_nothing_happens_without_a_mesh_or_on_one_device():
  x = jnp.ones((8, 4))

  def fun(x):
    return logical.whole(logical.constrain(x, "batch")).sum()

  assert "constraint" not in str(jax.make_jaxpr(jax.grad(fun))(x))
  assert constraints(fun, x, dict.fromkeys(SIZES, 1)) == 0
  assert constraints(fun, x, SIZES) == 2


def test_gradients_of_gathered_parameters_are_not_gathered():
  x = jnp.ones((8, 4))
  assert constraints(jax.grad(lambda x: logical.constrain(x).sum()), x, SIZES)
  forward = constraints(lambda x: logical.whole(x).sum(), x, SIZES)
  both = constraints(jax.grad(lambda x: logical.whole(x).sum()), x, SIZES)
  assert forward == both == 1


@pytest.mark.parametrize("count, mapped", [(32, True), (8, False)])
def test_examples_that_fill_the_devices_are_mapped_over_them(count, mapped):
  mesh = AbstractMesh(
    tuple(SIZES.values()), tuple(SIZES), axis_types=(AxisType.Auto,) * 3
  )

  def run(rows):
    return logical.each_device(lambda w, x: w * x, jnp.float32(2), rows)

  with jax.sharding.use_abstract_mesh(mesh):
    program = jax.make_jaxpr(run)(jnp.ones((count, 4)))
  names = {equation.primitive.name for equation in program.eqns}
  assert ("shard_map" in names) == mapped
