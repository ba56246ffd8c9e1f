"""One file of weights, whatever its format, as lazy tensors by name."""

import os
import pathlib
from typing import Any

from mvjax.weights import legacy_torch, safetensors_file, tensors, torch_zip

# Where training programs put the weights beside their bookkeeping.
_NESTED = ("state_dict", "model")
_LFS = b"version https://git-lfs"


def open_weights(path: str | os.PathLike) -> dict[str, tensors.Tensor]:
  """The tensors of a safetensors or torch file; the content tells which.

  Of a torch file these are the tensors of its `state_dict` or `model` if it
  has one, else those at its top level; bookkeeping beside them is left out.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file is damaged or of another format, or has no tensors.
  """
  path, head = pathlib.Path(path), _head(path)
  if head.startswith(torch_zip.SIGNATURE):
    return _state_dict(torch_zip.read_torch_zip(path), path)
  if head.startswith(legacy_torch.SIGNATURE):
    return _state_dict(legacy_torch.read_legacy_torch(path), path)
  if _is_safetensors(head):
    return dict(safetensors_file.open_safetensors(path))
  raise ValueError(f"{path} {_diagnosis(head)}")


def read_header(path: str | os.PathLike) -> dict[str, str]:
  """The text entries that a safetensors file may have; others have none."""
  if not _is_safetensors(_head(path)):
    return {}
  return safetensors_file.read_header(path)


def _head(path: str | os.PathLike) -> bytes:
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path} is not a file")
  with open(path, "rb") as file:
    return file.read(64)


def _is_safetensors(head: bytes) -> bool:
  """Whether there is the length of a header and then JSON."""
  return head[8:9] == b"{"


def _state_dict(content: Any, path: pathlib.Path) -> dict[str, tensors.Tensor]:
  for key in _NESTED:
    if isinstance(content, dict) and isinstance(content.get(key), dict):
      content = content[key]
  if not isinstance(content, dict):
    raise ValueError(
      f"{path} holds a {type(content).__name__}, not named tensors"
    )
  found = {
    str(key): value
    for key, value in content.items()
    if isinstance(value, tensors.Tensor)
  }
  if not found:
    keys = ", ".join(repr(key)[:40] for key in list(content)[:4])
    raise ValueError(f"{path} holds no tensors (it holds {keys or 'nothing'})")
  return found


def _diagnosis(head: bytes) -> str:
  if not head:
    return "is empty"
  if head.startswith(_LFS):
    return "is a git-lfs pointer, not the weights: run `git lfs pull`"
  return (
    f"is neither a safetensors nor a torch file (it starts with {head[:12]!r})"
  )
