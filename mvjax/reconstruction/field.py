"""A radiance field fitted to views of one object, and views of the field.

    field = fit(images, alpha, camera, Settings())
    rgb, alpha, depth = render(field, other_camera, 128)

Images are in [-1, 1]. The fit is one jitted program: the hull, then Adam on
small batches of rays in one scan. It compiles once for a number of views, an
image size and settings; renders once for a number of views and a size.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from mvjax import geometry
from mvjax.reconstruction import hull, rays, volume
from mvjax.views import masks

Field = volume.Field

VERSION = 1
"""Of hull, fit and render. Raise it when their results change: what was kept
of other versions is then not mistaken for theirs."""

# Stored density of the hull before the fit. Fog that every ray passes lets all
# voxels learn; an opaque start ends 4 dB lower on unseen views.
_FOG = -1.0
# Roughness is as dear as many batches of rays: it is looked at now and then.
_ROUGHNESS_EVERY = 10
_RAYS_AT_A_TIME = 4096
_RENDER_SAMPLES = 48
# On a side: the surface is taken from twice as many, which fill 2 GiB.
_MOST_VOXELS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a field is fitted; the defaults are for views of 128 pixels.

  Attributes:
    grid: voxels on a side of the hull's box; even.
    samples: points on each ray.
    rays: rays of a step.
    steps: steps of Adam.
    learning_rate: of the first and the last step, exponential between them.
    mask_weight: of the squared error of coverage; that of colours weighs 1.
    colour_roughness: weight of squared differences of neighbours' raw colours.
    density_roughness: weight of differences of neighbours' densities.
    seed: of rays and sample places.
  """

  grid: int = 64
  samples: int = 24
  rays: int = 1024
  steps: int = 250
  learning_rate: tuple[float, float] = (0.2, 0.02)
  mask_weight: float = 0.1
  colour_roughness: float = 2e-3
  density_roughness: float = 2e-4
  seed: int = 0

  def __post_init__(self):
    if not 8 <= self.grid <= _MOST_VOXELS or self.grid % 2:
      raise ValueError(
        f"grid={self.grid}: must be an even number from 8 to {_MOST_VOXELS}"
      )
    if min(self.samples, self.rays, self.steps) < 1:
      raise ValueError(f"samples, rays and steps must be positive; got {self}")


class EmptyHullError(ValueError):
  """The masks have no point in common."""


class Rendered(NamedTuple):
  """What cameras see of a field.

  Attributes:
    rgb: in [-1, 1], on the background.
    alpha: coverage in [0, 1].
    depth: mean depth along the camera's z axis; 0 where alpha is below 0.5.
  """

  rgb: Float[Array, "v h w 3"]
  alpha: Float[Array, "v h w"]
  depth: Float[Array, "v h w"]


def fit(
  images: Float[Any, "v h w 3"],
  alpha: Float[Any, "v h w"] | None,
  camera: geometry.Camera,
  settings: Settings,
  *,
  background: Float[Any, "v 3"] | None = None,
) -> Field:
  """Fits a field to views of one object.

  Args:
    images: in [-1, 1], on their background.
    alpha: coverage in [0, 1]; None: found from the images, and with it the
      background.
    camera: cameras [v].
    settings: see there.
    background: colour behind the object in each view, in [-1, 1]; None: white.

  Raises:
    EmptyHullError: the masks have no point in common.
    ValueError: one line: a wrong camera, or an empty view.
  """
  geometry.check_camera(camera)
  if alpha is None:
    found, background = masks.find_masks(images)
    alpha = found.astype(np.float32)
  if background is None:
    background = np.ones((len(images), 3), np.float32)
  arrays = (images, alpha, background, camera)
  field = _fit(
    *jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), arrays),
    settings=settings,
  )
  if not field.occupancy.any():
    raise EmptyHullError(
      f"the masks of the {len(images)} views have no point in common; do views "
      "and cameras belong together? Try search_cameras"
    )
  return field


def render(
  field: Field,
  camera: geometry.Camera,
  size: int,
  *,
  background: Float[Any, "v 3"] | None = None,
) -> Rendered:
  """Square views of `size` pixels at cameras [v]; see `Rendered`.

  Args:
    field: what is seen.
    camera: cameras [v].
    size: pixels on a side.
    background: colour behind the object in each view, in [-1, 1]; None: white.
  """
  if background is None:
    background = np.ones((len(camera.camera_to_world), 3), np.float32)
  return _render(field, camera, background, size=size)


