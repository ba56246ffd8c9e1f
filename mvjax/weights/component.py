"""One network of a checkpoint: what it is, and its weights, still on disk."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mvjax.weights import tensors as tensors_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
  """A network as diffusers or transformers would hold it.

  Attributes:
    config: the content of its config.json.
    tensors: its weights, in those libraries' names and (torch) layouts.
  """

  config: Mapping[str, Any]
  tensors: tensors_lib.Tensors
