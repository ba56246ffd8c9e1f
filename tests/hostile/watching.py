"""What a run does to the world outside: seen, and in part prevented.

Python reports file operations, connections and processes to an audit hook.
"""

import json
import os
import signal
import sys

_PROCESSES = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
_CONNECTIONS = ("socket.getaddrinfo", "socket.connect", "socket.sendto")
_CHANGES = (
  "os.link os.mkdir os.remove os.rename os.rmdir os.symlink os.truncate"
  " shutil.rmtree"
).split()
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_HERE = ("127.0.0.1", "localhost", "::1")


def start(job: dict) -> None:
  """Notes connections and processes in `job["reached"]`; kills on request.

  A connection to another machine is refused. With `job["kill"]`, a path and a
  number, the process dies by SIGKILL before it changes such a path for that
  time.
  """
  kill = job["kill"]
  seen = 0

  def note(event, arguments):
    with open(job["reached"], "a", encoding="utf-8") as file:
      file.write(json.dumps([event, repr(arguments)[:300]]) + "\n")

  def hook(event, arguments):
    nonlocal seen
    if event in _PROCESSES:
      note(event, arguments)
    elif event in _CONNECTIONS:
      address = arguments[0 if event == "socket.getaddrinfo" else 1]
      host = address[0] if isinstance(address, tuple) else address
      if isinstance(host, bytes):
        host = host.decode()
      if host not in _HERE and not str(host).startswith("/"):
        note(event, arguments)
        raise OSError("no network in this test")
    elif kill and _changes(event, arguments, kill["path"]):
      seen += 1
      if seen == kill["count"]:
        os.kill(os.getpid(), signal.SIGKILL)

  sys.addaudithook(hook)


def _changes(event: str, arguments: tuple, path: str) -> bool:
  """Whether an event changes a path in which `path` occurs."""
  if event == "open":
    flags = arguments[2]
    changing = isinstance(flags, int) and flags & _WRITES
  else:
    changing = event in _CHANGES
  names = (os.fsdecode(a) for a in arguments[:2] if isinstance(a, str | bytes))
  return bool(changing) and any(path in name for name in names)
