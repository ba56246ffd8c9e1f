"""The noise level of every view of a batch: shared by an asset, or its own.

A sampler brings all views of an asset down together, and that is what the
paper trains. A view then learns little from the others, which are as noisy as
itself: beside clearer ones it must look at them. So a share of the assets may
have views of different levels (as Diffusion Forcing has for the frames of a
sequence; Chen et al. 2024), and the network completes views from given ones.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# Times of nearly clean views, as a share of the schedule.
CLEAN = 0.1


def draw_times(
  key: Key[Array, ""], count: int, *, length: int
) -> Float[Array, "b"]:
  """Whole times, each uniform on 0 .. length - 1, spread over the batch."""
  return jnp.floor(_spread(key, count) * length)


def of_views(
  key: Key[Array, ""],
  times: Float[Array, "b"],
  *,
  views: int,
  length: int,
  own_times: float,
  clean_views: float,
) -> Float[Array, "b v"]:
  """The time of every view; that of its asset where nothing else is drawn.

  Args:
    key: decides all that is random.
    times: of the assets, from `draw_times`.
    views: of an asset; a single one has the asset's time.
    length: of the schedule.
    own_times: share of the assets whose views have independent times, uniform
      on 0 .. length - 1.
    clean_views: share of the assets of which some views are nearly clean: any
      of them, and any number but none and all. Their times are uniform on the
      first `CLEAN` of the schedule. As many assets of a batch as the shares
      say, up to a whole number.
  """
  shared = jnp.repeat(times[:, None], views, axis=1)
  if views == 1 or not own_times + clean_views:
    return shared
  keys = jax.random.split(key, 5)
  # In another order than the times, which are spread over the batch too.
  place = jax.random.permutation(keys[0], _spread(keys[1], len(times)))
  place = place[:, None]
  uniform = jax.random.uniform(keys[2], shared.shape)
  rank = jnp.argsort(jax.random.uniform(keys[3], shared.shape), axis=1)
  count = jax.random.randint(keys[4], place.shape, 1, views)
  beside = jnp.where(rank < count, jnp.floor(uniform * CLEAN * length), shared)
  return jnp.where(
    place < own_times,
    jnp.floor(uniform * length),
    jnp.where(place < own_times + clean_views, beside, shared),
  )


def _spread(key: Key[Array, ""], count: int) -> Float[Array, "b"]:
  """Uniform numbers in [0, 1) that together cover it evenly.

  One uniform number shifted by i / count for row i, so every row is uniform.
  """
  return (jax.random.uniform(key) + jnp.arange(count) / count) % 1.0
