"""Where compiled programs are kept."""

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
