"""Names for the axes of arrays, and where a mesh puts them.

A network says what an axis is, not where it lies: `constrain(x, "batch")`.
Inside `mesh.use` a compiled program then keeps that axis divided between the
devices; outside, and on one device, nothing happens. Networks need to know no
more about parallelism than this module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array

# Mesh axes that may divide an axis, in this order. Examples go over all
# devices; if there are fewer examples than devices, `view` is left over, and
# divides the views of an example.
AXES: Mapping[str, tuple[str, ...]] = {
  "batch": ("data", "fsdp", "view"),
  "view": ("view",),
  "parameter": ("fsdp",),
}


def constrain(x: Array, *names: str | None) -> Array:
  """The same array, divided between devices as its named axes say.

  Args:
    x: of a traced program.
    names: keys of `AXES`, for the first axes; the others, and those named
      None, are whole on every device.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not divides(mesh):
    return x
  return jax.lax.with_sharding_constraint(x, spec(names, x.shape, mesh.shape))


def whole(x: Array) -> Array:
  """The same array, whole on every device: a parameter where it is used.

  How its gradient is divided is left to the compiler, which then sums it up in
  parts.
  """
  return _gathered(x) if divides(jax.sharding.get_abstract_mesh()) else x


@jax.custom_vjp
def _gathered(x: Array) -> Array:
  return constrain(x)


_gathered.defvjp(
  lambda x: (constrain(x), None), lambda _, gradient: (gradient,)
)


def divides(mesh: AbstractMesh) -> bool:
  """Whether there is a mesh, of devices that arrays are divided between."""
  return not mesh.empty and mesh.size > 1 and not mesh.are_all_axes_manual


def each_device(fun: Callable[[Any, Any], Any], shared: Any, rows: Any) -> Any:
  """`fun(shared, rows)`, where every device sees its own examples alone.

  So no device waits for another, whatever `fun` does with the axes: the
  partitioner moves whole maps between devices where `vmap` puts an axis before
  that of the examples. Without a mesh, or with fewer examples than devices,
  it is an ordinary call.

  Args:
    fun: to arrays whose first axis is the examples.
    shared: what every device has whole.
    rows: arrays whose first axis is the examples; single numbers are shared.
  """
  mesh = jax.sharding.get_abstract_mesh()
  counts = {leaf.shape[0] for leaf in jax.tree.leaves(rows) if leaf.ndim}
  if not divides(mesh) or any(count % mesh.size for count in counts):
    return fun(shared, rows)
  examples = PartitionSpec(tuple(mesh.axis_names))
  return jax.shard_map(
    fun,
    in_specs=(
      PartitionSpec(),
      jax.tree.map(
        lambda leaf: examples if leaf.ndim else PartitionSpec(), rows
      ),
    ),
    out_specs=examples,
    # What is the same on all devices, such as zeros, meets what is not.
    check_vma=False,
  )(shared, rows)


def spec(
  names: Sequence[str | None], shape: Sequence[int], sizes: Mapping[str, int]
) -> PartitionSpec:
  """Where the axes of an array lie.

  Each mesh axis goes to the first axis of the array that may have it and that
  it divides; where there is none, the array is repeated along it.

  Args:
    names: keys of `AXES` or None, for the first axes of the array.
    shape: of the array.
    sizes: of the mesh axes; those of size 1 are left out.

  Raises:
    ValueError: an unknown name, or more names than axes.
  """
  unknown = {name for name in names if name is not None} - AXES.keys()
  if unknown or len(names) > len(shape):
    raise ValueError(
      f"axes {tuple(names)} for an array of {tuple(shape)}: give each axis "
      f"None or one of {', '.join(AXES)}"
    )
  free = {axis for axis, size in sizes.items() if size > 1}
  parts = []
  for name, length in zip(names, shape, strict=False):
    taken = []
    for axis in AXES.get(name, ()):
      if axis in free and length % sizes[axis] == 0:
        taken.append(axis)
        free.remove(axis)
        length //= sizes[axis]
    parts.append(tuple(taken) if len(taken) > 1 else (taken or [None])[0])
  return PartitionSpec(*parts)
