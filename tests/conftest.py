"""Checks that are on in every test: array types, ranks and random keys.

The import hook type-checks every annotated function of the packages while
they are imported, so it must run before any test module imports them.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests' programs run a moment and compile for long. Processes inherit this.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import jax
import jaxtyping
import pytest

jaxtyping.install_import_hook(["mvjax", "data_pipeline"], "beartype.beartype")


@pytest.fixture(autouse=True, scope="session")
def strict_jax():
  """Implicit rank promotion and repeated random keys are errors."""
  jax.config.update("jax_numpy_rank_promotion", "raise")
  jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
  """The tiny models: folders `image` and `multiview`."""
  import tiny_models  # after the hook above

  return tiny_models.folders(tmp_path_factory.getbasetemp() / "tiny_models")
