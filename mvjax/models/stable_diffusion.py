"""Stable Diffusion from an ordinary diffusers folder, without torch.

Read are `unet/`, `vae/`, `text_encoder/` (config.json and safetensors),
`tokenizer/` and `scheduler/scheduler_config.json`.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mvjax import diffusion, geometry, scores, tokenizer
from mvjax.models import configs
from mvjax.nn import text_encoder, unet, vae
from mvjax.weights import folder as weights_folder

# diffusers' default, for VAE configs that leave it out.
_SCALING_FACTOR = 0.18215


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FlaxStableDiffusion:
  """A latent text-to-image diffusion model; treats every view as an image.

  Attributes:
    name: the folder, for messages.
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
    cls, folder: str | os.PathLike[str], dtype: DTypeLike = jnp.float32
  ) -> "FlaxStableDiffusion":
    """Reads a local folder; `dtype` is what the networks compute in.

    Raises:
      FileNotFoundError: a component is missing.
      ValueError: a component is malformed; names the file.
    """
    home = pathlib.Path(folder)
    config = weights_folder.read_config(home, "unet")
    network = configs.unet_from_config(config, dtype=dtype)
    vae_config = weights_folder.read_config(home, "vae")
    autoencoder = configs.vae_from_config(vae_config, dtype=dtype)
    encoder = configs.text_encoder_from_config(
      weights_folder.read_config(home, "text_encoder"), dtype=dtype
    )
    tokens = tokenizer.Tokenizer.load(home / "tokenizer")
    image = jnp.zeros((1, 8, 8, 3))
    ids = jnp.zeros((1, tokens.length), jnp.int32)
    params = {
      "unet": read(home, "unet", module=network, inputs=unet_inputs(network)),
      "vae": read(home, "vae", module=autoencoder, inputs=(image,)),
      "text_encoder": read(home, "text_encoder", module=encoder, inputs=(ids,)),
    }
    return cls(
      name=str(folder),
      unet=network,
      vae=autoencoder,
      text_encoder=encoder,
      tokenizer=tokens,
      schedule=diffusion.NoiseSchedule.from_config(_read_schedule(home)),
      scaling_factor=vae_config.get("scaling_factor", _SCALING_FACTOR),
      latent_size=config["sample_size"],
      params=jax.tree.map(jnp.asarray, params),
    )

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
    """The score with every view alone."""
    return self.score(params, x, step, conditioning)

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
      x.reshape(b * v, *x.shape[2:]),
      time,
      text.reshape(b * v, *text.shape[2:]),
      cameras,
    )
    return diffusion.predict(
      output.reshape(x.shape),
      x,
      level=step.level,
      prediction_type=self.schedule.prediction_type,
    )


def abstract_params(module: nn.Module, *inputs: Any) -> Any:
  """Shapes of a module's parameters, without computing them."""
  variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  return variables["params"]


def unet_inputs(network: unet.UNet) -> tuple[Array, Array, Array]:
  """The smallest inputs that a UNet takes."""
  side = 2 ** (len(network.block_out_channels) - 1)
  return (
    jnp.zeros((1, side, side, network.in_channels)),
    jnp.zeros((1,)),
    jnp.zeros((1, 1, network.cross_attention_dim)),
  )


def read(
  home: pathlib.Path,
  component: str,
  *,
  module: nn.Module,
  inputs: tuple[Any, ...],
) -> Any:
  """Parameters of a component, checked against its module."""
  shapes = abstract_params(module, *inputs)
  return weights_folder.read_component(home, component, shapes)[1]


def _read_schedule(home: pathlib.Path) -> dict[str, Any]:
  path = home / "scheduler" / "scheduler_config.json"
  if not path.is_file():
    raise FileNotFoundError(f"{path} is missing: a model needs its schedule")
  return json.loads(path.read_text(encoding="utf-8"))
