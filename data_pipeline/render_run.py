"""Rendering many objects: in parallel, resumable, whatever the files hold.

Any of a million downloaded models may be broken, may run forever, may want all
memory or may take its process with it. Each object therefore has a limit of
time, one of memory and a process to kill, and what failed is written down and
not tried again:

  quarantine*.jsonl   uid and reason, a line an object; one file a worker
  settings.json       what all objects were rendered with
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
import resource
import shutil
from collections.abc import Iterator, Sequence

import pebble
import tqdm

from data_pipeline import fields, objects, render, shards
from mvjax import atomic

# Objects that wait for a free process; more would only cost memory.
_WAITING = 2
# Code and libraries of a worker need a quarter of this.
_LEAST_MEMORY = 1.0


def render_all(
  things: Sequence[objects.Object],
  out: pathlib.Path,
  *,
  settings: render.RenderSettings,
  workers: int,
  time_limit: float = 300.0,
  memory_limit: float = 4.0,
  shard: shards.Shard | None = None,
  retry: bool = False,
) -> dict[str, str]:
  """Renders every object into `out/<id>/`, in parallel processes.

  Objects that have a folder or are in quarantine are skipped, so an
  interrupted run is resumed by repeating it. Machines that share `out` each
  take a shard.

  Args:
    things: What to render; the same on all machines.
    out: Folder to create or complete. It remembers its settings.
    settings: Cameras and looks.
    workers: Number of processes.
    time_limit: Seconds for one object, after which its process is killed.
    memory_limit: GiB that a process may use; Linux alone enforces it.
    shard: The part of `things` to render; None: all.
    retry: Tries again what is in quarantine of this part's objects, whichever
      worker wrote it down. The files of other workers, who may be writing,
      are left as they are: an object with a folder is none of theirs.

  Returns:
    The uids of this part's objects in quarantine, with the reason.

  Raises:
    ValueError: `out` holds renders of other settings, there is no worker, no
      time or no memory, or there are more workers than four for each core.
    OSError: nothing more can be written.
  """
  for name, value, allowed, remedy in (
    (
      "workers",
      workers,
      1 <= workers <= _most_workers(),
      f"1 to {_most_workers()}, four for each core",
    ),
    (
      "time_limit",
      time_limit,
      0 < time_limit < math.inf,
      "a number of seconds above 0",
    ),
    (
      "memory_limit",
      memory_limit,
      _LEAST_MEMORY <= memory_limit < math.inf,
      f"{_LEAST_MEMORY:g} GiB or more",
    ),
  ):
    if not allowed:
      raise ValueError(f"{name}={value}: must be {remedy}")
  out = pathlib.Path(out)
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"out={out}: no folder can be there ({error.strerror}); choose another"
    ) from error
  _check_same_settings(out / "settings.json", settings)
  own = things if shard is None else shard.part(things)
  _remove_leftovers(out, {thing.id for thing in own})
  suffix = "" if shard is None else f"-{shard.name}"
  quarantine = out / f"quarantine{suffix}.jsonl"
  if retry:
    quarantine.unlink(missing_ok=True)
  known = _read_quarantine(out)
  done = {path.name for path in out.iterdir()}
  missing = [t for t in own if t.id not in done]
  failures = {}
  if not retry:
    failures = {t.uid: known[t.uid] for t in missing if t.uid in known}
  todo = [t for t in missing if t.uid not in failures]
  with tqdm.tqdm(total=len(todo), unit="object", smoothing=0.02) as progress:
    for thing, reason in _render_each(
      todo,
      out,
      settings=settings,
      workers=workers,
      time_limit=time_limit,
      memory_limit=memory_limit,
    ):
      if reason is not None:
        failures[thing.uid] = reason
        with quarantine.open("a", encoding="utf-8") as file:
          row = {"uid": thing.uid, "reason": reason}
          file.write(json.dumps(row, ensure_ascii=False) + "\n")
        progress.write(f"skipped {thing.uid}: {reason}")
      progress.update()
  return {
    thing.uid: failures[thing.uid] for thing in own if thing.uid in failures
  }


def _most_workers() -> int:
  return 4 * (os.cpu_count() or 1)


def _render_each(
  todo: Sequence[objects.Object],
  out: pathlib.Path,
  *,
  settings: render.RenderSettings,
  workers: int,
  time_limit: float,
  memory_limit: float,
) -> Iterator[tuple[objects.Object, str | None]]:
  """Each object as it ends, and why it failed."""
  # Forking would copy the locks of jax's threads.
  context = multiprocessing.get_context("spawn")
  remaining, running = iter(todo), {}
  with pebble.ProcessPool(
    max_workers=workers,
    context=context,
    initializer=_limit_memory,
    initargs=(int(memory_limit * 2**30),),
  ) as pool:
    try:
      while True:
        while len(running) < workers * (1 + _WAITING):
          thing = next(remaining, None)
          if thing is None:
            break
          future = pool.schedule(
            render.render_object,
            args=(thing, out / thing.id),
            kwargs={"settings": settings},
            timeout=time_limit,
          )
          running[future] = thing
        if not running:
          return
        ended, _ = concurrent.futures.wait(
          running, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in ended:
          error = future.exception()
          if isinstance(error, OSError) and error.errno in atomic.FULL:
            raise error  # It is not the object's fault.
          reason = _reason(
            error, time_limit=time_limit, memory_limit=memory_limit
          )
          yield running.pop(future), reason
    finally:
      # Interrupted: what is under way is done again next time.
      pool.stop()


def _limit_memory(most: int) -> None:
  """Has allocations of this process fail from `most` bytes on.

  Not the address space: threads and allocators reserve much that they never
  use.
  """
  _, hard = resource.getrlimit(resource.RLIMIT_DATA)
  if hard != resource.RLIM_INFINITY:
    most = min(most, hard)
  resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _reason(
  error: BaseException | None, *, time_limit: float, memory_limit: float
) -> str | None:
  """Why an object failed, in words."""
  if error is None:
    return None
  if isinstance(error, concurrent.futures.TimeoutError):
    return (
      f"needs more than {time_limit:g} s; raise time_limit or simplify the "
      "model"
    )
  if isinstance(error, MemoryError):
    return (
      f"needs more than {memory_limit:g} GiB of memory; raise memory_limit or "
      "simplify the model"
    )
  if isinstance(error, pebble.ProcessExpired):
    return f"its process died with exit code {error.exitcode}"
  return f"{type(error).__name__}: {error}"


def _remove_leftovers(out: pathlib.Path, own: set[str]) -> None:
  """Removes what killed processes left of these objects (`atomic`)."""
  for partial in out.glob(".*/"):
    if partial.name[1:].rpartition("-")[0] in own:
      shutil.rmtree(partial)


def _read_quarantine(out: pathlib.Path) -> dict[str, str]:
  """Reasons by uid, from the files of all workers."""
  found = {}
  for path in sorted(out.glob("quarantine*.jsonl")):
    for line in path.read_bytes().split(b"\n"):
      # No row is the last line of a killed worker: its object is tried again.
      with contextlib.suppress(ValueError):
        row = fields.Fields.of(fields.parse(line, path), path)
        found[row.get("uid", str)] = row.get("reason", str)
  return found


def _check_same_settings(
  path: pathlib.Path, settings: render.RenderSettings
) -> None:
  """Writes the settings beside the renders, or compares them."""
  # Through JSON, which makes lists of tuples.
  wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
  if not path.exists():
    atomic.write_text(path, json.dumps(wanted, indent=1))
  # Another machine may have written it at the same moment.
  found = fields.Fields.read(path).content
  for field in wanted:
    if found.get(field) != wanted[field]:
      raise ValueError(
        f"{field}={wanted[field]}: {path.parent} was rendered with "
        f"{found.get(field)}; use that, or another folder"
      )