@functools.partial(jax.jit, static_argnames="settings")
def _fit(images, alpha, background, camera, *, settings: Settings) -> Field:
  inside = alpha > 0.5
  occupancy, low, high = hull.build(
    inside,
    camera,
    grid=settings.grid,
    misses=hull.allowed_misses(len(images)),
  )
  pictures = (images + 1) / 2
  box = {"occupancy": occupancy, "low": low, "high": high}
  every = rays.make(camera, *images.shape[1:3], **box)
  target = {
    "colour": pictures.reshape(-1, 3),
    "alpha": alpha.reshape(-1),
    "background": jnp.repeat(
      (background + 1) / 2, images.shape[1] * images.shape[2], 0
    ),
  }
  mean = hull.mean_colours(
    pictures, inside, camera, low=low, high=high, grid=settings.grid
  )
  density = jnp.where(occupancy, _FOG, volume.EMPTY)
  values = jnp.concatenate(
    [density[..., None], jax.scipy.special.logit(mean)], -1
  )
  first, last = settings.learning_rate
  optimizer = optax.adam(
    optax.exponential_decay(first, settings.steps, last / first), b2=0.99
  )

  def misfit(values, pick, jitter):
    seen = volume.march(
      Field(values=values, **box),
      every.origins[pick],
      every.directions[pick],
      near=every.near[pick],
      far=every.far[pick],
      samples=settings.samples,
      jitter=jitter,
    )
    behind = (1 - seen.alpha)[:, None] * target["background"][pick]
    error = seen.colour + behind - target["colour"][pick]
    missing = seen.alpha - target["alpha"][pick]
    return (error**2).mean() + settings.mask_weight * (missing**2).mean()

  def roughness(values):
    colour, density = volume.neighbours_differ(Field(values=values, **box))
    return _ROUGHNESS_EVERY * (
      settings.colour_roughness * colour + settings.density_roughness * density
    )

  def step(state, index):
    values, moments = state
    key = jax.random.fold_in(jax.random.key(settings.seed), index)
    key_pick, key_jitter = jax.random.split(key)
    count = jnp.maximum(every.count, 1)
    number = jax.random.randint(key_pick, (settings.rays,), 0, count)
    jitter = jax.random.uniform(key_jitter, (settings.rays, settings.samples))
    gradient = jax.grad(misfit)(values, every.order[number], jitter)
    gradient += jax.lax.cond(
      index % _ROUGHNESS_EVERY == 0, jax.grad(roughness), jnp.zeros_like, values
    )
    gradient = jnp.where(occupancy[..., None], gradient, 0.0)
    updates, moments = optimizer.update(gradient, moments)
    return (values + updates, moments), None

  state = values, optimizer.init(values)
  (values, _), _ = jax.lax.scan(step, state, jnp.arange(settings.steps))
  return Field(values=values, **box)


@functools.partial(jax.jit, static_argnames="size")
def _render(field, camera, background, *, size: int) -> Rendered:
  every = rays.make(
    camera,
    size,
    size,
    occupancy=field.occupancy,
    low=field.low,
    high=field.high,
  )
  number = len(every.near)
  chunk = min(_RAYS_AT_A_TIME, number)

  def draw(index, canvas):
    # The last chunk begins earlier and draws some rays again.
    start = jnp.minimum(index * chunk, number - chunk)
    pick = jax.lax.dynamic_slice_in_dim(every.order, start, chunk)
    seen = volume.march(
      field,
      every.origins[pick],
      every.directions[pick],
      near=every.near[pick],
      far=every.far[pick],
      samples=_RENDER_SAMPLES,
    )
    columns = [seen.colour, seen.alpha[:, None], seen.distance[:, None]]
    return canvas.at[pick].set(jnp.concatenate(columns, -1))

  # Only as many chunks as rays meet the hull.
  chunks = -(-every.count // chunk)
  canvas = jax.lax.fori_loop(0, chunks, draw, jnp.zeros((number, 5)))
  canvas = canvas.reshape(-1, size, size, 5)
  colour, alpha, distance = canvas[..., :3], canvas[..., 3:4], canvas[..., 4]
  forward = camera.camera_to_world[:, None, None, :3, 2]
  cosine = (every.directions.reshape(-1, size, size, 3) * forward).sum(-1)
  solid = alpha[..., 0] > 0.5
  depth = cosine * distance / jnp.where(solid, alpha[..., 0], 1.0)
  return Rendered(
    rgb=2 * colour - alpha + (1 - alpha) * background[:, None, None],
    alpha=alpha[..., 0],
    depth=jnp.where(solid, depth, 0.0),
  )
