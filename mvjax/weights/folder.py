"""Components of a diffusers-layout folder: `config.json` plus safetensors.

A folder has one sub-folder per component (`unet/`, `vae/`, `text_encoder/`,
...). Nothing but safetensors is read, and every tensor is accounted for.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from mvjax.weights import names

# The stem each library gives its file.
STEMS = ("diffusion_pytorch_model", "model")


def read_config(
  folder: str | os.PathLike[str], component: str
) -> dict[str, Any]:
  """The component's config.json; FileNotFoundError says what is there."""
  path = pathlib.Path(folder) / component / "config.json"
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is missing: {folder} is not a model folder with a {component} "
      f"(it holds {_listing(pathlib.Path(folder))})"
    )
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise ValueError(f"{path} is not JSON: {error}") from error


def read_component(
  folder: str | os.PathLike[str],
  component: str,
  abstract_params: names.Params,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads config and parameters of one component.

  Args:
    folder: the model folder.
    component: its sub-folder, such as `unet`.
    abstract_params: the parameter tree its module wants, as arrays or
      ShapeDtypeStructs; parameters are cast to its dtypes.

  Returns:
    The config and a nested tree of numpy arrays.

  Raises:
    FileNotFoundError: no config or no safetensors file.
    ValueError: missing, unexpected or mis-shaped tensors, by name.
  """
  config = read_config(folder, component)
  home = pathlib.Path(folder) / component
  tensors: dict[str, np.ndarray] = {}
  for path in _weight_files(home):
    tensors.update(safetensors.numpy.load_file(path))
  params = names.from_torch(tensors)
  names.check_tree(params, abstract_params, source=str(home))
  return config, jax.tree.map(
    lambda got, want: got.astype(want.dtype), params, dict(abstract_params)
  )


def write_component(
  folder: str | os.PathLike[str],
  component: str,
  *,
  config: Mapping[str, Any],
  params: names.Params,
  dtype: Any = np.float32,
) -> None:
  """Writes config and parameters of one component, replacing it whole.

  Args:
    folder: the model folder, made if needed.
    component: its sub-folder; `text_encoder` gets transformers' file name.
    config: the content of config.json.
    params: nested parameter tree.
    dtype: floating dtype in the file.

  Raises:
    ValueError: a parameter is not finite in `dtype`.
  """
  tensors = names.to_torch(names.cast(params, dtype))
  stem = STEMS[1] if component.startswith("text_encoder") else STEMS[0]
  with _replaced_folder(pathlib.Path(folder) / component) as home:
    text = json.dumps(dict(config), indent=2, sort_keys=True)
    (home / "config.json").write_text(text + "\n")
    # torch's loaders refuse a file without this entry.
    safetensors.numpy.save_file(
      tensors, home / f"{stem}.safetensors", metadata={"format": "pt"}
    )


def _weight_files(home: pathlib.Path) -> list[pathlib.Path]:
  """The component's safetensors: one file, its shards, or half precision."""
  for stem in STEMS:
    single = home / f"{stem}.safetensors"
    if single.is_file():
      return [single]
    index = home / f"{stem}.safetensors.index.json"
    if index.is_file():
      shards = json.loads(index.read_text())["weight_map"].values()
      return [home / shard for shard in sorted(set(shards))]
    half = home / f"{stem}.fp16.safetensors"
    if half.is_file():
      return [half]
  raise FileNotFoundError(
    f"{home} has no {' or '.join(f'{s}.safetensors' for s in STEMS)} (it "
    f"holds {_listing(home)}): only safetensors are read, convert the weights"
  )


def _listing(folder: pathlib.Path) -> str:
  if not folder.is_dir():
    return "nothing: no such folder"
  return ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"


@contextlib.contextmanager
def _replaced_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A new folder that takes the target's place once it is complete."""
  target.parent.mkdir(parents=True, exist_ok=True)
  scratch = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
  )
  try:
    new = scratch / "new"
    new.mkdir()
    yield new
    if target.exists():
      target.rename(scratch / "old")
    new.rename(target)
  finally:
    shutil.rmtree(scratch)
