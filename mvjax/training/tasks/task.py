"""What the loop needs to know about a task."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mvjax.training import state

# Examples of a batch that a sheet of samples may show.
SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A training task; its functions are pure.

  Attributes:
    params: Initial trained parameters; for a run, numpy arrays.
    frozen: Parameters and other arrays that steps read, likewise.
    losses: Loss per kind of batch; kinds are those of the data streams.
    prepare: Loader batch to the arrays a step reads, on the host.
    draw: (averaged params, frozen, `SHOWN` examples of a batch) -> images
      `[n h w 3]` in [-1, 1] and their number per row; called outside jit.
    write: (averaged params, frozen, folder, dtype) -> None; writes the task's
      components in diffusers layout.
  """

  params: Any
  frozen: Any
  losses: Mapping[str, state.Loss]
  prepare: Callable[[Mapping[str, Any]], dict[str, np.ndarray]]
  draw: Callable[[Any, Any, Mapping[str, Any]], tuple[np.ndarray, int]]
  write: Callable[..., None]
