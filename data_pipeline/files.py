"""Small file operations shared by the data tools."""

import contextlib
import os
import pathlib
import reprlib

from data_pipeline import fields

# Of a path's parts, by the file systems of today.
_LONGEST_NAME = 255


def inside(root: pathlib.Path, name: str) -> pathlib.Path:
  """`root / name`, for a name from an untrusted file.

  Raises:
    ValueError: The path would leave `root`, or can be no path.
  """
  path = root / name
  longest = max(map(len, map(os.fsencode, path.parts)))
  if "\0" in name or longest > _LONGEST_NAME:
    raise ValueError(f"path {reprlib.repr(name)} can be no file's name")
  try:
    leaves = not path.resolve().is_relative_to(root.resolve())
    with contextlib.suppress(FileNotFoundError):
      path.stat()
  except (OSError, RuntimeError) as error:  # A link to itself.
    raise ValueError(f"path {name!r} cannot be followed") from error
  if "\\" in name or ".." in path.parts or leaves:
    raise ValueError(f"path {name!r} leaves {root}; do not trust this file")
  return path


def picture(
  root: pathlib.Path, record: fields.Fields, name: str
) -> pathlib.Path:
  """The file that a field names; it may leave the suffix .png out.

  Raises:
    ValueError: it is no file's name, or would leave `root`.
  """
  text = record.words(name)
  try:
    path = inside(root, text)
  except ValueError as error:
    raise record.error(name, f"must stay inside: {error}") from error
  return path if path.suffix else path.with_suffix(".png")
