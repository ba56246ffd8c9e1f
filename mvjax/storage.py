"""Paths that are addresses, such as gs://bucket/folder."""

import os
import re
from collections.abc import Iterator

from etils import epath

# pathlib makes one slash of two.
_ADDRESS = re.compile(r"[a-z0-9]+:/")


def is_address(path: str | os.PathLike[str]) -> bool:
  """Whether a path names storage that is no file system of this machine."""
  return _ADDRESS.match(os.fspath(path)) is not None


def move(source: epath.Path, target: epath.Path) -> None:
  """Moves a folder to where there is nothing, a file at a time if it must."""
  if not is_address(source):
    source.rename(target)
    return
  copy(source, target)
  source.rmtree()


def copy(source: epath.Path, target: epath.Path, *, last: str = "") -> None:
  """Copies a folder, and one of its files only when the others are there.

  Storage under an address cannot rename folders at once, so a reader knows by
  that file that a folder is complete. A file itself appears whole.

  Args:
    source: Folder to copy.
    target: Folder to make or complete; files of these names are replaced.
    last: Name of the file, directly in `source`; '': any order does.
  """
  found = sorted(files(source), key=lambda path: (path == source / last, path))
  for path in found:
    copied = target / path.relative_to(source)
    copied.parent.mkdir(parents=True, exist_ok=True)
    path.copy(copied, overwrite=True)


def files(folder: epath.Path) -> Iterator[epath.Path]:
  """All files in a folder, at any depth."""
  for path in folder.iterdir():
    if path.is_dir():
      yield from files(path)
    else:
      yield path
