"""The rays of all pixels of some views, and where they meet the hull."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mvjax import geometry
from mvjax.reconstruction import hull


class Rays(NamedTuple):
  """Rays through all pixels, row by row, view by view.

  Attributes:
    origins: world positions of the cameras.
    directions: unit vectors.
    near: distance at which the ray enters the hull.
    far: distance at which it last leaves it; the same for a miss.
    order: numbers of the rays, those that meet the hull first.
    count: how many do.
  """

  origins: Float[Array, "n 3"]
  directions: Float[Array, "n 3"]
  near: Float[Array, " n"]
  far: Float[Array, " n"]
  order: Int[Array, " n"]
  count: Int[Array, ""]


def make(
  camera: geometry.Camera,
  height: int,
  width: int,
  *,
  occupancy: Bool[Array, "g g g"],
  low: hull.Corner,
  high: hull.Corner,
) -> Rays:
  """Rays of cameras [v] and their spans in the hull."""

  def span(view):
    return hull.spans(occupancy, *view, low=low, high=high)

  origins, directions = (
    x.reshape(len(x), -1, 3) for x in geometry.rays(camera, height, width)
  )
  # View by view: all at once would hold every step of every ray in memory.
  near, far = jax.lax.map(span, (origins, directions))
  near, far = near.reshape(-1), far.reshape(-1)
  met = far > near
  return Rays(
    origins=origins.reshape(-1, 3),
    directions=directions.reshape(-1, 3),
    near=near,
    far=far,
    order=jnp.argsort(~met),
    count=met.sum(),
  )
