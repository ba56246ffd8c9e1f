"""Stable Diffusion from any published format, without torch.

What is read, and from where, is `weights.checkpoint`'s: UNet, VAE, text
encoder, tokenizer and noise schedule.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mvjax import diffusion, geometry, scores, tokenizer
from mvjax.models import configs
from mvjax.nn import joint_views, text_encoder, unet, vae
from mvjax.weights import checkpoint

# diffusers' default, for VAE configs that leave it out.
SCALING_FACTOR = 0.18215
# What a config of wrong types can make modules raise.
_CONFIG_ERRORS = (
  ArithmeticError,
  AttributeError,
  LookupError,
  TypeError,
  ValueError,
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FlaxStableDiffusion:
  """A latent text-to-image diffusion model; treats every view as an image.

  Attributes:
    name: where it came from, for messages.
    unet: noisy latents, time and text to the network output.
    vae: latents to images.
    text_encoder: token ids to text tokens.
    tokenizer: texts to token ids.
    schedule: noise levels and what the network predicts.
    scaling_factor: latents of the diffusion are the VAE's times this.
    latent_size: side of the latents that the UNet was trained on.
    params: parameter trees `unet`, `vae` and `text_encoder`, on the device.
  """

  name: str
  unet: unet.UNet
  vae: vae.VAE
  text_encoder: text_encoder.TextEncoder
  tokenizer: tokenizer.Tokenizer
  schedule: diffusion.NoiseSchedule
  scaling_factor: float
  latent_size: int
  params: Any

  @classmethod
  def load(
    cls,
    source: str | os.PathLike[str],
    dtype: DTypeLike = jnp.float32,
    *,
    param_dtype: DTypeLike | None = None,
  ) -> "FlaxStableDiffusion":
    """`from_checkpoint` of what `checkpoint.open_checkpoint` opens."""
    opened = checkpoint.open_checkpoint(source)
    return cls.from_checkpoint(opened, dtype, param_dtype=param_dtype)

  @classmethod
  def from_checkpoint(
    cls,
    opened: checkpoint.Checkpoint,
    dtype: DTypeLike = jnp.float32,
    *,
    param_dtype: DTypeLike | None = None,
  ) -> "FlaxStableDiffusion":
    """Builds the networks and reads their parameters.

    Args:
      opened: the model's files.
      dtype: what the networks compute in.
      param_dtype: what parameters are kept in; `dtype` if None. Training
        wants float32 whatever it computes in.

    Raises:
      ValueError: a component is malformed or of another model; names it.
    """
    network = build(opened, "unet", configs.unet_from_config, dtype=dtype)
    autoencoder = build(opened, "vae", configs.vae_from_config, dtype=dtype)
    encoder = build(
      opened, "text_encoder", configs.text_encoder_from_config, dtype=dtype
    )
    image, ids = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 1), jnp.int32)
    parts = {
      "unet": (network, unet_inputs(network)),
      "vae": (autoencoder, (image,)),
      "text_encoder": (encoder, (ids,)),
    }
    shapes = {
      name: _shapes(opened, name, module=module, inputs=inputs)
      for name, (module, inputs) in parts.items()
    }
    fields = {
      "unet": network,
      "vae": autoencoder,
      "text_encoder": encoder,
      "tokenizer": opened.tokenizer,
      **_settings(opened),
    }
    _check_fit(opened.source, **fields)
    params = {
      name: read(opened, name, shapes=tree, param_dtype=param_dtype or dtype)
      for name, tree in shapes.items()
    }
    return cls(name=opened.source, **fields, params=params)

  def latent_shape(self, views: int) -> tuple[int, int, int, int]:
    """[v h w c] of one asset's latents."""
    return views, self.latent_size, self.latent_size, self.unet.in_channels

  def encode_text(
    self, params: Any, ids: Int[Array, "b n"]
  ) -> Float[Array, "b n d"]:
    """Text tokens of the last layer, after its norm."""
    last, _ = self.text_encoder.apply({"params": params["text_encoder"]}, ids)
    return last

  def camera_conditioning(
    self, camera: geometry.Camera, height: int, width: int
  ) -> Any:
    """What scores need of cameras [b, v]: nothing, a 2D model is blind."""
    del camera, height, width

  def score(
    self,
    params: Any,
    x: Float[Array, "b v h w c"],
    step: scores.Step,
    conditioning: scores.Conditioning,
  ) -> diffusion.Prediction:
    """Noise and clean latents that the network sees in x.

    Texts are one for an asset [b n d], or one for each view [b v n d].
    """
    return self._predict(
      params,
      x,
      step,
      text=conditioning.text,
      cameras=conditioning.cameras,
    )

  def single_view_score(
    self,
    params: Any,
    x: Float[Array, "b v h w c"],
    step: scores.Step,
    conditioning: scores.Conditioning,
  ) -> diffusion.Prediction:
    """The score with every view cut off from the others."""
    cameras = conditioning.cameras
    return self._predict(
      params,
      x,
      step,
      text=conditioning.text,
      cameras=None if cameras is None else cameras.single_view(),
    )

  def start_latents(
    self, params: Any, shape: tuple[int, int, int, int]
  ) -> Float[Array, "v h w c"] | None:
    """Clean latents to start sampling with under the noise, or None."""
    del params, shape
    return None

  def decode(
    self, params: Any, latents: Float[Array, "*b h w c"]
  ) -> Float[Array, "*b i j 3"]:
    """Images in about [-1, 1]."""
    batch = latents.shape[:-3]
    z = latents.reshape(-1, *latents.shape[-3:]) / self.scaling_factor
    images: Any = self.vae.apply({"params": params["vae"]}, z, method="decode")
    return images.reshape(*batch, *images.shape[1:])

  def _predict(
    self,
    params: Any,
    x: Float[Array, "b v h w c"],
    step: scores.Step,
    *,
    text: Float[Array, "b *v n d"],
    cameras: Any,
  ) -> diffusion.Prediction:
    """Runs the UNet on all views, flattened with the view index fast."""
    b, v = x.shape[:2]
    if text.ndim == 3:
      text = jnp.broadcast_to(text[:, None], (b, v, *text.shape[1:]))
    # Models of other schedules are asked at the same noise level, so the
    # time need not be whole.
    time = jnp.broadcast_to(self.schedule.time(step.level), (b * v,))
    output: Any = self.unet.apply(
      {"params": params["unet"]},
      einops.rearrange(x, "b v h w c -> (b v) h w c"),
      time,
      einops.rearrange(text, "b v n d -> (b v) n d"),
      cameras,
    )
    return diffusion.predict(
      einops.rearrange(output, "(b v) h w c -> b v h w c", v=v),
      x,
      level=step.level,
      prediction_type=self.schedule.prediction_type,
    )


