"""The 2D model computed by diffusers' own Flax classes.

An alternative to our networks, and an independent check of them. diffusers
removed these classes in 0.40 and transformers in 5: the last releases that have
them are in requirements-flax-providers.txt. They run behind the interface of
`FlaxStableDiffusion`, on its parameters: files are read as for our networks
and the trees are renamed inside the compiled function.

Where the trees differ: CLIP's layers are `layers/3`, not `layers_3`, and the
attention of the VAE is `query key value proj_attn`, not `to_q to_k to_v
to_out_0`. Where the networks differ: theirs has the tanh approximation of GELU,
and an epsilon of 1e-5 in the norm of the spatial transformers. PyTorch has the
exact GELU and 1e-6, and so have we.
"""

import contextlib
import dataclasses
import importlib
import logging
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mvjax.models import configs, loading, stable_diffusion
from mvjax.nn import text_encoder, unet, vae

_UNET = "diffusers.models.unets.unet_2d_condition_flax"
_VAE = "diffusers.models.vae_flax"
_CLIP = "transformers.models.clip.modeling_flax_clip"
# What their UNet cannot vary.
_NORM_NUM_GROUPS = 32
_VAE_ATTENTION = {
  "to_q": "query",
  "to_k": "key",
  "to_v": "value",
  "to_out_0": "proj_attn",
}

Path = tuple[str, ...]


def load(
  source: str | os.PathLike[str], dtype: DTypeLike = jnp.float32
) -> stable_diffusion.FlaxStableDiffusion:
  """A 2D model from any source of `loading.load`, run by diffusers.

  Raises:
    FileNotFoundError: a component is missing.
    ValueError: a component is malformed, or see `adopt`.
  """
  check_installed()
  return adopt(loading.load(source, dtype))


def adopt(
  model: stable_diffusion.FlaxStableDiffusion,
) -> stable_diffusion.FlaxStableDiffusion:
  """The model with the same parameters, run by diffusers.

  Raises:
    ValueError: it is not a 2D model, has a UNet that theirs cannot be, or the
      installed libraries have no Flax.
  """
  check_installed()
  reason = _misfit(model)
  if reason is not None:
    raise ValueError(
      f"{model.name} cannot run on diffusers' Flax classes: {reason}. Use our "
      "own networks for it"
    )
  return dataclasses.replace(
    model,
    unet=like(DiffusersUNet, model.unet),
    vae=like(DiffusersVAE, model.vae),
    text_encoder=like(TransformersTextEncoder, model.text_encoder),
  )


def check_installed() -> None:
  """Raises ValueError where the installed libraries have no Flax."""
  for name in (_UNET, _VAE, _CLIP):
    _library(name)


class DiffusersUNet(unet.UNet):
  """Our UNet by its fields and parameters, computed by diffusers."""

  def __call__(
    self,
    x: Float[Array, "n h w c"],
    t: Float[Array, "n"],
    text: Float[Array, "n l d"],
    cameras: None = None,
  ) -> Float[Array, "n h w o"]:
    """Returns the float32 network output; there are no cameras."""
    del cameras
    fields = configs.unet_config(self, sample_size=x.shape[1])
    kind = _library(_UNET).FlaxUNet2DConditionModel
    with _quiet():
      module = _build(kind, fields, dtype=self.dtype)
      # They take channels first.
      output = module.apply(
        {"params": self.variables["params"]}, jnp.moveaxis(x, -1, 1), t, text
      ).sample
    return jnp.moveaxis(output, 1, -1).astype(jnp.float32)


class DiffusersVAE(vae.VAE):
  """Our VAE by its fields and parameters, computed by diffusers."""

  def setup(self):
    """Has no layers of its own."""

  def encode(
    self, images: Float[Array, "n h w 3"]
  ) -> tuple[Float[Array, "n i j c"], Float[Array, "n i j c"]]:
    """Mean and log-variance of the latents, float32."""
    # They take images channels first, and latents either way.
    posterior = self._run("encode", jnp.moveaxis(images, -1, 1)).latent_dist
    mean, log_variance = posterior.mean, posterior.logvar
    return mean.astype(jnp.float32), log_variance.astype(jnp.float32)

  def decode(self, latents: Float[Array, "n i j c"]) -> Float[Array, "n h w 3"]:
    """Images of the latents, float32."""
    images = self._run("decode", latents).sample
    return jnp.moveaxis(images, 1, -1).astype(jnp.float32)

  def _run(self, method: str, maps: Array) -> Any:
    fields = configs.vae_config(self, sample_size=8, scaling_factor=1.0)
    params = _rename(self.variables["params"], _vae_path)
    kind = _library(_VAE).FlaxAutoencoderKL
    with _quiet():
      module = _build(kind, fields, dtype=self.dtype)
      return module.apply({"params": params}, maps, method=method)


