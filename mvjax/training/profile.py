"""A profiler trace of a few steps, for TensorBoard or Perfetto."""

import pathlib
from typing import Any

import jax
import ml_collections


class Trace:
  """Records the steps from `profile_at` on, if they are asked for."""

  def __init__(self, settings: ml_collections.ConfigDict, folder: pathlib.Path):
    """Prepares a trace.

    Args:
      settings: The config's `train` section.
      folder: Where the trace is written.
    """
    self._first, self._count = settings.profile_at, settings.profile_steps
    self._folder = folder
    self._running = False

  def start_at(self, step: int) -> None:
    """Starts it if `step` is the first of its steps."""
    if self._first and step == self._first:
      jax.profiler.start_trace(str(self._folder))
      self._running = True

  def stop_after(self, step: int, values: Any) -> None:
    """Ends it if it has its steps; `values` are the last one's results."""
    if self._running and step == self._first + self._count:
      jax.block_until_ready(values)
      jax.profiler.stop_trace()
      self._running = False
