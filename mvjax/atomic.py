"""Files and folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A path to write a file or folder at, which then takes the target's place.

  It is beside the target, so that taking the place is a rename. If the body
  raises, the target stays as it was.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  scratch = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
  )
  try:
    yield scratch / "new"
    if target.is_dir():
      target.rename(scratch / "old")
    (scratch / "new").replace(target)
  finally:
    shutil.rmtree(scratch)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text file."""
  with replaced(pathlib.Path(path)) as new:
    new.write_text(text, encoding="utf-8")
