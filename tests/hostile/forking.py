"""A warmed process that runs launch.py again and again, in forks of itself.

Importing jax takes seconds and a refusal takes none. The parent has imported
everything and started no backend; every run is a child of its own with limits,
in a process group of its own, and ends as a process does.

Lines of JSON come in, a line of JSON goes out for each: see `serve`.
"""

import gc
import json
import os
import resource
import signal
import sys
import time
import warnings

import jax

# Seconds in which helpers of an ended process end too.
_GRACE = 3.0


def main() -> None:
  """Serves; a child leaves the loop with its job and runs it."""
  import launch
  from tests.hostile import preloaded, stand_ins, watching

  preloaded.load()
  # At a child's end its objects would be looked through for garbage.
  gc.collect()
  gc.freeze()
  job = serve()
  if job is None:
    return
  _confine(job)
  watching.start(job)
  if job["stand_in"]:
    getattr(stand_ins, job["stand_in"])()
  sys.argv = ["launch.py", *job["command"]]
  sys.exit(launch.main())


def serve() -> dict | None:
  """Answers requests until there are no more; in a child, returns its job.

  {"do": "start", ...} forks and tells the pid. {"do": "wait", "pid",
  "seconds"} tells how the process ended; after that time it and what it
  started is killed. {"do": "kill", "pid"} sends SIGKILL to the process alone.
  """
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  requests = os.fdopen(os.dup(0), "r")
  os.dup2(2, 1)  # Nothing else may be said among the answers.
  for line in iter(requests.readline, ""):
    job = json.loads(line)
    if job["do"] == "start":
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and jax warn of threads.
        pid = os.fork()
      if pid == 0:
        answers.close()
        return job
      answer = {"pid": pid}
    elif job["do"] == "wait":
      answer = _wait(job["pid"], job["seconds"])
    else:
      os.kill(job["pid"], signal.SIGKILL)
      answer = {}
    answers.write(json.dumps(answer) + "\n")
  return None


def _wait(pid: int, seconds: float) -> dict:
  end = time.monotonic() + seconds
  timed_out = False
  while True:
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    if ended:
      break
    if time.monotonic() > end and not timed_out:
      timed_out = True
      os.killpg(pid, signal.SIGKILL)
    time.sleep(0.005)
  grace = time.monotonic() + _GRACE
  while (left := _is_group(pid)) and time.monotonic() < grace:
    time.sleep(0.005)
  if left:
    os.killpg(pid, signal.SIGKILL)
  return {
    "code": os.waitstatus_to_exitcode(status),
    "timed_out": timed_out,
    "left_processes": left,
    "peak_bytes": usage.ru_maxrss * 1024,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
  }


def _is_group(pid: int) -> bool:
  try:
    os.killpg(pid, 0)
  except ProcessLookupError:
    return False
  return True


def _confine(job: dict) -> None:
  """The place, the streams and the limits of a job."""
  os.setsid()
  os.chdir(job["home"])
  os.environ.update(job["environment"])
  for number, path in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
    file = os.open(path, flags)
    os.dup2(file, number)
    os.close(file)
  for name, value in job["limits"].items():
    if name == "FSIZE":  # Half a program in the cache would outlive the run.
      jax.config.update("jax_enable_compilation_cache", False)
    kind = getattr(resource, f"RLIMIT_{name}")
    resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
  main()
