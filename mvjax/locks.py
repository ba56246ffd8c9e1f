"""One run at a time writes to a folder."""

import contextlib
import errno
import fcntl
import os
import pathlib
from collections.abc import Iterator

from mvjax.parallel import processes

_NAME = ".lock"
# Of a file system without locks.
_NONE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def only_run(folder: str | os.PathLike, field: str) -> Iterator[None]:
  """Keeps other runs from a folder, which is made if needed.

  A run is one process, or several that joined. Its first one holds the lock of
  a file, which ends with the process whatever ends that. NFS passes locks on to
  other hosts; where the file system has none (Lustre mounted without `flock`)
  nothing is kept from anybody.

  Args:
    folder: which only this run is to write to.
    field: that names it.

  Raises:
    ValueError: in all processes, if another run is there.
  """
  path = pathlib.Path(folder) / _NAME
  with contextlib.ExitStack() as stack:
    taken = processes.is_first() and not stack.enter_context(_locked(path))
    if processes.gathered(taken)[0]:
      raise ValueError(
        f"{field}={folder}: another run is writing there; wait for its end, or "
        "choose another folder"
      )
    yield


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[bool]:
  """Whether the file, gone afterwards, is locked for this process."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      yield False
      return
    except OSError as error:
      if error.errno not in _NONE:
        raise
    # The run before may have removed it since it was opened.
    if not path.exists() or not os.path.samestat(
      os.fstat(file.fileno()), path.stat()
    ):
      yield False
      return
    try:
      yield True
    finally:
      path.unlink(missing_ok=True)
