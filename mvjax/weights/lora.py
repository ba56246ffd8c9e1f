"""LoRA files: low-rank changes of a model's weights, added when it is read.

For a layer of weight W [out ...] a file holds `down` [rank ...] and `up`
[out rank], and perhaps a number alpha; the layer becomes
W + scale * alpha / rank * up down. Without an alpha, alpha is the rank.

Files name the layers in one of two ways: kohya's training code writes
`lora_unet_` or `lora_te_` and the layer with underscores for dots, where the
UNet's layers have diffusers' or the single files' names; diffusers writes
`unet.` or `text_encoder.` and the layer. Every name that can occur is listed
from the components, so that nothing in a file is passed over in silence.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np

from mvjax.weights import checkpoint as checkpoint_lib
from mvjax.weights import component as component_lib
from mvjax.weights import ldm, names, weight_file
from mvjax.weights import tensors as tensors_lib

# Ends of the names of the two factors; longer ones first where one ends as
# another does. The last are of diffusers' first layouts.
_FACTORS = {
  ".lora_down.weight": "down",
  ".lora_up.weight": "up",
  ".lora_A.weight": "down",
  ".lora_B.weight": "up",
  ".lora_linear_layer.down.weight": "down",
  ".lora_linear_layer.up.weight": "up",
  ".lora.down.weight": "down",
  ".lora.up.weight": "up",
  ".down.weight": "down",
  ".up.weight": "up",
  ".alpha": "alpha",
}
# diffusers' program to write kohya's layout numbers the text encoder.
_KOHYA = {
  "unet": ("lora_unet_",),
  "text_encoder": ("lora_te_", "lora_te1_"),
}
# diffusers' description of its own files, an entry of the header.
_DESCRIPTION = "lora_adapter_metadata"
_TOLD = 4

Components = Mapping[str, component_lib.Component]


def with_lora(
  checkpoint: checkpoint_lib.Checkpoint,
  path: str | pathlib.Path,
  scale: float = 1.0,
) -> checkpoint_lib.Checkpoint:
  """The checkpoint with a LoRA file merged into its weights, as they are read.

  Args:
    checkpoint: the base model.
    path: a safetensors or torch file.
    scale: how much of the change is added; 1 is what was trained.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is no LoRA, or one of another model.
  """
  changed = merge(
    checkpoint.components,
    weight_file.open_weights(path),
    scale=scale,
    source=str(path),
    alphas=_alphas(weight_file.read_header(path), source=str(path)),
  )
  return dataclasses.replace(checkpoint, components=changed)


def merge(
  components: Components,
  lora: tensors_lib.Tensors,
  *,
  scale: float,
  source: str,
  alphas: Mapping[str, float] | None = None,
) -> dict[str, component_lib.Component]:
  """Components whose changed weights are computed, in float32, when read.

  Args:
    components: of the base model.
    lora: tensors of the LoRA file.
    scale: factor of the change.
    source: the LoRA file, for messages.
    alphas: alpha by component, for layers that have none in the file.

  Raises:
    ValueError: the file names a layer that the base model does not have, or
      one of another shape.
  """
  alphas = alphas or {}
  merged = {
    name: names.modern(part.tensors) for name, part in components.items()
  }
  for (name, key), factors in _by_weight(components, lora, source).items():
    rank = factors["down"].shape[0] if factors["down"].shape else 0
    alpha = alphas.get(name, rank)
    if "alpha" in factors:
      alpha = float(np.asarray(factors["alpha"].read(), np.float32).item())
    merged[name][key] = _changed(
      merged[name][key],
      factors["down"],
      factors["up"],
      factor=scale * alpha / max(rank, 1),
      where=f"{source}: {name} {key}",
    )
  return {
    name: dataclasses.replace(part, tensors=merged[name])
    for name, part in components.items()
  }


def layer_names(components: Components) -> dict[str, tuple[str, str]]:
  """Every name a file may give a layer: component and key of its weight."""
  found = {}
  for name, prefixes in _KOHYA.items():
    if name not in components:
      continue
    part = components[name]
    is_unet = name == "unet"
    original = ldm.inverse(ldm.unet_table(part.config)) if is_unet else {}
    for key, tensor in names.modern(part.tensors).items():
      if not key.endswith(".weight") or len(tensor.shape) < 2:
        continue
      layer = key.removesuffix(".weight")
      first = _first_layout(layer)
      layers = [layer]
      spellings = [f"{name}.{layer}", f"{name}.{first}"]
      if is_unet:
        old = original[key].removeprefix(ldm.UNET).removesuffix(".weight")
        layers.append(old)
        # Diffusers' first files held the UNet's attention and nothing else.
        spellings.append(first)
      else:
        # As transformers 5 has it.
        short = layer.removeprefix("text_model.")
        layers.append(short)
        spellings.append(f"{name}.{short}")
      spellings += [
        prefix + spelled.replace(".", "_")
        for prefix in prefixes
        for spelled in layers
      ]
      found |= dict.fromkeys(spellings, (name, key))
  return found


def _first_layout(layer: str) -> str:
  """Diffusers' name for the change of an attention's projection at first."""
  head, _, projection = layer.rpartition(".")
  for part in "qkv":
    if projection == f"to_{part}":
      return f"{head}.processor.to_{part}_lora"
    if projection == f"{part}_proj":
      return f"{head}.to_{part}_lora"
  if layer.endswith(".to_out.0"):
    return f"{layer.removesuffix('.to_out.0')}.processor.to_out_lora"
  if projection == "out_proj":
    return f"{head}.to_out_lora"
  return layer


def _by_weight(
  components: Components, lora: tensors_lib.Tensors, source: str
) -> dict[tuple[str, str], dict[str, tensors_lib.Tensor]]:
  """Factors by the weight that they change, every one accounted for."""
  layers = layer_names(components)
  found: dict[tuple[str, str], dict[str, tensors_lib.Tensor]] = {}
  unknown = []
  for name, tensor in lora.items():
    end = next((end for end in _FACTORS if name.endswith(end)), "")
    layer = layers.get(name.removesuffix(end)) if end else None
    if layer is None:
      unknown.append(name)
    elif _FACTORS[end] in found.setdefault(layer, {}):
      raise ValueError(f"{source}: {name} and another name are of one weight")
    else:
      found[layer][_FACTORS[end]] = tensor
  if unknown or not found:
    raise ValueError(
      f"{source} is not a LoRA of this base model: {len(unknown)} of its "
      f"{len(lora)} tensors are unknown ({', '.join(sorted(unknown)[:_TOLD])}"
      f"{', ...' if len(unknown) > _TOLD else ''}). Is it of another base "
      "model (XL), or of another kind (LoHa, LoKr, DoRA)?"
    )
  for (component, key), factors in found.items():
    if not {"down", "up"} <= factors.keys():
      raise ValueError(
        f"{source}: {component} {key} has only {', '.join(sorted(factors))}: "
        "is the file whole?"
      )
  return found


def _changed(
  weight: tensors_lib.Tensor,
  down: tensors_lib.Tensor,
  up: tensors_lib.Tensor,
  *,
  factor: float,
  where: str,
) -> tensors_lib.View:
  """The weight plus factor * up down; 1x1 convolutions are matrices."""
  rank, width = down.shape[0] if down.shape else 0, math.prod(down.shape[1:])
  out = weight.shape[0]
  if (
    rank < 1
    or width != math.prod(weight.shape[1:])
    or up.shape[:2] != (out, rank)
    or math.prod(up.shape) != out * rank
  ):
    raise ValueError(
      f"{where} has shape {tuple(weight.shape)}, which up {tuple(up.shape)} "
      f"and down {tuple(down.shape)} do not fit: a LoRA of another base model?"
    )

  def read() -> np.ndarray:
    factors = (
      np.asarray(part.read(), np.float32).reshape(shape)
      for part, shape in ((up, (out, rank)), (down, (rank, width)))
    )
    change = factor * np.matmul(*factors)
    base = np.asarray(weight.read(), np.float32)
    return base + change.reshape(weight.shape).astype(np.float32)

  return tensors_lib.View(
    shape=tuple(weight.shape), dtype=np.dtype(np.float32), read=read
  )


def _alphas(header: Mapping[str, str], *, source: str) -> dict[str, float]:
  """Alphas that diffusers notes in the header, by component.

  Raises:
    ValueError: the note is damaged, or asks for another kind of change.
  """
  if _DESCRIPTION not in header:
    return {}
  try:
    noted = json.loads(header[_DESCRIPTION])
    alphas = {
      name: float(noted[f"{name}.lora_alpha"])
      for name in _KOHYA
      if f"{name}.lora_alpha" in noted
    }
    special = [
      f"{name}.{option}"
      for name in _KOHYA
      for option in ("alpha_pattern", "use_dora", "use_rslora")
      if noted.get(f"{name}.{option}")
    ]
  except (AttributeError, TypeError, ValueError) as error:
    raise ValueError(
      f"{source}: the header entry {_DESCRIPTION} is damaged ({error})"
    ) from error
  if special:
    raise ValueError(
      f"{source}: {special[0]} is set, which is not supported: merge this "
      "LoRA with the program that made it"
    )
  return alphas
