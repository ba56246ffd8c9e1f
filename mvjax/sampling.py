"""Time grids, the DDIM step and the sampler: one jitted scan over any score.

The sampler starts from standard normal noise, also where the first level has a
little signal left, as Stable Diffusion does; a model may ask for clean latents
under it. Noise is drawn per asset from the asset's own key, folded with the
step, so an asset is the same whatever batch or device it is made on. Only the
score function and the shape are static: other prompts, seeds, weights, noise
levels and eta run the same program.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key

from mvjax import diffusion, scores
from mvjax.parallel import logical


class Steps(NamedTuple):
  """A sampling run of S steps, as data.

  Attributes:
    levels: [S + 1], from the noisiest to where the run ends.
    weights: [S] per score name, see `scores.weights`.
  """

  levels: diffusion.NoiseLevel
  weights: Mapping[str, Array]


def timesteps(
  schedule: diffusion.NoiseSchedule, num_steps: int
) -> Int[np.ndarray, "s"]:
  """Times at which the network is asked, noisiest first.

  'leading' takes every (T // num_steps)-th from `steps_offset` on, 'trailing'
  counts down from T - 1 and 'linspace' includes both ends, as diffusers does.
  'ldm' is 'leading' up to the table's end, as in the code of Stable Diffusion,
  MVDream and SPAD: that can be more steps than asked for (31 for 30).

  Raises:
    ValueError: the table does not have as many different times.
  """
  length = schedule.num_train_timesteps
  if not 1 <= num_steps <= length:
    raise ValueError(f"steps={num_steps}: must be from 1 to {length}")
  count, stride = np.arange(num_steps), length // num_steps
  times = {
    "leading": count[::-1] * stride + schedule.steps_offset,
    "ldm": np.arange(0, length, stride)[::-1] + schedule.steps_offset,
    "trailing": np.round(length - count * (length / num_steps)) - 1,
    "linspace": np.round(np.linspace(0, length - 1, num_steps))[::-1],
  }[schedule.timestep_spacing].astype(np.int64)
  if times[0] >= length:
    raise ValueError(
      f"steps={num_steps}: with steps_offset={schedule.steps_offset} the first "
      f"time is {times[0]}, the table ends at {length - 1}; take fewer steps"
    )
  return times


def make_steps(
  schedule: diffusion.NoiseSchedule,
  num_steps: int,
  *,
  mode: str,
  lambda_schedule: str,
) -> Steps:
  """Noise levels and mixing weights of a run on a schedule's own times.

  Raises:
    ValueError: see `timesteps`, `scores.weights`, `scores.lambda_schedule`.
  """
  times = timesteps(schedule, num_steps)
  levels = schedule.level(times.astype(np.float32))
  lambdas = scores.lambda_schedule(
    lambda_schedule,
    fractions=np.linspace(0.0, 1.0, len(times), dtype=np.float32),
    log_snrs=np.asarray(levels.log_snr),
  )
  return Steps(
    levels=jax.tree.map(
      lambda grid, end: jnp.append(grid, end), levels, schedule.final_level
    ),
    weights=jax.tree.map(jnp.asarray, scores.weights(mode, lambdas)),
  )


def ddim_update(
  prediction: diffusion.Prediction,
  noise: Float[Array, "*x"],
  *,
  level: diffusion.NoiseLevel,
  next_level: diffusion.NoiseLevel,
  eta: Float[ArrayLike, ""],
) -> Float[Array, "*x"]:
  """One step to a less noisy level (Song et al. 2021, eq. 12).

  The variance that eta = 1 renews is sigma'^2 (1 - q^2) with the amplitude
  ratio q = (alpha sigma') / (alpha' sigma), in [0, 1] up to rounding. In this
  form no square root sees a negative number and nothing is divided by the
  signal of the noisier level, which may be 0.

  Args:
    prediction: at `level`; x is not needed beside it.
    noise: standard normal, without effect at eta = 0.
    level: current level, scalars, sigma > 0.
    next_level: level of the result, scalars, alpha' >= alpha.
    eta: 0 is deterministic, 1 is ancestral; in [0, 1].
  """
  ratio = (level.alpha * next_level.sigma) / (next_level.alpha * level.sigma)
  renewed = eta * jnp.sqrt(jnp.maximum((1.0 - ratio) * (1.0 + ratio), 0.0))
  kept = jnp.sqrt((1.0 - renewed) * (1.0 + renewed))
  return next_level.alpha * prediction.x0 + next_level.sigma * (
    kept * prediction.eps + renewed * noise
  )


@functools.partial(jax.jit, static_argnames=("score", "shape"))
def sample(
  score: scores.Score,
  params: Any,
  *,
  conditioning: Any,
  steps: Steps,
  keys: Key[Array, "b"],
  shape: tuple[int, int, int, int],
  eta: Float[ArrayLike, ""],
  start: Float[Array, "v h w c"] | None = None,
) -> Float[Array, "b v h w c"]:
  """Draws assets: DDIM from noise to latents, in one compiled scan.

  Args:
    score: pure and hashable; the same object must come again for the compiled
      program to be used again, so make it once.
    params: of the score.
    conditioning: of the score, with batch axes of b.
    steps: from `make_steps`.
    keys: one typed key per asset, which its result alone depends on.
    shape: (views, height, width, channels) of an asset's latents.
    eta: see `ddim_update`.
    start: clean latents under the first noise of every asset, for models that
      were made to begin so; None begins with nothing but noise.
  """

  def draw(shared, rows):
    params, steps, eta, start = shared
    conditioning, keys = rows
    x = _noise(keys, 0, shape)
    if start is not None:
      first = jax.tree.map(lambda grid: grid[0], steps.levels)
      start = jnp.broadcast_to(start[None], x.shape)
      x = diffusion.add_noise(start, x, level=first)
    return denoise(
      score,
      params,
      x,
      conditioning=conditioning,
      steps=steps,
      keys=keys,
      eta=eta,
    )

  shared = params, steps, eta, start
  return logical.each_device(draw, shared, (conditioning, keys))


def denoise(
  score: scores.Score,
  params: Any,
  x: Float[Array, "b v h w c"],
  *,
  conditioning: Any,
  steps: Steps,
  keys: Key[Array, "b"],
  eta: Float[ArrayLike, ""],
) -> Float[Array, "b v h w c"]:
  """The scan of `sample`, from given latents at the first level."""

  def update(x, inputs):
    count, level, next_level, weights = inputs
    step = scores.Step(level=level, weights=weights)
    x = ddim_update(
      score(params, x, step, conditioning),
      _noise(keys, count, x.shape[1:]),
      level=level,
      next_level=next_level,
      eta=eta,
    )
    return x, None

  num_steps = len(steps.levels.alpha) - 1
  inputs = (
    jnp.arange(1, num_steps + 1),
    jax.tree.map(lambda grid: grid[:-1], steps.levels),
    jax.tree.map(lambda grid: grid[1:], steps.levels),
    steps.weights,
  )
  return jax.lax.scan(update, x, inputs)[0]


def _noise(keys, count, shape):
  """Standard normal noise of a step, from each asset's own key."""
  return jax.vmap(
    lambda key: jax.random.normal(jax.random.fold_in(key, count), shape)
  )(keys)
