"""One-to-one names between linen parameter paths and torch state-dict keys.

A linen path such as `down_blocks_0/resnets_1/conv1/kernel` is the torch key
`down_blocks.0.resnets.1.conv1.weight`. Two rules do it: a child of one of
`LISTS` is an index of that list, and the leaf `weight` is a norm's `scale`,
an embedding table's `embedding`, or else a `kernel`, whose axes are moved
from torch's (out, in, height, width) to (height, width, in, out). All other
leaves keep their name and layout. The rules hold both ways, so that a tree
read and written again is the same file.
"""

from collections.abc import Mapping
from typing import Any

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
# Constant buffers that some files hold beside the parameters.
BUFFERS = ("position_ids",)

Params = Mapping[str, Any]


def torch_key(path: tuple[str, ...]) -> str:
  """The state-dict key of a linen parameter path."""
  parts = []
  for name in path[:-1]:
    container, _, index = name.rpartition("_")
    listed = container in LISTS and index.isdigit()
    parts += [container, index] if listed else [name]
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

  Old VAE attention names are read as today's, constant buffers are dropped.
  """
  flat = {}
  for key, value in tensors.items():
    if key.endswith(BUFFERS):
      continue
    path = linen_path(_modern(key), ndim=value.ndim)
    flat[path] = _kernel_from_torch(value) if path[-1] == "kernel" else value
  return flax.traverse_util.unflatten_dict(flat)


def check_tree(params: Params, abstract: Params, *, source: str) -> None:
  """Raises ValueError unless both trees have the same paths and shapes.

  Args:
    params: what was read.
    abstract: what the module wants (arrays or ShapeDtypeStructs).
    source: the file named in the error.
  """
  got = flax.traverse_util.flatten_dict(params)
  want = flax.traverse_util.flatten_dict(abstract)
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
      "Use the weights and the config.json of one model"
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


def _modern(key: str) -> str:
  head, found, tail = key.partition(".mid_block.attentions.0.")
  name, _, leaf = tail.partition(".")
  if not found or name not in OLD_ATTENTION:
    return key
  return f"{head}{found}{OLD_ATTENTION[name]}.{leaf}"


def _kernel_to_torch(kernel: Any) -> np.ndarray:
  return np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1))


def _kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2)))
