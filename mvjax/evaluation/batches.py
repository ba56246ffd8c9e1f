"""Networks run over pictures of any number with one compiled program."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def run(
  apply: Callable[[np.ndarray], np.ndarray],
  inputs: Float[np.ndarray, "n h w 3"],
  *,
  batch_size: int,
) -> Float[np.ndarray, "n d"]:
  """Features in batches of one size: the last is filled up and cut again."""
  outputs = []
  for start in range(0, len(inputs), batch_size):
    batch = inputs[start : start + batch_size].astype(np.float32)
    missing = batch_size - len(batch)
    padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
    outputs.append(np.asarray(apply(padded))[: len(batch)])
  return np.concatenate(outputs)
