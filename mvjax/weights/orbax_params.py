"""Parameters of one network as an Orbax checkpoint.

It holds the linen tree, `{"conv_in": {"kernel": ...}, ...}`, as
`orbax.checkpoint.v1.load` gives it to any JAX program.
"""

import pathlib

import numpy as np
from orbax.checkpoint import v1 as ocp

from mvjax.weights import names
from mvjax.weights import tensors as tensors_lib

# Where a component has it, in place of its safetensors file.
FOLDER = "params"


def write_params(path: pathlib.Path, tensors: tensors_lib.Tensors) -> None:
  """Writes tensors of torch names and layouts; all are in memory at once."""
  tree = names.from_torch({k: tensor.read() for k, tensor in tensors.items()})
  ocp.save(path.absolute(), tree)


def open_params(path: pathlib.Path) -> dict[str, tensors_lib.View]:
  """The tensors under their torch names; unlike other files, read at once.

  Raises:
    ValueError: it is no complete Orbax checkpoint of parameters.
  """
  try:
    tree = ocp.load(path.absolute())
    arrays = names.to_torch(tree)
  except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
    reason = " ".join(str(error).split())[:200]
    raise ValueError(
      f"{path} is no complete Orbax checkpoint of parameters: {reason}"
    ) from error
  return {
    name: tensors_lib.in_memory(np.asarray(array))
    for name, array in arrays.items()
  }
