"""Field of view and distance of views whose model does not tell them.

Some models take only the direction of each camera. Up to the size of the
object, views of cameras that look at one point depend on the field of view
alone: the distance is then chosen so that what all views see is the unit ball.
The right field of view is the one at which the masks agree best: at a wrong one
their visual hull loses parts that the masks show.

Few views hardly tell: of four views from one height the agreement has a flat
top, and its best place lies above the truth as a rule. So the search also says
between which fields of view the masks agree nearly as well.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mvjax import geometry
from mvjax.reconstruction import hull

CANDIDATES = (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 60.0, 70.0)
"""Fields of view in degrees."""

VERSION = 2
"""Raise it when the search finds something else."""

# Agreements this close to the best are as good, for masks one pixel wide; the
# borders of larger masks are a smaller share of them. True lenses of planted
# shapes lay within it, where half of it lost some.
_NEARLY = 0.64
# Enough to tell candidates apart, and quick.
_MASK_SIZE = 64
_GRID = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """Result of a search.

  Attributes:
    camera: the cameras with the best lens, at its distance.
    field_of_view: degrees.
    near_best: degrees between which the masks agree nearly as well.
    distance: of the cameras from the point they look at, on average.
    agreement: for each candidate, the share of the masks that their hull
      explains.
  """

  camera: geometry.Camera
  field_of_view: float
  near_best: tuple[float, float]
  distance: float
  agreement: dict[float, float]


def search(masks: Bool[np.ndarray, "v h w"], camera: geometry.Camera) -> Found:
  """The field of view at which masks agree best; empty ones have no say.

  Args:
    masks: where the object is.
    camera: cameras [v]: their axes are believed, their lenses are not, nor
      their distances but for the proportions between them.

  Raises:
    ValueError: fewer than two masks show anything, or they have no point in
      common at any candidate.
  """
  small = _shrink(masks)
  shown = small.any((1, 2))
  if shown.sum() < 2:
    raise ValueError(
      f"field of view not found: {shown.sum()} of {len(masks)} masks show an "
      "object, two are needed; make the views again"
    )
  agreement = _agreements(
    jnp.asarray(small[shown]),
    jax.tree.map(
      lambda *x: jnp.stack(x)[:, shown],
      *[with_field_of_view(camera, angle) for angle in CANDIDATES],
    ),
  )
  agreement = np.asarray(agreement)
  if not agreement.any():
    raise ValueError(
      "field of view not found: the masks have no point in common at any; the "
      "views are of different objects or their directions are wrong"
    )
  angle = _peak(np.asarray(CANDIDATES), agreement)
  low, high = _near_best(
    np.asarray(CANDIDATES), agreement, tolerance=_NEARLY / small.shape[1]
  )
  best = with_field_of_view(camera, angle)
  position = best.camera_to_world[:, :3, 3]
  return Found(
    camera=best,
    field_of_view=angle,
    near_best=(min(low, angle), max(high, angle)),
    distance=float(np.linalg.norm(position, axis=-1).mean()),
    agreement={
      angle: round(float(share), 4)
      for angle, share in zip(CANDIDATES, agreement, strict=True)
    },
  )


def with_field_of_view(
  camera: geometry.Camera, angle: float
) -> geometry.Camera:
  """Cameras with another lens (degrees) that see the unit ball at the origin.

  They look at it from where they did; the mean distance is that at which the
  unit ball touches the border of the image.
  """
  low, high = hull.view_box(camera)
  pose = np.array(camera.camera_to_world, np.float32)
  position = pose[:, :3, 3] - np.asarray(low + high) / 2
  mean = np.linalg.norm(position, axis=-1).mean()
  half = math.radians(angle) / 2
  pose[:, :3, 3] = position / (mean * math.sin(half))
  lens = geometry.pinhole(np.float32(2 * half), xnp=np)
  return geometry.Camera(
    camera_to_world=pose,
    intrinsics=np.tile(lens.astype(np.float32), (len(pose), 1, 1)),
  )


@jax.jit
def _agreements(
  masks: Bool[Array, "v h w"], cameras: Any
) -> Float[Array, " c"]:
  """Share of the masks that rays into their hull explain, per camera set."""
  return jax.lax.map(functools.partial(_agreement, masks), cameras)


def _agreement(masks, camera):
  low, high = hull.view_box(camera)
  occupancy = hull.carve(
    masks, camera, low=low, high=high, grid=_GRID, misses=0
  )
  origins, directions = geometry.rays(camera, *masks.shape[1:])
  near, far = jax.lax.map(
    lambda view: hull.spans(occupancy, *view, low=low, high=high, block=1),
    (origins.reshape(len(masks), -1, 3), directions.reshape(len(masks), -1, 3)),
  )
  met = (far > near).reshape(masks.shape)
  share = (met & masks).sum((1, 2)) / jnp.maximum(masks.sum((1, 2)), 1)
  return share.mean()


def _shrink(masks: Bool[np.ndarray, "v h w"]) -> Bool[np.ndarray, "v i j"]:
  """Masks of about `_MASK_SIZE` pixels; a block is set if half of it is."""
  factor = max(1, masks.shape[1] // _MASK_SIZE)
  size = masks.shape[1] // factor
  cut = masks[:, : size * factor, : size * factor]
  blocks = cut.reshape(len(masks), size, factor, size, factor)
  return blocks.mean((2, 4)) >= 0.5


def _peak(
  angles: Float[np.ndarray, " c"], values: Float[np.ndarray, " c"]
) -> float:
  """Top of the parabola through the best candidate and its neighbours."""
  middle = int(np.clip(values.argmax(), 1, len(values) - 2))
  near = slice(middle - 1, middle + 2)
  square, slope, _ = np.polyfit(angles[near], values[near], 2)
  if square >= 0:
    return float(angles[values.argmax()])
  top = -slope / (2 * square)
  return float(np.clip(top, angles[middle - 1], angles[middle + 1]))


def _near_best(
  angles: Float[np.ndarray, " c"],
  values: Float[np.ndarray, " c"],
  *,
  tolerance: float,
) -> tuple[float, float]:
  """Where lines through the values fall below the best by the tolerance.

  The ends of the candidates where they never do.
  """
  bar = values.max() - tolerance
  good = np.flatnonzero(values >= bar)
  ends = []
  for end, beyond in ((good[0], good[0] - 1), (good[-1], good[-1] + 1)):
    if not 0 <= beyond < len(angles):
      ends.append(float(angles[end]))
      continue
    share = (values[end] - bar) / (values[end] - values[beyond])
    ends.append(float(angles[end] + share * (angles[beyond] - angles[end])))
  return ends[0], ends[1]
