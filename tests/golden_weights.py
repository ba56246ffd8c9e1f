"""Goldens of public PyTorch implementations, without weight files.

Each folder of tests/goldens holds inputs and outputs (`io.npz`) and the rule
(`config.json`) by which every weight is drawn again from its checkpoint key.
"""

import json
import pathlib
import zlib
from typing import Any

import flax.traverse_util
import numpy as np

from mvjax.models import stable_diffusion
from mvjax.weights import names

FOLDER = pathlib.Path(__file__).parent / "goldens"


class Golden:
  """One set: `config`, its arrays channels last, and its weights."""

  def __init__(self, name: str):
    self.config = json.loads((FOLDER / name / "config.json").read_text())
    with np.load(FOLDER / name / "io.npz") as arrays:
      self.arrays = dict(arrays)

  def __getitem__(self, name: str) -> np.ndarray:
    """An `in.`, `out.` or `probe.` array, NHWC if it is a map."""
    array = self.arrays[name]
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array

  def tensors(self) -> dict[str, np.ndarray]:
    """The state dict, checked against the numbers kept with the golden."""
    seed = self.config["seed"]
    tensors = {
      key: draw(key, shape, seed=seed)
      for key, shape in self.config["keys"].items()
    }
    for key, check in self.config["weight_check"].items():
      np.testing.assert_allclose(tensors[key].flat[:4], check["first"], 1e-6)
      total = tensors[key].astype(np.float64).sum()
      np.testing.assert_allclose(total, check["sum"], 1e-4, 1e-4)
    return tensors

  def tiny_tensors(self) -> dict[str, np.ndarray]:
    """The state dict for `*_tiny`, where norm epsilons show."""
    tiny = self.config["tiny"]
    return {
      key: value * np.float32(tiny["weight_scale"])
      if key.endswith(tuple(tiny["suffixes"]))
      else value
      for key, value in self.tensors().items()
    }


def draw(key: str, shape: list[int], *, seed: int) -> np.ndarray:
  """The weight of a key, by rule crc32-randomstate-v1; torch layout."""
  random = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode()))
  values = random.standard_normal(shape)
  if len(shape) <= 1:
    values = 0.1 * values + (1.0 if key.endswith("weight") else 0.0)
  else:
    values = values / np.sqrt(np.prod(shape[1:]))
  return values.astype(np.float32)


def fitted(tensors: dict[str, np.ndarray], module: Any, *inputs: Any) -> dict:
  """Variables of a module from a state dict that must fit it exactly."""
  abstract = stable_diffusion.abstract_params(module, *inputs)
  params = names.from_torch(tensors)
  names.check_tree(params, abstract, source="golden")
  return {"params": params}


def random_variables(module: Any, *inputs: Any, seed: int = 0) -> dict:
  """Variables without any zero-initialised layer, which would hide errors."""
  abstract = stable_diffusion.abstract_params(module, *inputs)
  random = np.random.default_rng(seed)

  def values(path: tuple[str, ...], leaf: Any) -> np.ndarray:
    scale = 0.1 if len(leaf.shape) < 2 else np.prod(leaf.shape[:-1]) ** -0.5
    offset = 1.0 if path[-1] == "scale" else 0.0
    drawn = scale * random.standard_normal(leaf.shape) + offset
    return drawn.astype(leaf.dtype)

  flat = flax.traverse_util.flatten_dict(abstract)
  return {
    "params": flax.traverse_util.unflatten_dict(
      {path: values(path, leaf) for path, leaf in flat.items()}
    )
  }