def abstract_params(module: nn.Module, *inputs: Any) -> Any:
  """Shapes of a module's parameters, without computing them."""
  return _new_params.eval_shape(module, jax.random.key(0), *inputs)


@functools.partial(jax.jit, static_argnums=0)  # traced once per module
def _new_params(module: nn.Module, key: Any, *inputs: Any) -> Any:
  return module.init(key, *inputs)["params"]


def unet_inputs(
  network: unet.UNet,
) -> tuple[Array, Array, Array, joint_views.JointViews | None]:
  """The smallest inputs with which a UNet uses all its parameters.

  Epipolar blocks are left out: their inputs depend on the blocks' config.
  """
  side = 2 ** (len(network.block_out_channels) - 1)
  cameras = None
  if network.camera_dim is not None:
    numbers = jnp.zeros((1, 1, network.camera_dim))
    cameras = joint_views.JointViews(camera_numbers=numbers)
  return (
    jnp.zeros((1, side, side, network.in_channels)),
    jnp.zeros((1,)),
    jnp.zeros((1, 1, network.cross_attention_dim)),
    cameras,
  )


def build(
  opened: checkpoint.Checkpoint,
  name: str,
  from_config: Callable[..., nn.Module],
  *,
  dtype: DTypeLike,
) -> Any:
  """The module of a component; ValueError names the component."""
  try:
    return from_config(opened.components[name].config, dtype=dtype)
  except _CONFIG_ERRORS as error:
    raise ValueError(f"{opened.source}: {name}/: {_line(error)}") from error


def read(
  opened: checkpoint.Checkpoint,
  name: str,
  *,
  shapes: Any,
  param_dtype: DTypeLike,
) -> Any:
  """Parameters of a component, checked against the shapes of its module."""
  typed = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, param_dtype), shapes
  )
  return checkpoint.read_params(
    opened.components[name], typed, source=f"{opened.source}: {name}/"
  )


def _shapes(
  opened: checkpoint.Checkpoint,
  name: str,
  *,
  module: nn.Module,
  inputs: tuple[Any, ...],
) -> Any:
  try:
    return abstract_params(module, *inputs)
  except _CONFIG_ERRORS as error:
    raise ValueError(
      f"{opened.source}: {name}/config.json makes no network: {_line(error)}"
    ) from error


def _settings(opened: checkpoint.Checkpoint) -> dict[str, Any]:
  """What the model takes from configs besides its networks."""
  try:
    return {
      "schedule": diffusion.NoiseSchedule.from_config(opened.scheduler),
      "scaling_factor": configs.positive(
        opened.components["vae"].config, "scaling_factor", SCALING_FACTOR
      ),
      "latent_size": configs.whole(
        opened.components["unet"].config, "sample_size"
      ),
    }
  except _CONFIG_ERRORS as error:
    raise ValueError(f"{opened.source}: {_line(error)}") from error


def _check_fit(source: str, **parts: Any) -> None:
  """Raises ValueError where components are of different models."""
  network, encoder = parts["unet"], parts["text_encoder"]
  channels, tokens = parts["vae"].latent_channels, parts["tokenizer"]
  for what, got, fits in (
    ("text width", encoder.hidden_size, network.cross_attention_dim),
    ("latent channels", channels, network.in_channels),
  ):
    if got != fits:
      raise ValueError(
        f"{source} has parts of different models: {what} {got}, but the UNet "
        f"takes {fits}"
      )
  if tokens.vocab_size > encoder.vocab_size or (
    tokens.length > encoder.max_length
  ):
    raise ValueError(
      f"{source} has parts of different models: the tokenizer has "
      f"{tokens.vocab_size} tokens in rows of {tokens.length}, the text "
      f"encoder {encoder.vocab_size} in rows of {encoder.max_length}"
    )


def _line(error: Exception) -> str:
  """What went wrong, in one line."""
  text = str(error) if isinstance(error, ValueError) else repr(error)
  return " ".join(text.split())[:300]
