"""What the diffusion tasks share: latents, the denoising loss, samples."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import einops
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Shaped

from mvjax import diffusion, geometry, sampling, scores, tokenizer
from mvjax.models import stable_diffusion
from mvjax.training.tasks import noise_levels

# The camera of the samples.
_ELEVATION, _DISTANCE, _FIELD_OF_VIEW = np.deg2rad(20.0), 3.0, np.deg2rad(40.0)


def draw(
  model: stable_diffusion.FlaxStableDiffusion,
  keys: Mapping[str, Key[Array, ""]],
  *,
  batch: Mapping[str, Any],
  caption_dropout: float,
) -> dict[str, Array]:
  """What is random in the loss of a batch.

  Args:
    model: gives the latents' shape and the schedule.
    keys: streams 'posterior', 'caption', 'time' and 'noise'.
    batch: see `draw_latents`.
    caption_dropout: share of captions that become the empty text.

  Returns:
    Standard normal `posterior` and `noise` [b v i j c], `time` [b v], shared by
    the views of an asset, and `captionless` [b] bool.
  """
  if "posterior" in batch:
    *sizes, channels = batch["posterior"].shape
    shape = (*sizes, channels // 2)
  else:
    b, v, height, width, _ = batch["image"].shape
    factor = 2 ** (len(model.vae.block_out_channels) - 1)
    shape = b, v, height // factor, width // factor, model.vae.latent_channels
  times = noise_levels.draw_times(
    keys["time"], shape[0], length=model.schedule.num_train_timesteps
  )
  return {
    "posterior": jax.random.normal(keys["posterior"], shape),
    "captionless": jax.random.bernoulli(
      keys["caption"], caption_dropout, shape[:1]
    ),
    "time": jnp.repeat(times[:, None], shape[1], axis=1),
    "noise": jax.random.normal(keys["noise"], shape),
  }


def latents_of(
  model: stable_diffusion.FlaxStableDiffusion,
  params: Any,
  *,
  batch: Mapping[str, Any],
  noise: Float[Array, "b v i j c"],
) -> Float[Array, "b v i j c"]:
  """Latents drawn from the autoencoder's posterior, scaled to variance 1.

  Args:
    model: gives the autoencoder and the scale.
    params: with those of `vae`, unless the batch has posteriors.
    batch: `posterior` [b v i j 2c], or `image` [b v h w 3] to encode.
    noise: standard normal.
  """
  if "posterior" in batch:
    mean, log_variance = jnp.split(batch["posterior"], 2, axis=-1)
  else:
    images = batch["image"]
    flat = model.vae.apply(
      {"params": params["vae"]},
      einops.rearrange(images, "b v h w c -> (b v) h w c"),
      method="encode",
    )
    mean, log_variance = (
      einops.rearrange(x, "(b v) i j c -> b v i j c", v=images.shape[1])
      for x in flat
    )
  return (mean + jnp.exp(0.5 * log_variance) * noise) * model.scaling_factor


def drop_captions(
  texts: Shaped[Array, "b *t"],
  empty: Shaped[Array, "*t"],
  *,
  dropped: Bool[Array, "b"],
) -> Shaped[Array, "b *t"]:
  """Replaces some captions, ids or encoded, by the empty text."""
  dropped = dropped.reshape(-1, *[1] * empty.ndim)
  return jnp.where(dropped, empty[None], texts)


def denoising_errors(
  model: stable_diffusion.FlaxStableDiffusion,
  params: Any,
  *,
  latents: Float[Array, "b v h w c"],
  text: Float[Array, "b n d"],
  cameras: Any,
  drawn: Mapping[str, Array],
  min_snr: float = 0.0,
) -> Float[Array, "b v"]:
  """Mean squared error of the network's own target, of every view.

  Their mean is the loss (eq. 1 of the paper).

  Args:
    model: gives the network and the schedule.
    params: of the model.
    latents: clean, variance 1.
    text: encoded captions.
    cameras: of the views, or None for the 2D network.
    drawn: `time` and `noise`, from `draw`.
    min_snr: gamma of `diffusion.min_snr_weight`; 0: all times weigh the same.
  """
  v = latents.shape[1]
  schedule, t, noise = model.schedule, drawn["time"], drawn["noise"]
  level = schedule.level(t)
  noisy = diffusion.add_noise(latents, noise, level=level)
  target = diffusion.network_target(
    latents, noise, level=level, prediction_type=schedule.prediction_type
  )
  output = model.unet.apply(
    {"params": params["unet"]},
    einops.rearrange(noisy, "b v h w c -> (b v) h w c"),
    t.reshape(-1),
    jnp.repeat(text, v, axis=0),
    cameras,
  )
  output = einops.rearrange(output, "(b v) h w c -> b v h w c", v=v)
  error = jnp.square(output - target)
  if min_snr:
    weight = diffusion.min_snr_weight(
      level, min_snr, prediction_type=schedule.prediction_type
    )
    error = error * weight[..., None, None, None]
  return error.mean((2, 3, 4))


class Sampler:
  """Samples of fixed prompts, the same noise every time.

  Prompts are rows; the columns are views, or seeds for the 2D model.
  """

  def __init__(
    self,
    model: stable_diffusion.FlaxStableDiffusion,
    config: ml_collections.ConfigDict,
    *,
    views: int,
    columns: int,
  ):
    self._model, self._views, self._columns = model, views, columns
    self._score = scores.classifier_free_guidance(model.score)
    self._num_steps = config.train.sample_steps
    self._scale = config.train.guidance_scale
    prompts = list(config.train.prompts)
    self._ids = np.repeat(model.tokenizer(prompts), columns // views, axis=0)
    self._encode = jax.jit(model.encode_text)
    self._decode = jax.jit(model.decode)

  @functools.cached_property
  def _steps(self) -> sampling.Steps:
    """Made when first needed: a task may be made of shapes alone."""
    return sampling.make_steps(
      self._model.schedule,
      self._num_steps,
      mode="2d",
      lambda_schedule="constant:0",
    )

  def __call__(self, params: Any) -> tuple[np.ndarray, int]:
    """Images `[n h w 3]` and their number per row."""
    model, count = self._model, len(self._ids)
    empty = np.repeat(model.tokenizer([""]), count, axis=0)
    azimuth = 2 * np.pi * np.arange(self._views) / self._views
    camera = geometry.orbit(
      azimuth=np.broadcast_to(azimuth, (count, self._views)),
      elevation=_ELEVATION,
      distance=_DISTANCE,
      field_of_view=_FIELD_OF_VIEW,
    )
    shape = model.latent_shape(self._views)
    latents = sampling.sample(
      self._score,
      params,
      conditioning=scores.Conditioning(
        text=self._encode(params, self._ids),
        negative_text=self._encode(params, empty),
        cameras=model.camera_conditioning(camera, *shape[1:3]),
        guidance_scale=self._scale,
        guidance_rescale=0.0,
      ),
      steps=self._steps,
      keys=jax.random.split(jax.random.key(0), count),
      shape=shape,
      eta=0.0,
    )
    images = np.asarray(self._decode(params, latents))
    images = einops.rearrange(images, "b v h w c -> (b v) h w c")
    return images, self._columns


def prepare(
  batch: Mapping[str, Any], tokens: tokenizer.Tokenizer
) -> dict[str, Any]:
  """The arrays of a loader batch that steps read."""
  captions: Sequence[str] = [str(text) for text in batch["caption"]]
  arrays = {
    name: np.asarray(batch[name], np.float32)
    for name in ("image", "posterior", "text")
    if name in batch
  }
  camera = {
    name: np.asarray(value, np.float32)
    for name, value in batch["camera"].items()
  }
  return arrays | {
    "ids": tokens(captions),
    "camera": geometry.Camera(**camera),
  }
