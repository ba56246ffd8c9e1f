"""Small file operations shared by the data tools."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a new folder that becomes `folder` if the block succeeds.

  An interrupted block leaves nothing under the final name. An existing
  `folder` is replaced.
  """
  folder = pathlib.Path(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  partial = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
  )
  try:
    yield partial
    partial.chmod(0o755)  # mkdtemp's folders are private.
    if folder.exists():
      shutil.rmtree(folder)
    os.rename(partial, folder)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def inside(root: pathlib.Path, name: str) -> pathlib.Path:
  """`root / name`, for a name from an untrusted file.

  Raises:
    ValueError: The path would leave `root`.
  """
  path = root / name
  if "\\" in name or not path.resolve().is_relative_to(root.resolve()):
    raise ValueError(f"path {name!r} leaves {root}; do not trust this file")
  return path
