"""Opens a model folder of any kind, and checks that models can be mixed."""

import hashlib
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mvjax.models import epipolar_mv, stable_diffusion

Model = stable_diffusion.FlaxStableDiffusion

# Half precision moves an encoder's parameters by less than 0.3 % of their
# norm (bfloat16), a training of its own by tens of percent.
_SAME_ENCODER = 0.01
_ENCODER = ("encoder", "quant_conv")
_WEIGHT_FILES = (".json", ".safetensors", ".txt")


def load(
  folder: str | os.PathLike[str], dtype: DTypeLike = jnp.float32
) -> Model:
  """The model in a folder; `dtype` is what its networks compute in.

  Raises:
    FileNotFoundError: a component is missing.
    ValueError: a component is malformed; names the file.
  """
  home = pathlib.Path(folder)
  if (home / epipolar_mv.COMPONENT).is_dir():
    return epipolar_mv.EpipolarMultiview.load(home, dtype)
  return stable_diffusion.FlaxStableDiffusion.load(home, dtype)


def check_mixable(one: Model, other: Model) -> None:
  """Checks that two models denoise the same latents.

  The encoder defines what latents mean; decoders may differ, as fine-tuned
  ones do. Schedules and prediction types may differ too.

  Raises:
    ValueError: names both models and the reason.
  """
  reason = _difference(one, other)
  if reason is not None:
    raise ValueError(
      f"{one.name} and {other.name} cannot be mixed: {reason}. Use models "
      "that were trained on the latents of one VAE"
    )


def fingerprint(folder: str | os.PathLike[str]) -> str:
  """Hash of a model's weights, configs and tokens; 16 hexadecimal digits."""
  home = pathlib.Path(folder)
  digest = hashlib.sha256()
  for path in sorted(home.glob("*/*")):
    if path.suffix in _WEIGHT_FILES and not path.parent.name.startswith("."):
      digest.update(f"{path.relative_to(home).as_posix()}\n".encode())
      with path.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
  return digest.hexdigest()[:16]


def _difference(one: Model, other: Model) -> str | None:
  """Why their latents are not the same, or None."""
  for what, get in {
    "latent channels": lambda m: m.unet.in_channels,
    "latent size": lambda m: m.latent_size,
    "VAE downsampling": lambda m: 2 ** (len(m.vae.block_out_channels) - 1),
  }.items():
    if get(one) != get(other):
      return f"{what} {get(one)} and {get(other)}"
  scales = one.scaling_factor, other.scaling_factor
  if abs(scales[0] / scales[1] - 1) > 1e-3:
    return f"latent scaling factors {scales[0]:.5g} and {scales[1]:.5g}"
  encoders = [
    {name: model.params["vae"][name] for name in _ENCODER}
    for model in (one, other)
  ]
  encoders = jax.device_get(encoders)
  shapes = [jax.tree.map(np.shape, encoder) for encoder in encoders]
  if shapes[0] != shapes[1]:
    return "their VAE encoders have different layers"
  distance = _norm(jax.tree.map(np.subtract, *encoders))
  share = distance / (_norm(encoders[0]) + 1e-12)
  if share > _SAME_ENCODER:
    return f"their VAE encoders differ by {share:.0%} of the weights' norm"
  return None


def _norm(tree) -> float:
  squares = jax.tree.map(lambda x: float(np.vdot(x, x)), tree)
  return sum(jax.tree.leaves(squares)) ** 0.5
