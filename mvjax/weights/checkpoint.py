"""A whole model on disk, in any format, before its networks are built.

Whatever the format, the components are what a diffusers folder holds, and
their tensors stay in the file until `read_params` or `read_arrays` takes them,
one at a time.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from mvjax import tokenizer
from mvjax.weights import component as component_lib
from mvjax.weights import (
  description,
  families,
  folder,
  hub,
  ldm,
  names,
  single_file,
  tensors,
  weight_file,
)

Component = component_lib.Component

# What every model has, and what ours may have beside it.
PARTS = ("unet", "vae", "text_encoder")
EPIPOLAR = "epipolar"
# A UNet in a folder under the names of the original layout.
_ORIGINAL_UNET = "MultiViewUNetModel"
_SCHEDULER = "scheduler/scheduler_config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """A model whose weights are still in their files.

  Attributes:
    source: what it was opened from, for messages.
    components: `unet`, `vae`, `text_encoder` and, for our multi-view model,
      `epipolar`.
    scheduler: the content of scheduler_config.json.
    tokenizer: of the text encoder.
  """

  source: str
  components: Mapping[str, Component]
  scheduler: Mapping[str, Any]
  tokenizer: tokenizer.Tokenizer


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
  """Opens a model without reading its weights.

  Args:
    source: a folder in diffusers' layout (safetensors or Flax msgpack), a
      single file in the original layout (safetensors, .ckpt, .pt, .pth), or
      a hub id, see `hub.local_path`.

  Raises:
    FileNotFoundError: there is no such model, or a part of it is missing.
    ValueError: a part is damaged or of a model we do not know; names it.
  """
  path = hub.local_path(source)
  if path.is_dir():
    return _open_folder(path, str(source))
  header = weight_file.read_header(path)
  components, scheduler = single_file.split(
    weight_file.open_weights(path), source=str(source), header=header
  )
  return Checkpoint(
    source=str(source),
    components=components,
    scheduler=scheduler,
    tokenizer=description.read_tokenizer(header, source=str(source))
    or _clip_tokenizer(components["text_encoder"], str(source)),
  )


def read_params(
  component: Component, abstract_params: names.Params, *, source: str
) -> dict[str, Any]:
  """The parameters of a component, on the default device.

  One tensor at a time is read, laid out and cast, so that beyond the result
  only a few of its largest tensors are in memory.

  Args:
    component: what to read.
    abstract_params: the tree its module wants, as arrays or
      ShapeDtypeStructs; parameters are cast to its dtypes.
    source: the file or folder, for messages.

  Returns:
    A nested tree of jax arrays.

  Raises:
    ValueError: missing, unexpected or mis-shaped tensors by name, or a number
      that is not finite in its target dtype.
  """
  return flax.traverse_util.unflatten_dict(
    {
      # Copies that are still under way would keep their sources in memory.
      path: jax.block_until_ready(jnp.asarray(values))
      for path, values in _values(component, abstract_params, source=source)
    }
  )


def read_arrays(
  component: Component, abstract_params: names.Params, *, source: str
) -> dict[str, Any]:
  """As `read_params`, but numpy arrays: no device sees them."""
  return flax.traverse_util.unflatten_dict(
    dict(_values(component, abstract_params, source=source))
  )


def check_params(
  component: Component, abstract_params: names.Params, *, source: str
) -> dict[tuple[str, ...], tensors.Tensor]:
  """The unread tensors of a component by linen path, in linen's layout.

  Raises:
    ValueError: missing, unexpected, mis-shaped or whole-numbered tensors by
      name.
  """
  found = {}
  for key, tensor in names.modern(component.tensors).items():
    path = names.linen_path(key, ndim=len(tensor.shape))
    found[path] = _linen_layout(tensor) if path[-1] == "kernel" else tensor
  wanted = flax.traverse_util.flatten_dict(dict(abstract_params))
  names.check_paths(
    found, wanted, source=source, remedy=_likely_cause(component)
  )
  for path, tensor in found.items():
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
      raise ValueError(
        f"{source}: {'/'.join(path)} is of {tensor.dtype}, weights must be "
        "floats: get them as they were before they were quantized"
      )
  return found


def _open_folder(home: pathlib.Path, source: str) -> Checkpoint:
  present = [EPIPOLAR] if (home / EPIPOLAR).is_dir() else []
  components = {
    name: folder.read_component(home, name) for name in (*PARTS, *present)
  }
  if components["unet"].config.get("_class_name") == _ORIGINAL_UNET:
    components["unet"] = single_file.original_unet(
      components["unet"], source=f"{source}: unet/"
    )
  if not (home / _SCHEDULER).is_file():
    raise FileNotFoundError(
      f"{home / _SCHEDULER} is missing: a model needs its schedule"
    )
  return Checkpoint(
    source=source,
    components=components,
    scheduler=folder.read_json(home / _SCHEDULER),
    tokenizer=tokenizer.Tokenizer.load(home / "tokenizer")
    if (home / "tokenizer").is_dir()
    else _clip_tokenizer(components["text_encoder"], f"{home}/tokenizer"),
  )


def _clip_tokenizer(encoder: Component, source: str) -> tokenizer.Tokenizer:
  """CLIP's own vocabulary, for a text encoder that has as many tokens."""
  size = encoder.config.get("vocab_size")
  if size != tokenizer.CLIP_VOCAB_SIZE:
    raise FileNotFoundError(
      f"{source}: no tokenizer is there, and the text encoder's {size} tokens "
      f"are not the {tokenizer.CLIP_VOCAB_SIZE} of CLIP, which are shipped"
    )
  # OpenCLIP's encoders have the exact GELU, OpenAI's the quick one.
  open_clip = encoder.config.get("hidden_act") == "gelu"
  return tokenizer.Tokenizer.clip(pad_token="!" if open_clip else tokenizer.END)


def _linen_layout(weight: tensors.Tensor) -> tensors.Tensor:
  """Torch's (out, in, height, width) as (height, width, in, out)."""
  if len(weight.shape) < 2:
    return weight
  return tensors.transposed(weight, (*range(2, len(weight.shape)), 1, 0))


def _likely_cause(component: Component) -> str:
  """What may be wrong with a component that does not fit its config."""
  kind = families.marked_kind(component.tensors)
  if kind is not None:
    return f"It looks like {kind}"
  if any(key.startswith(families.AVERAGE) for key in component.tensors):
    return "It looks like only a moving average: get the plain weights"
  if any(key.startswith((ldm.UNET, ldm.VAE)) for key in component.tensors):
    return "It has a single file's names: give that file itself as the model"
  return "Use the weights and the config.json of one model"


def _values(
  component: Component, abstract_params: names.Params, *, source: str
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
  """Paths and values of all parameters, which are checked before the first."""
  found = check_params(component, abstract_params, source=source)
  wanted = flax.traverse_util.flatten_dict(dict(abstract_params))
  for path, tensor in found.items():
    where = f"{source}: {'/'.join(path)}"
    yield path, _read(tensor, wanted[path].dtype, where)


def _read(tensor: tensors.Tensor, dtype: Any, where: str) -> np.ndarray:
  with np.errstate(over="ignore"):
    values = np.asarray(tensor.read(), dtype=dtype, order="C")
  if not np.isfinite(values).all():
    raise ValueError(
      f"{where} is not finite in {values.dtype}: read in a wider dtype, or get "
      "undamaged weights"
    )
  return values
