"""The autoencoder: sharp reconstructions from latents of unit scale.

Loss: mean absolute error of the pixels, plus that of their differences to
the next pixel at three resolutions (edges), plus a small KL divergence of the
latents from the unit Gaussian. There is no perceptual or adversarial network.
"""

from collections.abc import Mapping
from typing import Any

import einops
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float

from mvjax.models import configs
from mvjax.training import components, state
from mvjax.training.tasks import task
from mvjax.weights import folder as folders

_ENCODER = ("encoder", "quant_conv")
_SCALES = 3


def make(config: ml_collections.ConfigDict) -> task.Task:
  """The task of a config.

  Raises:
    ValueError: `train.init_from` does not hold this autoencoder.
  """
  module = components.vae_module(config)
  params = components.vae_params(config)
  held = _ENCODER if config.train.freeze_encoder else ()
  frozen = {name: params[name] for name in held}
  trained = {name: params[name] for name in params if name not in held}

  def draw_noise(key, batch):
    n, height, width, _ = batch["image"].shape
    factor = 2 ** (len(module.block_out_channels) - 1)
    shape = n, height // factor, width // factor, module.latent_channels
    keys = state.streams(key, "posterior")
    return {"posterior": jax.random.normal(keys["posterior"], shape)}

  def loss(params, batch, drawn, frozen):
    images = batch["image"]
    variables = {"params": {**frozen, **params}}
    mean, log_variance = module.apply(variables, images, method="encode")
    latents = mean + jnp.exp(0.5 * log_variance) * drawn["posterior"]
    decoded = module.apply(variables, latents, method="decode")
    absolute, edges = pixel_loss(decoded, images), edge_loss(decoded, images)
    divergence = kl_divergence(mean, log_variance)
    metrics = {
      "absolute_error": absolute,
      "edge_error": edges,
      "kl": divergence,
      "psnr": -10.0 * jnp.log10(jnp.square((decoded - images) / 2.0).mean()),
      "latent_std": mean.std(),
    }
    weights = config.train
    total = absolute + weights.edge_weight * edges
    return total + weights.kl_weight * divergence, metrics

  reconstruct = jax.jit(
    lambda params, images: module.apply({"params": params}, images)
  )

  def draw(params, frozen, batch):
    images = batch["image"]
    decoded = np.asarray(reconstruct({**frozen, **params}, images))
    return np.concatenate([np.asarray(images), decoded]), len(images)

  def write(params, frozen, folder, *, dtype, batches):
    variables = {"params": {**frozen, **params}}
    encode = jax.jit(
      lambda images: module.apply(variables, images, method="encode")
    )
    if config.train.freeze_encoder:
      # The models that were trained on its latents still fit.
      scale = components.scaling_factor(config)
    else:
      moments = [encode(prepare(batch)["image"]) for batch in batches]
      scale = scaling_factor(moments)
    content = configs.vae_config(
      module,
      sample_size=config.data.image_size,
      scaling_factor=scale,
    )
    folders.write_component(
      folder, "vae", config=content, params=variables["params"], dtype=dtype
    )

  return task.Task(
    params=trained,
    frozen=frozen,
    losses={"main": state.Loss(draw=draw_noise, value=loss)},
    prepare=prepare,
    draw=draw,
    write=write,
  )


def prepare(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """All views of all assets as images `[n h w 3]`."""
  image = np.asarray(batch["image"])
  return {"image": einops.rearrange(image, "b v h w c -> (b v) h w c")}


def pixel_loss(
  decoded: Float[Array, "n h w c"], images: Float[Array, "n h w c"]
) -> Float[Array, ""]:
  """Mean absolute error."""
  return jnp.abs(decoded - images).mean()


def edge_loss(
  decoded: Float[Array, "n h w c"], images: Float[Array, "n h w c"]
) -> Float[Array, ""]:
  """Mean absolute error of the differences to the next pixel.

  Averaged over both axes and over the image at 1, 1/2 and 1/4 of its size.
  """
  error = decoded - images
  total = jnp.zeros(())
  for _ in range(_SCALES):
    for axis in (1, 2):
      total += jnp.abs(jnp.diff(error, axis=axis)).mean()
    blocks = einops.rearrange(error, "n (h i) (w j) c -> n h i w j c", i=2, j=2)
    error = blocks.mean((2, 4))
  return total / (2 * _SCALES)


def kl_divergence(
  mean: Float[Array, "*b"], log_variance: Float[Array, "*b"]
) -> Float[Array, ""]:
  """Mean KL divergence of N(mean, variance) from N(0, 1), nats per number."""
  square = jnp.square(mean) + jnp.exp(log_variance)
  return 0.5 * (square - 1.0 - log_variance).mean()


def scaling_factor(moments: list[tuple[Any, Any]]) -> float:
  """What sampled latents are multiplied by to have variance 1.

  The variance of a sample is that of the means plus the mean variance.
  """
  means = np.concatenate([np.ravel(mean) for mean, _ in moments])
  variances = np.concatenate([np.ravel(np.exp(v)) for _, v in moments])
  return float(1.0 / np.sqrt(np.var(means) + np.mean(variances)))
