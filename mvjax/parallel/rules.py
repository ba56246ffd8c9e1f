"""Where parameters, states and batches lie on a mesh: two strict tables.

The optimiser's state and the averages contain the parameters' paths and
shapes, and so lie where their parameters do.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from mvjax.parallel import logical

AnyMesh = Mesh | AbstractMesh

# Which axes of a parameter `fsdp` may divide, the best first, by the end of
# its path. One that it does not divide is left for the next, and a parameter
# without any is whole on every device.
PARAMETERS: Mapping[str, tuple[int, ...]] = {
  # [.. in out]: output channels, else input channels.
  r"kernel": (-1, -2),
  # [rows width]
  r"embedding": (-1, -2),
  # A few numbers for each channel: not worth a transfer.
  r"bias|scale": (),
  # The tokens of the empty text, beside the frozen networks.
  r"empty": (),
}

# Names of the first axes of a batch's arrays, by path.
BATCH: Mapping[str, tuple[str, ...]] = {
  r"image|posterior|camera/.*": ("batch", "view"),
  r"ids|text": ("batch",),
}


def parameter_spec(
  path: str, shape: tuple[int, ...], mesh: AnyMesh
) -> PartitionSpec:
  """Where a parameter, or a state of its shape, lies.

  Args:
    path: of the leaf, joined by '/'; any prefix.
    shape: of the leaf; a single number is on every device.
    mesh: with an axis `fsdp`.

  Raises:
    ValueError: no rule matches; the message names the parameter.
  """
  if not shape:
    return PartitionSpec()
  axes = _match(PARAMETERS, path.rpartition("/")[2], path=path)
  for axis in axes:
    names = [None] * len(shape)
    names[axis] = "parameter"
    found = logical.spec(names, shape, mesh.shape)
    if any(found):
      return found
  return PartitionSpec()


def batch_spec(
  path: str, shape: tuple[int, ...], mesh: AnyMesh
) -> PartitionSpec:
  """Where an array of a batch lies: examples, then views, over the devices.

  Raises:
    ValueError: no rule matches; the message names the array.
  """
  return logical.spec(_match(BATCH, path, path=path), shape, mesh.shape)


def parameter_shardings(tree: Any, mesh: AnyMesh) -> Any:
  """Shardings of parameters, or of a whole train state; abstract or not."""
  return _shardings(parameter_spec, tree, mesh)


def constrain_parameters(tree: Any) -> Any:
  """Gradients in a traced program, each where its parameter lies."""
  mesh = jax.sharding.get_abstract_mesh()
  if not logical.divides(mesh):
    return tree
  return jax.tree.map(
    lambda leaf, place: jax.lax.with_sharding_constraint(leaf, place.spec),
    tree,
    parameter_shardings(tree, mesh),
  )


def batch_shardings(tree: Any, mesh: AnyMesh) -> Any:
  """Shardings of a batch with its global shapes; abstract or not."""
  return _shardings(batch_spec, tree, mesh)


def _shardings(spec_fn: Any, tree: Any, mesh: AnyMesh) -> Any:
  def place(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return NamedSharding(mesh, spec_fn(name, leaf.shape, mesh))

  return jax.tree_util.tree_map_with_path(place, tree)


def _match(table: Mapping[str, Any], name: str, *, path: str) -> Any:
  """The value of the first pattern that matches all of the name."""
  for pattern, value in table.items():
    if re.fullmatch(pattern, name):
      return value
  raise ValueError(
    f"{path}: no rule says where it lies on the mesh; add one to "
    "mvjax/parallel/rules.py"
  )
