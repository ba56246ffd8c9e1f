"""The mesh of devices: axes `data`, `fsdp` and `view`, slowest first.

`data` and `fsdp` divide the examples of a batch; `fsdp` also divides the
parameters and the optimiser's state. `view` divides the views of an example
where there are fewer examples than devices (`logical`).

The config's `mesh` section gives the sizes within a slice, that is a set of
devices with fast links, and those over the slices (`dcn_*`), between which
links are slow. A slice is what the devices' `slice_index` says: a TPU slice,
or the GPUs of a host.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "view")
# Views need what the others see in every block: too much for slow links.
_SLICE_AXES = ("data", "fsdp")


def problems(section: ml_collections.ConfigDict) -> list[str]:
  """What is wrong with the sizes whatever the devices, by field."""
  found = []
  for fields in _fields():
    found += [
      f"mesh.{field}={section[field]}: a size is positive, or -1 for what is "
      "left"
      for field in fields
      if section[field] < 1 and section[field] != -1
    ]
    left = [f"mesh.{field}=-1" for field in fields if section[field] == -1]
    if len(left) > 1:
      found.append(
        f"{' and '.join(left)}: only one may be -1, give the others a size"
      )
  return found


def grid(
  section: ml_collections.ConfigDict, devices: Sequence[Any]
) -> np.ndarray:
  """The devices `[data, fsdp, view]`, neighbours on fast links.

  Args:
    section: the config's `mesh`: sizes `data`, `fsdp` and `view` within a
      slice, and `dcn_data` and `dcn_fsdp` over the slices. One of each group
      may be -1 and is then what is left.
    devices: as `jax.devices()` has them.

  Raises:
    ValueError: sizes that do not make up the devices, by field.
  """
  if found := problems(section):
    raise ValueError("; ".join(found))
  slices = {getattr(device, "slice_index", None) or 0 for device in devices}
  within, over = _fields()
  fast = _sizes(section, within, len(devices) // len(slices), "devices a slice")
  slow = _sizes(section, over, len(slices), "slices")
  if len(slices) == 1:
    return mesh_utils.create_device_mesh(
      fast, devices, allow_split_physical_axes=True
    )
  return mesh_utils.create_hybrid_device_mesh(
    fast, (*slow, 1), devices, allow_split_physical_axes=True
  )


def make(
  section: ml_collections.ConfigDict, devices: Sequence[Any] | None = None
) -> Mesh:
  """The mesh of a config over all devices of all processes, or some.

  Raises:
    ValueError: see `grid`.
  """
  devices = jax.devices() if devices is None else devices
  return Mesh(grid(section, devices), AXES, axis_types=(AxisType.Auto,) * 3)


def single() -> Mesh:
  """A mesh of one device of this process."""
  devices = np.asarray(jax.local_devices()[:1]).reshape(1, 1, 1)
  return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * 3)


def for_samples(
  count: int, num_views: int, devices: Sequence[Any] | None = None
) -> Mesh:
  """A mesh of this process's devices for samples, which need no `fsdp`.

  Every device gets samples of its own; if there are fewer samples than
  devices, their views are divided too. Some devices may have nothing to do.

  Args:
    count: samples that are wanted.
    num_views: of a sample.
    devices: of this process; all of them if not given.
  """
  devices = jax.local_devices() if devices is None else devices
  data = max(n for n in _divisors(len(devices)) if n <= count)
  spare = len(devices) // data
  view = max(n for n in _divisors(spare) if num_views % n == 0)
  used = mesh_utils.create_device_mesh(
    (data, 1, view), devices[: data * view], allow_split_physical_axes=True
  )
  return Mesh(used, AXES, axis_types=(AxisType.Auto,) * 3)


def use(mesh: Mesh) -> Any:
  """Context in which traced programs see the mesh (`logical.constrain`).

  Arrays made inside stay where they would be outside.
  """
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def _divisors(number: int) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]


def _fields() -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Fields of the sizes within a slice and over slices."""
  return AXES, tuple(f"dcn_{axis}" for axis in _SLICE_AXES)


def _sizes(
  section: ml_collections.ConfigDict,
  fields: Sequence[str],
  count: int,
  what: str,
) -> tuple[int, ...]:
  """The sizes with -1 replaced; their product is `count`."""
  given = {field: int(section[field]) for field in fields}
  known = math.prod(size for size in given.values() if size != -1)
  sizes = tuple(
    count // known if size == -1 else size for size in given.values()
  )
  if math.prod(sizes) != count:
    found = ", ".join(f"mesh.{field}={size}" for field, size in given.items())
    raise ValueError(
      f"{found} do not make up {count} {what}; change them, or set one to -1"
    )
  return sizes
