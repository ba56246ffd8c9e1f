"""Tiny programs run a moment and compile for long: compile them quickly."""

import jax
import pytest

SWITCH = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
  """Trades the speed of the programs for that of their compilation."""
  jax.config.update(SWITCH, True)
  yield
  jax.config.update(SWITCH, False)
