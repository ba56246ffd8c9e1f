"""Programs compiled for TPUs that are not there (`make test-tpu-aot`)."""

import jax
import pytest

from mvjax.commands import environment
from tests.tpu_aot import pods

environment.plan_without_tpus()
# The compiler is what these tests are about; other tests do without most of it.
jax.config.update("jax_disable_most_optimizations", False)
jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session", params=pods.TOPOLOGIES)
def topology(request):
  return request.param


@pytest.fixture(scope="session")
def config():
  """The multi-view task, its parameters over two of four chips."""
  return pods.make_config(fsdp=2)


@pytest.fixture(scope="session")
def mesh(config, topology):
  return pods.make_mesh(config, topology)


@pytest.fixture(autouse=True)
def nothing_is_kept():
  """Compiled programs are gigabytes."""
  yield
  jax.clear_caches()
