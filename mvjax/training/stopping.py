"""When a run saves and when it ends, decided alike in all processes."""

import signal
import threading
import time
from typing import Any

import jax
import ml_collections

from mvjax.parallel import processes


class Stopping:
  """Listens to SIGTERM and to the clock; use as a context manager.

  SIGTERM, to any of the processes, ends the run before the next step (one of
  the next, if there are several). Clocks are those of process 0. Several
  processes ask them only where they log, as they must wait for each other to
  compare.
  """

  def __init__(self, settings: ml_collections.ConfigDict):
    """Starts the clocks.

    Args:
      settings: The config's `train` section.
    """
    self._settings = settings
    self._began = self._saved = time.monotonic()
    self._signalled = False
    self._previous: Any = None

  def __enter__(self) -> "Stopping":
    # Among several processes jax's own handler tells the others.
    if jax.process_count() == 1:
      if threading.current_thread() is threading.main_thread():
        self._previous = signal.signal(signal.SIGTERM, self._signal)
    return self

  def __exit__(self, *exception) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def asks(self, step: int) -> tuple[bool, bool]:
    """Whether to (save, end) before step `step`; ask once for every step."""
    several = jax.process_count() > 1
    end = processes.told_to_end(step) if several else self._signalled
    save = False
    if not several or step % self._settings.log_every == 0:
      now = time.monotonic()
      limit = 60 * self._settings.max_minutes
      late = bool(limit) and now - self._began > limit
      due = now - self._saved > 60 * self._settings.checkpoint_minutes
      answer = processes.agreed(2 * due + late)
      save, end = bool(answer & 2), end or bool(answer & 1)
    return save or end, end

  def saved(self) -> None:
    """Starts the clock of the next checkpoint; also where steps begin."""
    self._saved = time.monotonic()

  def _signal(self, number: int, frame: Any) -> None:
    del number, frame
    self._signalled = True
