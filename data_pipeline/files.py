"""Small file operations shared by the data tools."""

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
  if "\\" in name or not path.resolve().is_relative_to(root.resolve()):
    raise ValueError(f"path {name!r} leaves {root}; do not trust this file")
  return path


def picture(root: pathlib.Path, frame: fields.Fields) -> pathlib.Path:
  """The file of a frame of NeRF's, which may leave the suffix .png out.

  Raises:
    ValueError: its file_path is none, or would leave `root`.
  """
  try:
    path = inside(root, frame.words("file_path"))
  except ValueError as error:
    raise ValueError(
      f"{frame.where}: {frame.place}file_path: {error}"
    ) from error
  return path if path.suffix else path.with_suffix(".png")
