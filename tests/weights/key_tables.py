"""The published key tables: names and shapes without values."""

import gzip
import json

import golden_weights
import numpy as np

from mvjax.weights import clip_keys
from mvjax.weights import tensors as tensors_lib


def shapes(name):
  """Shapes by key of a table in tests/goldens/keys."""
  path = golden_weights.FOLDER / "keys" / f"{name}.json.gz"
  with gzip.open(path) as file:
    return {key: tuple(shape) for key, shape in json.load(file).items()}


def tensors(*names):
  """Tensors of these tables, which must not be read."""

  def refuse():
    raise AssertionError("names and shapes are enough here")

  return {
    key: tensors_lib.View(shape=shape, dtype=np.dtype("float32"), read=refuse)
    for name in names
    for key, shape in shapes(name).items()
  }


def file_of(family):
  """The whole published file of a family."""
  if family.startswith("spad"):
    return tensors(family)
  return tensors(f"{family}_unet_vae", f"{family}_text_and_buffers")


def stable_diffusion(style):
  """A Stable Diffusion file: MVDream's without the camera."""
  return {
    key: tensor
    for key, tensor in file_of(f"mvdream_{style}").items()
    if ".camera_embed." not in key
  }


def small_text(*, open_clip, layers=2, width=64):
  """A text encoder of some layers under a file's names, random weights."""
  table = (
    clip_keys.open_clip_table(layers)
    if open_clip
    else clip_keys.clip_table(layers)
  )
  random = np.random.default_rng(0)

  def shape(name):
    sizes = {
      "token_embedding.weight": (50, width),
      "position_embedding.weight": (7, width),
      "fc1.weight": (4 * width, width),
      "fc1.bias": (4 * width,),
      "fc2.weight": (width, 4 * width),
    }
    for tail, size in sizes.items():
      if name.endswith(tail):
        return size
    square = "self_attn" in name and name.endswith("weight")
    return (width, width) if square else (width,)

  return {
    old: tensors_lib.in_memory(
      np.concatenate(
        [random.normal(size=shape(new)).astype(np.float32) for new in shares]
      )
    )
    for old, shares in table.items()
  }
