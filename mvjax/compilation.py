"""What programs are compiled for, and how long compiling takes."""

import contextlib
import time
from collections.abc import Iterator

import jax

# Tracing, lowering, and compiling or reading a compiled program.
_COMPILE_EVENTS = "/jax/core/compile/"


def platform() -> str:
  """What the programs being traced will run on: 'cpu', 'gpu' or 'tpu'.

  The devices of the mesh in use (`parallel.mesh.use`), which need not be
  there; without a mesh, JAX's default.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


class Stopwatch:
  """Seconds of a `timed` block.

  Attributes:
    compiling: of making programs, those found in the cache included.
    running: the rest.
  """

  def __init__(self):
    self._spans: list[tuple[float, float]] = []
    self.compiling = self.running = 0.0

  def _note(self, event: str, seconds: float, **_) -> None:
    if event.startswith(_COMPILE_EVENTS):
      now = time.perf_counter()
      self._spans.append((now - seconds, now))

  def _stop(self, start: float) -> None:
    done = start
    for begin, end in sorted(self._spans):
      # A function's trace contains those of the functions it calls.
      self.compiling += max(0.0, end - max(begin, done))
      done = max(done, end)
    self.running = time.perf_counter() - start - self.compiling


@contextlib.contextmanager
def timed() -> Iterator[Stopwatch]:
  """Tells the time spent on programs from the time they run.

  The block must wait for its results (`block_until_ready`).
  """
  stopwatch, start = Stopwatch(), time.perf_counter()
  jax.monitoring.register_event_duration_secs_listener(stopwatch._note)
  try:
    yield stopwatch
  finally:
    jax.monitoring.unregister_event_duration_listener(stopwatch._note)
    stopwatch._stop(start)
