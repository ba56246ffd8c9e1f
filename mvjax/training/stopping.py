"""When a run saves and when it ends, decided alike in all processes."""

import signal
import threading
import time
from typing import Any

import jax
import ml_collections

from mvjax.parallel import processes

# What a process answers, added up.
_SIGNALLED, _LATE, _DUE = 1, 2, 4


class Stopping:
  """Listens to SIGTERM and to the clock; use as a context manager.

  SIGTERM, to any of the processes, ends the run before the next step. Clocks
  are those of process 0. Several processes tell each other only at the steps
  where they log, as they must wait for each other to do so.
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
    if threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(signal.SIGTERM, self._signal)
    return self

  def __exit__(self, *exception) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def asks(self, step: int) -> tuple[bool, bool]:
    """Whether to (save, end) before step `step`; ask once for every step."""
    if jax.process_count() > 1 and step % self._settings.log_every:
      return False, False
    now = time.monotonic()
    limit = 60 * self._settings.max_minutes
    answers = processes.gathered(
      _SIGNALLED * self._signalled
      + _LATE * (bool(limit) and now - self._began > limit)
      + _DUE * (now - self._saved > 60 * self._settings.checkpoint_minutes)
    )
    told = any(answer & _SIGNALLED for answer in answers)
    end = told or bool(answers[0] & _LATE)
    return end or bool(answers[0] & _DUE), end

  def saved(self) -> None:
    """Starts the clock of the next checkpoint; also where steps begin."""
    self._saved = time.monotonic()

  def _signal(self, number: int, frame: Any) -> None:
    del number, frame
    self._signalled = True
