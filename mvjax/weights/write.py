"""Writes a checkpoint: a diffusers folder, one with Orbax, or a single file.

Tensors go from file to file one at a time (Orbax: one network at a time).
The target appears when it is complete, so that a failure leaves nothing.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import tqdm

from mvjax import atomic, records
from mvjax.weights import (
  checkpoint,
  component,
  description,
  folder,
  names,
  orbax_params,
  safetensors_writer,
  single_file,
)
from mvjax.weights import tensors as tensors_lib

FORMATS = ("diffusers", "orbax", "safetensors")
# torch's loaders refuse a file without this entry.
_TORCH = {"format": "pt"}
_MODEL_INDEX = {
  "_class_name": "StableDiffusionPipeline",
  "feature_extractor": [None, None],
  "requires_safety_checker": False,
  "safety_checker": [None, None],
  "scheduler": ["diffusers", "DDIMScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "unet": ["diffusers", "UNet2DConditionModel"],
  "vae": ["diffusers", "AutoencoderKL"],
}
# What tells that a folder of this name is part of a model.
_SIGNS = {
  **dict.fromkeys((*checkpoint.PARTS, checkpoint.EPIPOLAR), "config.json"),
  "scheduler": "scheduler_config.json",
  "tokenizer": "tokenizer_config.json",
}
# What a folder may hold that is replaced.
_ENTRIES = {
  *_SIGNS,
  "model_index.json",
  "training.json",
}
_TOLD = 4


def write(
  opened: checkpoint.Checkpoint,
  out: str | os.PathLike[str],
  *,
  format: str = "diffusers",
  dtype: Any = None,
) -> pathlib.Path:
  """Writes a model whole, in place of one that may be there.

  Args:
    opened: the model.
    out: 'diffusers': a folder that we and, but for SPAD's UNet, PyTorch's
      diffusers load. 'orbax': the same with an Orbax checkpoint `params/` of
      each network's linen tree in place of its safetensors file.
      'safetensors': a single file in the original layout, which says more of
      itself in its header (`description`).
    format: one of `FORMATS`.
    dtype: of the floating tensors; None leaves them as they are.

  Returns:
    `out` as a path.

  Raises:
    ValueError: `out` cannot be written (see `check_target`), there is not
      enough room, or a number is not finite in `dtype`.
  """
  target = check_target(out, format=format)
  parts = {
    name: dataclasses.replace(part, tensors=_cast(part, dtype))
    for name, part in opened.components.items()
  }
  _check_room(target, parts)
  count = sum(len(part.tensors) for part in parts.values())
  try:
    with (
      atomic.replaced(target) as new,
      tqdm.tqdm(
        total=count, desc=f"writing {target}", unit=" tensors", disable=None
      ) as bar,
    ):
      parts = {name: _counted(part, bar) for name, part in parts.items()}
      opened = dataclasses.replace(opened, components=parts)
      if format == "safetensors":
        _write_file(opened, new)
      else:
        _write_folder(opened, new, orbax=format == "orbax")
  except FileNotFoundError:
    raise
  except OSError as error:
    raise ValueError(f"out={target}: cannot be written: {error}") from error
  return target


def check_target(out: str | os.PathLike[str], *, format: str) -> pathlib.Path:
  """`out` as a path that may be written.

  Raises:
    ValueError: the format is unknown, `out` is of another kind or holds
      anything but a model, or its folder does not take new files.
  """
  if format not in FORMATS:
    raise ValueError(f"format={format!r}: must be one of {', '.join(FORMATS)}")
  target = pathlib.Path(os.path.abspath(out))
  if format == "safetensors":
    if target.suffix != ".safetensors" or target.is_dir():
      raise ValueError(f"out={out}: must be a file named ....safetensors")
  elif target.is_file():
    raise ValueError(f"out={out}: is a file, must be a folder")
  elif target.is_dir():
    check_parts(target)
    foreign = sorted({path.name for path in target.iterdir()} - _ENTRIES)
    if foreign:
      raise ValueError(
        f"out={out}: holds {', '.join(foreign[:_TOLD])}"
        f"{', ...' if len(foreign) > _TOLD else ''}, which is no part of a "
        "model that could be replaced: give a new folder"
      )
  parent = _existing_parent(target)
  if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
    raise ValueError(f"out={out}: {parent} does not take new files")
  return target


def check_parts(out: pathlib.Path) -> None:
  """Checks that what is there under the names of parts is parts of a model.

  Raises:
    ValueError: another folder or a file is.
  """
  for name, sign in _SIGNS.items():
    part = out / name
    held = part.is_dir() and not any(part.iterdir())
    if os.path.lexists(part) and not (held or (part / sign).is_file()):
      raise records.foreign(part)


def model_index(unet: Mapping[str, Any]) -> dict[str, Any]:
  """model_index.json for a UNet's config: which class each part is."""
  if unet.get("ray_channels"):
    return _MODEL_INDEX | {"unet": ["mvjax", unet["_class_name"]]}
  return dict(_MODEL_INDEX)


def _write_folder(
  opened: checkpoint.Checkpoint, home: pathlib.Path, *, orbax: bool
) -> None:
  for name, part in opened.components.items():
    (home / name).mkdir(parents=True)
    folder.write_config(home / name, name, part.config)
    if orbax:
      orbax_params.write_params(home / name / orbax_params.FOLDER, part.tensors)
    else:
      safetensors_writer.write_safetensors(
        home / name / folder.file_name(name), part.tensors, header=_TORCH
      )
  opened.tokenizer.save(home / "tokenizer")
  (home / "scheduler").mkdir()
  folder.write_json(
    home / "scheduler" / "scheduler_config.json", opened.scheduler
  )
  folder.write_json(
    home / "model_index.json", model_index(opened.components["unet"].config)
  )


def _write_file(opened: checkpoint.Checkpoint, path: pathlib.Path) -> None:
  header = description.describe(
    opened.components, opened.scheduler, tokens=opened.tokenizer
  )
  safetensors_writer.write_safetensors(
    path, single_file.join(opened.components), header=_TORCH | header
  )


def _cast(part: component.Component, dtype: Any) -> tensors_lib.Tensors:
  """A component's tensors under today's names, in a dtype."""
  return {
    name: tensors_lib.cast(
      tensor, np.dtype(tensor.dtype if dtype is None else dtype), name=name
    )
    for name, tensor in names.modern(part.tensors).items()
  }


def _counted(part: component.Component, bar: tqdm.tqdm) -> component.Component:
  """The component; reading a tensor moves the bar."""
  views = {
    name: tensors_lib.View(
      shape=tuple(tensor.shape),
      dtype=tensor.dtype,
      read=functools.partial(_read_and_count, tensor, bar),
    )
    for name, tensor in part.tensors.items()
  }
  return dataclasses.replace(part, tensors=views)


def _read_and_count(tensor: tensors_lib.Tensor, bar: tqdm.tqdm) -> np.ndarray:
  values = tensor.read()
  bar.update()
  return values


def _check_room(
  target: pathlib.Path, parts: Mapping[str, component.Component]
) -> None:
  needed = sum(
    safetensors_writer.size_in_bytes(tensor)
    for part in parts.values()
    for tensor in part.tensors.values()
  )
  free = shutil.disk_usage(_existing_parent(target)).free
  if free < needed:
    raise ValueError(
      f"out={target}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    )


def _existing_parent(target: pathlib.Path) -> pathlib.Path:
  return next(parent for parent in target.parents if parent.exists())
