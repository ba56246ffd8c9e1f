"""Components of a diffusers-layout folder: `config.json` plus weights.

A folder has one sub-folder per component (`unet/`, `vae/`, `text_encoder/`,
...). Its weights are one safetensors file, its shards, in the folders of
diffusers' Flax models one msgpack file, or an Orbax checkpoint that we wrote.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from mvjax import atomic
from mvjax.weights import (
  component,
  flax_msgpack,
  names,
  orbax_params,
  safetensors_file,
  tensors,
)

# The list of a large model's shards has a few hundred kilobytes.
_MAX_JSON = 1 << 25
# The stem each library gives its file.
STEMS = ("diffusion_pytorch_model", "model")
FLAX_FILES = ("diffusion_flax_model.msgpack", "flax_model.msgpack")


def read_config(folder: str | os.PathLike[str], name: str) -> dict[str, Any]:
  """A component's config.json; FileNotFoundError says what is there."""
  path = pathlib.Path(folder) / name / "config.json"
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is missing: {folder} is not a model folder with a {name} "
      f"(it holds {_listing(pathlib.Path(folder))})"
    )
  return read_json(path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A file with one JSON object; ValueError if it is anything else."""
  size = path.stat().st_size
  if size > _MAX_JSON:
    raise ValueError(f"{path} has {size} bytes, {_MAX_JSON} at most")
  try:
    content = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is not JSON: {str(error)[:200]}") from error
  if not isinstance(content, dict):
    raise ValueError(f"{path} holds a {type(content).__name__}, not an object")
  return content


def write_config(
  home: pathlib.Path, name: str, config: Mapping[str, Any]
) -> None:
  """Writes the config.json of a component into its folder.

  PyTorch's libraries load networks in float32, whatever their files hold; but
  transformers 5 takes a text encoder's type from the file if the config does
  not name one, and in half precision it would then fit no other network.
  """
  if name.startswith("text_encoder"):
    config = {k: v for k, v in config.items() if k != "torch_dtype"}
    config["dtype"] = "float32"
  write_json(home / "config.json", config)


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  """One object, readable, with keys in order."""
  text = json.dumps(dict(content), indent=2, sort_keys=True)
  path.write_text(text + "\n", encoding="utf-8")


def read_component(
  folder: str | os.PathLike[str], name: str
) -> component.Component:
  """Config and lazy tensors of one component.

  Args:
    folder: the model folder.
    name: the component's sub-folder, such as `unet`.

  Raises:
    FileNotFoundError: no config or no file with weights.
    ValueError: one of them is damaged; names the file.
  """
  config = read_config(folder, name)
  params = pathlib.Path(folder) / name / orbax_params.FOLDER
  if params.is_dir():
    return component.Component(
      config=config, tensors=orbax_params.open_params(params)
    )
  found: dict[str, tensors.Tensor] = {}
  for path in weight_files(pathlib.Path(folder) / name):
    if path.suffix == ".msgpack":
      config = flax_msgpack.CONFIG | config
      found |= flax_msgpack.open_msgpack(path)
    else:
      found |= safetensors_file.open_safetensors(path)
  return component.Component(config=config, tensors=found)


def write_component(
  folder: str | os.PathLike[str],
  name: str,
  *,
  config: Mapping[str, Any],
  params: names.Params,
  dtype: Any = np.float32,
) -> None:
  """Writes config and parameters of one component, replacing it whole.

  Args:
    folder: the model folder, made if needed.
    name: its sub-folder; `text_encoder` gets transformers' file name.
    config: the content of config.json.
    params: nested parameter tree.
    dtype: floating dtype in the file.

  Raises:
    ValueError: a parameter is not finite in `dtype`.
  """
  values = names.to_torch(names.cast(params, dtype))
  with atomic.replaced(pathlib.Path(folder) / name) as home:
    home.mkdir()
    write_config(home, name, config)
    # torch's loaders refuse a file without this entry.
    safetensors.numpy.save_file(
      values, home / file_name(name), metadata={"format": "pt"}
    )


def file_name(name: str) -> str:
  """The file in which the libraries look for a component's weights."""
  stem = STEMS[1] if name.startswith("text_encoder") else STEMS[0]
  return f"{stem}.safetensors"


def weight_files(home: pathlib.Path) -> list[pathlib.Path]:
  """A component's files: full precision, its shards, half, or Flax's.

  Raises:
    FileNotFoundError: there are none, or a shard is missing.
    ValueError: the list of shards is damaged.
  """
  for stem in STEMS:
    single = home / f"{stem}.safetensors"
    if single.is_file():
      return [single]
    index = home / f"{stem}.safetensors.index.json"
    if index.is_file():
      return _shards(index)
    half = home / f"{stem}.fp16.safetensors"
    if half.is_file():
      return [half]
  for name in FLAX_FILES:
    if (home / name).is_file():
      return [home / name]
  raise FileNotFoundError(
    f"{home} has no {' or '.join(f'{s}.safetensors' for s in STEMS)} (it "
    f"holds {_listing(home)}): only safetensors and Flax's msgpack are read, "
    "convert the weights"
  )


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
  """The files that an index lists, all in its own folder."""
  listed = read_json(index).get("weight_map")
  if not isinstance(listed, dict) or not listed:
    raise ValueError(f"{index} has no weight_map of tensors to files")
  shards = []
  for name in sorted(set(map(str, listed.values()))):
    if name != pathlib.PurePath(name).name or not name.endswith(".safetensors"):
      raise ValueError(
        f"{index}: {name[:80]!r} is no safetensors file beside it"
      )
    if not (index.parent / name).is_file():
      raise FileNotFoundError(
        f"{index.parent / name} is missing: {index.name} lists it"
      )
    shards.append(index.parent / name)
  return shards


def _listing(folder: pathlib.Path) -> str:
  if not folder.is_dir():
    return "nothing: no such folder"
  return ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
