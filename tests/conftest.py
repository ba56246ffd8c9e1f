"""Checks that are on in every test: array types, ranks and random keys.

The import hook type-checks every annotated function of the packages while
they are imported, so it must run before any test module imports them.
"""

import gc
import importlib.metadata
import os
import pathlib
import sys

# Processes that tests start inherit all of this.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests' programs run a moment and compile for long: badly, and once for all
# workers and processes. `make test-default-flags` compiles as users do.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
  os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
  # The older code generator needs two thirds of the newer one's time; jax 0.11
  # dropped it, and an unknown flag ends the process.
  if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR",
  str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import jaxtyping
import pytest

from mvjax.commands import environment

environment.avoid_ynnpack()
jaxtyping.install_import_hook(["mvjax", "data_pipeline"], "beartype.beartype")
# Tracing makes many small objects that live: looking for garbage among them
# every 700 takes a tenth of the time.
gc.set_threshold(100_000)


@pytest.fixture(autouse=True, scope="session")
def strict_jax():
  """Implicit rank promotion and repeated random keys are errors."""
  jax.config.update("jax_numpy_rank_promotion", "raise")
  jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def launch_py(monkeypatch):
  """Runs launch.py with arguments, in this process; returns its exit code."""
  import launch  # after the hook above

  def run(*arguments):
    command_line = ["launch.py", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command_line)
    return launch.main()

  return run


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
  """The tiny models: folders `image` and `multiview`."""
  import tiny_models  # after the hook above

  return tiny_models.folders(tmp_path_factory.getbasetemp() / "tiny_models")
