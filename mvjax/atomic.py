"""Files and folders that appear whole or not at all.

A file takes another's place by a rename. No rename does that for a folder that
holds something, so two folders are exchanged, which Linux and macOS do in one
step: there is a whole folder at any moment, whatever ends the process.

A file system that cannot (NFS, Lustre) needs two renames. For the moment
between them the old folder is `.NAME.mvjax-old`; a process killed there leaves
it whole under that name, and the next that writes there puts it back first.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

# From linux/fcntl.h, linux/fs.h and macOS' stdio.h.
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)

# What the system answers where nothing more can be written.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


@contextlib.contextmanager
def replaced(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A path to write a file or folder at, which then takes the target's place.

  It is beside the target. If the body raises, the target stays as it was.

  Raises:
    ValueError: the target is of another kind than what was written: a folder
      never makes room for a file, nor a device for anything.
  """
  if target.exists() and not (target.is_file() or target.is_dir()):
    raise ValueError(f"{target}: is no file that could be replaced")
  target.parent.mkdir(parents=True, exist_ok=True)
  _put_back(target)
  scratch = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
  )
  try:
    yield scratch / "new"
    _place(scratch / "new", target)
  finally:
    shutil.rmtree(scratch)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text file."""
  with replaced(pathlib.Path(path)) as new:
    new.write_text(text, encoding="utf-8")


def check_file(path: str | os.PathLike, field: str) -> pathlib.Path:
  """A path that may be written as a file, to be called before any work.

  Raises:
    ValueError: it is there and no file.
  """
  if os.path.exists(path) and not os.path.isfile(path):
    raise ValueError(f"{field}={path}: is there and no file; give another name")
  return pathlib.Path(path)


def _place(new: pathlib.Path, target: pathlib.Path) -> None:
  """Gives the target's place to what was written; an old folder is `new`."""
  if target.exists() and new.is_dir() != target.is_dir():
    kinds = ("file", "folder") if new.is_dir() else ("folder", "file")
    raise ValueError(
      f"{target}: is a {kinds[0]}, must be a {kinds[1]}; give another name"
    )
  if not target.is_dir():
    new.replace(target)
  elif not _exchange(new, target):
    old = _aside(target)
    target.rename(old)
    try:
      new.rename(target)
    except OSError:
      old.rename(target)
      raise
    shutil.rmtree(old)


def _exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Exchanges two folders in one step; False where nothing can."""
  library = ctypes.CDLL(None, use_errno=True)
  first, second = os.fsencode(one), os.fsencode(other)
  try:
    if sys.platform == "darwin":
      failed = library.renamex_np(first, second, _RENAME_SWAP)
    else:
      failed = library.renameat2(
        _AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE
      )
  except AttributeError:  # A C library without it.
    return False
  code = ctypes.get_errno()
  if failed and code not in _CANNOT:
    raise OSError(code, os.strerror(code), str(one), None, str(other))
  return not failed


def _aside(target: pathlib.Path) -> pathlib.Path:
  return target.with_name(f".{target.name}.mvjax-old")


def _put_back(target: pathlib.Path) -> None:
  """Ends what a process was killed in, see above."""
  old = _aside(target)
  if old.is_dir() and target.exists():
    shutil.rmtree(old)
  elif old.is_dir():
    old.rename(target)
