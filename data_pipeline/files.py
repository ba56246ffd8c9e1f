"""Small file operations shared by the data tools."""

import pathlib


def inside(root: pathlib.Path, name: str) -> pathlib.Path:
  """`root / name`, for a name from an untrusted file.

  Raises:
    ValueError: The path would leave `root`.
  """
  path = root / name
  if "\\" in name or not path.resolve().is_relative_to(root.resolve()):
    raise ValueError(f"path {name!r} leaves {root}; do not trust this file")
  return path
