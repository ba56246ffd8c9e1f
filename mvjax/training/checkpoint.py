"""Checkpoints of a run, by Orbax.

One checkpoint is one directory, written under a temporary name and renamed:
the train state, and beside it as readable JSON the position in the data, the
config, the data fingerprint and the legs trained so far. It is written while
training goes on. When it is complete its files are listed with their sizes, so
that one that lost something later is found before anything is read from it. If
the process ends between the two, the arrays are read once to know.
"""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np
import tensorstore
from etils import epath
from orbax.checkpoint import v1 as ocp

from mvjax import storage
from mvjax.parallel import processes

# Names and sizes of a checkpoint's files, and as it is being written.
LISTING = "files.json"
_DRAFT = f".{LISTING}"

# Orbax's files: two of JSON that must be there, and those that are not JSON.
_NEEDED = ("_CHECKPOINT_METADATA", "state/_METADATA")
_LAST = "commit_success.txt"
_OTHERS = (_LAST, "manifest.ocdbt")


class Checkpoints:
  """The checkpoints under one folder; use as a context manager.

  Several processes share the folder and call the same methods. A damaged
  checkpoint is passed over with a message. A writer also sets it aside, in
  `FOLDER-damaged`, and removes the remains of a killed process; a reader beside
  a running training must not do that.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    keep: int,
    keep_every: int = 0,
    writes: bool = True,
  ):
    """Opens a folder.

    Args:
      folder: Of the checkpoints; made if needed, may be on gs://.
      keep: The newest so many are kept.
      keep_every: Those of every so many steps are kept too; 0: none.
      writes: Whether this is the training itself.

    Raises:
      ValueError: In all processes: all checkpoints that there are are
        damaged, or not all processes see the same ones.
    """
    self._folder = epath.Path(folder)
    if not storage.is_address(folder):
      self._folder = epath.Path(os.path.abspath(folder))
    if writes:
      self._check_shared()
      self._clean()
    policies = ocp.training.preservation_policies
    kept = [policies.LatestN(keep)]
    if keep_every:
      kept.append(policies.EveryNSteps(keep_every))
    self._checkpointer = ocp.training.Checkpointer(
      self._folder,
      preservation_policy=policies.AnyPreservationPolicy(kept),
      cleanup_tmp_directories=writes,
    )
    self._damaged = {} if writes else self._damages()
    if not writes and self._hopeless(self._damaged):
      raise self._all_damaged()
    if writes:
      processes.check_alike(f"newest checkpoint in {folder}", str(self.latest))
    self._thread = futures.ThreadPoolExecutor(max_workers=1)
    self._pending: futures.Future | None = None

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exception) -> None:
    try:
      self._finish()
    finally:
      self._thread.shutdown()
      self._checkpointer.close()

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    steps = {found.step for found in self._checkpointer.checkpoints}
    return max(steps - self._damaged.keys(), default=None)

  def save(self, step: int, state: Any, *, record: Mapping[str, Any]) -> None:
    """Begins to write a checkpoint; an existing step is kept.

    Returns when the state is copied, so that its buffers may be donated, and
    the checkpoint before is complete.

    Args:
      step: Names the checkpoint.
      state: Any pytree of arrays.
      record: JSON-like description, read back by `record`.
    """
    self._finish()
    if step == self.latest:
      return
    response = self._checkpointer.save_checkpointables_async(
      step, {"state": state}, force=True, custom_metadata=dict(record)
    )
    self._pending = self._thread.submit(self._complete, step, response)

  def record(self) -> dict[str, Any]:
    """The JSON part of the newest checkpoint."""
    metadata = self._checkpointer.checkpointables_metadata(self.latest)
    return {**metadata.custom_metadata}

  def load(self, like: Any) -> Any:
    """The newest state, with the shapes and shardings of `like`."""
    abstract = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=leaf.sharding
      ),
      like,
    )
    loaded = self._checkpointer.load_checkpointables(
      self.latest, {"state": abstract}
    )
    return loaded["state"]

  def load_average(self, like: Any) -> Any:
    """The newest state's `ema` in host memory, as numpy arrays.

    Nothing else is read, and no device has anything of it.

    Args:
      like: A `TrainState` with the shapes of the whole state.
    """
    left_out = jax.tree.map(lambda _: ocp.PLACEHOLDER, like)
    # An array, where a shape would ask for a device; it has one number.
    wanted = jax.tree.map(
      lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape),
      like.ema,
    )
    loaded = self._checkpointer.load_checkpointables(
      self.latest, {"state": left_out.replace(ema=wanted)}
    )
    return loaded["state"].ema

  def _finish(self) -> None:
    """Waits for the checkpoint that is being written and for its listing."""
    if self._pending is not None:
      pending, self._pending = self._pending, None
      pending.result()

  def _complete(self, step: int, response: Any) -> None:
    """In a thread of its own: lists the files as soon as they are there."""
    response.result()
    if processes.is_first():
      write_listing(self._folder / str(step))

  def _damages(self) -> dict[int, str]:
    """What is wrong, by step."""
    found = {step: damage(self._folder / str(step)) for step in self._steps()}
    damaged = {step: what for step, what in found.items() if what}
    for step, what in damaged.items():
      print(f"checkpoint {step} in {self._folder} is damaged: {what}")
    return damaged

  def _steps(self) -> list[int]:
    """Of all checkpoints that Orbax takes for complete."""
    if not self._folder.exists():
      return []
    named = [path for path in self._folder.iterdir() if path.name.isdigit()]
    if storage.is_address(self._folder):
      # They are written under their own names there, this file last.
      named = [path for path in named if (path / _LAST).exists()]
    return sorted(int(path.name) for path in named)

  def _hopeless(self, damaged: Mapping[int, str]) -> bool:
    return bool(damaged) and len(damaged) == len(self._steps())

  def _all_damaged(self) -> ValueError:
    return ValueError(
      f"{self._folder}: all checkpoints are damaged; restore one of them, or "
      "start in a new workdir"
    )

  def _check_shared(self) -> None:
    """Checks that all processes see what the first one writes here."""
    # A new name each time: what an earlier run left, or a network file
    # system's memory of which names there are not, must not mislead.
    number = processes.gathered(secrets.randbits(31))[0]
    file = self._folder / f".shared-{number}"
    if processes.is_first():
      self._folder.mkdir(parents=True, exist_ok=True)
      file.write_text("")
    processes.meet("the first process has written")
    seen = processes.gathered(file.exists())
    if processes.is_first():
      file.unlink()
    if blind := [i for i, sees in enumerate(seen) if not sees]:
      raise ValueError(
        f"train.checkpoint_dir={self._folder}: process "
        f"{', '.join(map(str, blind))} does not see what process 0 writes "
        "there; choose a folder that all hosts share"
      )

  def _clean(self) -> None:
    """Sets damaged checkpoints aside and lists sound ones, for all processes.

    Raises:
      ValueError: In all of them, if there are damaged ones only.
    """
    hopeless = False
    if processes.is_first():
      damaged = self._damages()
      hopeless = self._hopeless(damaged)
      if not hopeless:
        self._set_aside(damaged)
        for step in self._steps():
          if _listed(self._folder / str(step)) is None:
            write_listing(self._folder / str(step))
    # The others wait here, and read nothing before.
    if processes.gathered(hopeless)[0]:
      raise self._all_damaged()

  def _set_aside(self, damaged: Iterable[int]) -> None:
    """Moves damaged checkpoints out of the folder."""
    for step in damaged:
      target = self._folder.parent / f"{self._folder.name}-damaged"
      target.mkdir(parents=True, exist_ok=True)
      number = sum(1 for _ in target.iterdir()) if target.exists() else 0
      storage.move(self._folder / str(step), target / f"{number}-step-{step}")


def write_listing(folder: epath.Path) -> None:
  """Lists the files of a complete checkpoint."""
  sizes = {name: path.stat().length for name, path in _files(folder).items()}
  draft = folder / _DRAFT
  draft.write_text(json.dumps(sizes, indent=1, sort_keys=True) + "\n")
  draft.replace(folder / LISTING)


def damage(folder: epath.Path) -> str | None:
  """What a checkpoint lacks, or None.

  One without a list of its files was complete for the process that wrote it
  (Orbax gives a checkpoint its name last), which then ended at once; what of it
  reached the disk is known by reading it. Likewise where the list is torn.
  """
  sizes = _listed(folder)
  if sizes is None:
    print(f"{folder} has no {LISTING}: its arrays are read to check them")
    return _unreadable(folder)
  for name, size in sizes.items():
    path = folder / name
    if not path.exists():
      return f"{name} is missing"
    if path.stat().length != size:
      return f"{name} has {path.stat().length} bytes, not {size}"
  return None


def _unreadable(folder: epath.Path) -> str | None:
  """What of a checkpoint cannot be read, or None; reads an array at a time."""
  files = _files(folder)
  if lacking := set(_NEEDED) - files.keys():
    return f"{min(lacking)} is missing"
  for name, path in sorted(files.items()):
    if path.parent.name == "d" or path.name in _OTHERS:
      continue
    try:
      json.loads(path.read_text())
    except (OSError, ValueError):
      return f"{name} cannot be read"
  try:
    return None if _read_arrays(folder / "state") else "it has no arrays"
  except (OSError, ValueError) as error:
    return " ".join(str(error).split())[:200]


def _files(folder: epath.Path) -> dict[str, epath.Path]:
  """What Orbax wrote, by name in the folder; our own list is not of it."""
  return {
    str(path.relative_to(folder)): path
    for path in storage.files(folder)
    if path.name not in (LISTING, _DRAFT)
  }


def _listed(folder: epath.Path) -> dict[str, int] | None:
  """The list of a checkpoint's files; None if it is missing or torn."""
  try:
    return json.loads((folder / LISTING).read_text())
  except (OSError, ValueError):
    return None


def _read_arrays(folder: epath.Path) -> int:
  """Reads all arrays of a state, and forgets them; returns their number.

  Orbax itself would hold them all, and would wait for the other processes.
  """
  base: Any = f"{folder}/"
  if not storage.is_address(folder):
    base = {"driver": "file", "path": base}
  store = {"driver": "ocdbt", "base": base}
  keys = tensorstore.KvStore.open(store).result().list().result()
  described = [key.decode() for key in keys if key.endswith(b"/zarr.json")]
  for key in described:
    path = key.removesuffix("zarr.json")
    spec = {"driver": "zarr3", "kvstore": {**store, "path": path}}
    tensorstore.open(spec).result().read().result()
  return len(described)
