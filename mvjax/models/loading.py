"""Opens a model of any kind, and checks that models can be mixed."""

import hashlib
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mvjax.models import epipolar_mv, mvdream, spad, stable_diffusion
from mvjax.weights import checkpoint, hub, lora, orbax_params

Model = stable_diffusion.FlaxStableDiffusion

# Half precision moves an encoder's parameters by less than 0.3 % of their
# norm (bfloat16), a training of its own by tens of percent.
_SAME_ENCODER = 0.01
_ENCODER = ("encoder", "quant_conv")
_MODEL_FILES = (".json", ".msgpack", ".safetensors", ".txt")


def load(
  source: str | os.PathLike[str],
  dtype: DTypeLike = jnp.float32,
  *,
  param_dtype: DTypeLike | None = None,
  lora_file: str | os.PathLike[str] | None = None,
  lora_scale: float = 1.0,
) -> Model:
  """The model in a folder, a file or the hub (`checkpoint.open_checkpoint`).

  Args:
    source: where it is.
    dtype: what its networks compute in.
    param_dtype: what its parameters are kept in; `dtype` if None.
    lora_file: LoRA to merge into the weights (`lora.with_lora`).
    lora_scale: how much of it.

  Raises:
    FileNotFoundError: a component is missing.
    ValueError: a component is malformed; names the file.
  """
  opened = checkpoint.open_checkpoint(source)
  if lora_file is not None:
    opened = lora.with_lora(opened, pathlib.Path(lora_file), lora_scale)
  return build(opened, dtype, param_dtype=param_dtype)


def build(
  opened: checkpoint.Checkpoint,
  dtype: DTypeLike = jnp.float32,
  *,
  param_dtype: DTypeLike | None = None,
) -> Model:
  """`load` for a model whose files are open; they tell its kind."""
  return _kind(opened).from_checkpoint(opened, dtype, param_dtype=param_dtype)


def _kind(opened: checkpoint.Checkpoint) -> type[Model]:
  if checkpoint.EPIPOLAR in opened.components:
    return epipolar_mv.EpipolarMultiview
  config = opened.components["unet"].config
  if config.get("class_embed_type") != "projection":
    return stable_diffusion.FlaxStableDiffusion
  return spad.SPAD if config.get("ray_channels") else mvdream.MVDream


def check_mixable(one: Model, other: Model) -> None:
  """Checks that two models denoise the same latents.

  The encoder defines what latents mean; decoders may differ, as fine-tuned
  ones do. Schedules and prediction types may differ too, and the sizes of the
  latents (`models.bridge`).

  Raises:
    ValueError: names both models and the reason.
  """
  reason = _difference(one, other)
  if reason is not None:
    raise ValueError(
      f"{one.name} and {other.name} cannot be mixed: {reason}. Use models "
      "that were trained on the latents of one VAE"
    )


def fingerprint(
  source: str | os.PathLike[str], component: str = "[!.]*"
) -> str:
  """Hash of a model's weights, configs and tokens; 16 hexadecimal digits.

  Of a model folder, `component` limits it to one of the parts.
  """
  home = hub.local_path(source)
  if home.is_file():
    return _file_hash(home).hex()[:16]
  digest = hashlib.sha256()
  for path in sorted(home.glob(f"{component}/**/*")):
    place = path.relative_to(home)
    in_orbax = orbax_params.FOLDER in place.parts and path.is_file()
    if path.suffix in _MODEL_FILES or in_orbax:
      digest.update(f"{place.as_posix()}\n".encode())
      digest.update(_file_hash(path))
  return digest.hexdigest()[:16]


def _file_hash(path: pathlib.Path) -> bytes:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").digest()


def _difference(one: Model, other: Model) -> str | None:
  """Why their latents are not the same, or None."""
  for what, get in {
    "latent channels": lambda m: m.unet.in_channels,
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
  # float32: numpy sums in the type of the numbers.
  encoders = jax.tree.map(
    lambda x: np.asarray(x, np.float32), jax.device_get(encoders)
  )
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
