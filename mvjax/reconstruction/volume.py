"""Radiance on voxels, and what rays see of it.

Density and colour live on the grid of the visual hull (see `hull`) and depend
on nothing else: a colour that changed with the direction of view would explain
away what views disagree about. Outside the hull space is empty.

What is stored is interpolated before softplus makes it a density and sigmoid a
colour, so that surfaces can be sharper than the grid (Sun et al. 2022, DVGO).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mvjax.reconstruction import hull

EMPTY = -12.0
"""Stored density of empty space: softplus makes it 6e-6."""

# Optical thickness of a voxel whose density is 1.
_OPACITY = 0.35


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
  """A radiance field in a box of the world.

  Attributes:
    values: [g g g 4] raw density and three raw colours of the voxels' centres.
    occupancy: [g g g] bool, the voxels that need not be empty.
    low: [3] corner of the box.
    high: [3] the opposite corner.
  """

  # Not array types: jax rebuilds pytrees with leaves that are not arrays.
  values: Any
  occupancy: Any
  low: Any
  high: Any


class Seen(NamedTuple):
  """What rays see.

  Attributes:
    colour: in [0, 1], on black.
    alpha: share of the light that the field stops.
    distance: sum of distances times the light stopped there.
  """

  colour: Float[Array, "n 3"]
  alpha: Float[Array, " n"]
  distance: Float[Array, " n"]


def interpolate(
  field: Field, points: Float[Array, "n 3"]
) -> Float[Array, "n 4"]:
  """Raw values at world points, trilinear; constant outside the box."""
  grid = field.values.shape[0]
  scale = grid / (field.high - field.low)
  place = (points - field.low[None]) * scale[None] - 0.5
  place = jnp.clip(place, 0.0, grid - 1.0)
  start = jnp.clip(jnp.floor(place), 0, grid - 2)
  part = place - start
  i, j, k = start.astype(jnp.int32).T
  first = (i * grid + j) * grid + k
  table = jnp.asarray(field.values).reshape(-1, 4)
  total = jnp.zeros((len(points), 4))
  for corner in ((a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)):
    here = jnp.array(corner)[None]
    weight = jnp.prod(jnp.where(here == 1, part, 1 - part), -1)
    offset = (corner[0] * grid + corner[1]) * grid + corner[2]
    rows = table.at[first + offset].get(mode="promise_in_bounds")
    total += weight[:, None] * rows
  return total


def thickness(raw_density: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Optical thickness per side of a voxel."""
  return _OPACITY * jax.nn.softplus(raw_density)


def march(
  field: Field,
  origins: Float[Array, "n 3"],
  directions: Float[Array, "n 3"],
  *,
  near: Float[Array, " n"],
  far: Float[Array, " n"],
  samples: int,
  jitter: Float[Array, "n s"] | None = None,
) -> Seen:
  """Emission and absorption along unit rays between two distances.

  Args:
    field: what is seen.
    origins: where rays start.
    directions: unit vectors.
    near: where the field begins on each ray.
    far: where it ends.
    samples: per ray, evenly spread.
    jitter: place of each sample in its interval, in [0, 1]; None: the middle.
  """
  count = len(origins)
  place = jnp.full((count, samples), 0.5) if jitter is None else jitter
  step = (far - near)[:, None] / samples
  distance = near[:, None] + (jnp.arange(samples)[None] + place) * step
  points = origins[:, None] + distance[..., None] * directions[:, None]
  raw = interpolate(field, points.reshape(-1, 3)).reshape(count, samples, 4)
  side = (field.high - field.low).mean() / field.values.shape[0]
  stopped = thickness(raw[..., 0]) * step / side
  before = jnp.cumsum(stopped, -1) - stopped
  weight = jnp.exp(-before) * -jnp.expm1(-stopped)
  return Seen(
    colour=(weight[..., None] * jax.nn.sigmoid(raw[..., 1:])).sum(1),
    alpha=weight.sum(-1),
    distance=(weight * distance).sum(-1),
  )


@jax.jit
def refine(field: Field) -> Field:
  """The same field on a grid of twice as many voxels on a side.

  Densities keep their unit, the thickness of an old voxel.
  """
  grid = 2 * field.occupancy.shape[0]
  points = hull.centres(field.low, field.high, grid).reshape(-1, 3)
  occupancy = field.occupancy
  for axis in range(3):
    occupancy = jnp.repeat(occupancy, 2, axis)
  return Field(
    values=interpolate(field, points).reshape(grid, grid, grid, 4),
    occupancy=occupancy,
    low=field.low,
    high=field.high,
  )


def solidity(field: Field) -> Float[Array, "g g g"]:
  """Share of the light that each voxel stops, in [0, 1]."""
  stopped = -jnp.expm1(-thickness(field.values[..., 0]))
  return jnp.where(field.occupancy, stopped, 0.0)


def neighbours_differ(
  field: Field,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """How rough the field is.

  Returns:
    Mean square of the difference of neighbours' raw colours, and mean
    magnitude of the difference of their densities; sums over the three axes.
  """
  density = jax.nn.softplus(field.values[..., 0])
  colour, edges = jnp.zeros(()), jnp.zeros(())
  for axis in range(3):
    colour += (jnp.diff(field.values[..., 1:], axis=axis) ** 2).mean()
    edges += jnp.abs(jnp.diff(density, axis=axis)).mean()
  return colour, edges
