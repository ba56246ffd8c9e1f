"""One-to-one names between linen parameter paths and torch state-dict keys.

A linen path such as `down_blocks_0/resnets_1/conv1/kernel` is the torch key
`down_blocks.0.resnets.1.conv1.weight`. Two rules do it: a child of one of
`LISTS` is an index of that list, and the leaf `weight` is a norm's `scale`,
an embedding table's `embedding`, or else a `kernel`, whose axes are moved
from torch's (out, in, height, width) to (height, width, in, out). All other
leaves keep their name and layout. The rules hold both ways, so that a tree
read and written again is the same file.

One module has a name of its own: what the linen UNet calls the camera
embedding is the class embedding of diffusers' UNet, which takes any numbers.
Our first multi-view folders had the linen name in their files; like the old
names in VAE files it is still read (`modern`).
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import flax.traverse_util
import jax
import numpy as np

LISTS = frozenset(
  {
    "attentions",
    "down_blocks",
    "downsamplers",
    "layers",
    "net",
    "resnets",
    "to_out",
    "transformer_blocks",
    "up_blocks",
    "upsamplers",
  }
)
EMBEDDINGS = frozenset({"position_embedding", "token_embedding"})
# Names in VAE files written before diffusers 0.12.
OLD_ATTENTION = {
  "query": "to_q",
  "key": "to_k",
  "value": "to_v",
  "proj_attn": "to_out.0",
}
# Text encoders written by transformers 5 leave the leading `text_model.` out.
UNNAMED_TEXT_MODEL = ("embeddings.", "encoder.layers.", "final_layer_norm.")
# First parts of a path, linen's to torch's.
RENAMED = {"camera_embedding": "class_embedding"}
# Constant buffers that some files hold beside the parameters.
BUFFERS = ("position_ids",)
_LINEN_NAMES = {torch: linen for linen, torch in RENAMED.items()}

Params = Mapping[str, Any]
T = TypeVar("T")


def torch_key(path: tuple[str, ...]) -> str:
  """The state-dict key of a linen parameter path."""
  parts = []
  for name in path[:-1]:
    container, _, index = name.rpartition("_")
    listed = container in LISTS and index.isdigit()
    parts += [container, index] if listed else [name]
  if parts and parts[0] in RENAMED:
    parts[0] = RENAMED[parts[0]]
  leaf = path[-1]
  if leaf in ("kernel", "scale", "embedding"):
    leaf = "weight"
  return ".".join([*parts, leaf])


def linen_path(key: str, *, ndim: int) -> tuple[str, ...]:
  """The linen path of a state-dict key that holds an ndim-axis tensor."""
  parts = key.split(".")
  path = []
  for name in parts[:-1]:
    if path and path[-1] in LISTS and name.isdigit():
      path[-1] = f"{path[-1]}_{name}"
    else:
      path.append(name)
  if path and path[0] in _LINEN_NAMES:
    path[0] = _LINEN_NAMES[path[0]]
  leaf = parts[-1]
  if leaf == "weight":
    if path and path[-1] in EMBEDDINGS:
      leaf = "embedding"
    else:
      leaf = "scale" if ndim == 1 else "kernel"
  return (*path, leaf)


def to_torch(params: Params) -> dict[str, np.ndarray]:
  """Torch keys and layouts of a nested parameter tree."""
  return {
    torch_key(path): np.ascontiguousarray(
      _kernel_to_torch(value) if path[-1] == "kernel" else value
    )
    for path, value in flax.traverse_util.flatten_dict(params).items()
  }


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Nested parameter tree of a state dict; inverse of `to_torch`.

  Raises:
    ValueError: see `modern`.
  """
  flat = {}
  for key, value in modern(tensors).items():
    path = linen_path(key, ndim=value.ndim)
    flat[path] = _kernel_from_torch(value) if path[-1] == "kernel" else value
  return flax.traverse_util.unflatten_dict(flat)


def modern(tensors: Mapping[str, T]) -> dict[str, T]:
  """A state dict under one set of names, without constant buffers.

  Raises:
    ValueError: it has a tensor twice, under two of its names.
  """
  kept = [key for key in tensors if not key.endswith(BUFFERS)]
  renamed = {modern_key(key): tensors[key] for key in kept}
  if len(renamed) != len(kept):
    twice = next(
      k for k in kept if modern_key(k) != k and modern_key(k) in kept
    )
    raise ValueError(
      f"{twice} is there under its other name {modern_key(twice)} too: keep one"
    )
  return renamed


def modern_key(key: str) -> str:
  """Our name of a tensor that has had several."""
  first, dot, rest = key.partition(".")
  if first in RENAMED:
    return f"{RENAMED[first]}{dot}{rest}"
  if key.startswith(UNNAMED_TEXT_MODEL):
    return f"text_model.{key}"
  head, found, tail = key.partition(".mid_block.attentions.0.")
  name, _, leaf = tail.partition(".")
  if not found or name not in OLD_ATTENTION:
    return key
  return f"{head}{found}{OLD_ATTENTION[name]}.{leaf}"


def check_tree(params: Params, abstract: Params, *, source: str) -> None:
  """Raises ValueError unless both trees have the same paths and shapes.

  Args:
    params: what was read.
    abstract: what the module wants (arrays or ShapeDtypeStructs).
    source: the file named in the error.
  """
  check_paths(
    flax.traverse_util.flatten_dict(params),
    flax.traverse_util.flatten_dict(abstract),
    source=source,
  )


def check_paths(
  got: Mapping[tuple[str, ...], Any],
  want: Mapping[tuple[str, ...], Any],
  *,
  source: str,
  remedy: str = "Use the weights and the config.json of one model",
) -> None:
  """`check_tree` of flat trees; the error ends with the remedy."""
  shared = got.keys() & want.keys()
  faults = {
    "missing": [torch_key(path) for path in want.keys() - shared],
    "unexpected": [torch_key(path) for path in got.keys() - shared],
    "mis-shaped": [
      f"{torch_key(path)} {got[path].shape}, not {want[path].shape}"
      for path in shared
      if tuple(got[path].shape) != tuple(want[path].shape)
    ],
  }
  told = [
    f"{len(names)} {kind} ({', '.join(sorted(names)[:4])}"
    f"{', ...' if len(names) > 4 else ''})"
    for kind, names in faults.items()
    if names
  ]
  if told:
    raise ValueError(
      f"{source} does not fit its config (linen shapes): {'; '.join(told)}. "
      f"{remedy}"
    )


def cast(params: Params, dtype: Any) -> Any:
  """Parameters in another floating dtype, as numpy arrays.

  Raises ValueError where a finite number overflows in that dtype.
  """
  with np.errstate(over="ignore"):
    lowered = jax.tree.map(lambda x: np.asarray(x).astype(dtype), params)
  for path, value in flax.traverse_util.flatten_dict(lowered).items():
    if not np.isfinite(value.astype(np.float32)).all():
      raise ValueError(
        f"{torch_key(path)} is not finite in {np.dtype(dtype)}: "
        "write float32, or look for a diverged training"
      )
  return lowered


def _kernel_to_torch(kernel: Any) -> np.ndarray:
  return np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1))


def _kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2)))