class TransformersTextEncoder(text_encoder.TextEncoder):
  """Our text encoder by its fields and parameters, from transformers."""

  def __call__(
    self, ids: Int[Array, "b n"]
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
    """The last and second-last layer's tokens, both after the final norm."""
    # The ids of special tokens only decide which token is pooled.
    fields = configs.text_encoder_config(
      self, bos_token_id=0, eos_token_id=2, pad_token_id=1
    )
    params = self.variables["params"]
    library = _library(_CLIP)
    with _quiet():
      output = library.FlaxCLIPTextModule(
        library.CLIPTextConfig(**fields), dtype=self.dtype, parent=None
      ).apply(
        {"params": _rename(params, _text_path)},
        ids,
        jnp.ones_like(ids),
        jnp.broadcast_to(jnp.arange(ids.shape[1])[None], ids.shape),
        output_hidden_states=True,
      )
    norm: Any = nn.LayerNorm(epsilon=1e-5, parent=None)
    second = norm.apply(
      {"params": params["text_model"]["final_layer_norm"]},
      output.hidden_states[-2],
    )
    return output.last_hidden_state.astype(jnp.float32), second


def _library(name: str) -> Any:
  """One of their modules; ValueError where the release has no Flax."""
  package = name.partition(".")[0]
  try:
    # The package sets its loggers up, so that they can be silenced.
    importlib.import_module(package)
    with _quiet():
      return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
      f"provider=diffusers: {_installed(package)} has no Flax classes; pip "
      "install -r requirements-flax-providers.txt, or leave provider=mvjax"
    ) from error


def _installed(package: str) -> str:
  try:
    return f"{package} {metadata.version(package)}"
  except metadata.PackageNotFoundError:
    return f"{package}, which is not installed,"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without the notice that every one of their layers gives of its end."""
  loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)


def _misfit(model: stable_diffusion.FlaxStableDiffusion) -> str | None:
  """Why their classes cannot run a model, or None."""
  if type(model) is not stable_diffusion.FlaxStableDiffusion:
    return "it is a multi-view model, and they are 2D"
  groups = model.unet.norm_num_groups
  if groups != _NORM_NUM_GROUPS:
    return f"unet norm_num_groups={groups}, theirs is always {_NORM_NUM_GROUPS}"
  if not model.unet.mid_attention:
    return "unet mid_block_type has no attention, theirs always has"
  return None


def like(kind: type[nn.Module], module: nn.Module) -> Any:
  """A module of a kind above, with the fields of one of ours."""
  return kind(
    **{
      field.name: getattr(module, field.name)
      for field in dataclasses.fields(module)
      if field.name not in ("parent", "name")
    }
  )


def _build(kind: type[nn.Module], config: Any, *, dtype: DTypeLike) -> Any:
  """Their module of a config, as far as they have its fields."""
  known = {field.name for field in dataclasses.fields(kind)}
  fields = {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in config.items()
    if key in known
  }
  return kind(**fields, dtype=dtype, parent=None)


def _rename(params: Any, path_fn: Callable[[Path], Path]) -> Any:
  flat = flax.traverse_util.flatten_dict(params)
  return flax.traverse_util.unflatten_dict(
    {path_fn(path): value for path, value in flat.items()}
  )


def _vae_path(path: Path) -> Path:
  return tuple(_VAE_ATTENTION.get(part, part) for part in path)


def _text_path(path: Path) -> Path:
  return tuple(
    piece
    for part in path
    for piece in (part.split("_") if part.startswith("layers_") else (part,))
  )
