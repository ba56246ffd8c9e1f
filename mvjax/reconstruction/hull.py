"""Visual hull: the voxels that (nearly) all masks contain, and rays in it.

A grid [g g g] fills a box [low, high] of the world, first axis x; voxel i has
its centre at low + (i + 0.5) * side. The box follows the hull, so a grid has
the same number of voxels on a chair as on a coin. Its sides are not equal.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mvjax import geometry

Corner = Float[Array, "3"]


def view_box(camera: geometry.Camera) -> tuple[Corner, Corner]:
  """The cube that all cameras [v] see, around the point they look at."""
  position = camera.camera_to_world[:, :3, 3]
  axis = camera.camera_to_world[:, :3, 2]
  across = jnp.eye(3)[None] - axis[:, :, None] * axis[:, None, :]
  # Parallel axes leave the point open: then it is the nearest to the origin.
  normal = across.sum(0) + 1e-4 * jnp.eye(3)
  centre = jnp.linalg.solve(normal, (across * position[:, None, :]).sum((0, 2)))
  distance = jnp.linalg.norm(position - centre[None], axis=-1)
  focal = jnp.stack(
    [camera.intrinsics[:, 0, 0], camera.intrinsics[:, 1, 1]], -1
  )
  middle = camera.intrinsics[:, :2, 2]
  half = (jnp.maximum(middle, 1 - middle) / focal).max(-1) * distance
  return centre - half.max(), centre + half.max()


def allowed_misses(views: int) -> int:
  """How many masks may leave a point of the object out.

  Generated views disagree; from six views on the others still bound it.
  """
  return 0 if views < 6 else max(1, views // 8)


def carve(
  masks: Bool[Array, "v h w"],
  camera: geometry.Camera,
  *,
  low: Corner,
  high: Corner,
  grid: int,
  misses: int,
) -> Bool[Array, "g g g"]:
  """Voxels whose centres project into all masks but `misses`.

  Masks go on beyond the image as they are at its border: an object that is
  cut off there does not end there.

  Args:
    masks: where the object is.
    camera: cameras [v].
    low: corner of the grid's box.
    high: the opposite corner.
    grid: voxels on a side.
    misses: so many masks may leave a voxel out.
  """
  points = centres(low, high, grid).reshape(-1, 3)

  def vote(count, view):
    mask, one = view
    row, column, depth = nearest_pixels(one, points, masks.shape[1:])
    return count + (mask[row, column] & (depth > 0)), None

  start = jnp.zeros(len(points), jnp.int32)
  count, _ = jax.lax.scan(vote, start, (masks, camera))
  return (count >= len(masks) - misses).reshape(grid, grid, grid)


def mean_colours(
  images: Float[Array, "v h w 3"],
  masks: Bool[Array, "v h w"],
  camera: geometry.Camera,
  *,
  low: Corner,
  high: Corner,
  grid: int,
) -> Float[Array, "g g g 3"]:
  """Mean colour of all masked pixels that a voxel's centre projects to.

  Colours are in [0, 1]; one view's worth of gray is mixed in, which keeps them
  off both ends. Nothing is known yet about what hides what.
  """
  points = centres(low, high, grid).reshape(-1, 3)

  def look(total, view):
    image, mask, one = view
    row, column, depth = nearest_pixels(one, points, masks.shape[1:])
    weight = (mask[row, column] & (depth > 0)).astype(jnp.float32)[:, None]
    new = jnp.concatenate([weight * image[row, column], weight], -1)
    return total + new, None

  start = jnp.zeros((len(points), 4))
  total, _ = jax.lax.scan(look, start, (images, masks, camera))
  mean = (total[:, :3] + 0.5) / (total[:, 3:] + 1)
  return mean.reshape(grid, grid, grid, 3)


@functools.partial(jax.jit, static_argnames=("grid", "misses"))
def build(
  masks: Bool[Array, "v h w"],
  camera: geometry.Camera,
  *,
  grid: int,
  misses: int,
) -> tuple[Bool[Array, "g g g"], Corner, Corner]:
  """The hull in a box of its own size: occupancy and the box's corners.

  Masks are widened by half a voxel, lest thin parts fall between centres.
  A hull without any voxel comes back in the box of all that is seen.
  """
  low, high = view_box(camera)
  wide = _widen(masks, -(-masks.shape[1] // (2 * grid)))
  box = {"grid": grid, "misses": misses}
  rough = carve(wide, camera, low=low, high=high, **box)
  side = (high - low) / grid
  first, last = [], []
  for axis in range(3):
    line = rough.any(tuple({0, 1, 2} - {axis}))
    first.append(jnp.argmax(line))
    last.append(grid - jnp.argmax(line[::-1]))
  some = rough.any()
  # One voxel more on each side: the next carving may find a little more.
  new_low = jnp.where(some, low + side * (jnp.stack(first) - 1), low)
  new_high = jnp.where(some, low + side * (jnp.stack(last) + 1), high)
  hull = carve(wide, camera, low=new_low, high=new_high, **box)
  return hull, new_low, new_high


def spans(
  occupancy: Bool[Array, "g g g"],
  origins: Float[Array, "n 3"],
  directions: Float[Array, "n 3"],
  *,
  low: Corner,
  high: Corner,
  block: int = 2,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
  """Distances at which rays enter and last leave the occupied voxels.

  Found on blocks of voxels, so the span is a little longer than the hull.

  Args:
    occupancy: the hull.
    origins: where rays start.
    directions: unit vectors.
    low: corner of the grid's box.
    high: the opposite corner.
    block: voxels on a side of a block; divides `g`.

  Returns:
    Near and far; for a ray that misses they are equal.
  """
  blocks = occupancy.shape[0] // block
  shape = (blocks, block) * 3
  coarse = occupancy.reshape(shape).any((1, 3, 5))
  enter, leave = box_spans(origins, directions, low=low, high=high)
  # The box's diagonal is 1.73 * blocks long: a step is shorter than a block.
  steps = 2 * blocks
  step = (leave - enter) / steps
  scale = blocks / (high - low)

  def look(index, found):
    first, last = found
    t = enter + (index + 0.5) * step
    place = (origins + t[:, None] * directions - low[None]) * scale[None]
    i, j, k = jnp.clip(place.astype(jnp.int32), 0, blocks - 1).T
    inside = coarse[i, j, k] & (step > 0)
    return (
      jnp.where(inside, jnp.minimum(first, t), first),
      jnp.where(inside, t, last),
    )

  nothing = jnp.full(len(origins), jnp.inf), jnp.full(len(origins), -jnp.inf)
  first, last = jax.lax.fori_loop(0, steps, look, nothing)
  hit = last >= first
  near = jnp.maximum(first - step, enter)
  far = jnp.minimum(last + step, leave)
  return jnp.where(hit, near, 0.0), jnp.where(hit, far, 0.0)


def box_spans(
  origins: Float[Array, "n 3"],
  directions: Float[Array, "n 3"],
  *,
  low: Corner,
  high: Corner,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
  """Distances at which rays enter and leave the box; equal for a miss."""
  tiny = jnp.abs(directions) < 1e-9
  inverse = 1 / jnp.where(tiny, 1e-9, directions)
  ends = (jnp.stack([low, high])[:, None] - origins[None]) * inverse[None]
  enter = jnp.maximum(ends.min(0).max(-1), 0.0)
  return enter, jnp.maximum(ends.max(0).min(-1), enter)


def centres(low: Corner, high: Corner, grid: int) -> Float[Array, "g g g 3"]:
  """World positions of the voxels' centres."""
  steps = (jnp.arange(grid) + 0.5) / grid
  axes = [low[i] + (high[i] - low[i]) * steps for i in range(3)]
  return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)


def nearest_pixels(
  camera: geometry.Camera, points: Float[Array, "n 3"], shape: tuple[int, int]
) -> tuple[Int[Array, " n"], Int[Array, " n"], Float[Array, " n"]]:
  """Rows and columns that points fall on in one view, and their depths.

  Points beside the image get the pixel at its border.
  """
  height, width = shape
  uv, depth = geometry.project(camera, points)
  column = jnp.clip((uv[:, 0] * width).astype(jnp.int32), 0, width - 1)
  row = jnp.clip((uv[:, 1] * height).astype(jnp.int32), 0, height - 1)
  return row, column, jnp.asarray(depth)


def _widen(masks: Bool[Array, "v h w"], radius: int) -> Bool[Array, "v h w"]:
  """Adds all pixels within a square of this radius."""
  window = (1, 2 * radius + 1, 2 * radius + 1)
  return jax.lax.reduce_window(
    masks, False, jax.lax.bitwise_or, window, (1, 1, 1), "SAME"
  )
