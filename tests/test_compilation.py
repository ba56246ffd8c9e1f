"""Making programs and running them."""

import time

import jax
import pytest

from mvjax import compilation


def test_making_a_program_is_told_from_running_it():
  jax.clear_caches()

  @jax.jit
  def inner(x):
    time.sleep(0.2)  # while it is traced, which is part of the outer trace
    return x + 1

  @jax.jit
  def outer(x):
    time.sleep(0.2)
    return 2 * inner(x)

  start = time.perf_counter()
  with compilation.timed() as first:
    outer(1.0).block_until_ready()
    time.sleep(0.1)
  total = time.perf_counter() - start
  assert 0.4 <= first.compiling <= total - 0.1
  assert 0.1 <= first.running
  assert first.compiling + first.running <= total
  with compilation.timed() as second:
    outer(2.0).block_until_ready()
  assert second.compiling == 0 < second.running


def test_a_stopwatch_stops():
  with compilation.timed() as stopwatch:
    pass
  jax.jit(lambda x: x + 3)(1.0)
  assert stopwatch.compiling == 0
  with pytest.raises(KeyError), compilation.timed():
    raise KeyError
