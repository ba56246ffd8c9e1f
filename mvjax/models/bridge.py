"""Asks a model about latents that are coarser than those it was trained on.

Multi-view checkpoints work on 32x32 latents, Stable Diffusion on 64x64. The
bridge lifts noisy latents to the finer grid so that their noise is white there
too. With y = x / alpha, rho = sigma / alpha, `up` repeating pixels, `pool`
averaging f x f of them and z white,

  y_fine = up(y) + f rho (z - up(pool(z)))

has white noise of standard deviation f rho: `up` carries the part of it that
is constant in each f x f block, the second term makes the rest. The model is
asked at that level, whose log-SNR is lower by 2 ln f, and

  x0 = pool(x0_fine),  eps = (y - x0) / rho.

It costs f^2 times the model's own evaluation (more in self-attention), the
noise is drawn once per sample, and what the model sees is a smooth enlargement
of the coarse latents, which is not quite what it was trained on.
"""

import dataclasses

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mvjax import diffusion, scores

# Folded into a sample's key for z; the sampler folds in its step count.
_STREAM = 0x62726964


def bridged(score: scores.Score, factor: int) -> scores.Score:
  """A score of latents that are `factor` times coarser than the given one's.

  Its conditioning needs `fine_noise`, z of `draw_noise`. A level beyond the
  noisy end of the model's table is asked at that end's time.

  Args:
    score: of the finer latents.
    factor: whole ratio of the sides; 1 gives the score itself.
  """
  if factor == 1:
    return score

  def bridge(params, x, step, conditioning):
    level, z = step.level, conditioning.fine_noise
    # alpha and sigma of (1, factor * rho), without dividing by alpha, which
    # is 0 at pure noise.
    norm = jnp.hypot(level.alpha, factor * level.sigma)
    fine = diffusion.NoiseLevel(
      alpha=level.alpha / norm, sigma=factor * level.sigma / norm
    )
    missing = z - enlarge(pool(z, factor), factor)
    x_fine = (enlarge(x, factor) + factor * level.sigma * missing) / norm
    prediction = score(
      params,
      x_fine,
      step._replace(level=fine),
      dataclasses.replace(conditioning, fine_noise=None),
    )
    x0 = pool(prediction.x0, factor)
    return diffusion.Prediction(eps=(x - level.alpha * x0) / level.sigma, x0=x0)

  return bridge


def draw_noise(
  keys: Key[Array, "b"], shape: tuple[int, int, int, int], factor: int
) -> Float[Array, "b v i j c"]:
  """Z for assets with these keys, fixed for all steps of a run.

  Args:
    keys: one per asset, those of `sampling.sample`.
    shape: (views, height, width, channels) of the coarse latents.
    factor: whole ratio of the sides.
  """
  views, height, width, channels = shape
  fine = (views, factor * height, factor * width, channels)
  return jax.vmap(
    lambda key: jax.random.normal(jax.random.fold_in(key, _STREAM), fine)
  )(keys)


def enlarge(x: Float[Array, "*b h w c"], factor: int) -> Float[Array, "..."]:
  """Repeats every pixel factor x factor times."""
  return jnp.repeat(jnp.repeat(x, factor, axis=-3), factor, axis=-2)


def pool(x: Float[Array, "*b h w c"], factor: int) -> Float[Array, "..."]:
  """Means of factor x factor blocks of pixels."""
  blocks = einops.rearrange(
    x, "... (h i) (w j) c -> ... h i w j c", i=factor, j=factor
  )
  return blocks.mean(axis=(-4, -2))


def factor_between(fine: int, coarse: int, *, names: tuple[str, str]) -> int:
  """Whole ratio of two models' latent sides.

  Args:
    fine: side of the 2D model's latents.
    coarse: side of the sampled latents.
    names: of the 2D and the multi-view model, for the error.

  Raises:
    ValueError: the ratio is not whole.
  """
  if fine % coarse:
    raise ValueError(
      f"image_model.resolution='bridge': {names[0]} works on {fine}x{fine} "
      f"latents, {names[1]} on {coarse}x{coarse}, which is no whole ratio; "
      "use 'native'"
    )
  return fine // coarse
