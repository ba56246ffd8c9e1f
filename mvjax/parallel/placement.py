"""Host arrays to arrays on a mesh, where each process holds its own part."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mvjax.parallel import logical, rules


def abstract(tree: Any, shardings: Any) -> Any:
  """Shapes of a tree of arrays, or of shapes, with their places."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    tree,
    shardings,
  )


def place(tree: Any, shardings: Any) -> Any:
  """Puts arrays that every process has whole; each device takes its part."""

  def put(leaf, sharding):
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(
      whole.shape, sharding, lambda index: whole[index]
    )

  return jax.tree.map(put, tree, shardings)


def rows(mesh: Mesh, batch_size: int) -> list[int]:
  """The examples of a batch that this process's devices need, in order."""
  sharding = NamedSharding(
    mesh, logical.spec(("batch",), (batch_size,), mesh.shape)
  )
  parts = sharding.addressable_devices_indices_map((batch_size,)).values()
  return sorted({row for (part,) in parts for row in range(batch_size)[part]})


def place_batch(
  batch: Any, mesh: Mesh, *, batch_size: int, held: Sequence[int]
) -> Any:
  """Puts a batch of which this process has the rows `held`.

  Args:
    batch: arrays whose first axis is that of the rows held.
    mesh: of all processes.
    batch_size: rows of all processes together.
    held: from `rows`.
  """
  position = {row: place for place, row in enumerate(held)}

  def put(leaf, sharding):
    def part(index):
      chosen = range(batch_size)[index[0]]
      first = position[chosen[0]]
      return leaf[(slice(first, first + len(chosen)), *index[1:])]

    shape = batch_size, *leaf.shape[1:]
    return jax.make_array_from_callback(shape, sharding, part)

  whole = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      (batch_size, *leaf.shape[1:]), leaf.dtype
    ),
    batch,
  )
  return jax.tree.map(put, batch, rules.batch_shardings(whole, mesh))


def on_one_device(tree: Any, mesh: Mesh) -> Any:
  """Whole copies of a tree's arrays on the first process's first device.

  To be called by all processes, which exchange one array after the other, so
  that no other device ever holds more than one of them; they get `None`s.
  """
  if jax.process_count() == 1:
    return jax.device_put(tree, jax.local_devices()[0])
  whole = jax.jit(
    lambda leaf: leaf, out_shardings=NamedSharding(mesh, PartitionSpec())
  )

  def fetch(leaf):
    part = np.asarray(whole(leaf).addressable_data(0))
    if jax.process_index() == 0:
      return jax.device_put(part, jax.local_devices()[0])
    return None

  return jax.tree.map(fetch, tree)


def everywhere(tree: Any, mesh: Mesh) -> Any:
  """Puts a tree of arrays whole on every device."""
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def by_rows(tree: Any, mesh: Mesh) -> Any:
  """Puts arrays divided by their first axis, and numbers on every device."""

  def put(leaf):
    leaf = jnp.asarray(leaf)
    names = ("batch",) if leaf.ndim else ()
    found = logical.spec(names, leaf.shape, mesh.shape)
    return jax.device_put(leaf, NamedSharding(mesh, found))

  return jax.tree.map(put, tree)
