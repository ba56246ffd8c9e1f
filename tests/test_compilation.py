"""Where compiled programs are kept."""

import time

import jax
import pytest

from mvjax import compilation


@pytest.fixture(autouse=True)
def restored():
  names = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
  )
  before = {name: jax.config.values[name] for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_default_is_the_users_cache(monkeypatch, tmp_path):
  jax.config.update("jax_compilation_cache_dir", None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert compilation.enable_cache() == tmp_path / "mvjax" / "jax"


def test_a_chosen_folder_is_kept(tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  assert compilation.enable_cache() == tmp_path


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
