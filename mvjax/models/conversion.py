"""From any readable model to any format that we write."""

import math
import os
import pathlib
from typing import Any

import jax.numpy as jnp

from mvjax.models import configs, epipolar_mv, stable_diffusion
from mvjax.weights import checkpoint, lora, write


def convert(
  source: str | os.PathLike[str],
  out: str | os.PathLike[str],
  *,
  format: str = "diffusers",
  dtype: Any = None,
  lora_file: str | os.PathLike[str] | None = None,
  lora_scale: float = 1.0,
) -> pathlib.Path:
  """Writes a model in another format.

  Args:
    source: what `checkpoint.open_checkpoint` takes.
    out: file or folder to write.
    format: one of `write.FORMATS`.
    dtype: floating dtype in the files; None leaves what the source has.
    lora_file: LoRA to merge.
    lora_scale: how much of it.

  Returns:
    `out` as a path.

  Raises:
    FileNotFoundError: the source or the LoRA does not exist.
    ValueError: one of them is damaged, its tensors do not fit its config, or
      `out` cannot be written.
  """
  if not math.isfinite(lora_scale):
    raise ValueError(f"lora_scale={lora_scale}: must be a number")
  # Before a hub model is downloaded.
  write.check_target(out, format=format)
  opened = checkpoint.open_checkpoint(source)
  if lora_file is not None:
    opened = lora.with_lora(opened, pathlib.Path(lora_file), lora_scale)
  check(opened)
  return write.write(opened, out, format=format, dtype=dtype)


def check(opened: checkpoint.Checkpoint) -> None:
  """Checks names and shapes of all tensors, without reading any.

  Raises:
    ValueError: they do not fit the networks of the configs.
  """
  builders = {
    "unet": configs.unet_from_config,
    "vae": configs.vae_from_config,
    "text_encoder": configs.text_encoder_from_config,
  }
  modules = {
    name: stable_diffusion.build(opened, name, builder, dtype=jnp.float32)
    for name, builder in builders.items()
  }
  image, ids = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 1), jnp.int32)
  inputs = {
    "unet": stable_diffusion.unet_inputs(modules["unet"]),
    "vae": (image,),
    "text_encoder": (ids,),
  }
  shapes = {
    name: stable_diffusion.abstract_params(module, *inputs[name])
    for name, module in modules.items()
  }
  if checkpoint.EPIPOLAR in opened.components:
    config = opened.components[checkpoint.EPIPOLAR].config
    network = modules["unet"].clone(epipolar=epipolar_mv.blocks_of(opened))
    whole = epipolar_mv.abstract_params(network, config)
    shapes[checkpoint.EPIPOLAR] = epipolar_mv.split_params(whole)[1]
  for name, tree in shapes.items():
    checkpoint.check_params(
      opened.components[name], tree, source=f"{opened.source}: {name}/"
    )
